"""People's own code by name: `module:object` from the project's `src/` or an installed package.

What is wrong with it is an InputError whose message has the file and the line of that code.
"""

import copy
import difflib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from podium import own_modules
from podium.errors import InputError, of_parameter

NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
"""`module:object`, either with dots."""
PACKAGE = Path(__file__).resolve().parent
FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
DECIDED = {
    "train.optimizer": {"lr": "train.learning_rate", "params": "the network"},
    "search.sampler": {"seed": "search.seed"},
}
"""By what the arguments are of: those that Podium gives, and the parameter that decides their values."""
RAISED = (Exception, SystemExit)
"""What people's own code ends with: `sys.exit()` in it must not end Podium without a word."""
NUMBER = re.compile(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?")
ATOMS = {int, float, complex, str, bytes, bool, type(None), range}
"""What is its own copy."""
COLLECTIONS = (list, tuple, set, frozenset, deque)
MOST_COPIES = 50_000
"""Of objects within somebody's object, also of those that fail after a part: a network of 500 layers has 8,000."""
SHOWN = 300
"""Characters of an error's own text."""


@dataclass(frozen=True)
class Argument:
    """An argument of somebody's function or class."""

    name: str
    type: type | None
    """int, float, bool or str, from its annotation or its default; None: not known."""
    default: Any
    """`inspect.Parameter.empty` where it has to be given."""

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is inspect.Parameter.empty


def is_name(text: str) -> bool:
    """Whether `text` has the form `module:object`."""
    return NAME.fullmatch(text) is not None


def fresh(found: Any) -> Any:
    """A copy of somebody's object `found`, so that what it counts in one training is not in the next.

    What Python can't copy of it (a lock, an open file, a module, a scripted function) it has in common with `found`.
    One that takes more than MOST_COPIES is used itself.
    """
    try:
        return copy.deepcopy(found)
    except RAISED:
        parts = _parts_of(found)
    memo: dict[int, Any] = {}
    copies = 0
    for part, last in [*((one, False) for one in parts), *((one, True) for one in parts)]:
        before = len(memo)
        try:
            copy.deepcopy(part, memo)
            copies += len(memo) - before
        except RAISED:
            copies += len(memo) - before
            while len(memo) > before:  # what was begun of it
                memo.popitem()
            if last or all(id(one) in memo for one in _inside(part)):  # else one of its parts may be why
                memo[id(part)] = part
        if copies > MOST_COPIES:
            return found
    return copy.deepcopy(found, memo) if parts else found


def _parts_of(found: Any) -> list[Any]:
    """The objects that `found` holds and itself: those without parts first, then each after its parts.

    Empty: they are more than MOST_COPIES.
    """
    leaves: list[Any] = []
    others: list[Any] = []
    seen: set[int] = set()
    waiting = [(found, False)]
    while waiting and len(seen) <= MOST_COPIES:
        value, done = waiting.pop()
        if done:
            others.append(value)
        elif id(value) not in seen:
            seen.add(id(value))
            if inside := _inside(value):
                waiting += [(value, True), *((one, False) for one in reversed(inside))]
            else:
                leaves.append(value)
    return [] if waiting else leaves + others


def _inside(value: Any) -> list[Any]:
    """The elements and attributes of `value`, as far as it gives them, but for numbers and text; none of a module or
    a class.
    """
    if issubclass(type(value), ModuleType | type):
        return []
    try:
        elements = value.values() if isinstance(value, dict) else value if isinstance(value, COLLECTIONS) else []
        inside = [*elements, *getattr(value, "__dict__", {}).values()]
    except RAISED:
        return []
    return [one for one in inside if type(one) not in ATOMS]


def source_folder() -> Path:
    """The folder of the project's own modules: the `src/` of the folder that commands run in."""
    return Path("src").resolve()


def load(name: str, parameter: str) -> Any:
    """The object that `name` (`module:object`) stands for.

    `parameter` is what the message begins with, such as model.name; empty: the caller names it (errors.of_parameter).
    Raises InputError where the module is not there or does not import, or has no such object.
    """
    begin = f"{parameter}: " if parameter else ""
    module_name, _, path = name.partition(":")
    _look_in_src()
    try:
        found = own_modules.imported(module_name, source_folder())
    except InputError as error:
        raise InputError(of_parameter(parameter, str(error)) if parameter else str(error)) from None
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise InputError(
                f"{begin}{name}: there is no module {module_name!r} in {source_folder()} or among the installed"
                f" packages{_close_modules(module_name)}"
            ) from None
        raise InputError(f"{begin}{name} does not import: {blame(error)}") from None
    except RAISED as error:
        raise InputError(f"{begin}{name} does not import: {_of_file(blame(error), error, module_name)}") from None
    for part in path.split("."):
        if not hasattr(found, part):
            raise InputError(f"{begin}{name}: {module_name} has no {path!r}{_close_names(part, found)}")
        found = getattr(found, part)
    return found


def arguments_of(function: Callable[..., Any]) -> tuple[dict[str, Argument], bool]:
    """The arguments of `function` (a function, a class or another callable) by name, and whether it takes any name."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):  # built-in code without a signature
        return {}, True
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = {p.name: Argument(p.name, _type_of(p), p.default) for p in parameters if p.kind in by_name}
    return found, any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def positional_only(function: Callable[..., Any]) -> list[str]:
    """The arguments of `function` that have to be given by their position."""
    return [
        p.name
        for p in _parameters(function)
        if p.kind is inspect.Parameter.POSITIONAL_ONLY and p.default is inspect.Parameter.empty
    ]


def first_arguments(function: Callable[..., Any], count: int) -> set[str]:
    """The names of the first `count` arguments of `function`, which it is given by position."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return set([p.name for p in _parameters(function) if p.kind in kinds][:count])


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):  # built-in code without a signature
        return []


