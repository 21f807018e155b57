"""Checks of gpu.py with worker processes: several on one device, what breaks one, and how long searches take."""

import json
import tempfile
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
import torch

from gpu_harness import Options, Result, check, judged, timed
from gpu_trainings import CLASSES, recipe, written
from podium.config.params import RuntimeParams, SearchParams, load
from podium.config.recipe import Recipe
from podium.data.dataset import DatasetInfo
from podium.training.epochs import Epoch
from podium.training.streaming import Mapped
from podium.tuning.driver import Driver
from podium.tuning.pools.placement import Place, plan
from podium.tuning.pools.processes import ProcessPool, Setup
from podium.tuning.study import open_study
from podium.tuning.work import TrialData

ROOT = Path(__file__).resolve().parents[1]


class Notes:
    """A watcher that keeps what a person would read."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def running(self, trial: Any, history: list[Epoch]) -> None:
        """Nothing."""

    def rested(self, trial: Any, history: list[Epoch]) -> None:
        """Nothing."""

    def ended(self, trial: Any) -> None:
        """Nothing."""

    def note(self, line: str) -> None:
        """Keep it."""
        self.lines.append(line[:160])


class Searched:
    """A search of Podium's own driver and workers, without MLflow."""

    def __init__(
        self, prepared: Path, places: list[Place], params: SearchParams, base: Recipe, options: Options
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.notes, self.peak = Notes(), 0
        ended, runtime = threading.Event(), RuntimeParams()

        def watch() -> None:
            while not ended.wait(0.2):
                free, total = torch.cuda.mem_get_info()
                self.peak = max(self.peak, total - free)

        if options.is_cuda:
            threading.Thread(target=watch, daemon=True).start()
        study = open_study(optuna.storages.InMemoryStorage(), "gpu", params, {})
        began = time.monotonic()
        pool = ProcessPool(places, Setup(str(prepared), "cpu", 1))
        try:
            Driver(study, pool, params, runtime, base, prepared.parent / "checkpoints", [self.notes]).run()
        finally:
            pool.close()
            ended.set()
        self.seconds, self.study = time.monotonic() - began, study

    def states(self) -> dict[str, int]:
        """How many trials ended how."""
        states = [trial.state.name for trial in self.study.trials]
        return {state: states.count(state) for state in sorted(set(states))}

    def text(self) -> str:
        """For the table."""
        states = ", ".join(f"{count} {state}" for state, count in self.states().items())
        return f"{self.seconds:.1f} s, {states}, {self.peak / 2**30:.1f} GiB of the device at most"


def places(options: Options, workers: int) -> list[Place]:
    """So many workers on the one device, each with an equal part of its memory."""
    if not options.is_cuda:
        return [Place()] * workers
    return plan(RuntimeParams(workers=workers), workers)[0]


def project(folder: str, count: int, side: int, classes: int = CLASSES) -> Path:
    """Prepared images; `classes`: as many as dataset.json names."""
    prepared = Path(folder) / "prepared"
    for name, number in (("train", count), ("val", max(count // 4, 20))):
        written(prepared / name, number, side)
    names = [str(number) for number in range(classes)]
    DatasetInfo("noise", names, [3, side, side], {}, [0.5] * 3, [0.25] * 3, "d" * 64).write(prepared)
    return prepared


def trials(number: int, **space: Any) -> SearchParams:
    fields = {"n_trials": number, "pruner": "none", "sampler": "random", "max_failures": number + 1, "space": space}
    return SearchParams.model_validate(fields | {"defaults_first": False})


@check(13, "several workers on one device", 150)
def _workers(options: Options) -> Result:
    base = recipe(model__name="resnet", model__width=4 if options.tiny else 16, train__batch_size=128,
                  train__epochs=1 if options.tiny else 8)  # fmt: skip
    number = 2 if options.tiny else 16
    rates, found, good = list[float](), list[str](), True
    with tempfile.TemporaryDirectory() as folder:
        prepared = project(folder, 100 if options.tiny else 4000, 32)
        for workers in (1, 2) if options.tiny else (1, 4, 16):
            done = Searched(prepared, places(options, workers), trials(number), base, options)
            good &= done.states() == {"COMPLETE": number}
            rates.append(number / done.seconds)
            found.append(f"{workers}: {done.text()}")
    if not good:
        return Result("FAIL", "; ".join(found))
    return timed(options, max(rates[1:]) > rates[0], "; ".join(found))


@check(14, "out of memory: batches in parts, and good trials after it", 90, cuda="its memory can be limited")
def _out_of_memory(options: Options) -> Result:
    space = {"train.batch_size": {"choices": [16_384, 64]}}
    base = recipe(model__name="resnet", model__width=64, train__epochs=1)
    with tempfile.TemporaryDirectory() as folder:
        prepared = project(folder, 20_000, 64)
        (place,) = places(options, 1)
        small = Place(place.device, place.visible, 6 * 2**30)
        done = Searched(prepared, [small], trials(6, **space), base, options)
    said = in_parts(done.notes.lines)
    good = done.states() == {"COMPLETE": 6} and bool(said)
    return judged(good, f"in 6 GiB: {done.text()}; {said[:1] or 'nothing was divided'}")


def in_parts(lines: list[str]) -> list[str]:
    """Those of the notes that say that a batch was divided."""
    return [line for line in lines if "gradients are added up over" in line]


@check(15, "a device-side assertion: the worker is replaced", 90)
def _assertion(options: Options) -> Result:
    """On a CPU there is none, but an error: there it is seen that nothing of such labels is taken for a result."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = project(folder, 512, 32)
        about = json.loads((prepared / "dataset.json").read_text(encoding="utf-8"))
        about["classes"] = about["classes"][:5]  # labels 5 to 9 do not exist
        (prepared / "dataset.json").write_text(json.dumps(about), encoding="utf-8")
        base = recipe(model__name="resnet", model__width=8, train__epochs=1)
        try:
            done = Searched(prepared, places(options, 1), trials(3), base, options)
        except Exception as error:  # the search ends with a sentence where no worker can train
            words = ("CUDA", "device") if options.is_cuda else ("out of bounds",)
            return judged(any(word in str(error) for word in words), " ".join(str(error).split())[:300])
    return judged("COMPLETE" not in done.states(), f"{done.text()}; {done.notes.lines[:2]}")


@check(16, "eight workers whose images do not all fit", 120, cuda="its memory is shared out")
def _shared(options: Options) -> Result:
    base = recipe(model__name="resnet", model__width=16, train__epochs=1, train__batch_size=256)
    with tempfile.TemporaryDirectory() as folder:
        prepared = project(folder, 40_000, 96)
        small = [Place(one.device, one.visible, 2**30) for one in places(options, 8)]  # the images take 1.3 GB
        done = Searched(prepared, small, trials(16), base, options)
        streams = streamed(prepared, torch.device(options.device), 2**30)
    good = done.states() == {"COMPLETE": 16} and streams
    how = "streamed" if streams else "not, though they do not fit"
    opened = f"opened as such a worker would, images of 1.3 GB are {how}"
    return judged(good, f"8 workers of 1 GiB each: {done.text()}; {opened}")


def streamed(prepared: Path, where: torch.device, share: int) -> bool:
    """Whether images that are opened as a worker with `share` bytes of the device would stay in their memory maps."""
    found = TrialData.load(prepared, where, share)
    return all(isinstance(one.images, Mapped) for one in (found.train, found.val))


def preset(folder: str, options: Options, name: str, count: int, side: int, seconds: float) -> Result:
    """The trials of a file of parameters on images of `side`, for `seconds`."""
    params = load(ROOT / name)
    prepared = project(folder, count, side)
    search = params.search.model_copy(update={"timeout": seconds} | ({"n_trials": 2} if options.tiny else {}))
    base = params.recipe().replace({"train.epochs": 2} if options.tiny else {})
    workers = 1 if options.tiny else 4
    done = Searched(prepared, places(options, workers), search, base, options)
    ended, failed = len(done.study.trials), done.states().get("FAIL", 0)
    return judged(
        not failed and ended > 0, f"{ended} of {search.n_trials} trials with {workers} workers: {done.text()}"
    )


@check(17, "the default search", 120)
def _default(options: Options) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        return preset(folder, options, "params.yaml", 200 if options.tiny else 1258, 8, 45)


@check(18, "the search of `preset photos`", 120)
def _photos(options: Options) -> Result:
    missing = [name for name in ("timm", "torchvision") if find_spec(name) is None]
    if missing:
        return Result("SKIP", f"needs {' and '.join(missing)}, which belong to this machine's torch")
    with tempfile.TemporaryDirectory() as folder:
        count, side = (20, 64) if options.tiny else (500, 224)
        return preset(folder, options, "presets/photos.yaml", count, side, 45)
