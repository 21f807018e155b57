"""What DVC leaves out of the folders that it watches: by `.dvcignore`, read as DVC reads it, and projects within.

DVC neither sees such files change nor stores or brings them along, so a model that was trained on them could not be
made again from a clone. Patterns are those of .gitignore; a file in a folder adds to those above it, unless these hide
it, and the deepest one that says something decides (DVC 3.67, compared in a test).
"""

import os
import re
from functools import cached_property
from pathlib import Path

from pathspec import GitIgnoreSpec

NAME = ".dvcignore"
OWN_PROJECT = ".dvc"
"""A folder that holds one is a project of its own: DVC leaves it out, with all that is in it, and says nothing."""
LEFT_OUT = "DVC does not see it: .dvcignore leaves it out"
NESTED = "DVC does not see it: {} holds a folder .dvc, so that it is a DVC project of its own; remove that folder"
"""Why a file is rejected."""
Specs = tuple[tuple[GitIgnoreSpec, str], ...]
"""The deepest first; each with the path of the folder asked about from the one that its file lies in."""


class DvcIgnore:
    """The patterns of a project."""

    def __init__(self, project: Path) -> None:
        """`project`: the folder that holds .dvc; where there is none, nothing is left out."""
        self._project = project.absolute()
        self._specs: dict[Path, Specs] = {}
        self._folders: dict[Path, bool] = {}
        self._of_text: dict[str, Specs | None] = {}
        """The patterns for the files in a folder, by its path as it was given; None: it is hidden whole."""

    @cached_property
    def _is_one(self) -> bool:
        return _is_project(self._project)

    def hides(self, path: Path | str) -> bool:
        """Whether DVC leaves the file `path` out, itself or with a folder above it.

        Files of one folder after another cost a microsecond each.
        """
        folder, name = os.path.split(path)
        if name in ("", ".", "..") or folder not in self._of_text:
            whole = Path(os.path.normpath(Path(path).absolute()))  # a table may say ../images
            if name != whole.name:
                return self._hides(whole)
            self._of_text[folder] = self._for_files(whole.parent)
        specs = self._of_text[folder]
        return specs is None or _matches(specs, name)

    def _hides(self, whole: Path) -> bool:
        specs = self._for_files(whole.parent)
        return specs is None or _matches(specs, whole.name)

    def _for_files(self, folder: Path) -> Specs | None:
        """The patterns for files in `folder`; None: it is hidden whole."""
        if not self._is_one or not folder.is_relative_to(self._project):
            return ()
        return None if self.hides_folder(folder) else self._of(folder)

    def why(self, path: Path | str) -> str:
        """Why DVC leaves the file or folder `path` out, which `hides` or `hides_folder` said."""
        whole = Path(os.path.normpath(Path(path).absolute()))
        for folder in (whole, *whole.parents):
            if folder == self._project:
                break
            if _is_project(folder):
                return NESTED.format(folder.relative_to(self._project))
        return LEFT_OUT

    def hides_folder(self, path: Path) -> bool:
        """Whether DVC leaves the folder `path` out, itself or with one above it."""
        whole = Path(os.path.normpath(path.absolute()))  # a table may say ../images
        if not self._is_one or self._project not in whole.parents:
            return False
        if (known := self._folders.get(whole)) is None:
            known = (
                self.hides_folder(whole.parent) or self._matches(whole.parent, f"{whole.name}/") or _is_project(whole)
            )
            self._folders[whole] = known
        return known

    def _matches(self, folder: Path, name: str) -> bool:
        return _matches(self._of(folder), name)

    def _of(self, folder: Path) -> Specs:
        """The patterns that count for what lies in `folder`."""
        if (known := self._specs.get(folder)) is not None:
            return known
        above = () if folder == self._project else self._of(folder.parent)
        specs = tuple((spec, f"{place}{folder.name}/") for spec, place in above)
        file = folder / NAME
        if os.path.isfile(file) and not _matches(specs, NAME):  # noqa: PTH113 (Path raises where the folder is closed)
            lines = file.read_text(encoding="utf-8").splitlines()
            specs = ((GitIgnoreSpec.from_lines(line.strip() for line in lines), ""), *specs)
        self._specs[folder] = specs
        return specs


def _is_project(folder: Path) -> bool:
    """Whether there is a DVC project in `folder`; none is seen in one that may not be entered."""
    return os.path.isdir(folder / OWN_PROJECT)  # noqa: PTH112 (Path raises there)


def line_for(folder: Path, project: Path) -> str:
    """The line of the project's .dvcignore that leaves `folder` out; empty where it lies elsewhere.

    Also where `project` is none, as DVC then reads no such file.
    """
    whole = Path(os.path.normpath(folder.absolute()))
    project = project.absolute()
    if not _is_project(project) or project not in whole.parents:
        return ""
    return "/" + re.sub(r"([\\*?\[\]])", r"\\\1", whole.relative_to(project).as_posix()) + "/"


def _matches(specs: Specs, name: str) -> bool:
    """Whether the deepest of `specs` that says something of `name` leaves it out."""
    for spec, place in specs:
        found = spec.check_file(place + name).include
        if found is not None:
            return found
    return False
