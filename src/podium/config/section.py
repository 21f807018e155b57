"""A section of params.yaml that names components: its own fields, and the parameters of all that it may name.

A component's parameter that is not set has the component's own default; one of a component that is not named is checked
and read by nobody. `flat` has the values that are read.
"""

from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    TypeAdapter,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo

from podium import components
from podium.components import FROZEN, Choice, Component
from podium.config import written_numbers
from podium.config.problems import at, merged, rule

Value = str | int | float | bool
"""Of a parameter or an argument."""
ARGUMENTS = "arguments"


Path = tuple[str | int, ...]


class ComponentError(ValueError):
    """What is wrong with a component's parameters."""

    def __init__(self, name: str, errors: Sequence[dict[str, Any]]) -> None:
        self.problems = [(tuple(e["loc"]) if e["type"] != "missing" else (), _of_component(name, e)) for e in errors]
        """Where in its arguments, and a sentence, each."""
        super().__init__("; ".join(" ".join([".".join(map(str, path)), text]).strip() for path, text in self.problems))

    def of_arguments(self, place: Path) -> ValidationError:
        """As a validator raises it, where `place`, below its value, names the component and has the arguments."""
        return at([((*place, ARGUMENTS, *path) if path else place, text) for path, text in self.problems])


class Section(BaseModel):
    """A section with components; see `with_parameters`."""

    model_config = FROZEN

    KINDS: ClassVar[tuple[str, ...]] = ()
    """The kinds of components whose parameters stand in this section."""
    OWN: ClassVar[tuple[str, ...]] = ()
    """The fields that are the section's own, and no component's."""
    NOT_FLAT: ClassVar[tuple[str, ...]] = ()
    """Those of them that are mappings of dotted names, and no values."""

    def chosen(self) -> list[tuple[str, Choice]]:
        """The components that the section names: (kind, choice)."""
        return []

    def made(self, kind: str, choice: Choice) -> Any:
        """The component that `choice` names, with its parameters. Raises ValueError where one is out of bounds."""
        values = self.set_values()
        if not self._turns_on(kind, choice):
            values.pop(choice.name, None)
        return made_of(kind, choice, values)

    def set_values(self) -> dict[str, Any]:
        """The components' parameters that are set."""
        return {name: value for name in parameters_of(type(self)) if (value := getattr(self, name)) is not None}

    def value(self, name: str) -> Any:
        """The components' parameter `name`; None where it is not set."""
        return getattr(self, name, None)

    def plain(self) -> dict[str, Any]:
        """Everything that is set, as plain values."""
        return {name: value for name, value in self.model_dump().items() if value is not None}

    def flat(self, prefix: str) -> dict[str, Any]:
        """Every value that is read, by its dotted name below `prefix`."""
        values: dict[str, Any] = {}
        for name in (name for name in self.OWN if name not in self.NOT_FLAT):
            values |= _flat_field(name, getattr(self, name))
        for kind, choice in self.chosen():
            component = self.made(kind, choice)
            hidden = {"chosen"} if self._turns_on(kind, choice) else {"chosen", choice.name}
            values |= {n: getattr(component, n) for n in type(component).model_fields if n not in hidden}
        if "augmentation" in self.KINDS:  # one that is off by its own parameter is shown as off
            switches = components.declared("augmentation")
            values |= {n: v for n, v in self.set_values().items() if n in switches and n not in values}
        return {f"{prefix}.{name}" if prefix else name: value for name, value in values.items()}

    def _turns_on(self, kind: str, choice: Choice) -> bool:
        """Whether the parameter of its own name counts: not for an augmentation that is on since it is listed."""
        return kind != "augmentation" or bool(self.value(choice.name))

    @model_validator(mode="after")
    def _components_are_whole(self) -> Self:
        for kind, choice in self.chosen():
            try:
                self.made(kind, choice)
            except ComponentError as error:
                field = components.KINDS[kind].parameter.partition(".")[2]
                own = [path[0] for path, _ in error.problems if path and path[0] in type(self).model_fields]
                if own and not choice.arguments:  # a parameter of the section itself
                    raise at(error.problems) from None
                raise error.of_arguments(() if kind == "network" and error.problems[0][0] else (field,)) from None
        return self

    @staticmethod
    def put(section: dict[str, Any], field: str, value: Any) -> None:
        """Set `field`, dotted, in the plain values of a section: `loss`, `loss.arguments.gamma`, `arguments.hidden`."""
        place, *below = field.split(f".{ARGUMENTS}." if f".{ARGUMENTS}." in field else ".", 1)
        if not below:
            old = section.get(place)
            if isinstance(old, list) and isinstance(value, str):
                value = old if ", ".join(map(_name_of, old)) == value else [one for one in value.split(", ") if one]
            if not (isinstance(old, dict) and old.get("name") == value):
                section[place] = value
        elif place == ARGUMENTS:
            section[ARGUMENTS] = {**section.get(ARGUMENTS, {}), below[0]: value}
        elif "." in place:  # an entry of a list, by its label
            name, label = place.split(".", 1)
            section[name] = [_with_argument(one, below[0], value, label) for one in section.get(name, [])]
        else:
            section[place] = _with_argument(section.get(place, ""), below[0], value)


