"""A CSV file with one line per image: `path`, `label`, and optionally `split` and `group`."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from podium.data.sources import ImageSource
from podium.data.sources.folder import SPLITS
from podium.data.sources.item import Item, Reject, Source, in_order, shown
from podium.errors import InputError

if TYPE_CHECKING:
    from podium.config.params import PrepareParams

SHOWN = 10
"""Wrong lines that an error names; it counts the rest."""


class CsvTable(ImageSource):
    """A CSV file of paths and labels, with split and group where there are some."""

    NAME: ClassVar[str] = "csv:"
    HAS_PATH: ClassVar[bool] = True

    def read(self, params: "PrepareParams", *, follow_links: bool) -> Source:
        """Every line of the file."""
        return read(Path(self.rest), Path(params.root), follow_links=follow_links)


def read(path: Path, root: Path, *, follow_links: bool = False) -> Source:
    """Every line of the CSV file `path` (UTF-8, with a header), in its order; paths in it start at its own folder.

    Raises InputError naming the lines that are wrong. Files outside of `root` are rejected unless `follow_links`: DVC
    would not see them change.
    """
    lines = _lines(path)
    problems = [problem for number, line in lines if (problem := _problem(number, line))]
    if problems:
        more = [f"and {len(problems) - SHOWN:,} more lines"] if len(problems) > SHOWN else []
        raise InputError(f"prepare.source: {shown(path)} has wrong lines:\n  " + "\n  ".join(problems[:SHOWN] + more))
    if not lines:
        raise InputError(f"prepare.source: {shown(path)} holds no image, only a header")
    names = in_order({line["label"] for _, line in lines})
    numbers = {name: number for number, name in enumerate(names)}
    items: list[Item] = []
    rejects: list[Reject] = []
    inside = root.resolve()
    for _, line in lines:
        file = path.parent / line["path"]
        if not follow_links and not file.resolve().is_relative_to(inside):
            rejects.append(Reject("outside", line["path"], f"it lies outside of prepare.root, {shown(root)}"))
        elif not file.is_file():
            rejects.append(Reject("unreadable", line["path"], "there is no such file"))
        else:
            split = SPLITS[line["split"].lower()] if line.get("split") else None
            group = line.get("group", "").strip() or None
            items.append(Item(line["path"], numbers[line["label"]], split, file, group))
    return Source(f"csv:{shown(path)}", tuple(names), items, rejects)


def _lines(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Each line with its number in the file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True, restkey="more", restval="")
            missing = {"path", "label"} - set(reader.fieldnames or ())
            if missing:
                raise InputError(
                    f"prepare.source: {shown(path)} must begin with a line of names, `path,label` and optionally"
                    f" `split` and `group`; got {','.join(reader.fieldnames or ()) or 'nothing'}"
                )
            return [(reader.line_num, line) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        what = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"prepare.source: {shown(path)} can't be read: {what}") from None


def _problem(number: int, line: dict[str, str]) -> str:
    """What is wrong with a line; empty: nothing."""
    if "more" in line:
        return f"line {number}: has more values than the header has names"
    for name in ("path", "label"):
        if not line[name].strip():
            return f"line {number}: {name} is empty"
    if "\0" in line["path"]:
        return f"line {number}: path holds a zero byte"
    if line.get("split") and line["split"].lower() not in SPLITS:
        return f"line {number}: split must be one of {', '.join(SPLITS)} or empty; got {line['split']!r}"
    return ""
