"""A command of `podium` is one file: nothing else lists it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import podium
from podium import cli

HELLO = '''\
"""`podium hello NAME`."""

import argparse

from podium.errors import RefusedError

NAME = "hello"
HELP = "greet somebody"
ORDER = 55
EXAMPLE = "podium hello Ada", "say hello to Ada"
EXAMPLES = "  podium hello Ada"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name")


def run(arguments: argparse.Namespace) -> None:
    if arguments.name == "nobody":
        raise RefusedError("there is nobody to greet")
    print(f"hello, {arguments.name}")
'''


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of the package with one more command, and a helper that is none."""
    copy = tmp_path / "src"
    shutil.copytree(Path(podium.__file__).parent, copy / "podium", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "podium/commands/hello.py").write_text(HELLO, encoding="utf-8")
    (copy / "podium/commands/_helper.py").write_text("raise AssertionError\n", encoding="utf-8")
    return copy


def typed(sources: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "podium.cli", *words]
    return subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(sources)}, capture_output=True, text=True, check=False
    )


def test_file_put_into_the_folder_is_a_command(sources: Path) -> None:
    text = typed(sources, "--help").stdout
    assert (
        text.index("\n    predict ")
        < text.index("\n    hello               greet somebody\n")
        < text.index("\n    serve ")
    )
    assert "  podium hello Ada                       say hello to Ada\n" in text
    assert "helper" not in text
    assert "examples:\n  podium hello Ada" in typed(sources, "hello", "--help").stdout
    done = typed(sources, "hello", "Ada")
    assert (done.returncode, done.stdout) == (0, "hello, Ada\n")
    done = typed(sources, "hello", "nobody")
    assert (done.returncode, done.stderr) == (1, "podium: there is nobody to greet\n")


def test_every_command_has_a_place_of_its_own_and_an_example() -> None:
    found = cli.commands()
    assert len({command.ORDER for command in found}) == len(found)
    for command in found:
        assert command.EXAMPLE[0].startswith(f"podium {command.NAME}")
