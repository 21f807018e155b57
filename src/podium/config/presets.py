"""Presets: params.yaml for other images. One names what differs; the rest of params.yaml, comments too, stays."""

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from podium.config.params import parse
from podium.config.problems import did_you_mean, syntax
from podium.errors import InputError

WHOLE = ("space", "overrides", "arguments")
"""Mappings that a preset replaces; others it merges, key by key."""


def names(folder: Path) -> dict[str, str]:
    """The presets of `folder` by name, each with its first line."""
    files = sorted(folder.glob("*.yaml"))
    return {path.stem: path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ") for path in files}


def apply(name: str, folder: Path, params: Path) -> list[str]:
    """Write what the preset `name` sets into the file `params`; returns the parameters that changed, dotted.

    Raises InputError for an unknown preset, and where the result would not be valid; then nothing is written.
    """
    known = names(folder)
    if name not in known:
        hint = did_you_mean(name, known) if known else f"{folder} holds none"
        raise InputError(f"no preset {name!r}; {hint}")
    yaml = YAML()
    yaml.width = 120
    yaml.preserve_quotes = True
    text = params.read_text(encoding="utf-8")
    try:
        whole, preset = yaml.load(text), yaml.load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    except YAMLError as error:
        raise InputError(f"{params} or the preset {name} is not YAML: {syntax(error)}") from None
    changed = _merge(whole, preset, "")
    buffer = io.StringIO()
    yaml.dump(whole, buffer)
    parse(buffer.getvalue(), f"{params} with the preset {name}")
    temporary = params.with_name(params.name + ".tmp")
    temporary.write_text(buffer.getvalue(), encoding="utf-8")
    temporary.replace(params)
    return changed


def _merge(whole: CommentedMap, preset: CommentedMap, above: str) -> list[str]:
    changed: list[str] = []
    for key, value in preset.items():
        path = f"{above}{key}"
        old: Any = whole.get(key)
        if isinstance(value, CommentedMap) and isinstance(old, CommentedMap) and key not in WHOLE:
            changed += _merge(old, value, f"{path}.")
        elif old != value:
            whole[key] = value
            changed.append(path)
    return changed
