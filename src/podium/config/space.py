"""The search space: which values the fields of `model` and `train` may take."""

import math
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ValidationError, model_validator

from podium import components
from podium.components import FROZEN
from podium.config import written_numbers
from podium.config.problems import did_you_mean, rule
from podium.config.recipe import ModelParams, Recipe, TrainParams
from podium.config.section import ARGUMENTS, Section, parameters_of

LARGEST = 1e100
"""Of a number in the space: whole numbers may be of any size in YAML, and sums of larger ones are not finite."""


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        must = "must be a finite number"
        raise ValueError(f"{must}; got {value!r}{written_numbers.remedy(must, value)}")
    return value


def _value(value: object) -> object:
    if not isinstance(value, str | int | float) or not (isinstance(value, str) or abs(value) <= LARGEST):
        raise ValueError(f"must be text, a finite number, true or false; got {value!r}")
    return value


# Checked before pydantic tries one type of the union after the other, which would report a problem once for each.
Number = Annotated[int | float, BeforeValidator(_number)]
Value = Annotated[str | int | float | bool, BeforeValidator(_value)]
SECTIONS: dict[str, type[Section]] = {"model": ModelParams, "train": TrainParams}
NOT_SEARCHED = {"train.augment", "train.program", "model.arguments"}
"""Fields whose values are no scalars."""


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
        if is_argument(name):
            return self._argument_problems()
        kind = type_of(name)
        if self.choices is None and (kind is bool or get_origin(kind) is Literal):
            known = [True, False] if kind is bool else list(get_args(kind))
            return [f"must be choices out of {known}; got low and high"]
        if self.choices is None and kind in (str, components.Choice):
            return ["must be choices, each a name; got low and high"]
        if isinstance(self.step, float) and kind is int:
            return [f"step must be a whole number, as the field is; got {self.step}"]
        return [line for value in self.values() for line in field_problems(name, value)]

    def _argument_problems(self) -> list[str]:
        """Of an argument of somebody else's: whether it is a whole number follows from how low and high are written."""
        numbers = [value for value in (self.low, self.high, self.step) if value is not None]
        if len({type(value) for value in numbers}) > 1:
            return [f"low, high and step must be all whole numbers or all with a point; got {numbers}"]
        return []

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
        except ValidationError:  # its form is wrong, which is reported when the whole file is read
            lines += _name_problems(name)
    return lines + [line for name, d in dimensions.items() for line in d.problems(name, dimensions)]


def overrides_problems(overrides: object, space: object) -> list[str]:
    """What is wrong with `search.overrides`: unknown fields, values outside of their bounds, fields of the space."""
    named = {k: v for k, v in overrides.items() if isinstance(k, str)} if isinstance(overrides, dict) else {}
    lines: list[str] = []
    for name, value in named.items():
        wrong = _name_problems(name) or [f"{name}: {line}" for line in field_problems(name, value)]
        if not wrong and isinstance(space, dict) and name in space:
            wrong = [f"{name}: is a dimension of search.space too; leave it out of one of them"]
        lines += wrong
    return lines


def repeated_augmentations(train: TrainParams, space: dict[str, Dimension], overrides: dict[str, Value]) -> list[str]:
    """Augmentations that `train.augment` lists and that a trial's own parameter turns on too."""
    lines = []
    for one in train.augment:
        name = f"train.{one.name}"
        remedy = f"would be applied twice: train.augment lists {one.name}; remove it there"
        if name in space and any(space[name].values()):
            lines.append(f"space.{name}: {remedy}, or do not search {name}")
        if overrides.get(name):
            lines.append(f"overrides.{name}: {remedy}, or here")
    return lines


def field_problems(name: str, value: Value) -> list[str]:
    """What the field `name` has against `value`, by the field's own bounds; empty: nothing."""
    if is_argument(name):
        return []
    section, field = name.split(".", 1)
    try:
        SECTIONS[section].model_validate({field: value})
    except ValidationError as error:
        rules = [rule(e["msg"]) for e in error.errors() if e["loc"] == (field,)]
        return [f"{one}; got {value!r}{written_numbers.remedy(one, value)}" for one in rules]
    return []


def is_argument(name: str) -> bool:
    """Whether `name` is an argument of somebody else's code, such as model.arguments.<name>."""
    section, _, field = name.partition(".")
    if section == "model":
        return field.startswith(f"{ARGUMENTS}.") and len(field) > len(ARGUMENTS) + 1
    slot, middle, argument = field.partition(f".{ARGUMENTS}.")
    return section == "train" and bool(middle and argument) and slot.split(".")[0] in _slots()


