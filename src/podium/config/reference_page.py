"""docs/reference/params.md: every parameter with its default, its bounds and its meaning, from the models themselves.

`python -m podium.config.reference_page` writes it; a test compares.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from podium import process
from podium.config.params import Params

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "params.md"
HEAD = """\
# Parameters

Everything that `params.yaml` may hold. What a file leaves out has the default; a key that is not here is refused. This
page is made from `src/podium/config` and `src/podium/config/recipe.py` by `python -m podium.config.reference_page`.
"""


def page() -> str:
    """The page's text."""
    parts = [HEAD]
    for name, field in Params.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            parts.append(_section(field.alias or name, section))
    return "\n".join(parts)


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)


def _section(name: str, section: type[BaseModel]) -> str:
    about = " ".join((section.__doc__ or "").split())
    lines = [f"## {name}", "", about, "", "| parameter | default | values | meaning |", "|---|---|---|---|"]
    lines += [_row(key, field, section) for key, field in section.model_fields.items()]
    return "\n".join(lines) + "\n"


def _row(key: str, field: FieldInfo, section: type[BaseModel]) -> str:
    schema = section.model_json_schema()["properties"][field.alias or key]
    meaning = " ".join((field.description or "").split()).replace("|", "\\|")
    return f"| `{key}` | `{_said(field.default)}` | {_values(schema)} | {meaning} |"


def _values(schema: dict[str, Any]) -> str:
    """What is allowed, from the JSON schema of a field."""
    if "anyOf" in schema:
        return " or ".join(_values(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kinds = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true, false"}
    kinds |= {"null": "null", "object": "mapping"}
    words = [kinds.get(schema.get("type", ""), schema.get("type", "mapping"))]
    limits = {"exclusiveMinimum": "above", "minimum": "from", "exclusiveMaximum": "below", "maximum": "to"}
    words += [f"{word} {schema[key]:g}" for key, word in limits.items() if key in schema]
    return " ".join(words)


def _said(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


if __name__ == "__main__":
    process.run(main)
