"""What the declarations of the parameters say, for people: docs/reference/params.md and the comments of params.yaml.

`python -m podium.config.reference_page` writes the page, and the comment behind each parameter in params.yaml and
presets/*.yaml; a test compares. What else stands in these files stays: comments of sections, lines of their own.
"""

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from podium import process
from podium.config.params import Params
from podium.config.problems import shown
from podium.config.section import Section, parameters_of

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "reference" / "params.md"
HEAD = """\
# Parameters

Everything that `params.yaml` may hold. What a file leaves out has the default; a key that is not here is refused. This
page is generated from the declarations in `src/podium` by `python -m podium.config.reference_page`.
"""
COLUMN = 26
"""Where comments begin in params.yaml, if what is before them is not longer."""
SECTION = re.compile(r"(\w+):")
PARAMETER = re.compile(r"  (\w+):")
SENTENCE = re.compile(r"(.+?)\.(?:\s|$)")


WIDTH = 120
"""Columns of a line at most."""


def page() -> str:
    """The page's text."""
    parts = [HEAD]
    parts += [_section(name, section) for name, section in _sections().items()]
    return "\n".join(parts)


def with_comments(text: str) -> str:
    """`text`, a params.yaml or a preset, with what is declared of each parameter as the comment behind it."""
    known, section, lines = comments(), "", []
    for line in text.split("\n"):
        if found := SECTION.match(line):
            section = found[1]
        found = PARAMETER.match(line)
        comment = known.get(f"{section}.{found[1]}") if found else None
        lines.append(_commented(line, comment) if comment else line)
    return "\n".join(lines)


def comments() -> dict[str, str]:
    """Of each parameter, dotted, the first sentence of its docstring; before it the components that it belongs to."""
    found = {}
    for name, section in _sections().items():
        declared = parameters_of(section) if issubclass(section, Section) else {}
        for key, field in section.model_fields.items():
            own = declared.get(key)
            found[f"{name}.{key}"] = _of_components(key, own) if own else _sentence(field)
    return found


def yaml_files() -> list[Path]:
    """params.yaml and the presets."""
    return [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))]


def main() -> None:
    """Write the page and the comments."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    for path in yaml_files():
        path.write_text(with_comments(path.read_text(encoding="utf-8")), encoding="utf-8")
    print("\n".join(str(path) for path in (PAGE, *yaml_files())))


def _sections() -> dict[str, type[BaseModel]]:
    fields = {field.alias or name: field.annotation for name, field in Params.model_fields.items()}
    return {name: one for name, one in fields.items() if isinstance(one, type) and issubclass(one, BaseModel)}


def _of_components(key: str, declarations: list[tuple[str, FieldInfo]]) -> str:
    """`muon, sgd: sentence`; an augmentation's parameter of its own name needs no name before it."""
    names: dict[str, list[str]] = {}
    for component, info in declarations:
        names.setdefault(_sentence(info), []).append(component)
    parts = [text if of == [key] else f"{', '.join(of)}: {text}" for text, of in names.items()]
    return "; ".join(parts)


def _sentence(field: FieldInfo) -> str:
    """The first sentence of what is declared, without its full stop."""
    text = " ".join((field.description or "").split())
    found = SENTENCE.match(text)
    return found[1] if found else text


def _commented(line: str, comment: str) -> str:
    """`line` with `comment` at its end; without one, where its value leaves no room."""
    code = _without_comment(line)
    whole = f"{code:<{COLUMN - 1}} # {comment}" if len(code) < COLUMN else f"{code}  # {comment}"
    return whole if len(whole) <= WIDTH else code


def _without_comment(line: str) -> str:
    """A line of YAML without the comment at its end; one within quotes is none."""
    quote = ""
    for place, sign in enumerate(line):
        if sign in "\"'" and quote in ("", sign):
            quote = "" if quote else sign
        elif sign == "#" and not quote and line[place - 1] == " ":
            return line[:place].rstrip()
    return line.rstrip()


def _section(name: str, section: type[BaseModel]) -> str:
    paragraphs = re.split(r"\n(?=- )", section.__doc__ or "")  # and the items of a list
    about = "\n".join(" ".join(one.split()) for one in paragraphs)
    lines = [f"## {name}", "", about, "", "| parameter | default | values | meaning |", "|---|---|---|---|"]
    lines += [_row(key, field, section) for key, field in section.model_fields.items()]
    return "\n".join(lines) + "\n"


def _row(key: str, field: FieldInfo, section: type[BaseModel]) -> str:
    schema = section.model_json_schema()["properties"][field.alias or key]
    meaning = " ".join((field.description or "").split()).replace("|", "\\|")
    return f"| `{key}` | `{_default(field.default)}` | {_values(schema)} | {meaning} |"


def _values(schema: dict[str, Any]) -> str:
    """What is allowed, from the JSON schema of a field."""
    if "anyOf" in schema:
        return " or ".join(_values(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kinds = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true, false"}
    kinds |= {"null": "null", "object": "mapping", "array": "list"}
    words = [kinds.get(schema.get("type", ""), schema.get("type", "mapping"))]
    limits = {"exclusiveMinimum": "above", "minimum": "from", "exclusiveMaximum": "below", "maximum": "to"}
    words += [f"{word} {schema[key]:g}" for key, word in limits.items() if key in schema]
    return " ".join(words)


def _default(value: Any) -> str:
    return shown(value) if value is None or isinstance(value, bool) else str(value)


if __name__ == "__main__":
    process.run(main)
