"""The registry: the one place where a name in params.yaml becomes a component.

A component is one file in the package of its kind. The class in it declares the component's name, its parameters (the
fields of a pydantic model, with types, bounds and a docstring each) and holds its code. The checks of params.yaml and
of `search.space`, the reference page and a study's identity follow from that class: no list names it.

Such a file imports torch, Optuna and the like within its functions: params.yaml is read by commands that need neither.
"""

import ast
import difflib
import importlib
import importlib.util
import json
import pkgutil
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_serializer
from pydantic.fields import FieldInfo

from podium import own_code
from podium.errors import InputError

FROZEN = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True)
"""Every section of params.yaml: an unread key cannot pass, nothing is converted, nothing changes later."""


class Component(BaseModel):
    """Something that params.yaml names: its fields are its parameters, its docstring says what it is."""

    model_config = FROZEN

    NAME: ClassVar[str] = ""
    """What params.yaml calls it; empty: a base class."""

    def uses_total(self) -> bool:
        """Whether what it does in an epoch depends on how many epochs the training will have.

        Where none of a training's components says so, its first n epochs are a training of n epochs.
        """
        return False


@dataclass(frozen=True)
class Kind:
    """A place in params.yaml that takes a component."""

    parameter: str
    """The dotted name of that place."""
    package: str
    """Where the components lie, a file each."""
    library: str = ""
    """A package whose classes are taken by their bare names, such as torch.optim."""
    suffix: str = ""
    """How the names of those classes end."""
    prefix: str = ""
    """How they begin."""

    @property
    def section(self) -> str:
        """The section of params.yaml that holds the components' parameters."""
        return self.parameter.partition(".")[0]


KINDS = {
    "network": Kind("model.name", "podium.models.networks"),
    "loss": Kind("train.loss", "podium.training.losses"),
    "optimizer": Kind("train.optimizer", "podium.training.optimizers", "torch.optim"),
    "schedule": Kind("train.schedule", "podium.training.schedules", "torch.optim.lr_scheduler"),
    "augmentation": Kind("train.augment", "podium.training.augmentations", "torchvision.transforms.v2"),
    "sampler": Kind("search.sampler", "podium.tuning.samplers", "optuna.samplers", "Sampler"),
    "pruner": Kind("search.pruner", "podium.tuning.pruners", "optuna.pruners", "Pruner"),
    "metric": Kind("search.metric", "podium.metrics.scores", "torchmetrics.classification", prefix="Multiclass"),
    "program": Kind("train.program", "podium.training.program"),
    "source": Kind("prepare.source", "podium.data.sources"),
    "tracker": Kind("tracking.also", "podium.tracking.trackers"),
}


@cache
def declared(kind: str) -> dict[str, type[Any]]:
    """The components of `kind` by name: one for each file of its package that declares one."""
    package = importlib.import_module(KINDS[kind].package)
    found: dict[str, type[Component]] = {}
    if not hasattr(package, "__path__"):  # a kind that has people's own only
        return found
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for one in vars(module).values():
            is_one = isinstance(one, type) and issubclass(one, Component) and one.__module__ == module.__name__
            if is_one and one.NAME:
                found[one.NAME] = one
    return found


def find(kind: str, name: str) -> type[Any] | None:
    """The component that is called `name`, or that takes names with its prefix, as `torchvision:`; None: not ours."""
    known = declared(kind)
    prefix, colon, _ = name.partition(":")
    return known.get(name) or (known.get(prefix + colon) if colon else None)


