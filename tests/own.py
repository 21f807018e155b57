"""People's own modules, in the `src/` of a project of the test's own."""

import importlib
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

NUMBERS = itertools.count(1)


class OwnCode:
    """A project with own modules: each has a name that no other test's has, for modules stay imported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "src"
        self.source.mkdir()
        self.modules: list[str] = []

    def write(self, text: str, module: str = "") -> str:
        """Write a module and return its name."""
        name = module or f"own_module_{next(NUMBERS)}"
        (self.source / f"{name}.py").write_text(dedent(text).lstrip("\n"), encoding="utf-8")
        self.modules.append(name)
        importlib.invalidate_caches()
        return name


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnCode]:
    """A project, in which the test runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    code = OwnCode(tmp_path)
    yield code
    for name in code.modules:
        sys.modules.pop(name, None)
