"""docs/trial-logger.md compares three ways of logging a study: each row here is played with all three, and its cells
have to be what is seen."""

import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.optuna.storage import MlflowStorage

from podium import TrialLogger
from podium.tracking import store
from podium.tracking.store import Tracking

PAGE = Path(__file__).parents[2] / "docs/trial-logger.md"
PARENT = "mlflow.parentRunId"
Objective = Callable[[optuna.Trial], Any]


class Contender:
    """One of the three, on a store of its own."""

    def __init__(self, name: str, uri: str) -> None:
        self.name, self.uri, self.client = name, uri, MlflowClient(uri)
        self.experiment = self.client.create_experiment("mine")
        self.tracking = Tracking(self.client, uri, self.experiment, "mine")
        self.callback: Any = None

    def study(self, **options: Any) -> optuna.Study:
        """A study that this contender logs."""
        if self.name == "MlflowStorage":
            mlflow.set_tracking_uri(self.uri)
            return optuna.create_study(storage=MlflowStorage(self.experiment, batch_flush_interval=0.01), **options)
        return optuna.create_study(**options)

    def optimize(self, study: optuna.Study, objective: Objective, count: int = 1) -> str:
        """Run trials. Returns the name of the error that ended the study; empty: none did."""
        if self.name == "MLflowCallback":
            from optuna_integration.mlflow import MLflowCallback

            names: Any = "value" if len(study.directions) == 1 else ["a", "b"][: len(study.directions)]
            self.callback = MLflowCallback(tracking_uri=self.uri, metric_name=names)
        elif self.name == "TrialLogger":
            self.callback = TrialLogger(self.tracking)
        callbacks = [self.callback] if self.callback else []
        try:
            study.optimize(objective, count, callbacks=callbacks, catch=(ZeroDivisionError,))
        except Exception as error:
            return type(error).__name__
        finally:
            if self.name == "TrialLogger":
                self.callback.close()
        if self.name == "MlflowStorage":
            study._storage.flush_all_batches()  # type: ignore[attr-defined]
        return ""

    def runs(self) -> list[Run]:
        """The runs of trials, the oldest first."""
        every = self._every()
        parents = {run.data.tags.get(PARENT) for run in every}
        found = [run for run in every if run.info.run_id not in parents and self._is_trial(run)]
        return sorted(found, key=lambda run: (run.info.start_time, str(run.info.run_name)))

    def parents(self) -> list[Run]:
        """The runs above them."""
        ids = {run.data.tags.get(PARENT) for run in self._every()}
        return [run for run in self._every() if run.info.run_id in ids]

    def _is_trial(self, run: Run) -> bool:
        return self.name == "MLflowCallback" or PARENT in run.data.tags

    def _every(self) -> list[Run]:
        experiments = [one.experiment_id for one in self.client.search_experiments()]
        return list(self.client.search_runs(experiments))


@pytest.fixture(params=["TrialLogger", "MLflowCallback", "MlflowStorage"])
def contender(request: pytest.FixtureRequest, tmp_path: Path, mlflow_template: Path) -> Iterator[Contender]:
    path = tmp_path / "mlflow.db"
    path.write_bytes(mlflow_template.read_bytes())
    before = mlflow.get_tracking_uri()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the callback is deprecated, its and the storage's parts are experimental
        yield Contender(request.param, f"sqlite:///{path}")
    mlflow.set_tracking_uri(before)


def _plain(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0.0, 1.0)


def states(it: Contender) -> str:
    def objective(trial: optuna.Trial) -> float:
        if trial.number == 0:
            raise optuna.TrialPruned
        return 1 / 0

    it.optimize(it.study(), objective, 2)
    seen = [run.info.status for run in it.runs()]
    return "FINISHED, with a tag `state`" if seen == ["FINISHED"] * 2 else ", ".join(sorted(seen, reverse=True))


def intermediate_values(it: Contender) -> str:
    def objective(trial: optuna.Trial) -> float:
        for step in (3, 7):
            trial.report(step / 10, step)
        return 1.0

    it.optimize(it.study(), objective)
    (run,) = it.runs()
    steps = {m.step for key in run.data.metrics for m in it.client.get_metric_history(run.info.run_id, key)}
    return "yes, with steps" if {3, 7} <= steps else "no"


def parent_run(it: Contender) -> str:
    it.optimize(it.study(), _plain)
    return "yes" if it.parents() else "no; an experiment per study, or below an active run with `nested`"


def parent_ends(it: Contender) -> str:
    it.optimize(it.study(), _plain)
    ended = [run for run in it.parents() if run.info.status == "FINISHED" and "best_objective" in run.data.metrics]
    return "yes" if ended else "no: nothing ends it" if it.parents() else "no parent"


