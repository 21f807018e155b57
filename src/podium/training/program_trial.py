"""People's own training loop (`train.program`), tried once before the search: an epoch of a few random images.

Only what it would do with the user's images too is refused: how it reports and saves, what it returns, and errors of
its code that no image decides. What else fails may be for want of images or of epochs, so the first trial tells.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from podium.config.recipe import Recipe
from podium.config.search_section import SearchParams
from podium.errors import InputError
from podium.models.networks import ImageSpec
from podium.training.batches import Batches
from podium.training.loop import DivergedError
from podium.training.program import ProgramRun

IMAGES = 64
"""At most; each class has one where that is enough."""
BATCH = 8
SECONDS = 20.0
"""After which the trial ends: a loop may count steps or seconds instead of epochs."""
OF_CODE = (NameError, ImportError, NotImplementedError)
"""Errors that no image decides; but a variable may be unbound where there were too few (UnboundLocalError)."""
UNBOUND = "cannot access free variable"
"""Likewise of a variable that an inner function uses; Python has no exception of its own for it."""
OF_EPOCHS = ("returned without a report", "must return a torch.nn.Module; it returned NoneType")
"""What a loop may do in one epoch and not in more: it reports each fifth, or its best network is a later one."""
OF_TYPES = (AttributeError, TypeError)
"""Likewise, unless something is None that more images would have made."""
NOT_FINITE = "not finite numbers"
"""Random images may do that; the search fails such a trial."""


class _EnoughError(BaseException):
    """It has shown what it can show."""


def try_program(recipe: Recipe, search: SearchParams, images: ImageSpec) -> None:
    """Run the own training loop that `recipe` names, on the CPU. Raises InputError for what is wrong with it."""
    name = recipe.train.component("program").chosen.name
    changes = {"train.epochs": 1, "train.batch_size": min(BATCH, recipe.train.batch_size)}
    count = min(IMAGES, max(2 * BATCH, images.classes))
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, *images.shape), dtype=torch.uint8, generator=draw)
    data = Batches(pixels, torch.arange(count) % images.classes)
    metric = search.component("metric")
    try:
        with torch.random.fork_rng(devices=[]), _alarm():
            run = ProgramRun(recipe.replace(changes), images, 0, torch.device("cpu"), metric)
            run.train(data, None, on_epoch=_end_second)
    except (_EnoughError, DivergedError):
        return
    except InputError as error:
        more_epochs = recipe.train.epochs > 1 or "train.epochs" in search.space
        if more_epochs and error.__cause__ is None and any(one in str(error) for one in OF_EPOCHS):
            return
        if _is_certain(error, f"train.program: {name} failed: "):
            raise


def _end_second(run: Any) -> None:
    if run.epoch > 1:  # it counts epochs itself
        raise _EnoughError


def _is_certain(error: InputError, failed: str) -> bool:
    """Whether images of the user's would lead to `error` too; of errors in the loop itself it begins with `failed`."""
    cause = error.__cause__
    if cause is None or not str(error).startswith(failed):
        return NOT_FINITE not in str(error)
    if isinstance(cause, KeyError):  # a setting that is not there, of `config`
        return str(cause).strip("'").startswith(("model.", "train."))
    if isinstance(cause, OF_TYPES):
        return "NoneType" not in str(cause)
    unbound = isinstance(cause, UnboundLocalError) or UNBOUND in str(cause)
    return isinstance(cause, OF_CODE) and not unbound


@contextmanager
def _alarm() -> Iterator[None]:
    """_EnoughError within the block after SECONDS, and again should somebody's code catch it; in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: Any) -> None:
        raise _EnoughError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
