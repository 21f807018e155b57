"""What an experiment (`dvc exp run -S train.epochs=5`) changes: params.yaml compared with the last commit's."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from podium.config.params import Params
from podium.config.problems import shown

EXPERIMENT = "DVC_EXP_NAME"
"""DVC sets it for the stages of an experiment."""


def changes(path: Path, params: Params) -> list[str]:
    """What differs in the file `path` from the commit, a line each; `params` is what it holds.

    Empty outside of an experiment, and where git does not have the file.
    """
    committed = _committed(path) if os.environ.get(EXPERIMENT) else None
    if committed is None:
        return []
    before, after = dict(_leaves(committed)), dict(_leaves(_parsed(path.read_text(encoding="utf-8"))))
    names = [*after, *(name for name in before if name not in after)]
    return [
        _line(name, before, after) + _in_space(name, params)
        for name in names
        if name not in before or name not in after or before[name] != after[name]
    ]


def _line(name: str, before: dict[str, Any], after: dict[str, Any]) -> str:
    if name not in after:
        return f"{name}: removed, was {shown(before[name])}"
    return f"{name}: {shown(after[name])} instead of {shown(before[name]) if name in before else 'no value'}"


def _in_space(name: str, params: Params) -> str:
    """What a reader has to know of a setting that every trial has a value of its own for."""
    if name not in params.search.space:
        return ""
    tried = "trial 0 only" if params.search.defaults_first else "no trial"
    return f" (tried by {tried}: it is a dimension of search.space)"


def _committed(path: Path) -> Any:
    """The content of the file at HEAD; None where there is none."""
    command = ["git", "show", f"HEAD:./{path.name}"]
    try:
        done = subprocess.run(command, cwd=path.resolve().parent, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return _parsed(done.stdout) if done.returncode == 0 else None


def _parsed(text: str) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        return None


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no mapping, by its dotted name; an empty mapping is a value."""
    if not isinstance(value, Mapping) or (name and not value):
        yield name, value
        return
    for key, below in value.items():
        yield from _leaves(below, f"{name}.{key}" if name else str(key))
