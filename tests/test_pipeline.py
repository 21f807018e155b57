"""The contract between dvc.yaml, params.yaml and the code."""

import ast
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from podium import closure
from podium.components import KINDS, find
from podium.config.params import Params, load
from podium.config.section import Section
from podium.config.space import reachable
from podium.data.audit import findings
from podium.promotion.rules import find_rules

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/podium"
STAGES: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]
RAW: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
NEUTRAL = {"tracking", "runtime"}
OF_COMMANDS = {"gate", "ledger", "serve", "drift"}
"""Sections that a command of `podium` reads, after the stages."""
OWN = "data/code/training.json"
DATA: dict[str, tuple[list[str], list[str]]] = {
    "code": ([], ["data/code/source.json", "data/code/training.json"]),
    "prepare": (
        ["${prepare.root}", "data/split", "data/labels", "data/code/source.json"],
        ["data/prepared", "data/sealed"],
    ),
    "search": ([OWN, "data/labels", "data/prepared", "data/weights"], ["data/search"]),
    "select": ([OWN, "data/labels", "data/prepared", "data/weights", "data/search"], ["data/selected"]),
    "retrain": ([OWN, "data/prepared", "data/weights", "data/selected"], ["data/retrained"]),
    "evaluate": ([OWN, "data/labels", "data/prepared", "data/sealed", "data/retrained"], ["data/evaluated"]),
    "register": (
        [
            "data/prepared/dataset.json",
            "data/prepared/train",
            "data/selected/config.json",
            "data/retrained",
            "data/evaluated",
        ],
        ["data/registered/version.json"],
    ),
    "report": (
        [
            f"data/{name}"
            for name in ("prepared", "search", "selected", "retrained", "evaluated", "registered/version.json")
        ],
        ["data/report"],
    ),
}
each_stage = pytest.mark.parametrize("stage", list(DATA))
lists_code = pytest.mark.parametrize("stage", [stage for stage in DATA if stage != "code"])
"""`code` depends on all of src/: it looks at everything that people may have put there."""


def _code(stage: str) -> list[str]:
    return [dep for dep in STAGES[stage]["deps"] if dep.startswith("src/")]


def _sections() -> dict[str, type[BaseModel]]:
    """Every section of params.yaml with its class."""
    found = {field.alias or name: field.annotation for name, field in Params.model_fields.items()}
    return {name: kind for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, BaseModel)}


def test_pipeline_has_a_stage_a_module_in_the_same_order() -> None:
    modules = {path.stem for path in (SOURCE / "stages").glob("*.py")} - {"__init__"}

    assert list(STAGES) == list(DATA)
    assert set(STAGES) == modules


@each_stage
def test_stage_runs_its_own_module(stage: str) -> None:
    assert STAGES[stage]["cmd"] == f"python -m podium.stages.{stage}"


@lists_code
def test_stage_depends_on_exactly_the_code_that_it_imports(stage: str) -> None:
    assert _code(stage) == closure.folders_of(stage), "`python -m podium.closure` brings dvc.yaml up to date"


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("models/networks/cnn.py", {"search", "select", "retrain", "evaluate", "register"}),
        ("training/losses/focal.py", {"search", "select", "retrain"}),
        ("tuning/samplers/tpe.py", {"search", "select"}),
    ],
)
def test_stages_that_make_a_component_depend_on_its_file(file: str, stages: set[str]) -> None:
    depending = {stage for stage in STAGES if f"src/podium/{file}".startswith(tuple(_code(stage)))}

    assert stages <= depending
    assert "prepare" not in depending


@lists_code
def test_stage_imports_no_other_stage(stage: str) -> None:
    stages = {path for path in _code(stage) if path.startswith("src/podium/stages/")}

    assert stages == {f"src/podium/stages/{stage}.py"}


@each_stage
def test_stage_reads_and_writes_the_folders_of_the_design(stage: str) -> None:
    deps, outs = DATA[stage]

    assert [dep for dep in STAGES[stage]["deps"] if not dep.startswith("src")] == deps
    assert [out if isinstance(out, str) else next(iter(out)) for out in STAGES[stage]["outs"]] == outs


def test_only_evaluate_depends_on_the_sealed_images() -> None:
    assert [stage for stage in STAGES if "data/sealed" in STAGES[stage]["deps"]] == ["evaluate"]


def test_registered_version_is_not_cached_so_that_the_run_cache_can_not_skip_a_registration() -> None:
    assert STAGES["register"]["outs"] == [{"data/registered/version.json": {"cache": False}}]


def test_every_section_is_listed_by_one_stage_or_read_by_a_verb_or_changes_no_result() -> None:
    stages = (stage for name, stage in STAGES.items() if name != "code")  # it reads names, and repeats nothing
    listed = [section for stage in stages for section in stage.get("params", []) if "." not in section]

    assert sorted(listed) == sorted(set(_sections()) - NEUTRAL - OF_COMMANDS)
    assert STAGES["search"]["params"] == ["model", "train", "search", "evaluate.metrics"]


def test_params_file_shows_every_parameter_that_it_reads_and_none_that_does_not_exist() -> None:
    shown = {f"{section}.{name}" for section, fields in RAW.items() for name in fields}

    assert _read_by_default() <= shown
    assert shown <= {f"{section}.{name}" for section, kind in _sections().items() for name in kind.model_fields}


def test_every_parameter_is_read_somewhere() -> None:
    declared = {name for kind in _sections().values() for name in kind.model_fields}

    assert declared - _attributes_read() - set(findings.KINDS) == set()


def test_update_of_the_pipeline_restores_lists_that_were_changed() -> None:
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    changed = text.replace("src/podium/config,", "src/podium/gone,")

    assert changed != text
    assert closure.with_code(changed) == closure.with_code(text)


def _read_by_default() -> set[str]:
    """The sections' own fields, and the parameters of the components that params.yaml names or searches.

    So a new component, or a new rule of the gate, is one file: its parameters may be shown, and need not be.
    """
    params = load(ROOT / "params.yaml")
    named = [*reachable(params.recipe(), params.search.space), *((k, c.name) for k, c in params.search.chosen())]
    components = [(KINDS[kind].section, find(kind, name)) for kind, name in named]
    read = {f"{section}.{field}" for section, one in components if one for field in one.model_fields}
    of_rules = {field for rule in find_rules() for field in rule.model_fields}
    for section, kind in _sections().items():
        own = kind.OWN if issubclass(kind, Section) else set(kind.model_fields) - of_rules
        read |= {f"{section}.{field}" for field in own}
    return read


def _attributes_read() -> set[str]:
    """Names after a dot, in all files but those that declare the parameters."""
    declaring = {SOURCE / "params.py", SOURCE / "recipe.py", *(SOURCE / "sections").glob("*.py")}
    files = [path for path in SOURCE.rglob("*.py") if path not in declaring]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    return {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
