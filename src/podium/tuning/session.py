"""One session of a search: workers, study, mirror, progress and signals around a driver."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from podium import cluster, paths
from podium.components import Choice
from podium.config.params import RuntimeParams, SearchParams, TrackingParams
from podium.config.recipe import Recipe
from podium.errors import InterruptedSearchError
from podium.process import stop_signals
from podium.tracking.also import Also
from podium.tracking.mirror import Mirror, Parent
from podium.tracking.study_summary import title_of
from podium.tuning import storage
from podium.tuning import study as studies
from podium.tuning.batch import BatchDriver
from podium.tuning.driver import Driver
from podium.tuning.freeze_thaw import enough_epochs
from podium.tuning.freeze_thaw.thaw_driver import ThawDriver
from podium.tuning.inherit import inherit, is_own, what_changed
from podium.tuning.pools import Pool, placement, processes
from podium.tuning.progress import Progress
from podium.tuning.shared_epochs import EPOCHS
from podium.tuning.trial import Watcher


@dataclass(frozen=True)
class Plan:
    """What is to be searched."""

    name: str
    """Of the study: see study.name_of."""
    facts: dict[str, Any]
    """What the name is a digest of."""
    params: SearchParams
    base: Recipe
    parent: Parent
    title: str
    """Of the progress bar."""
    enqueued: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    """(parameters, attributes) of trials to run before any that the sampler proposes."""
    subject: str = ""
    """What the study's title begins with; empty: it has none."""
    inherits: bool = False
    """Whether a new study begins with the trials of earlier ones that are valid in it."""
    metrics: list[Choice] = field(default_factory=list)
    """More metrics that every epoch has."""
    tries_again: bool = False
    """Whether trials that failed in an earlier session count as absent: see `_to_try_again`."""


def run(plan: Plan, prepared: Path, runtime: RuntimeParams, tracking: TrackingParams) -> tuple[optuna.Study, str]:
    """Run what is missing of `plan` and return its study and the id of its parent run in MLflow; empty: nothing was
    logged there.

    Raises InterruptedSearchError after Ctrl-C or SIGTERM, RefusedError where another process runs the same search.
    """
    began = time.monotonic()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    also = Also(tracking)
    where = storage.place(runtime)
    with storage.reached(where), storage.alone(where, plan.name) as check_alone:
        opened = storage.open_at(where)
        study = studies.open_study(opened, plan.name, plan.params, plan.facts, plan.subject)
        if sentence := what_changed(study, opened):
            print(f"{plan.name}: {sentence}")
        if plan.inherits and (sentence := inherit(study, opened, plan.params, plan.base).sentence()):
            print(f"{plan.name}: {sentence}")
        plan = _enqueue(study, plan)
        enough_epochs.check(study, plan.params, plan.base)
        rests, label = plan.params.method == "thaw", plan.params.component("metric").label
        count, most = plan.params.n_trials, plan.params.max_epochs
        progress = Progress(study, count, plan.title, label, rests=rests, max_epochs=most)
        mirror = Mirror(study, tracking, plan.parent, progress.note)
        also.study, also.message = title_of(study), progress.note
        interrupted = True
        with stop_signals() as received:

            def stopping() -> bool:
                check_alone()
                return bool(received)

            try:
                checkpoints = paths.mlruns() / "checkpoints" / plan.name
                _drive(study, plan, prepared, runtime, checkpoints, mirror, [also, progress], stopping, began)
                interrupted = bool(received)
            finally:
                progress.close()
                with stop_signals() as later:  # also after a first Ctrl-C: what is left behind is to be remembered
                    mirror.close(interrupted=interrupted, leave=lambda: bool(later))
                received += later
                also.close()
    if mirror.error:
        print(f"MLflow is not in step with the search; `podium sync` repairs that. {mirror.error}")
    if received:
        raise InterruptedSearchError(_farewell(study, plan), received[0])
    return study, mirror.parent_run_id or ""


def _enqueue(study: optuna.Study, plan: Plan) -> Plan:
    """Enqueue what the study does not have yet: a driver may have been killed between two of them.

    Returns the plan with as much more room in its budget as there are trials that count as absent.
    """
    trials = study.get_trials(deepcopy=False)
    failed = _to_try_again(trials) if plan.tries_again else set()
    present = {t.user_attrs.get("planned") for t in trials if is_own(t) and t.number not in failed}
    known = [t.params for t in trials if not is_own(t)]
    for index, (parameters, attributes) in enumerate(plan.enqueued):
        shared = {name: value for name, value in parameters.items() if name != EPOCHS}  # what one such trial is asked
        if index not in present and parameters not in known and shared not in known:
            study.enqueue_trial(parameters, {**attributes, "planned": index})
    limits = {name: getattr(plan.params, name) + len(failed) for name in ("n_trials", "max_failures")}
    return replace(plan, params=plan.params.model_copy(update=limits))


def _to_try_again(trials: list[FrozenTrial]) -> set[int]:
    """The numbers of failed ones whose cause may be mended by now, such as a full disk; a diverged one's never is."""
    own = [t for t in trials if is_own(t) and t.state == TrialState.FAIL]
    return {t.number for t in own if not t.user_attrs.get("diverged")}


def _drive(
    study: optuna.Study,
    plan: Plan,
    prepared: Path,
    runtime: RuntimeParams,
    checkpoints: Path,
    mirror: Mirror,
    others: list[Watcher],
    stopping: Callable[[], bool],
    began: float,
) -> None:
    trials = [t for t in study.get_trials(deepcopy=False) if is_own(t)]
    left = plan.params.n_trials - sum(t.state.is_finished() for t in trials)
    begun = sum(t.state == TrialState.RUNNING for t in trials)  # to be ended, also where n_trials was lowered meanwhile
    if left <= 0 and not begun:
        mirror.check()
        return
    pool = open_pool(prepared, runtime, max(left, begun))
    try:
        mirror.check()  # while the workers start
        watchers: list[Watcher] = [mirror, *others]
        driver: type[Driver] = BatchDriver if plan.params.deterministic else Driver
        if plan.params.method == "thaw":
            driver = ThawDriver
        what = study, pool, plan.params, runtime, plan.base, checkpoints, watchers, stopping, plan.metrics, began
        driver(*what).run()
    finally:
        pool.close()


def open_pool(prepared: Path, runtime: RuntimeParams, at_most: int) -> Pool:
    """The workers that `runtime` asks for, no more than `at_most`."""
    if runtime.engine == "inline":
        from podium.tuning.pools.inline import open_inline

        return open_inline(prepared, runtime)
    if runtime.engine == "ray":
        cluster.prepare(runtime)
        from podium.tuning.pools.ray_pool import RayPool

        return RayPool(prepared, runtime, at_most)
    places, sentence = placement.plan(runtime, at_most)
    if sentence:
        print(f"workers: {sentence}")
    setup = processes.Setup(str(prepared), "cpu", runtime.threads, runtime.hang_timeout)
    return processes.ProcessPool(places, setup)


def _farewell(study: optuna.Study, plan: Plan) -> str:
    trials = [t for t in study.get_trials(deepcopy=False) if is_own(t)]
    ended = sum(t.state.is_finished() for t in trials)
    running = sum(t.state == TrialState.RUNNING for t in trials)
    return (
        f"stopped after {ended} of {plan.params.n_trials} trials, {running} more saved in the middle;"
        " `dvc repro` resumes from here"
    )
