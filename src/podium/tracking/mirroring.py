"""One session of the mirror with MLflow: the parent run, the trials' runs, and their reconciliation at both ends."""

from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from mlflow.entities import Metric, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE as NOTE
from optuna.trial import FrozenTrial, TrialState

from podium import paths
from podium.config.params import TrackingParams
from podium.tracking import sync
from podium.tracking.parent import Parent
from podium.tracking.parent_note import note_of
from podium.tracking.record import KIND_TAG, STUDY_TAG
from podium.tracking.run_input import log_images
from podium.tracking.store import Tracking, connect
from podium.tracking.trial_logger import TrialLogger, find_or_create


@dataclass
class Session:
    """MLflow, open for one study."""

    study: optuna.Study
    tracking: Tracking
    logger: TrialLogger
    parent_run_id: str
    owns_parent: bool

    @staticmethod
    def open(study: optuna.Study, params: TrackingParams, parent: Parent) -> "Session":
        """Connect, find or make the parent run, and bring what an earlier session left undone."""
        tracking = connect(params)
        run_id = find_or_create(tracking, parent.study, {STUDY_TAG: parent.study, KIND_TAG: "search"})
        if parent.owned:
            for key, value in parent.tags.items():
                tracking.client.set_tag(run_id, key, value)
            if "podium.data_digest" in parent.tags:
                log_images(tracking, run_id, parent.tags["podium.source"], parent.tags["podium.data_digest"])
            tracking.client.update_run(run_id, status="RUNNING")
        session = Session(study, tracking, TrialLogger(tracking, run_id), run_id, parent.owned)
        sync.repair(tracking, study, session.logger)
        return session

    def log(self, trial: FrozenTrial, history: Sequence[dict[str, float]] | None) -> None:
        """Bring one trial."""
        self.logger.log(self.study, trial, history)

    def bring(self, trials: Sequence[FrozenTrial]) -> set[int]:
        """Bring those of `trials` that can be brought together; their numbers."""
        try:
            return self.logger.bring(self.study, trials)
        except MlflowException:  # one of them is refused: brought one by one, the others are not
            return set()

    def finish(self, *, interrupted: bool) -> None:
        """See that study and MLflow agree, and close the parent run; the runs of trials that wait to go on end KILLED.

        Not only an interrupted search leaves such trials: where its budget was lowered, those of the last one stay.
        """
        sync.repair(self.tracking, self.study, self.logger)
        if self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            sync.end_open_runs(self.tracking, self.study)
        if not self.owns_parent:
            return
        self._log_audit()
        self._summarise()
        self.tracking.client.set_terminated(self.parent_run_id, "KILLED" if interrupted else "FINISHED")

    def _log_audit(self) -> None:
        """The doctor's report of the images that were searched on: `prepare` itself does without MLflow."""
        for path in sorted(paths.PREPARED.glob("audit.*")):
            self.tracking.client.log_artifact(self.parent_run_id, str(path), "audit")

    def _summarise(self) -> None:
        trials = self.study.get_trials(deepcopy=False)
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        values: dict[str, float] = {
            f"trials_{state.name.lower()}": sum(t.state == state for t in trials) for state in states
        }
        if values["trials_complete"]:
            values["best_objective"] = self.study.best_value
            values["best_trial"] = self.study.best_trial.number
        metrics = [Metric(key, value, 0, 0) for key, value in values.items()]
        self.tracking.client.log_batch(self.parent_run_id, metrics, tags=[RunTag(NOTE, note_of(self.study))])


def tell_parent(params: TrackingParams, study: str, values: dict[str, float], tags: dict[str, str]) -> None:
    """Put `values` as metrics and `tags` on the parent run of `study`."""
    tracking = connect(params)
    run_id = find_or_create(tracking, study, {STUDY_TAG: study, KIND_TAG: "search"})
    metrics = [Metric(key, value, 0, 0) for key, value in values.items()]
    tracking.client.log_batch(run_id, metrics, tags=[RunTag(key, value) for key, value in tags.items()])
