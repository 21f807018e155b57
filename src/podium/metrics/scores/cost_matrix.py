"""What wrong answers cost, by the actual and the predicted class."""

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from podium import paths
from podium.errors import InputError
from podium.metrics.scores import Metric

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

    Raises InputError naming the line of a cell that is no finite number, or of a row of another length.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cost: file must be a CSV file in {paths.LABELS}; {path} can't be read: {error}") from None
    if len(rows) < 2:
        raise InputError(f"cost: {path} must have a row of predicted classes and rows of costs; it has {len(rows)}")
    head, found = [name.strip() for name in rows[0][1:]], Costs()
    for number, (name, *cells) in enumerate(rows[1:], 2):
        if len(cells) != len(head):
            raise InputError(f"cost: {path}, line {number}: must have {len(head)} costs; got {len(cells)}")
        found[name.strip()] = {other: _number(cell, path, number) for other, cell in zip(head, cells, strict=True)}
    if sorted(found) != sorted(head) or len(set(head)) < len(head) or len(found) < len(rows) - 1:
        raise InputError(f"cost: {path} must name every class once in its first row and once in its first column")
    return found


def _number(cell: str, path: Path, line: int) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"cost: {path}, line {line}: a cost must be a finite number; got {cell!r}")
    return value
