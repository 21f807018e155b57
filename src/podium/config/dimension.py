"""One dimension of the search space: which values a field of the recipe may take."""

import math
from typing import Annotated, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ValidationError, model_validator

from podium.config.problems import did_you_mean, rule
from podium.config.recipe import FROZEN, ModelParams, Recipe, TrainParams

LARGEST = 1e100
"""Of a number in the space: whole numbers may be of any size in YAML, and sums of larger ones are not finite."""


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise ValueError(f"must be a finite number; got {value!r}")
    return value


def _value(value: object) -> object:
    if not isinstance(value, str | int | float) or not (isinstance(value, str) or abs(value) <= LARGEST):
        raise ValueError(f"must be text, a finite number, true or false; got {value!r}")
    return value


# Checked before pydantic tries one type of the union after the other, which would report a problem once for each.
Number = Annotated[int | float, BeforeValidator(_number)]
Value = Annotated[str | int | float | bool, BeforeValidator(_value)]
SECTIONS: dict[str, type[BaseModel]] = {"model": ModelParams, "train": TrainParams}


class Dimension(BaseModel):
    """A range (`low`, `high`, `log`, `step`) or a list of `choices`; `when` limits it to configurations that match."""

    model_config = FROZEN

    low: Number | None = None
    """Lowest value, included."""
    high: Number | None = None
    """Highest value, included."""
    log: bool = False
    """Sample on a logarithmic scale; low must be above 0."""
    step: Number | None = None
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
        if len({(isinstance(c, bool), c) for c in choices}) < len(choices):  # 1 and 1.0 are the same number
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
        if self.step is not None and not _is_whole((high - low) / self.step):
            raise ValueError(f"high - low must be a multiple of step; got {high} - {low} and {self.step}")

    def values(self) -> list[Value]:
        """The values whose validity decides the dimension's: both ends, or every choice."""
        if self.choices is not None:
            return self.choices
        return [v for v in (self.low, self.high) if v is not None]

    def problems(self, name: str, space: "dict[str, Dimension]") -> list[str]:
        """What is wrong with this dimension for the field `name`: each a sentence that begins with the name."""
        if lines := _name_problems(name):
            return lines
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
        if isinstance(self.step, float) and annotation is int:
            return [f"step must be a whole number, as the field is; got {self.step}"]
        return [line for value in self.values() for line in field_problems(name, value)]

    def may_be(self, value: Value) -> bool:
        """Whether a trial can have `value`: one of the choices, or between the ends."""
        if self.choices is not None:
            return value in self.choices
        low, high = self.low, self.high
        return not isinstance(value, str) and low is not None and high is not None and low <= value <= high


def space_problems(space: object) -> list[str]:
    """What is wrong with `search.space` beyond its form: unknown fields, ends outside of the field's own bounds."""
    named = {k: v for k, v in space.items() if isinstance(k, str)} if isinstance(space, dict) else {}
    dimensions: dict[str, Dimension] = {}
    lines: list[str] = []
    for name, fields in named.items():
        try:
            dimensions[name] = Dimension.model_validate(fields)
        except ValidationError:  # its form is wrong, which is said where the whole is read
            lines += _name_problems(name)
    return lines + [line for name, d in dimensions.items() for line in d.problems(name, dimensions)]


def fraction_problems(fraction: object, space: object) -> list[str]:
    """What is wrong with `search.fraction`: unknown fields, values outside of their bounds, fields of the space."""
    named = {k: v for k, v in fraction.items() if isinstance(k, str)} if isinstance(fraction, dict) else {}
    lines: list[str] = []
    for name, value in named.items():
        wrong = _name_problems(name) or [f"{name}: {line}" for line in field_problems(name, value)]
        if not wrong and isinstance(space, dict) and name in space:
            wrong = [f"{name}: is a dimension of search.space too; leave it out of one of them"]
        lines += wrong
    return lines


def field_problems(name: str, value: Value) -> list[str]:
    """What the field `name` has against `value`, by the field's own bounds; empty: nothing."""
    section, field = name.split(".", 1)
    try:
        SECTIONS[section].model_validate({field: value})
    except ValidationError as error:
        return [f"{rule(e['msg'])}; got {value!r}" for e in error.errors() if e["loc"] == (field,)]
    return []


def _name_problems(name: str) -> list[str]:
    fields = list(Recipe().flat())
    if name in fields:
        return []
    return [f"{name}: is not a field of the model or the training; {did_you_mean(name, fields)}"]


def _when_problems(name: str, other: str, values: list[Value], space: dict[str, Dimension]) -> list[str]:
    fields = [field for field in Recipe().flat() if field != name]
    if other not in fields:
        return [f"{other}: is not another field of the model or the training; {did_you_mean(other, fields)}"]
    if other in space and space[other].when:
        return [f"{other}: has a `when` of its own; a condition may only look at a dimension that always exists"]
    if not values:
        return [f"{other}: must name at least one value; got []"]
    lines = [f"{other}: {line}" for value in values for line in field_problems(other, value)]
    if not lines and other in space:
        never = [value for value in values if not space[other].may_be(value)]
        lines = [f"{other}: must name values that search.space.{other} has; got {value!r}" for value in never]
    return lines


def _is_whole(number: float) -> bool:
    return math.isclose(number, round(number), abs_tol=1e-9)