def type_of(name: str) -> Any:
    """The type of the values of the field `name`, dotted; of an argument of somebody else's it is not known: None."""
    section, _, field = name.partition(".")
    if is_argument(name):
        return None
    declared = parameters_of(SECTIONS[section]).get(field)
    info = declared[0][1] if declared else SECTIONS[section].model_fields[field]
    return info.annotation


def is_whole(name: str, dimension: Dimension) -> bool:
    """Whether the range `dimension` of the field `name` has whole numbers only."""
    kind = type_of(name)
    return isinstance(dimension.low, int) if kind is None else kind is int


def reachable(base: Recipe, space: dict[str, Dimension]) -> list[tuple[str, str]]:
    """Every component, (kind, name), that a configuration of `space` around `base` may name."""
    found = [(kind, choice.name) for kind, choice in [*base.model.chosen(), *base.train.chosen()]]
    for kind, place in components.KINDS.items():
        if place.parameter in space:
            found = [one for one in found if one[0] != kind]
            found += [(kind, str(value)) for value in space[place.parameter].values()]
    switches = [name for name in components.declared("augmentation") if f"train.{name}" in space]
    return sorted({*found, *(("augmentation", name) for name in switches)})


def argument_problems(base: Recipe, space: dict[str, Dimension]) -> list[str]:
    """Dimensions of arguments that a configuration of `space` around `base` would give to what does not take them."""
    lines: list[str] = []
    for name, dimension in space.items():
        if is_argument(name):
            place = "model.name" if name.startswith("model.") else name.partition(f".{ARGUMENTS}.")[0]
            settings = {other: values[0] for other, values in dimension.when.items()}
            if place.startswith("train.augment.") and len(base.train.labelled(place.split(".", 2)[2])) > 1:
                lines.append(f"{name}: train.augment has several of this name: rename one of the functions")
                continue
            named = space[place].values() if place in space and place not in settings else [None]
            for one in named:
                lines += _refused(base, settings | ({place: one} if one is not None else {}), name, dimension)
    return lines


def _refused(base: Recipe, settings: dict[str, Any], name: str, dimension: Dimension) -> list[str]:
    value = dimension.values()[0]
    try:
        read = base.replace(settings | {name: value}).flat()
    except ValidationError as error:
        why = rule(str(error.errors()[0]["msg"]))
        return [f"{name}: {why}; limit the dimension with `when`, or leave it out"]
    if read.get(name) == value:
        return []
    return [f"{name}: params.yaml names nothing there that takes this argument; name it, or leave the dimension out"]


def fixed(base: Recipe, space: dict[str, Dimension]) -> dict[str, Any]:
    """The values that decide the trials of `space` around `base` and are no dimension, or not always one.

    A parameter of a component that only other configurations name is among them; an augmentation that is off is not.
    """
    named, values = set(reachable(base, space)), base.flat()
    for section, part in (("model", base.model), ("train", base.train)):
        set_values = part.set_values()
        for kind in type(part).KINDS:
            for name, declarations in components.parameters(kind).items():
                if name in set_values and any(_names(kind, own, named) for own, _ in declarations):
                    values.setdefault(f"{section}.{name}", set_values[name])
    switches = {f"train.{name}" for name in components.declared("augmentation")}
    free = {name for name, dimension in space.items() if not dimension.when}
    return {name: v for name, v in values.items() if name not in free and (v or name not in switches)}


def _names(kind: str, component: str, named: set[tuple[str, str]]) -> bool:
    """Whether one of `named`, (kind, name), is the component `component`, whose name may be a prefix."""
    return any(one == kind and (name == component or name.startswith(component)) for one, name in named)


def field_names() -> list[str]:
    """Every field of `model` and `train` that may be a dimension, arguments of somebody else's left out."""
    names = [f"{section}.{field}" for section, model in SECTIONS.items() for field in model.model_fields]
    return [name for name in names if name not in NOT_SEARCHED]


def _slots() -> list[str]:
    return [kind.parameter.partition(".")[2] for kind in components.KINDS.values() if kind.section == "train"]


def _name_problems(name: str) -> list[str]:
    fields = field_names()
    if name in fields or is_argument(name):
        return []
    return [f"{name}: is not a field of the model or the training; {did_you_mean(name, fields)}"]


def _when_problems(name: str, other: str, values: list[Value], space: dict[str, Dimension]) -> list[str]:
    fields = [field for field in field_names() if field != name]
    if other not in fields and not (is_argument(other) and other != name):
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
