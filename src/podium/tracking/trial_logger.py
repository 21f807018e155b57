"""The trial callback: one MLflow run a trial, below one parent run a study."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import optuna
from mlflow.entities import Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME
from optuna.trial import FrozenTrial

from podium.tracking.record import KIND_TAG, METRICS_A_CALL, STUDY_TAG, TRIAL_TAG, Record, record_of
from podium.tracking.store import Tracking
from podium.tracking.whole_run import WholeRuns

PAGE = 1000


class TrialLogger:
    """An Optuna callback that mirrors each trial to MLflow.

    `study.optimize(objective, callbacks=[TrialLogger(tracking)])` is all that a plain Optuna study needs; Podium's own
    search calls it from its mirror. COMPLETE, PRUNED and FAIL become FINISHED, KILLED and FAILED. Calling it again
    for the same trial adds what is missing and repeats nothing.
    """

    def __init__(self, tracking: Tracking, parent_run_id: str | None = None) -> None:
        self.tracking = tracking
        self._parent = parent_run_id
        self._runs: dict[tuple[str, int], str] = {}
        self._logged: dict[str, set[tuple[str, int]]] = {}
        self._known: set[str] = set()
        self._whole = WholeRuns(tracking.client, tracking.experiment_id)

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Mirror `trial` as it stands."""
        self.log(study, trial)

    def log(self, study: optuna.Study, trial: FrozenTrial, history: Sequence[dict[str, float]] | None = None) -> str:
        """Mirror `trial` as it stands, a running one with its `history` so far. Returns the run's id."""
        if self.bring(study, [trial]):
            return self._runs[study.study_name, trial.number]
        record = record_of(study, trial, history)
        run_id = self._run(study, trial.number)
        fresh = run_id is None
        run_id = run_id or self._create(study, trial.number, record)
        self._add(run_id, record, fresh)
        if record.end is not None:
            self.tracking.client.set_terminated(run_id, record.status, record.end)
            self._logged.pop(run_id, None)  # done with; the memory of a thousand of them would grow
        return run_id

    def bring(self, study: optuna.Study, trials: Iterable[FrozenTrial]) -> set[int]:
        """Mirror those of `trials` together that have ended and have no run yet: much cheaper than one by one.

        Returns their numbers. None, where the store does not take runs so: `log` mirrors in every case.
        """
        if not self._whole.possible:
            return set()
        ended = [t for t in trials if t.state.is_finished() and t.datetime_start]
        fresh = [t for t in ended if self._run(study, t.number) is None]
        records = [record_of(study, trial) for trial in fresh]
        run_ids = self._whole.bring([(record, self._tags(study, record)) for record in records])
        brought = {trial.number: run_id for trial, run_id in zip(fresh, run_ids, strict=False)}
        self._runs |= {(study.study_name, number): run_id for number, run_id in brought.items()}
        return set(brought)

    def parent(self, study: optuna.Study) -> str:
        """The id of the study's parent run, made where there is none."""
        if self._parent is None:
            tags = {STUDY_TAG: study.study_name, KIND_TAG: "search"}
            self._parent = find_or_create(self.tracking, study.study_name, tags)
        return self._parent

    def forget(self, study: optuna.Study, number: int, run_id: str | None) -> None:
        """Take `run_id` for the run of trial `number` from now on; None: it has none."""
        self._runs.pop((study.study_name, number), None)
        if run_id is not None:
            self._runs[study.study_name, number] = run_id
            self._logged.pop(run_id, None)

    def _run(self, study: optuna.Study, number: int) -> str | None:
        """The run of trial `number`, if there is one. The study's runs are looked up once."""
        name = study.study_name
        if name not in self._known:
            for run in runs_of(self.tracking, name):
                self._runs.setdefault((name, int(run.data.tags[TRIAL_TAG])), run.info.run_id)
            self._known.add(name)
        return self._runs.get((name, number))

    def _tags(self, study: optuna.Study, record: Record) -> dict[str, str]:
        return record.tags | {MLFLOW_PARENT_RUN_ID: self.parent(study), MLFLOW_RUN_NAME: record.name}

    def _create(self, study: optuna.Study, number: int, record: Record) -> str:
        tags = self._tags(study, record)
        run = self.tracking.client.create_run(self.tracking.experiment_id, record.start, tags, record.name)
        run_id: str = run.info.run_id
        self._runs[study.study_name, number] = run_id
        return run_id

    def _add(self, run_id: str, record: Record, fresh: bool) -> None:
        """Log what the run does not have yet; for a fresh one that is everything, in one call."""
        if fresh:
            self._logged[run_id] = set()
        elif run_id not in self._logged:  # made by an earlier session: see how far it came
            self._logged[run_id] = self._reopen(run_id, record)
        logged = self._logged[run_id]
        missing = [m for m in record.metrics if (m.key, m.step) not in logged]
        params = record.entities() if fresh else []
        tags = [RunTag(k, v) for k, v in record.tags.items()] if record.end is not None and not fresh else []
        for start in range(0, max(len(missing), 1), METRICS_A_CALL):
            batch = missing[start : start + METRICS_A_CALL]
            self.tracking.client.log_batch(run_id, batch, params, tags)
            params, tags = [], []
        logged |= {(m.key, m.step) for m in missing}

    def _reopen(self, run_id: str, record: Record) -> set[tuple[str, int]]:
        """Go on with a run that an earlier session left: mend its parameters and status; which metrics it has."""
        client = self.tracking.client
        run = client.get_run(run_id)
        absent = [p for p in record.entities() if p.key not in run.data.params]
        if absent:
            client.log_batch(run_id, params=absent)
        if record.end is None and run.info.status != "RUNNING":
            client.update_run(run_id, status="RUNNING")
        return set(histories(self.tracking, run))


def find_or_create(tracking: Tracking, name: str, tags: dict[str, str]) -> str:
    """The id of the experiment's run that has all of `tags`; where there is none, a new one called `name`."""
    where = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    found = tracking.client.search_runs([tracking.experiment_id], where, order_by=["attributes.start_time ASC"])
    if found:
        return str(found[0].info.run_id)
    run = tracking.client.create_run(tracking.experiment_id, tags=tags, run_name=name)
    return str(run.info.run_id)


def runs_of(tracking: Tracking, study_name: str) -> list[Run]:
    """Every trial's run of the study, the oldest first."""
    where = f"tags.`{STUDY_TAG}` = '{study_name}' and tags.`{KIND_TAG}` = 'trial'"
    runs: list[Run] = []
    token: Any = None
    while True:
        page = tracking.client.search_runs(
            [tracking.experiment_id], where, max_results=PAGE, order_by=["attributes.start_time ASC"], page_token=token
        )
        runs += page
        token = page.token
        if not token:
            return runs


def histories(tracking: Tracking, run: Run) -> dict[tuple[str, int], set[float]]:
    """Every metric of `run` by name and step: one value, unless somebody logged another at the same step."""
    found: dict[tuple[str, int], set[float]] = defaultdict(set)
    for key in run.data.metrics:
        for metric in tracking.client.get_metric_history(run.info.run_id, key):
            found[metric.key, metric.step].add(metric.value)
    return dict(found)
