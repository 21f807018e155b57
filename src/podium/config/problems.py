"""Types of values that several sections have, and problems in sentences: dotted path, rule, value, what was meant."""

import difflib
import json
import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from podium.config import written_numbers
from podium.config.repeated_keys import repeated


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text):
        raise ValueError(
            f"must be at most 100 letters, digits, `.`, `_` and `-`, a letter or digit first; got {text!r}"
        )
    return text


Fraction = Annotated[float, Field(gt=0, lt=1)]
"""Neither nothing nor all."""
Unit = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Name = Annotated[str, AfterValidator(_name)]
"""What MLflow takes as a name everywhere."""
Text = Annotated[str, Field(min_length=1)]


OPENING = re.compile(r"^(?:Input|String|Value|Keys?) should (be|have|match|contain) ")
"""How pydantic begins a rule."""
RENAMED = {
    "search.fraction": "search.overrides",
    "select.whole": "select.full_fidelity",
    "train.share": "train.data_fraction",
    "train.share_epochs": "train.data_fraction_epochs",
}
"""Parameters by their old names."""
OTHER_WORDS = {
    "amp": "train.precision",
    "arch": "model.name",
    "bs": "train.batch_size",
    "criterion": "train.loss",
    "cuda": "runtime.device",
    "lr": "train.learning_rate",
    "lr_scheduler": "train.schedule",
    "n_jobs": "runtime.workers",
    "opt": "train.optimizer",
    "wd": "train.weight_decay",
}
"""Parameters by what scripts and other programs call them, where no letters would tell."""
FOLLOWS = {
    "direction": ("search.metric", "it follows from search.metric: a metric says itself whether more or less is better")
}
"""Parameters of other programs that nothing stands for, by what decides here."""


def sentences(error: ValidationError, known: list[str], deeper: list[str]) -> list[str]:
    """Each problem of `error` as `path: rule; got value`.

    `known`: every parameter, dotted, and every section; `deeper`: what may stand below a parameter.
    """
    return [_sentence(e, known, deeper) for e in merged(error)]


UNION = {
    "str": "text",
    "int": "a finite number",
    "float": "a finite number",
    "bool": "true or false",
    "list[any]": "a list",
    "dict[str,any]": "a mapping",
}
"""What pydantic calls the types of a union, each as a value of params.yaml."""


def merged(error: ValidationError) -> list[dict[str, Any]]:
    """The problems of `error`, one for each value: pydantic has one for each type that a value might have."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    each: list[dict[str, Any]] = [dict(one) for one in error.errors(include_url=False)]
    for one in each:
        found.setdefault(_of_value(one["loc"], each), []).append(one)
    return [_of_union(place, ones) if len(ones) > 1 else ones[0] for place, ones in found.items()]


def _of_value(loc: tuple[Any, ...], each: list[dict[str, Any]]) -> tuple[Any, ...]:
    """The place of the value that `loc` is about: without the types that were tried, and what is below them."""
    for depth, part in enumerate(loc):
        if (
            part in UNION
            and len({one["loc"][depth] for one in each if one["loc"][:depth] == loc[:depth]} & set(UNION)) > 1
        ):
            return loc[:depth]
    return loc


def _of_union(place: tuple[Any, ...], ones: list[dict[str, Any]]) -> dict[str, Any]:
    keys = [one for one in ones if one["loc"][-1] == "[key]"]
    if keys:
        return {"type": "union", "loc": place, "msg": "Input should have text as its keys", "input": keys[0]["input"]}
    words = list(dict.fromkeys(UNION[one["loc"][len(place)]] for one in ones))
    text = f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
    return {"type": "union", "loc": place, "msg": f"Input should be {text}", "input": ones[0]["input"]}


def syntax(error: YAMLError) -> str:
    """Where and why a text is not YAML, in a line."""
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    if isinstance(error, DuplicateKeyError):
        return repeated(error)
    problem = " ".join(part for part in (error.context, error.problem) if part)
    return f"{problem} (line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1})"


def rule(message: str) -> str:
    """A rule of pydantic's as `must be greater than 0`."""
    text = OPENING.sub(r"must \1 ", message.removeprefix("Value error, "))
    return text.replace("a valid dictionary", "a mapping of parameters")


def shown(value: object) -> str:
    """A value as params.yaml has it: null, true, text as it is; lists and mappings in their short form."""
    return value if isinstance(value, str) and value else json.dumps(value, default=str)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The ending of a sentence about the unknown `name`: the known one that was meant, or those that there are.

    Parts after the last dot are compared, so the right field of the wrong section is found too.
    """
    names = list(known)
    section, _, field = name.rpartition(".")
    now = [new for old, new in RENAMED.items() if name in (old, old.rpartition(".")[2]) and new in names]
    if now:
        return f"it is now called {now[0]}"
    if field in FOLLOWS and FOLLOWS[field][0] in names:
        return FOLLOWS[field][1]
    here = [n for n in names if n.rpartition(".")[0] == section] or names
    elsewhere = [n for n in names if n.rpartition(".")[2] == field]
    close = difflib.get_close_matches(field, [n.rpartition(".")[2] for n in here], n=1)
    meant = [n for n in here if close and n.rpartition(".")[2] == close[0]]
    said = [OTHER_WORDS[field]] if OTHER_WORDS.get(field) in names else []
    if found := said or elsewhere or meant:
        return f"did you mean {found[0]}?"
    return f"available: {', '.join(here)}"


def at(problems: Iterable[tuple[tuple[str | int, ...], str]]) -> ValidationError:
    """What a validator raises for `problems`: (path below its own value, sentence) each."""
    lines: list[InitErrorDetails] = [
        {"type": PydanticCustomError("value_error", "{text}", {"text": text}), "loc": path, "input": None}
        for path, text in problems
    ]
    return ValidationError.from_exception_data("params.yaml", lines)


def _sentence(error: dict[str, Any], known: list[str], deeper: list[str]) -> str:
    loc = [str(part) for part in error["loc"] if part != "[key]"]
    path = ".".join(loc)
    if error["type"] in ("extra_forbidden", "invalid_key"):
        if path in RENAMED:
            return f"{path}: is now called {RENAMED[path]}"
        hint = did_you_mean(path, known) if len(loc) <= 2 else did_you_mean(loc[-1], deeper)
        return f"{path}: is not a parameter; {hint}"
    if error["type"] == "model_type":
        return f"{path}: must be a mapping of parameters; got {error['input']!r}"
    text = rule(str(error["msg"]))
    if error["type"] != "value_error" and (hint := written_numbers.remedy(text, error["input"])):
        return f"{path}: {text}; got {error['input']!r}{hint}"
    if error["type"] == "list_type" and isinstance(error["input"], str | int | float):
        return f"{path}: {text}; got {error['input']!r}: write [{error['input']}]"
    return f"{path}: {text}" if error["type"] == "value_error" else f"{path}: {text}; got {error['input']!r}"