def call(
    function: Callable[..., Any], name: str, parameter: str, given: Mapping[str, Any], offered: Mapping[str, Any]
) -> Any:
    """Call `function`, that is `name`, with the arguments `given` in params.yaml and what it names of `offered`.

    What is given is copied: code that changes an argument in place changes it for itself alone. Raises InputError for
    arguments that it does not have, that are missing or that another parameter decides, and for an exception within it.
    """
    check_decided(name, parameter, given)
    if alone := positional_only(function):
        raise InputError(
            f"{parameter}{': ' if parameter else ''}{name} takes {alone[0]} by its position alone, and arguments are"
            f" given by name: remove the `/` after it{at(name)}"
        )
    check_arguments(function, name, parameter, given, set(offered))
    known, takes_any = arguments_of(function)
    named = {key: value for key, value in offered.items() if key in known and key not in given}
    unnamed = sorted(set(offered) - known.keys()) if takes_any else []
    try:
        with own_modules.restored():
            return function(**copy.deepcopy(dict(given)), **named)
    except InputError:
        raise
    except RAISED as error:
        lost = [key for key in unnamed if key in str(error)]
        rule = f". {name} is given {lost[0]} where it names that argument itself; `**` does not" if lost else ""
        if given and not place_of(error):  # a library's: its error need not say which argument it is about
            rule += f" (with {', '.join(f'{key}: {value!r}' for key, value in given.items())})"
            if quoted := [key for key, value in given.items() if isinstance(value, str) and NUMBER.fullmatch(value)]:
                rule += f"; {quoted[0]} is text: write the number without quotes, and 1e-3 as 1.0e-3"
        raise InputError(f"{parameter}{': ' if parameter else ''}{name} failed: {blame(error)}{rule}") from error


def check_decided(name: str, parameter: str, given: Mapping[str, Any]) -> None:
    """Raise InputError where `given` has an argument whose value another parameter decides already."""
    for key, other in DECIDED.get(parameter, {}).items():
        if key in given:
            raise InputError(f"{parameter}.arguments.{key}: {name} gets it from {other}: set that, and leave this out")


def check_arguments(
    function: Callable[..., Any], name: str, parameter: str, given: Mapping[str, Any], offered: set[str]
) -> None:
    """Raise InputError where `given` names arguments that `function` does not have, or lacks ones that it needs."""
    known, takes_any = arguments_of(function)
    place = "model." if parameter == "model.name" else f"{parameter}." if parameter else ""
    lines = []
    if not takes_any:
        for key in given:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"it takes {', '.join(known) or 'none'}"
                lines.append(f"{place}arguments.{key}: {name} has no such argument; {hint}")
    missing = [key for key, one in known.items() if one.required and key not in given and key not in offered]
    for key in missing:
        close = difflib.get_close_matches(key, offered, n=1) if is_name(name) else []
        hint = f", or call it {close[0]}, which is given by itself" if close else ""
        lines.append(f"{place}arguments: {name} needs {key}, which has no default: give it there{hint}")
    if lines:
        raise InputError("\n  ".join(lines))


def blame(error: BaseException) -> str:
    """An exception as `src/my_net.py, line 12, in forward: ValueError: text`: where in people's own code it arose."""
    text = " ".join(str(error).split())
    text = text if len(text) <= SHOWN else text[:SHOWN] + " ..."
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    what = what.removesuffix(".") + remedy if (remedy := own_modules.absent(error, source_folder())) else what
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(Path(error.filename))}, line {error.lineno}: {what}"
    named = [(Path(file), line, name) for file, line, name in FRAME.findall(str(error)) if _is_own(Path(file))]
    if named:  # the compiler says in its text where it was
        file, line, name = named[-1]
        return f"{_shown(file)}, line {line}, in {name}: {what}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_own(Path(frame.filename))]
    if not own:
        return what
    return f"{_shown(Path(own[-1].filename))}, line {own[-1].lineno}, in {own[-1].name}: {what}"


