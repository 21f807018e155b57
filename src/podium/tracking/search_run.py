"""The run of a search, below which those of its trials lie: opened, reconciled, ended; and what it gets later."""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, RunTag
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial, TrialState

from podium import paths
from podium.config.params import TrackingParams
from podium.errors import PodiumError
from podium.tracking import repair
from podium.tracking.mirror import Parent
from podium.tracking.record import KIND_TAG, STUDY_ID, STUDY_TAG, search_attributes
from podium.tracking.store import Tracking, connect, find_or_create, making, shown
from podium.tracking.trial_logger import TrialRuns, log_note, log_summary, parent_of

REPORT, FIGURES = "report", "figures"
"""Where the page and the pictures lie among the run's artifacts."""
DIGEST = 32
"""Characters of the images' digest: MLflow's database has room for 36. The tag podium.data_digest holds it whole."""


@dataclass
class SearchRun:
    """The run of a search in MLflow, open for one study: the search's own, or its confirmation's."""

    study: optuna.Study
    tracking: Tracking
    trials: TrialRuns
    run_id: str
    owned: bool
    message: Callable[[str], None]

    @staticmethod
    def open(
        study: optuna.Study, params: TrackingParams, parent: Parent, message: Callable[[str], None]
    ) -> "SearchRun":
        """Connect, find or make the run, and log what an earlier session left undone."""
        tracking = connect(params)
        run_id = run_of_search(tracking, study, parent.study)
        if parent.owned:
            for key, value in parent.tags.items():
                tracking.client.set_tag(run_id, key, value)
            if "podium.data_digest" in parent.tags:
                log_images(tracking, run_id, parent.tags["podium.source"], parent.tags["podium.data_digest"])
            tracking.client.update_run(run_id, status="RUNNING")
        trials = TrialRuns(tracking, run_id, search_attributes)
        repair.repair(tracking, study, trials, message=message)
        return SearchRun(study, tracking, trials, run_id, parent.owned, message)

    def log(self, trial: FrozenTrial, history: Sequence[Mapping[str, float]] | None) -> None:
        """Log one trial."""
        self.trials.log(self.study, trial, history)

    def log_ended(self, trials: Sequence[FrozenTrial]) -> set[int]:
        """Log those of `trials` that can be logged together; their numbers."""
        return self.trials.log_ended(self.study, trials)

    def finish(self, *, interrupted: bool) -> None:
        """See that study and MLflow agree, and close the run; the runs of trials that wait to go on end KILLED.

        Not only an interrupted search leaves such trials: where its budget was lowered, those of the last one stay.
        """
        repair.repair(self.tracking, self.study, self.trials, message=self.message)
        if self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            repair.end_open_runs(self.tracking, self.study)
        if not self.owned:
            return
        for path in sorted(paths.PREPARED.glob("audit.*")):  # `prepare` itself does without MLflow
            self.tracking.client.log_artifact(self.run_id, str(path), "audit")
        log_summary(self.tracking, self.run_id, self.study)
        self.tracking.client.set_terminated(self.run_id, "KILLED" if interrupted else "FINISHED")


def run_of_search(tracking: Tracking, study: optuna.Study, search: str) -> str:
    """The id of the run of the search called `search`, which `study` is or confirms; made where there is none.

    It is the run with the search's own id; by its name alone it is found where the search is not in the storage of
    `study`: it was made on another machine.
    """
    if search == study.study_name:
        return parent_of(tracking, study)
    try:
        found = optuna.load_study(study_name=search, storage=study._storage)
    except KeyError:
        found = None
    if found is not None and STUDY_ID in found.user_attrs:
        return parent_of(tracking, found)
    with making(tracking):
        return find_or_create(tracking, search, {STUDY_TAG: search, KIND_TAG: "search"})


def log_to_search(
    params: TrackingParams, study: optuna.Study, search: str, values: dict[str, float], tags: dict[str, str]
) -> None:
    """Log `values` as metrics and `tags` on the run of the search called `search`, which `study` confirms."""
    tracking = connect(params)
    now = int(time.time() * 1000)  # later than what another selection logged: the last one counts
    metrics = [Metric(key, value, now, 0) for key, value in values.items()]
    run_id = run_of_search(tracking, study, search)
    tracking.client.log_batch(run_id, metrics, tags=[RunTag(key, value) for key, value in tags.items()])


BEATS_TAG = "podium.beats_reference_lines"
"""yes or no: whether the best trial is better than every reference line."""


def log_reference_lines(params: TrackingParams, study: optuna.Study, values: dict[str, float], *, beaten: bool) -> None:
    """Log the reference lines `values` as metrics and the tag BEATS_TAG on the run of the search `study`.

    A store that is away gets a message and costs no search: the next one, also one without a new trial, logs them.
    """
    try:
        log_to_search(params, study, study.study_name, values, {BEATS_TAG: "yes" if beaten else "no"})
    except (MlflowException, PodiumError) as error:
        print(f"MLflow has not got the reference lines; data/search has them. {' '.join(str(error).split())[:300]}")


def log_report(
    params: TrackingParams,
    run_id: str,
    report: Path,
    pictures: Sequence[Path],
    note: str,
    beaten: bool | None = None,
) -> None:
    """Put the page `report` and the `pictures` among the artifacts of the run `run_id`, and `note` on its page.

    `beaten`: whether the reference lines are, for the tag BEATS_TAG; None: there are none.

    A store that does not have that run (the search ran elsewhere) gets a message and is left as it is. Raises
    PodiumError where the store is away.
    """
    tracking = connect(params)
    try:
        run = tracking.client.get_run(run_id)
    except MlflowException:
        where = shown(tracking.uri)
        print(f"{where} has no run {run_id or 'of this search'}: the report is not kept there", file=sys.stderr)
        return
    try:
        tracking.client.log_artifact(run_id, str(report), REPORT)
        for picture in pictures:
            tracking.client.log_artifact(run_id, str(picture), FIGURES)
        log_note(tracking, run_id, note, run.data.tags)
        if beaten is not None:
            tracking.client.set_tag(run_id, BEATS_TAG, "yes" if beaten else "no")
    except (MlflowException, OSError) as error:
        raise PodiumError(
            f"run {run_id} in {shown(tracking.uri)} can't be given the report: {error}. {report} is written; run"
            " `dvc repro` again when the store works"
        ) from error


def log_images(tracking: Tracking, run_id: str, source: str, digest: str) -> None:
    """Log the prepared images of `source` as an input of the run, with their digest; a second time changes nothing."""
    where = json.dumps({"uri": paths.PREPARED.as_posix()})
    images = Dataset(name=source, digest=digest[:DIGEST], source_type="local", source=where)
    context = [InputTag("mlflow.data.context", "training")]
    tracking.client.log_inputs(run_id, [DatasetInput(images, context)])
