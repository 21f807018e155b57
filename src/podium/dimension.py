"""One dimension of the search space: which values a field of the recipe may take."""

import difflib
from typing import Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError, model_validator

from podium.recipe import FROZEN, ModelParams, Recipe, TrainParams

Value = str | int | float | bool
SECTIONS: dict[str, type[BaseModel]] = {"model": ModelParams, "train": TrainParams}


class Dimension(BaseModel):
    """A range (`low`, `high`, `log`, `step`) or a list of `choices`; `when` limits it to configurations that match."""

    model_config = FROZEN

    low: int | float | None = None
    """Lowest value, included."""
    high: int | float | None = None
    """Highest value, included."""
    log: bool = False
    """Sample on a logarithmic scale; low must be above 0."""
    step: int | float | None = None
    """Distance between values; not together with log."""
    choices: list[Value] | None = None
    """The values, where they are not a range."""
    when: dict[str, list[Value]] = {}
    """Other dimensions or fields and the values at which this dimension exists, such as train.optimizer: [sgd]."""

    @model_validator(mode="after")
    def _is_a_range_or_choices(self) -> "Dimension":
        if self.choices is not None:
            self._check_choices(self.choices)
        else:
            self._check_range()
        return self

    def _check_choices(self, choices: list[Value]) -> None:
        if self.low is not None or self.high is not None or self.step is not None or self.log:
            raise ValueError("takes either choices or low and high, not both")
        if not choices:
            raise ValueError("choices must name at least one value; got []")
        if len({(type(c), c) for c in choices}) < len(choices):
            raise ValueError(f"choices must differ from each other; got {choices}")

    def _check_range(self) -> None:
        low, high = self.low, self.high
        if low is None or high is None:
            raise ValueError("must have low and high, or choices")
        if low > high:
            raise ValueError(f"low must be at most high; got {low} > {high}")
        if self.log and low <= 0:
            raise ValueError(f"low must be above 0 on a logarithmic scale; got {low}")
        if self.log and self.step is not None:
            raise ValueError("takes either log or step, not both")
        if self.step is not None and self.step <= 0:
            raise ValueError(f"step must be above 0; got {self.step}")

    def values(self) -> list[Value]:
        """The values whose validity decides the dimension's: both ends, or every choice."""
        if self.choices is not None:
            return self.choices
        return [v for v in (self.low, self.high) if v is not None]

    def problems(self, name: str, space: "dict[str, Dimension]") -> list[str]:
        """What is wrong with this dimension for the field `name`: each a sentence that begins with the name."""
        fields = list(Recipe().flat())
        if name not in fields:
            close = difflib.get_close_matches(name, fields, n=1) or [f for f in fields if f.endswith("." + name)]
            hint = f"did you mean {close[0]}?" if close else f"these may be searched: {', '.join(fields)}"
            return [f"{name}: is not a field of the model or the training; {hint}"]
        lines = [f"{name}: {line}" for line in self._bound_problems(name)]
        for other, values in self.when.items():
            lines += [f"{name}.when: {line}" for line in _when_problems(name, other, values, space)]
        return lines

    def _bound_problems(self, name: str) -> list[str]:
        section, field = name.split(".", 1)
        annotation = SECTIONS[section].model_fields[field].annotation
        if self.choices is None and (annotation is bool or get_origin(annotation) is Literal):
            known = [True, False] if annotation is bool else list(get_args(annotation))
            return [f"must be choices out of {known}; got low and high"]
        return [line for value in self.values() for line in field_problems(name, value)]


def field_problems(name: str, value: Value) -> list[str]:
    """What the field `name` has against `value`, by the field's own bounds; empty: nothing."""
    section, field = name.split(".", 1)
    try:
        SECTIONS[section].model_validate({field: value})
    except ValidationError as error:
        rules = [e["msg"].removeprefix("Input should be ") for e in error.errors() if e["loc"] == (field,)]
        return [f"must be {rule}; got {value!r}" for rule in rules]
    return []


def _when_problems(name: str, other: str, values: list[Value], space: dict[str, Dimension]) -> list[str]:
    if other == name or other not in Recipe().flat():
        return [f"{other}: is not another field of the model or the training"]
    if other in space and space[other].when:
        return [f"{other}: has a `when` of its own; a condition may only look at a dimension that always exists"]
    if not values:
        return [f"{other}: must name at least one value; got []"]
    return [f"{other}: {line}" for value in values for line in field_problems(other, value)]
