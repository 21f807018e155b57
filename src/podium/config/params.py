"""params.yaml as frozen, strict `Params`; the only file that reads YAML.

Every problem is reported at once, each with its dotted path, the rule and what was got.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from podium.components import FROZEN
from podium.config import agreements, aims, problems
from podium.config.data_sections import DoctorParams, PrepareParams
from podium.config.gate_section import GateParams
from podium.config.recipe import ModelParams, Recipe, TrainParams
from podium.config.run_sections import (
    DriftParams,
    EvaluateParams,
    LedgerParams,
    RegisterParams,
    RetrainParams,
    RuntimeParams,
    ServeParams,
    TrackingParams,
)
from podium.config.search_section import SearchParams, SelectParams
from podium.config.section import Section, made_of
from podium.config.space import (
    Dimension,
    argument_problems,
    overrides_problems,
    repeated_augmentations,
    space_problems,
)
from podium.errors import InputError

MAPPINGS = ("space", "overrides", "limits")
"""Fields that are mappings of dotted names."""
COMPONENTS = ("model", "train", "search")
"""Sections that name components."""

__all__ = [
    "DoctorParams",
    "DriftParams",
    "EvaluateParams",
    "GateParams",
    "LedgerParams",
    "Params",
    "PrepareParams",
    "RegisterParams",
    "RetrainParams",
    "RuntimeParams",
    "SearchParams",
    "SelectParams",
    "ServeParams",
    "TrackingParams",
    "known_fields",
    "load",
    "parse",
    "set_values",
    "with_values",
]


class Params(BaseModel):
    """params.yaml, whole."""

    model_config = FROZEN

    prepare: PrepareParams = PrepareParams()
    doctor: DoctorParams = DoctorParams()
    model: ModelParams = ModelParams()
    train: TrainParams = TrainParams()
    search: SearchParams = SearchParams()
    select: SelectParams = SelectParams()
    retrain: RetrainParams = RetrainParams()
    evaluate: EvaluateParams = EvaluateParams()
    register_: RegisterParams = Field(default=RegisterParams(), alias="register")
    gate: GateParams = GateParams()
    ledger: LedgerParams = LedgerParams()
    serve: ServeParams = ServeParams()
    drift: DriftParams = DriftParams()
    tracking: TrackingParams = TrackingParams()
    runtime: RuntimeParams = RuntimeParams()

    def measured(self) -> list[Any]:
        """The metrics that every epoch has besides search.metric: those of evaluate.metrics."""
        return [made_of("metric", one, {}) for one in self.evaluate.metrics]

    def recipe(self) -> Recipe:
        """The training run that `model` and `train` spell out."""
        return Recipe(model=self.model, train=self.train)


def load(path: Path) -> Params:
    """Read `path`. Raises InputError naming every problem in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read: {error}. Run in the project's root.") from None
    return parse(text, str(path))


def parse(text: str, name: str = "params.yaml") -> Params:
    """Read YAML text. Raises InputError naming every problem in it; `name` is what messages call the text."""
    try:
        raw = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise InputError(f"{name} is not YAML: {problems.syntax(error)}") from None
    raw = {} if raw is None else raw
    if not isinstance(raw, dict):
        raise InputError(f"{name} must hold sections such as `search:`; got {type(raw).__name__}")
    found: list[str] = []
    params = None
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        found += problems.sentences(error, known_fields(), list(Dimension.model_fields))
    search = raw["search"] if isinstance(raw.get("search"), dict) else {}
    space = search.get("space")
    found += [f"search.space.{line}" for line in space_problems(space)]
    found += [f"search.overrides.{line}" for line in overrides_problems(search.get("overrides"), space)]
    if params is not None:
        if why := aims.rule_problem(params.select.rule, [aims.label(one) for one in params.search.named]):
            found.append(f"select.rule: {why}")
        twice = repeated_augmentations(params.train, params.search.space, params.search.overrides)
        found += [f"search.{line}" for line in twice]
        found += agreements.disagreements(params)
    if params is not None and not found:
        found += [f"search.space.{line}" for line in argument_problems(params.recipe(), params.search.space)]
    if found or params is None:
        count = f"{len(found)} problem" + ("s" if len(found) > 1 else "")
        raise InputError(f"{name} has {count}:\n" + "\n".join(f"  {line}" for line in found))
    return params


def known_fields() -> list[str]:
    """Every section, and every parameter by its dotted name, `section.field`."""
    sections = {field.alias or key: field.annotation for key, field in Params.model_fields.items()}
    fields = [
        f"{name}.{field}"
        for name, section in sections.items()
        if isinstance(section, type) and issubclass(section, BaseModel)
        for field in section.model_fields
    ]
    return [*sections, *fields]


def flat(text: str) -> dict[str, object]:
    """What YAML text sets, by dotted name, `section.field`; unchecked. Raises InputError where it is not YAML."""
    return {f"{section}.{name}": value for section, fields in _raw(text).items() for name, value in fields.items()}


def with_values(text: str, values: dict[str, object]) -> str:
    """YAML text with the fields of the dotted names in `values` replaced; comments are lost. Raises as `flat`."""
    raw = _raw(text)
    for name, value in sorted(values.items(), key=lambda item: item[0].count(".")):  # a name before its arguments
        section, _, field = name.partition(".")
        fields = raw.setdefault(section, {})
        whole, _, key = field.partition(".")
        if key and whole in MAPPINGS:
            old = fields.get(whole)
            fields[whole] = {**(old if isinstance(old, dict) else {}), key: value}
        elif section in COMPONENTS:
            Section.put(fields, field, value)
        else:
            fields[field] = value
    return json.dumps(raw, indent=2) + "\n"  # JSON is YAML


def set_values(params: list[str], parameter: str = "--set") -> dict[str, object]:
    """`key=value` texts, values in YAML, by their dotted names. Raises InputError for what is no such text."""
    found: dict[str, object] = {}
    for text in params:
        name, equals, value = text.partition("=")
        if not equals or "." not in name:
            raise InputError(f"{parameter}: must be section.field=value, such as train.epochs=5; got {text!r}")
        try:
            found[name.strip()] = YAML(typ="safe", pure=True).load(value)
        except YAMLError as error:
            raise InputError(f"{parameter} {name}: {value!r} is not YAML: {problems.syntax(error)}") from None
    return found


def _raw(text: str) -> dict[str, dict[str, object]]:
    try:
        raw = YAML(typ="safe", pure=True).load(text) or {}
    except YAMLError as error:
        raise InputError(f"params.yaml is not YAML: {problems.syntax(error)}") from None
    if not isinstance(raw, dict):
        raise InputError(f"params.yaml must hold sections such as `search:`; got {type(raw).__name__}")
    return {str(section): fields or {} for section, fields in raw.items()}
