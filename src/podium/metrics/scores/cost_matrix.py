"""What wrong answers cost, by the actual and the predicted class."""

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from podium import paths
from podium.errors import InputError
from podium.metrics.scores import SHOWN, Metric
from podium.text import counted

if TYPE_CHECKING:
    from torch import Tensor

    from podium.metrics.scored import Scored

Costs = dict[str, dict[str, float | int]]


class Cost(Metric):
    """The mean cost of a prediction, from a table in data/labels: a row for each actual class, a column for each
    predicted one, both named; or from `costs`, {actual: {predicted: cost}}, where what is not named costs 0.
    """

    NAME: ClassVar[str] = "cost"
    DIRECTION: ClassVar[str] = "minimize"
    RANGE: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    OF_LABELS: ClassVar[bool] = True

    file: str = ""
    """CSV below data/labels."""
    costs: Costs = Field(default={})
    """The table itself."""

    @model_validator(mode="after")
    def _one_table(self) -> "Cost":
        if bool(self.file) == bool(self.costs):
            raise ValueError("cost must have either a file or costs as its arguments")
        return self

    def portable(self) -> "Cost":
        """With the table itself in the place of the file. Raises InputError where that can't be read."""
        return Cost(costs=read_costs(paths.LABELS / self.file)) if self.file else self

    def each(self, scored: "Scored") -> "Tensor":
        """What each prediction costs; one of a class that no image is of costs as much as the dearest of its row.

        Raises InputError where the table names other classes.
        """
        import torch

        rows = self.table(scored.classes[: scored.own])
        rows = [[*row, *[max(row)] * (scored.count - scored.own)] for row in rows]
        table = torch.tensor(rows, dtype=torch.float64, device=scored.labels.device)
        return table[scored.labels, scored.predicted]

    def table(self, classes: tuple[str, ...]) -> list[list[float]]:
        """The cost of each pair of `classes`, rows the actual ones. Raises InputError for a name that is none, and
        where a file lacks one."""
        whole = self.portable().costs
        named = {*whole, *(name for row in whole.values() for name in row)}
        if unknown := sorted(named - set(classes)):
            raise InputError(
                f"cost: {self.file or 'costs'} must name classes only; it names {', '.join(unknown[:5])},"
                f" there are {', '.join(classes[:20])}"
            )
        if self.file and (lacking := [name for name in classes if name not in whole]):
            raise InputError(
                f"cost: {paths.LABELS / self.file} must name every class, in its first row and in its first column; it"
                f" lacks {', '.join(lacking[:5])}{f' and {len(lacking) - 5} more' if len(lacking) > 5 else ''}"
            )
        return [[float(whole.get(actual, {}).get(predicted, 0.0)) for predicted in classes] for actual in classes]

    def undefined(self, images: "dict[str, int]") -> str:  # type: ignore[override] # a mapping of classes
        """Never. Raises InputError where the table does not fit the classes."""
        self.table(tuple(images))
        return super().undefined(images)


def read_costs(path: Path) -> Costs:
    """The table of `path`: the first row names the predicted classes, the first column the actual ones.

    What spreadsheets add is no part of it: a mark of the encoding, empty rows and empty columns at the end. Raises
    InputError naming the line of a cell that is no finite number, or of a row of another length, and what a name lacks.
    """
    (_, (_, *head)), *rows = _rows(path)
    found = Costs()
    for line, (name, *cells) in rows:
        if len(cells) != len(head):
            raise InputError(f"cost: {path}, line {line}: must have {counted(len(head), 'cost')}; got {len(cells)}")
        found[name] = {other: _number(cell, path, line) for other, cell in zip(head, cells, strict=True)}
    column = [row[0] for _, row in rows]
    wrong = [f"{name!r} is twice in the first row" for name in set(head) if head.count(name) > 1]
    wrong += [f"{name!r} is twice in the first column" for name in found if column.count(name) > 1]
    wrong += [f"{name!r} is in the first row only" for name in head if name not in found]
    wrong += [f"{name!r} is in the first column only" for name in found if name not in head]
    if wrong:
        raise InputError(
            f"cost: {path} must name every class once in its first row and once in its first column;"
            f" {', '.join(sorted(wrong)[:5])}"
        )
    return found


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """The rows that are not empty, each with its line; at least two, and the first has at least one name."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True, skipinitialspace=True)
            cells = ((reader.line_num, [cell.strip() for cell in row]) for row in reader)
            rows = [(line, row) for line, row in cells if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"cost: file must be a CSV file in UTF-8 in {paths.LABELS}; {path} can't be read: {error}{_remedy(error)}"
        ) from None
    if len(rows) < 2:
        raise InputError(f"cost: {path} must have a row of predicted classes and rows of costs; it has {len(rows)}")
    while all(len(row) > 1 and len(row) == len(rows[0][1]) and not row[-1] for _, row in rows):
        rows = [(line, row[:-1]) for line, row in rows]
    line, first = rows[0]
    if len(first) < 2:
        raise InputError(
            f"cost: {path}, line {line}: must have an empty cell and a class in each further one, separated by commas;"
            f" got {first[0][:SHOWN]!r}"
        )
    return rows


def _remedy(error: Exception) -> str:
    """Of a cell such as `"a" x`, which reads two ways; empty for any other error."""
    if not isinstance(error, csv.Error) or "expected after" not in str(error):
        return ""
    return '. A cell that begins with a quote must end with one: write "a x" for the class a x, """a"" x" for "a" x'


def _number(cell: str, path: Path, line: int) -> float:
    try:
        value = math.nan if "_" in cell else float(cell)  # float takes 1_000
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"cost: {path}, line {line}: a cost must be a finite number; got {cell!r}")
    return value
