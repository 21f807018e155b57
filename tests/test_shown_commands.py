"""Every command of README and docs, typed in a clone from the top of each page to its end, as a reader would."""

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

import photos
from pipeline import ROOT, SHRUNK, Clone
from waiting import PATIENCE, until

SERVERS = {
    "make ui": 5000,
    "mlflow ui": 5000,
    "make dashboard": 8080,
    "podium serve": 5001,
    "mlflow models serve": 5001,
    "podium profile --show": 6006,
}
"""Commands that answer at a port until they are stopped."""
NOT_HERE = ("docker ", "kubectl ")
"""What needs more than a project of this kind can ask of the machine that tests it."""
PAGES = (
    "docs/how-to.md",
    "docs/trial-logger.md",
    "docs/serving.md",
    "docs/cluster.md",
    "README.md",
    "docs/tutorial.md",
)
"""Each is read in a project as it was before; the last two put photographs in the place of the digits."""
ANSWERS_NO = ("podium verify", "podium doctor", "podium promote")
"""What may truly be answered with exit code 1: things have changed since, and a challenger need not be better."""
PROMOTE = 'podium promote --force --reason "so that there is a way back"'

pytestmark = pytest.mark.slow


def blocks(page: str) -> list[list[str]]:
    """The commands of each block of shell of a page."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [[line for line in block.splitlines() if line.strip() and not line.startswith("#")] for block in found]


class Reader:
    """Somebody who types what the pages show, with files and numbers that are there."""

    def __init__(self, clone: Clone) -> None:
        self.clone = clone
        self.environment: dict[str, str] = {}
        self.servers: list[subprocess.Popen[str]] = []
        """Those that run."""
        self.searched = 0
        """How often a page has had its own photographs searched."""
        for name in ("digit.png", "photo.jpg"):
            photos.write(clone.folder / name, photos.tiles()[0], "PNG" if name.endswith("png") else "JPEG")

    def read(self, page: str) -> None:
        """Type every command of `page`; the servers of a block are stopped at its end."""
        self.environment = {}
        for block in blocks(page):
            for line in block:
                if not line.startswith(NOT_HERE):
                    self.type(line)
            self.stop()

    def stop(self) -> None:
        """Stop the servers that run, as Ctrl-C in their terminals would."""
        while self.servers:
            server = self.servers.pop()
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(PATIENCE)

    def type(self, line: str) -> None:
        """Run `line` to its end; a server until it answers."""
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            self.environment[name] = value
            return
        typed = re.sub(r"(lineage|verify|reproduce|--version|--pin) \d+", r"\1 1", line)
        typed = typed.replace("~/", f"{self.clone.folder.parent}/home/")
        if line.startswith(ANSWERS_NO):
            typed = f"set +e\n{typed}\n[ $? -le 1 ]"
        words = ["env", "BROWSER=true", f"PATH={self.clone.folder}/.venv/bin:{os.environ['PATH']}"]
        words += [f"{name}={value}" for name, value in self.environment.items()]
        command = [*words, "bash", "-euo", "pipefail", "-c", typed]
        for start, port in SERVERS.items():
            if line.startswith(start):
                self._serve(command, int((re.findall(r"--port (\d+)", line) or [port])[0]))
                return
        self.clone.run(*command)
        self._after(line)

    def _serve(self, command: list[str], port: int) -> None:
        # Another program would answer in the server's place.
        until(lambda: not _listens(port), said=lambda: f"another program listens at {port}")
        server = self.clone.start(*command)
        self.servers.append(server)

        def answers() -> bool:
            if command[-1].startswith("podium serve"):  # it listens before its model is loaded
                return _is_ready(port)
            return _listens(port)

        until(answers, server, lambda: self.clone.log()[-2000:])

    def champion(self, seed: int) -> None:
        """Make a version of this seed of the retraining the champion."""
        self.clone.set({"retrain.seed": seed})
        self.type("dvc repro --quiet")
        self.type(PROMOTE)

    def _after(self, line: str) -> None:
        """What the reader does by hand between two commands."""
        if line.startswith("mkdir") and "data/raw/photos" in line:
            photos.folder(self.clone.folder / "data/raw/photos")
        if line.startswith("podium preset"):
            space = {key: value for key, value in SHRUNK.items() if ".space." in key}
            small = {"model.name": "cnn", "prepare.size": 16, "gate.min_accuracy": 0.0}
            self.clone.set({**SHRUNK, **space, **small, "search.space.model.width": {"choices": [8, 16]}})
        if line == "dvc repro":  # each page goes back from a champion to the one before it
            self.type(PROMOTE)
            self.searched += 1
            self.champion(100 + self.searched)


def _listens(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def _is_ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/ready", timeout=60) as answer:
            return bool(answer.status == 200)
    except OSError:  # no server yet, or 503
        return False


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Clone:
    """A project with a champion, in clone/, and the same in kept/."""
    clone = Clone(tmp_path_factory.mktemp("shown") / "clone", SHRUNK, mlflow_template)
    reader = Reader(clone)
    reader.type("make repro")
    reader.champion(0)
    shutil.copytree(clone.folder, _kept(clone), symlinks=True, ignore=lambda folder, names: {".venv"} & set(names))
    return clone


@pytest.fixture
def reader(project: Clone) -> Iterator[Reader]:
    """A reader of the project as it was before any page was read. It stays where it is: .venv has absolute paths."""
    for path in project.folder.iterdir():
        if path.is_dir() and path.name != ".venv":
            shutil.rmtree(path)
        elif path.name != ".venv":
            path.unlink()
    shutil.copytree(_kept(project), project.folder, symlinks=True, dirs_exist_ok=True)
    reader = Reader(project)
    yield reader
    reader.stop()


def _kept(project: Clone) -> Path:
    return project.folder.with_name("kept")


@pytest.mark.timeout(3000)  # the first one has the project's installation and its first run before it
@pytest.mark.parametrize("page", PAGES)
def test_page_runs_from_its_top_to_its_end(reader: Reader, page: str) -> None:
    reader.read(page)


def test_no_page_is_forgotten() -> None:
    pages = {str(path.relative_to(ROOT)) for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]}
    assert {page for page in pages if blocks(page)} <= set(PAGES)
