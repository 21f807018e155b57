"""What README and docs show is true: each command can be typed, each link leads somewhere, nothing is missing."""

import re
import shlex
from pathlib import Path

import pytest

from podium import cli
from podium.config import reference_page as params_page

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "docs/reference/params.md"]
OTHERS = {".", "curl", "docker", "export", "git", "-d", "mkdir", "tensorboard", "mlflow"}
"""Programs that are not ours: they are known, and what is said to them is theirs to check."""


def commands() -> list[tuple[str, str]]:
    """Page and command of every line in a block of shell, and of every `podium ...` in a sentence."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            found += [
                (page.name, line.strip())
                for line in block.replace("\\\n", " ").splitlines()
                if line.strip() and line[0] != "#"
            ]
        prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        found += [(page.name, line) for line in re.findall(r"`((?:podium|dvc|make) [a-z][^`]*)`", prose)]
    return found


def check(line: str) -> None:
    """Raise or exit where the command does not exist or does not take these arguments."""
    words = shlex.split(line, comments=True)
    if ">" in words:
        words = words[: words.index(">")]
    if words[0] == "podium":
        if "--print-completion" in words:
            assert words[2] in ("bash", "zsh", "tcsh")
            return
        cli.command_parser().parse_args(words[1:])
    elif words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(words[1:]) <= set(targets)
    elif words[0] == "dvc":
        from dvc.cli import parse_args

        parse_args(words[1:])
    else:
        assert words[0] in OTHERS, f"{words[0]}: say in this test what checks it"


@pytest.mark.parametrize(("page", "line"), commands())
def test_command_that_is_shown_can_be_typed(page: str, line: str) -> None:
    check(line)


def test_pages_show_every_command() -> None:
    shown = {shlex.split(line, comments=True)[1] for _, line in commands() if line.startswith("podium ")}
    assert {command.NAME for command in cli.commands()} <= shown


@pytest.mark.parametrize("line", ["podium crown", "podium promote one", "make coffee", "dvc brew", "rm -rf data"])
def test_command_that_does_not_exist_would_be_found(line: str) -> None:
    from dvc.cli import DvcParserError

    with pytest.raises((SystemExit, AssertionError, DvcParserError)):
        check(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_reference_of_parameters_is_up_to_date() -> None:
    assert params_page.PAGE.read_text(encoding="utf-8") == params_page.page(), "python -m podium.config.reference_page"


def test_examples_in_help_can_be_typed() -> None:
    for command in cli.commands():
        for line in re.findall(r"^  (podium .*?)(?:  |$)", command.EXAMPLES, re.MULTILINE):
            words = shlex.split(line.split(" > ")[0].split(" | ")[0])
            cli.command_parser().parse_args(words[1:])