def attribute(it: Contender) -> str:
    def objective(trial: optuna.Trial) -> float:
        trial.set_user_attr("state", "of mind")
        return 1.0

    it.optimize(it.study(), objective)
    (run,) = it.runs()
    tags = {key: value.strip('"') for key, value in run.data.tags.items()}
    apart = [key for key in ("user.state", "user_state") if tags.get(key) == "of mind"]
    if apart:
        return f"a separate tag (`{apart[0]}`)"
    return "replaces the tag" if tags.get("state") == "of mind" else "lost"


def constraints(it: Contender) -> str:
    def objective(trial: optuna.Trial) -> float:
        trial.set_constraint("size", -0.5)
        return 1.0

    it.optimize(it.study(), objective)
    (run,) = it.runs()
    if any("size" in key for key in run.data.metrics):
        return "metrics"
    return "within a tag" if any("-0.5" in value for value in run.data.tags.values()) else "no"


def names_not_taken(it: Contender) -> str:
    study = it.study()
    error = it.optimize(study, lambda trial: trial.suggest_float("dropout %", 0.0, 1.0))
    if error:
        return "the error ends the study"
    (run,) = it.runs()
    return "renamed, with the original in a tag" if any("dropout %" in v for v in run.data.tags.values()) else "dropped"


def second_time(it: Contender) -> str:
    study = it.study(study_name="twice")
    it.optimize(study, _plain)
    if it.name == "MlflowStorage":
        return "not a callback"
    it.callback(study, study.trials[0])
    return "adds what is missing" if len(it.runs()) == 1 else "makes another run"


def away(it: Contender, monkeypatch: pytest.MonkeyPatch) -> str:
    study = it.study()

    def refuse(*arguments: Any, **named: Any) -> None:
        raise MlflowException("the store is away")

    for method in ("create_run", "log_batch", "set_tag", "get_run", "search_runs", "log_metric"):
        monkeypatch.setattr(MlflowClient, method, refuse)
    monkeypatch.setattr("mlflow.store.tracking.sqlalchemy_store.SqlAlchemyStore.create_run", refuse)
    monkeypatch.setattr("mlflow.store.tracking.sqlalchemy_store.SqlAlchemyStore.search_runs", refuse)
    monkeypatch.setattr("podium.tracking.direct_sqlite._write", refuse)
    monkeypatch.setattr(store, "read_runs", refuse)
    error = it.optimize(study, _plain)
    monkeypatch.undo()
    if error:
        return "the error ends the study"
    it.callback.log_all(study)
    it.callback.close()
    return "the study continues, nothing is lost" if len(it.runs()) == 1 else "the study continues"


def several_objectives(it: Contender) -> str:
    it.optimize(it.study(directions=["maximize", "minimize"]), lambda trial: (_plain(trial), 2.0))
    (run,) = it.runs()
    names = {key for key, value in run.data.metrics.items() if value == 2.0}
    if "b" in names:
        return "by number or names given to it"
    if it.name == "TrialLogger":
        return "by number or the study's `metric_names`" if "objective_1" in names else str(names)
    return "by number" if any("1" in name for name in names) else str(names)


def global_settings(it: Contender) -> str:
    mlflow.set_tracking_uri("sqlite:///elsewhere.db")
    if it.name == "MlflowStorage":
        return "reads the tracking URI"  # it has no other way to be told of a store: see Contender.study
    it.optimize(it.study(), _plain)
    same = mlflow.get_tracking_uri() == "sqlite:///elsewhere.db"
    return "untouched" if same else "sets the tracking URI and the experiment"


ROWS: dict[str, Callable[..., str]] = {
    "pruned and failed trials": states,
    "intermediate values": intermediate_values,
    "parent run per study": parent_run,
    "parent ends, with a summary": parent_ends,
    "several objectives": several_objectives,
    "constraints": constraints,
    "user attribute with the name of one of its own tags (`state`)": attribute,
    "names that MLflow does not accept": names_not_taken,
    "logging a trial a second time": second_time,
    "MLflow can't be reached": away,
    "MLflow's global settings": global_settings,
}
OTHERS = {
    "the run's start and end are the trial's",
    "two studies with one name",
    "logging from within the objective, to the trial's run",
    "files of Optuna's artifact store",
    "several machines without another database",
}
"""Rows that are read from their code, as the page says."""


def _table() -> dict[str, dict[str, str]]:
    lines = PAGE.read_text(encoding="utf-8").partition("## Compared")[2].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    head, *body = rows
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in body}


def test_every_row_of_the_page_is_played_or_named_here() -> None:
    assert set(_table()) == set(ROWS) | OTHERS


@pytest.mark.parametrize("row", ROWS)
def test_cell_of_the_page_is_what_is_seen(row: str, contender: Contender, monkeypatch: pytest.MonkeyPatch) -> None:
    play = ROWS[row]
    seen = play(contender, monkeypatch) if play is away else play(contender)
    said = _table()[row][contender.name]
    assert seen == said or re.match(re.escape(seen) + r"\b", said), f"{contender.name}: seen {seen!r}, said {said!r}"
