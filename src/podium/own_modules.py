"""Importing people's own modules: as a program without arguments, which leaves the process as it was."""

import difflib
import importlib
import importlib.util
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from podium.errors import InputError

State = dict[str, tuple[Any, Callable[[Any], Any]]]
REQUIREMENTS = "requirements-own.txt"
"""The packages that people's own code wants, in the project's folder: `make install` installs them too."""
PACKAGES = {
    "cv2": "opencv-python-headless",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "pytorch_lightning": "pytorch-lightning",
    "pywt": "PyWavelets",
}
"""What the package of a module is called, where that is another name."""
ABSENT = re.compile(r"No module named '([^']+)'")


def imported(name: str, source: Path) -> Any:
    """The module `name`, from `source` (the project's `src/`) or an installed package.

    Code at its top that reads the command line finds no arguments there: those are Podium's. Raises InputError where
    `source` has it and another module of that name comes first, or where it changes what holds for the whole process;
    and whatever the module raises.
    """
    _check_its_own(name, source)
    arguments, before, there = sys.argv, _state(), set(sys.modules)
    sys.argv = [name]
    try:
        module = importlib.import_module(name)
    finally:
        sys.argv = arguments
        changed = _put_back(before)
    if changed:
        for one in set(sys.modules) - there:  # what it imports may be what does it
            if _is_in(source, sys.modules[one]):
                del sys.modules[one]
        sys.modules.pop(name, None)
        raise InputError(
            f"{name} changes {' and '.join(changed)} when it is imported, which would hold for all of Podium: do that"
            " within the function that needs it, and undo it there"
        )
    return module


@contextmanager
def restored() -> Iterator[None]:
    """What code within the block changes for the whole process is as it was afterwards; it finds no command line."""
    before, more, arguments = _state(), _more_state(), sys.argv
    sys.argv = arguments[:1]
    try:
        yield
    finally:
        sys.argv = arguments
        _put_back(before)
        for value, get, put in more:
            if get() != value:
                put(value)


def absent(error: BaseException, source: Path) -> str:
    """What to do where `error` is that a module can't be imported, since its package is not installed or its name is
    that of none in `source`; empty: it is another error."""
    while isinstance(error, ImportError):
        found = ABSENT.search(str(error))
        if named := (isinstance(error, ModuleNotFoundError) and error.name) or (found and found[1]):
            return _how_to_install(named.partition(".")[0], source)
        cause = error.__cause__ or error.__context__
        if cause is None:
            break
        error = cause
    return ""


def _how_to_install(module: str, source: Path) -> str:
    """What to do where the module of this name is not found; empty: it is there."""
    if module in sys.modules or importlib.util.find_spec(module) is not None:
        return ""
    if close := difflib.get_close_matches(module, [path.stem for path in source.glob("*.py")], n=1, cutoff=0.8):
        return f". There is no such module in src/ or among the installed packages: did you mean {close[0]}?"
    package = PACKAGES.get(module, module)
    return f". That package is not installed: write {package} into {REQUIREMENTS}, then `make install`"


def _is_in(source: Path, module: Any) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve().is_relative_to(source.resolve())


def _check_its_own(name: str, source: Path) -> None:
    top = name.partition(".")[0]
    mine = next((path for path in (source / f"{top}.py", source / top / "__init__.py") if path.is_file()), None)
    if mine is None:
        return
    known = getattr(sys.modules.get(top), "__file__", None)
    if top in sys.stdlib_module_names:
        whose = "one of Python's own"
    elif top in sys.modules and (known is None or Path(known).resolve() != mine.resolve()):
        whose = f"one that is imported already ({known or 'built in'})"
    else:
        return
    raise InputError(
        f"{mine} has the name of {whose}, and each would be taken for the other: rename your module,"
        " or begin a new process where that one is another project's"
    )


def _state() -> State:
    """What own code could change for the whole process: the value of each, and what sets it."""
    found: State = {}
    with suppress(FileNotFoundError):  # it was removed
        found["the working directory (os.chdir)"] = Path.cwd(), os.chdir
    torch: Any = sys.modules.get("torch")
    if hasattr(torch, "get_default_device"):  # it is imported, wholly
        found |= _of_torch(torch, torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled())
    return found


def _more_state() -> list[tuple[Any, Callable[[], Any], Callable[[Any], Any]]]:
    """What a module may set when it is imported, but no training for those after it: value, getter and setter."""
    found: list[tuple[Any, Callable[[], Any], Callable[[Any], Any]]] = []
    if threading.current_thread() is threading.main_thread():  # elsewhere no handler can be set
        for one in (signal.SIGINT, signal.SIGTERM):
            if (handler := signal.getsignal(one)) is not None:  # None: it is not one of Python's
                found.append((handler, partial(signal.getsignal, one), partial(signal.signal, one)))
    torch: Any = sys.modules.get("torch")
    if hasattr(torch, "get_default_device"):
        algorithms = torch.are_deterministic_algorithms_enabled
        found += [
            (torch.get_num_threads(), torch.get_num_threads, torch.set_num_threads),
            (algorithms(), algorithms, torch.use_deterministic_algorithms),
            (torch.is_anomaly_enabled(), torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        ]
    return found


def _of_torch(torch: Any, kind: Any, device: Any, gradients: bool) -> State:
    return {
        "torch's default type (set_default_dtype)": (kind, torch.set_default_dtype),
        "torch's default device (set_default_device)": (
            device,
            lambda value: torch.set_default_device(None if value.type == "cpu" else value),
        ),
        "torch's gradients (set_grad_enabled)": (gradients, torch.set_grad_enabled),
    }


def _put_back(before: State) -> list[str]:
    """Set what has changed to what it was, of torch where it was imported since to its defaults; returns its names."""
    after = _state()
    torch: Any = sys.modules.get("torch")
    if hasattr(torch, "get_default_device"):
        before = _of_torch(torch, torch.float32, torch.device("cpu"), True) | before
    changed = [name for name, (value, _) in before.items() if name not in after or after[name][0] != value]
    for name in changed:
        value, put = before[name]
        put(value)
    return changed