def check_name(kind: str, name: str) -> str:
    """`name`, where it can stand for a component of `kind`: one of ours, a class of the library, or `module:object`.

    Nothing of people's own is imported here. Raises ValueError naming what was meant, or all there are.
    """
    own = find(kind, name)
    if own is not None:
        check = getattr(own, "check_name", None)
        return str(check(name)) if check else name
    if own_code.is_name(name) or name in library_names(kind):
        return name
    bare = _bare(kind, name)
    if bare in NEED_CODE.get(kind, ()):
        raise ValueError(
            f"{bare} needs {NEED_CODE[kind][bare]}, which can't stand in params.yaml: name a function of your own that"
            " does what it would (see docs/extend.md), as module:function"
        )
    if kind == "augmentation" and bare in NOT_NEEDED:
        raise ValueError(f"{bare} {NOT_NEEDED[bare]}")
    raise ValueError(f"must be {_choices(kind)}; got {name!r}{_hint(kind, name)}")


NEED_CODE = {
    "schedule": {
        "LambdaLR": "a function",
        "MultiplicativeLR": "a function",
        "ChainedScheduler": "other schedulers",
        "SequentialLR": "other schedulers",
    },
    "augmentation": {"Lambda": "a function"},
    "sampler": {"PartialFixedSampler": "another sampler"},
}
"""Classes of those libraries whose arguments are code, and what."""
NOT_NEEDED = {
    **{name: f"blends labels too: Podium's own is turned on by train.{name.lower()}" for name in ("MixUp", "CutMix")},
    **dict.fromkeys(
        ("Normalize", "ToDtype", "ConvertImageDtype"),
        "is not needed: images stay uint8 here, and become normalised floats after it (model.normalize)",
    ),
}
"""Augmentations of torchvision that others stand for."""
ABSTRACT = {
    *NOT_NEEDED,
    *("Optimizer", "LRScheduler", "BaseSampler", "BaseGASampler", "BasePruner", "ReduceLROnPlateau", "Transform"),
    *("AutoAugmentPolicy", "InterpolationMode"),
    *(name for names in NEED_CODE.values() for name in names),
}
"""Classes of those libraries that are none to choose, or (ReduceLROnPlateau) none that follows from the position."""


@cache
def library_names(kind: str) -> tuple[str, ...]:
    """The classes of the kind's library, read from its `__init__` without importing it: torch takes seconds."""
    library, suffix, prefix = KINDS[kind].library, KINDS[kind].suffix, KINDS[kind].prefix
    if not library:
        return ()
    top, *below = library.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        return ()
    folder = Path(next(iter(spec.submodule_search_locations)), *below)
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    names = _public_names(ast.parse(path.read_text(encoding="utf-8"))) - ABSTRACT
    return tuple(
        sorted(name for name in names if name[0].isupper() and name.startswith(prefix) and name.endswith(suffix))
    )


def load(kind: str, name: str, parameter: str | None = None) -> Any:
    """The object of somebody else's that `name` stands for: `module:object`, or a class of the kind's library.

    Raises InputError where there is none, or where it can't be called; `parameter` is what it begins with, where that
    is not the kind's, as in own_code.load.
    """
    parameter = KINDS[kind].parameter if parameter is None else parameter
    full = name if own_code.is_name(name) else f"{KINDS[kind].library}:{name}"
    found = own_code.load(full, parameter)
    if not callable(found):
        raise InputError(
            f"{parameter}{': ' if parameter else ''}{name} must be a class or a function; it is"
            f" {own_code.described(found)}{own_code.at(full)}"
        )
    return found


def make(kind: str, choice: "Choice", values: dict[str, Any]) -> Any:
    """The component that `choice` names, with its parameters out of `values`, those of its section that are set.

    Somebody else's becomes what the base class of the kind wraps it in. Raises pydantic's ValidationError where a
    parameter is out of its bounds.
    """
    found = find(kind, choice.name)
    if found is None:
        package: Any = importlib.import_module(KINDS[kind].package)
        return package.wrap(choice)
    own = {name: values[name] for name in found.model_fields if values.get(name) is not None}
    named = {"chosen": choice} if "chosen" in found.model_fields else dict(choice.arguments)
    return found.model_validate(own | named)


