"""The studies that an error ended, and their trials that it passed through: Optuna calls nobody for these."""

import inspect
import traceback
from collections.abc import Callable, Collection
from types import TracebackType

import optuna
from optuna.trial import BaseTrial


def broken_off(
    trace: TracebackType | None, is_ours: Callable[[object], bool]
) -> list[tuple[optuna.Study, frozenset[int]]]:
    """The studies whose `optimize` an error with `trace` passed through, and that were to call one who `is_ours`.

    With each the numbers of the trials that Optuna was at work on: one may have ended, and then a callback that raised
    something, or Ctrl-C, came before ours. Optuna's own arguments and variables say all of this.
    """
    found: list[tuple[optuna.Study, frozenset[int]]] = []
    within = False
    for frame, _ in traceback.walk_tb(trace):
        if frame.f_code is inspect.unwrap(optuna.Study.optimize).__code__:
            study, callbacks = frame.f_locals.get("self"), frame.f_locals.get("callbacks")
            called = callbacks if isinstance(callbacks, Collection) else ()  # anything, where Optuna refused it
            within = isinstance(study, optuna.Study) and any(map(is_ours, called))
            if within and isinstance(study, optuna.Study):
                found.append((study, frozenset()))
        elif within and str(frame.f_globals.get("__name__")).startswith("optuna.study"):
            study, numbers = found.pop()
            at_work = {one.number for one in frame.f_locals.values() if isinstance(one, BaseTrial)}
            found.append((study, numbers | at_work))
    return found
