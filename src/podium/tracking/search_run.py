"""The run of a search, below which those of its trials lie: opened, reconciled, ended; and what it gets later."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial, TrialState

from podium import paths
from podium.config.params import TrackingParams
from podium.errors import PodiumError
from podium.text import reason_of
from podium.tracking import recorded_run, repair, sessions, view
from podium.tracking.histories import newest
from podium.tracking.mirror import Parent
from podium.tracking.record import Reader, search_attributes, study_id
from podium.tracking.recorded_run import Record, RecordedRun, dataset_input, recorded
from podium.tracking.run_names import ID_TAG, KIND_TAG, STUDY_ID, STUDY_TAG, clean
from podium.tracking.store import Tracking, connect, shown
from podium.tracking.study_storage import storage_of
from podium.tracking.study_summary import note_of, title_of
from podium.tracking.trial_runs import TrialRuns, identity_of, log_summary

REPORT, FIGURES, AUDIT = "report", "figures", "audit"
"""Where the page, the pictures and what `prepare` found lie among the run's artifacts."""


@dataclass
class SearchRun:
    """The run of a search in MLflow, open for one study: the search's own, or its confirmation's."""

    study: optuna.Study
    parent: RecordedRun
    trials: TrialRuns
    owned: bool
    message: Callable[[str], None]
    reconciled: frozenset[int] = frozenset()
    """The trials that had ended when the run was opened: their runs are right, whatever was logged of them before."""

    @staticmethod
    def open(
        study: optuna.Study, params: TrackingParams, parent: Parent, message: Callable[[str], None]
    ) -> "SearchRun":
        """Connect, find or make the run, and log what an earlier session left undone."""
        tracking = connect(params)
        above = run_of_search(tracking, study, parent.study)
        if (searched := _searched(study, parent.study)) is not None:
            sessions.claim(searched, above)
        if parent.owned:
            above.log(tags=parent.tags)
            if "podium.data_digest" in parent.tags:
                above.log_images(parent.tags["podium.source"], parent.tags["podium.data_digest"])
            above.set_status("RUNNING")
        trials = trial_runs(above)
        ended = frozenset(t.number for t in study.get_trials(deepcopy=False) if t.state.is_finished())
        repair.repair(tracking, study, trials, message=message)
        return SearchRun(study, above, trials, parent.owned, message, ended)

    @property
    def run_id(self) -> str:
        """The id of the run in MLflow."""
        return self.parent.run_id

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
        tracking = self.parent.tracking
        if not self.trials.is_active(self.run_id):
            tracking.client.restore_run(self.run_id)  # somebody has deleted it meanwhile
        repair.repair(tracking, self.study, self.trials, message=self.message)
        if self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            repair.end_open_runs(tracking, self.study)
        if not self.owned:
            return
        for path in sorted(paths.PREPARED.glob("audit.*")):  # `prepare` itself does without MLflow
            self.parent.log_file(path, AUDIT)
        log_summary(tracking, self.run_id, self.study, fronts=True)
        self.parent.log_note(note_of(self.study, fronts=True))
        view.save(tracking, self.study)
        self.parent.set_status("KILLED" if interrupted else "FINISHED")


def remember(study: optuna.Study, parent: Parent, *, interrupted: bool) -> None:
    """Put into the record of a search's run what `open` and `finish` log there, for MLflow has not got all of it.

    `podium sync` writes it when the store is back: by itself it could not know whether the search ran to its end.
    """
    own = study_id(study, make=True)
    identity = {STUDY_TAG: clean(study.study_name), KIND_TAG: "search", ID_TAG: own or ""}
    record = recorded_run.begun(Record(name=title_of(study), identity=identity))
    record.tags |= {key: clean(value) for key, value in parent.tags.items()}
    if "podium.data_digest" in parent.tags:
        images = dataset_input(parent.tags["podium.source"], parent.tags["podium.data_digest"]).dataset
        record.dataset = (images.name, images.digest)
    for path in sorted(paths.PREPARED.glob("audit.*")):
        record.add_file(path, AUDIT)
    record.note = clean(note_of(study, fronts=True))
    record.status = "KILLED" if interrupted else "FINISHED"
    recorded_run.save(record)