def parameters(kind: str) -> dict[str, list[tuple[str, FieldInfo]]]:
    """The parameters of all components of `kind` by name: (component, declaration) of each that has it."""
    found: dict[str, list[tuple[str, FieldInfo]]] = {}
    for name, component in declared(kind).items():
        for field, info in component.model_fields.items():
            if field != "chosen":
                found.setdefault(field, []).append((name, info))
    return found


Argument = str | int | float | bool | None | list[Any] | dict[str, Any]
"""What may stand for an argument of somebody else's function."""


class Choice(BaseModel):
    """What stands in the place of a component: its name and, for somebody else's, its arguments."""

    model_config = FROZEN

    name: str
    arguments: dict[str, Argument] = {}

    @model_serializer
    def _short(self) -> Any:
        return {"name": self.name, "arguments": dict(self.arguments)} if self.arguments else self.name

    @property
    def label(self) -> str:
        """What its arguments' dotted names have in their middle: the object's name without its module."""
        return self.name.rpartition(":")[2]


def choice(kind: str) -> BeforeValidator:
    """What makes a field take a component of `kind`: `name`, or `{name: ..., arguments: {...}}`."""

    def read(value: Any) -> Any:
        if isinstance(value, Choice) or value is None:
            return value
        raw = {"name": value} if isinstance(value, str) else value
        if not isinstance(raw, dict) or not isinstance(raw.get("name"), str) or set(raw) - {"name", "arguments"}:
            raise ValueError(f"must be a name, or a mapping of name and arguments; got {value!r}{_remedy(kind, value)}")
        arguments = raw.get("arguments") or {}
        if not isinstance(arguments, dict) or not all(isinstance(key, str) for key in arguments):
            raise ValueError(f"arguments must be a mapping of names to values; got {arguments!r}")
        name = check_name(kind, raw["name"])
        if name in declared(kind):  # its texts may be names of classes, which are digits in some sets
            arguments = {key: _with_text_keys(value) for key, value in arguments.items()}
        return Choice(name=name, arguments=arguments)

    return BeforeValidator(read)


def _remedy(kind: str, value: Any) -> str:
    """How to write what was meant by `{name: top_k, k: 3}`, `{top_k: {k: 3}}` or `[auroc]`; empty where none was."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return f": write {value[0]}"
    if not isinstance(value, dict):
        return ""
    name, rest = value.get("name"), {key: one for key, one in value.items() if key != "name"}
    if len(value) == 1 and "name" not in value:
        name, rest = next(iter(value.items()))
    if not isinstance(name, str) or not isinstance(rest, dict):
        return ""
    if name not in {*declared(kind), *library_names(kind)} and not own_code.is_name(name):
        return ""
    inner = rest.get("arguments")
    arguments = {**inner, **rest} if isinstance(inner, dict) else rest
    texts = [f"{k}: {json.dumps(one, default=str)}" for k, one in arguments.items() if k != "arguments"]
    return f": write {{name: {name}, arguments: {{{', '.join(texts)}}}}}" if texts else f": write {name}"


def _with_text_keys(value: Any) -> Any:
    """Mappings with whole numbers as keys have them as text, where that reads one way: {7: 3} is {"7": 3}."""
    if not isinstance(value, dict):
        return value
    found = {str(key) if type(key) is int else key: _with_text_keys(one) for key, one in value.items()}
    return found if len(found) == len(value) else value


def _choices(kind: str) -> str:
    own = [f"{name}<name>" if name.endswith(":") else name for name in declared(kind)]
    library = KINDS[kind].library
    named = [f"a class of {library} such as {library_names(kind)[0]}"] if library_names(kind) else []
    return " or ".join(part for part in (", ".join([*own, *named]), "your own as module:object") if part)


USUAL = {
    "metric": {
        "accuracy": "acc top1",
        "top_k": "top5 topk",
        "balanced_accuracy": "balancedaccuracyscore",
        "macro_f1": "f1 f1score f1macro",
        "weighted_f1": "f1weighted",
        "MulticlassPrecision": "precision",
        "MulticlassRecall": "recall",
        "auroc": "auc rocauc rocaucscore",
        "average_precision": "ap map prauc",
        "calibration_error": "ece",
        "kappa": "cohenkappa cohenkappascore qwk",
        "mcc": "matthews matthewscorrcoef",
        "loss": "logloss nll crossentropy",
        "brier": "brierscore",
    }
}
"""What components are called elsewhere, without marks and in small letters, where letters alone mislead."""


def usual_name(kind: str, name: str) -> str:
    """Our name of what others call `name`; empty: it is not known."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return next((ours for ours, theirs in USUAL.get(kind, {}).items() if plain in theirs.split()), "")