def failure(error: BaseException) -> str:
    """What a person has to know where `error` arose in the project's `src/`; empty: it arose elsewhere.

    That code was running where neither Podium's nor other people's was called after it, but for libraries.
    """
    frames = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    source = source_folder()
    found = [path for path in frames if path.is_relative_to(PACKAGE) or path.is_relative_to(source)]
    if not found or found[-1].is_relative_to(PACKAGE):
        return ""
    if isinstance(error, SystemExit):
        return f"your own code ended the program: {blame(error)}. Let it return, or raise an error"
    return f"your own code failed: {blame(error)}"


def at(name: str) -> str:
    """Where `name` (module:object) is written, as ` (src/my_net.py, line 4)`; empty where that is not known."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    try:
        file = inspect.getsourcefile(inspect.unwrap(found))
        line = inspect.getsourcelines(found)[1]
    except (TypeError, OSError):  # built in, made by a call, or its file is gone
        return ""
    return f" ({_shown(Path(file))}, line {line})" if file else ""


def place_of(error: BaseException) -> str:
    """The innermost line of people's own code that led to `error`, as in `at`; empty: there is none."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own(Path(frame.filename))]
    return f" ({_shown(Path(own[-1].filename))}, line {own[-1].lineno}, in {own[-1].name})" if own else ""


def placed(error: BaseException, name: str) -> str:
    """`blame`, and where `name` is written where no line of people's own code led to `error`."""
    return f"{blame(error)}{'' if place_of(error) else at(name)}"


def described(value: Any) -> str:
    """What somebody's code gave, in a few words: the shape and type of an array or tensor, else the type's name."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        kind = "" if type(value).__name__ in ("Tensor", "Parameter") else f" ({type(value).__name__})"
        return f"{tuple(value.shape)} of {value.dtype}{kind}"
    return type(value).__name__


def _of_file(text: str, error: BaseException, module: str) -> str:
    """`text` after the file of `module` or of the package that it is in, where a syntax error says neither in which
    file it is nor came from a line of people's own code."""
    if not isinstance(error, SyntaxError) or error.filename or place_of(error):
        return text
    parts, origin = module.split("."), None
    for count in range(1, len(parts) + 1):
        try:
            spec = importlib.util.find_spec(".".join(parts[:count]))  # it imports the packages above
        except RAISED:
            break
        origin = spec.origin if spec else None
    return f"{_shown(Path(origin))}: {text}" if origin else text


def written_at(function: Any) -> str:
    """Where `function` is written, as `src/my_sampler.py, line 7, sample`: its name where that is not known."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{_shown(Path(code.co_filename))}, line {code.co_firstlineno}, {name}" if code else name


def _look_in_src() -> None:
    """Have the project's `src/` searched first, also in the temporary copy in which an experiment runs."""
    folder = str(source_folder())
    if folder not in sys.path:
        sys.path.insert(0, folder)
        importlib.invalidate_caches()


def is_own(written: Any) -> bool:
    """Whether `written`, a function or a class, is in neither Podium nor an installed package."""
    code = getattr(written, "__code__", None)
    file = code.co_filename if code else getattr(sys.modules.get(written.__module__), "__file__", None)
    return file is not None and _is_own(Path(file))


def _is_own(path: Path) -> bool:
    return path.is_absolute() and not path.is_relative_to(PACKAGE) and not _is_installed(path)


def _is_installed(path: Path) -> bool:
    return bool({"site-packages", "dist-packages"} & set(path.parts)) or path.is_relative_to(sys.base_prefix)


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _close_modules(name: str) -> str:
    known = [path.stem for path in source_folder().glob("*.py")]
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f": write the module, or its package's name into {own_modules.REQUIREMENTS}, then `make install`"


def _close_names(name: str, module: Any) -> str:
    named = vars(module) if hasattr(module, "__dict__") else {}
    public = [key for key, value in named.items() if not key.startswith("_") and not inspect.ismodule(value)]
    close = difflib.get_close_matches(name, public, n=1)
    return f"; did you mean {close[0]}?" if close else f"; it has {', '.join(sorted(public)[:20]) or 'nothing'}"


def _type_of(parameter: inspect.Parameter) -> type | None:
    for candidate in (parameter.annotation, type(parameter.default)):
        for kind in (bool, int, float, str):
            if candidate is kind or candidate == kind.__name__:
                return kind
    return None