def trial_runs(parent: RecordedRun, read: Reader = search_attributes) -> TrialRuns:
    """The runs of trials below `parent`, each with its images as its input."""
    images = parent.record.dataset
    return TrialRuns(parent.tracking, parent.run_id, read, dataset_input(*images) if images else None)


def run_of_search(tracking: Tracking, study: optuna.Study, search: str) -> RecordedRun:
    """The run of the search called `search`, which `study` is or confirms; made where there is none.

    It is the run with the search's own id; by its name alone it is found where the search is not in the storage of
    `study`: it was made on another machine.

    Raises RefusedError where another copy of the search has logged to it since.
    """
    searched = _searched(study, search)
    if searched is not None:
        sessions.check(tracking, searched)
    title = title_of(searched) if searched is not None else search
    return RecordedRun.open(tracking, title, _identity(tracking, searched, search))


def _identity(tracking: Tracking, searched: optuna.Study | None, search: str) -> dict[str, str]:
    """The tags by which the run of the search called `search` is found."""
    if searched is None:
        return {STUDY_TAG: search, KIND_TAG: "search"}
    return identity_of(tracking, searched)


def _searched(study: optuna.Study, search: str) -> optuna.Study | None:
    """The study called `search`, which `study` is or confirms; None: nothing of it was logged from this storage."""
    if search == study.study_name:
        return study
    try:
        found = optuna.load_study(study_name=search, storage=storage_of(study))
    except KeyError:
        return None
    return found if STUDY_ID in found.user_attrs else None


def log_to_search(
    params: TrackingParams, study: optuna.Study, search: str, values: dict[str, float], tags: dict[str, str]
) -> None:
    """Log `values` as metrics and `tags` on the run of the search called `search`, which `study` confirms."""
    tracking = connect(params)
    above = run_of_search(tracking, study, search)
    above.log(newest(tracking, tracking.client.get_run(above.run_id), values), tags=tags)


BEATS_TAG = "podium.beats_reference_lines"
"""yes or no: whether the best trial is better than every reference line."""


def log_reference_lines(params: TrackingParams, study: optuna.Study, values: dict[str, float], *, beaten: bool) -> None:
    """Log the reference lines `values` as metrics and the tag BEATS_TAG on the run of the search `study`.

    A store that is away gets a message and costs no search: the next one, also one without a new trial, logs them.
    """
    try:
        log_to_search(params, study, study.study_name, values, {BEATS_TAG: "yes" if beaten else "no"})
    except (MlflowException, PodiumError) as error:
        print(f"MLflow did not get the baselines; data/search has them. {reason_of(error)}")


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
    PodiumError where the store is away, or the run was deleted there.
    """
    tracking = connect(params)
    run = recorded(tracking, run_id)
    where = shown(tracking.uri)
    try:
        if tracking.client.get_run(run.run_id).info.lifecycle_stage != "active":
            raise PodiumError(
                f"run {run.run_id} of this search was deleted in {where}, so the report is not kept there. {report} is"
                " written; `podium sync` restores the run, then run `dvc repro` again"
            )
    except MlflowException:
        print(
            f"{where} has no run {run_id or 'of this search'}: the report is not kept there. If the search ran here,"
            " `podium sync` makes it again",
            file=sys.stderr,
        )
        return
    try:
        run.log_file(report, REPORT)
        for picture in pictures:
            run.log_file(picture, FIGURES)
        run.log_note(note)
        if beaten is not None:
            run.log([], tags={BEATS_TAG: "yes" if beaten else "no"})
    except (MlflowException, OSError) as error:
        raise PodiumError(
            f"run {run_id} in {where} can't be given the report: {reason_of(error)}. {report} is written; run"
            " `dvc repro` again when the store works"
        ) from error