def _hint(kind: str, name: str) -> str:
    names = [*declared(kind), *library_names(kind)]
    lower = {n.lower(): n for n in reversed(names)}  # ours before a library's of the same letters
    meant = usual_name(kind, name) or lower.get(_bare(kind, name).lower()) or _meant_object(name)
    if not meant and (file := _misnamed(name)):
        return f"; rename {file}: what is imported is called by letters, digits and _, a letter first"
    if not meant and not re.search(r"[/\\]|\.py\b", name):  # a file's name is like a network's by chance only
        more = [n for one in declared(kind).values() for n in getattr(one, "known_names", list)()]
        lower |= {n.lower(): n for n in more}
        tail = [n for n in more if n.rpartition(":")[2].lower() == name.lower()]
        close = tail or [lower[n] for n in difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)]
        meant = close[0] if close else ""
    return f"; did you mean {meant}?" if meant else ""


def _bare(kind: str, name: str) -> str:
    """`Adam` for torch.optim.Adam or optim.Adam, where that is in the kind's library; else `name`."""
    path, _, last = name.rpartition(".")
    return last if path and f".{path}." in f".{KINDS[kind].library}." else name


def _meant_object(name: str) -> str:
    """`module:object` for src/my_net.py:Net, my_net.py, my_net.Net or my_net:Net(), where src/ has such a module."""
    module, inner = _parts(name)
    parts = module.split(".")
    # my_net.Net.make is an object of my_net; what is written with .py or : says where its module ends.
    ends = range(len(parts), 0, -1) if not inner and ".py" not in name else (len(parts),)
    for end in ends:
        module, objects = ".".join(parts[:end]), inner or ".".join(parts[end:])
        for meant in (f"{module}:{objects}", f"{module}:<object>"):
            is_form = own_code.is_name(meant.replace("<object>", "object")) and meant != name
            if is_form and _file_of(module):
                return meant
    return ""


def _parts(name: str) -> tuple[str, str]:
    """The module with dots and the object, as far as `name` has them: relative to src/, without a call."""
    path, _, inner = name.partition("(")[0].replace("\\", "/").partition(":")
    path = path.strip()
    for start in (f"{own_code.source_folder().as_posix()}/", "./", "src/", "src."):
        path = path.removeprefix(start)
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return module, inner.strip(" :").replace("::", ".")


def _misnamed(name: str) -> str:
    """The file in src/ that `name` means and that can't be imported, such as src/my-net.py; empty: there is none."""
    module = _parts(name)[0]
    if not re.fullmatch(r"[\w -]+(\.[\w -]+)*", module) or own_code.is_name(f"{module}:object"):
        return ""
    return _file_of(module)


def _file_of(module: str) -> str:
    """Of a module in the project's src/; empty: it has none."""
    file = own_code.source_folder() / module.replace(".", "/")
    for one in (file.with_suffix(".py"), file / "__init__.py"):
        with suppress(OSError):  # the name is too long for a file
            if one.is_file():
                return one.relative_to(own_code.source_folder().parent).as_posix()
    return ""


def _public_names(tree: ast.Module) -> set[str]:
    """What `__all__` lists; where there is none, what the module imports."""
    imported: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            listed = [n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
            return set(listed)
        if isinstance(node, ast.ImportFrom):
            imported |= {alias.asname or alias.name for alias in node.names}
    return {name for name in imported if not name.startswith("_")}