def made_of(kind: str, choice: Choice, values: dict[str, Any]) -> Any:
    """The component that `choice` names, with its parameters out of `values`. Raises ValueError for what is wrong."""
    try:
        return components.make(kind, choice, values)
    except ValidationError as error:
        raise ComponentError(choice.name, merged(error)) from None


def whole(kind: str) -> AfterValidator:
    """What checks that a component of `kind`, which a field takes, has the arguments that it needs."""

    def check(choice: Choice | None) -> Choice | None:
        if choice is None:
            return None
        try:
            made_of(kind, choice, {})
        except ComponentError as error:
            raise error.of_arguments(()) from None
        return choice

    return AfterValidator(check)


T = TypeVar("T", bound=Section)


def with_parameters(section: type[T]) -> type[T]:
    """`section` with a field for each parameter of the components that it may name."""
    fields: dict[str, Any] = {}
    for kind in section.KINDS:
        for name, declarations in components.parameters(kind).items():
            fields[name] = (_type(declarations) | None, FieldInfo(default=None, description=_described(declarations)))
    section.OWN = tuple(section.model_fields)
    extended = create_model(section.__name__, __base__=section, __module__=section.__module__, **fields)
    extended.__doc__ = section.__doc__
    return extended


@cache
def parameters_of(section: type[Section]) -> dict[str, list[tuple[str, FieldInfo]]]:
    """The components' parameters of a section by name: (component, declaration) of each that has it."""
    found: dict[str, list[tuple[str, FieldInfo]]] = {}
    for kind in section.KINDS:
        for name, declarations in components.parameters(kind).items():
            found.setdefault(name, []).extend(declarations)
    return found


def _described(declarations: Sequence[tuple[str, FieldInfo]]) -> str:
    """`sgd, muon: text`, for each text that there is."""
    texts: dict[str, list[str]] = {}
    for component, info in declarations:
        texts.setdefault(info.description or "", []).append(component)
    return " ".join(f"{', '.join(names)}: {text}" for text, names in texts.items())


def _type(declarations: Sequence[tuple[str, FieldInfo]]) -> Any:
    """The type of a field that one of several components declares; where these differ, what one of them takes."""
    kinds: list[Any] = [
        Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation for _, info in declarations
    ]
    if all(kind == kinds[0] for kind in kinds):
        return kinds[0]
    adapters = [TypeAdapter(kind, config=FROZEN) for kind in kinds]

    def one_of_them(value: Any) -> Any:
        rules = []
        for (name, _), adapter in zip(declarations, adapters, strict=True):
            try:
                return adapter.validate_python(value)
            except ValidationError as error:
                rules.append(f"{rule(error.errors()[0]['msg'])} ({name})")
        raise ValueError(f"{' or '.join(rules)}; got {value!r}")

    return Annotated[Any, BeforeValidator(one_of_them)]


def _of_component(name: str, error: dict[str, Any]) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"is no argument of {name}"
    if error["type"] == "missing":
        return f"{name} needs {path}: write {{name: {name}, arguments: {{{path}: ...}}}}"
    if not path:
        return rule(str(error["msg"]))
    text = rule(str(error["msg"]))
    return f"{text} for {name}; got {error['input']!r}{written_numbers.remedy(text, error['input'])}"


def _flat_field(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Choice):
        return {name: value.name} | {f"{name}.{ARGUMENTS}.{k}": v for k, v in value.arguments.items()}
    if isinstance(value, list):
        found: dict[str, Any] = {name: ", ".join(one.name for one in value)} if value else {}
        for one in value:
            found |= {f"{name}.{one.label}.{ARGUMENTS}.{k}": v for k, v in one.arguments.items()}
        return found
    if isinstance(value, dict):
        return {f"{name}.{key}": v for key, v in value.items()}
    return {} if value is None else {name: value}


def _name_of(choice: Any) -> str:
    return str(choice["name"] if isinstance(choice, dict) else choice)


def _with_argument(old: Any, name: str, value: Any, label: str = "") -> Any:
    raw: dict[str, Any] = {"name": old} if isinstance(old, str) else dict(old)
    if label and raw["name"].rpartition(":")[2] != label:
        return old
    return raw | {ARGUMENTS: {**raw.get(ARGUMENTS, {}), name: value}}


__all__ = ["Component", "Section", "Value", "made_of", "parameters_of", "with_parameters"]
