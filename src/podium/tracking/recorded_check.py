"""Whether the runs that have a record are what it says, and making them so."""

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from mlflow.entities import Metric, Run

from podium.tracking import doubles, recorded_run
from podium.tracking.recorded_run import (
    ENDED,
    FORMER_NAME,
    NOTE,
    Record,
    RecordedRun,
    dataset_input,
    note_tags,
    send,
)
from podium.tracking.run_files import file_of
from podium.tracking.run_names import SESSION_TAG, clean
from podium.tracking.store import Tracking, making, origin
from podium.tracking.trial_check import MEASURED, Difference, images_of, same

PLACES = {"FINISHED": "FINISHED", "FAILED": "FAILED", "KILLED": "KILLED", "RUNNING": "KILLED"}
"""What a run should say that nobody is at work on, by what was recorded last."""


def compare(tracking: Tracking, record: Record, summary: Mapping[str, float]) -> list[Difference]:
    """Every difference between `record` and its run, on which nobody is at work.

    `summary` has the metrics that follow from a study: no record holds them.
    """
    runs = recorded_run.all_of(tracking, record)
    run = recorded_run.best_of(runs, record.run_id)
    if run is None or run.info.lifecycle_stage != "active":
        return [Difference(None, f"run {record.name}", "there", "absent" if run is None else "deleted")]
    differing = _differing(tracking, record, run, summary)
    found = [Difference(None, f"{what} of {record.name}", *sides) for what, sides in differing.items()]
    empty = doubles.empty_ones(tracking.client, runs, run.info.run_id)
    return found + [
        Difference(None, f"runs of {record.name}", "1", f"an empty one more, {d.info.run_id}") for d in empty
    ]


def unrecorded(tracking: Tracking, record: Record) -> list[Difference]:
    """That the file of `record` is gone, though its run is there: what only it knew can't be compared any more.

    The next `podium sync` or search writes another one. A folder that never logged, such as a clone that shares the
    studies, misses none.
    """
    if not recorded_run.kept():
        return []
    if record.run_id or record.former or recorded_run.found(tracking, record) is None:
        return []
    what = "there (values, tags and artifacts beyond the study are compared with it)"
    return [Difference(None, f"record {record.key}.json", what, "absent from mlruns/runs")]


def restore(
    tracking: Tracking, record: Record, summary: Mapping[str, float], message: Callable[[str], None]
) -> list[Difference]:
    """Make the run what `record` says: restored or made again where it is gone, each difference written again.

    Returns what was different. An artifact that the project does not have any more gets a `message`, and is no longer
    compared.
    """
    differs = compare(tracking, record, summary)
    if not differs:
        return []
    recorded = RecordedRun(tracking, record)
    run = _present(recorded)
    for double in doubles.empty_ones(tracking.client, recorded_run.all_of(tracking, record), recorded.run_id):
        doubles.move_aside(tracking.client, double, f"{doubles.REASON}, or two machines made one at once")
        message(f"MLflow's run {double.info.run_id}, an empty duplicate of {recorded.run_id}, is moved aside")
    wrong = _differing(tracking, record, run, summary)
    client, run_id = tracking.client, recorded.run_id
    if "name" in wrong:
        send(tracking, run_id, tags={FORMER_NAME: clean(run.info.run_name or "")})
        client.update_run(run_id, name=record.name)
    facts = record.tags | record.identity | note_tags(record)
    send(
        tracking,
        run_id,
        _newest(tracking, run, record, summary, wrong),
        {key: value for key, value in record.params.items() if key not in run.data.params},
        {key: value for key, value in facts.items() if f"tag {key}" in wrong or ("note" in wrong and "note" in key)},
    )
    if record.dataset and "dataset" in wrong:
        client.log_inputs(run_id, [dataset_input(*record.dataset)])
    for path in [path for path in record.artifacts if f"artifact {path}" in wrong]:
        _restore_file(recorded, path, message)
    if "status" in wrong or "end" in wrong or record.status == "RUNNING":
        recorded.set_status(PLACES.get(record.status, "KILLED"))
    return differs


def _newest(
    tracking: Tracking, run: Run, record: Record, summary: Mapping[str, float], wrong: Mapping[str, object]
) -> list[Metric]:
    """What is `wrong` of the metrics, as the newest values: MLflow shows the last one, of the last step."""
    found = []
    for key in [*record.metrics, *(key for key in summary if key in wrong)]:
        wanted = {step: v for step, v in record.metrics.get(key, {}).items() if f"{key} at step {step}" in wrong}
        if key not in wrong and not wanted:
            continue
        known = tracking.client.get_metric_history(run.info.run_id, key) if key in run.data.metrics else []
        at = max([int(time.time() * 1000), *(metric.timestamp + 1 for metric in known)])
        if key in wrong:
            wanted = {max((metric.step for metric in known), default=0): summary[key]}
        found += [Metric(key, value, at, step) for step, value in wanted.items()]
    return found


def _present(recorded: RecordedRun) -> Run:
    """The run of `recorded`, restored or made again where it is gone."""
    client, record = recorded.tracking.client, recorded.record
    with making(recorded.tracking):
        run = recorded_run.found(recorded.tracking, record)
        if run is None:
            tags = origin() | record.identity
            run = client.create_run(recorded.tracking.experiment_id, tags=tags, run_name=record.name)
        elif run.info.lifecycle_stage != "active":
            client.restore_run(run.info.run_id)
    recorded.is_now(str(run.info.run_id))
    return client.get_run(recorded.run_id)


def _restore_file(recorded: RecordedRun, path: str, message: Callable[[str], None]) -> None:
    digest, source = recorded.record.artifacts[path]
    file = Path(source)
    if file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == digest:
        recorded.log_file(file, path.rpartition("/")[0])
        return
    del recorded.record.artifacts[path]
    recorded_run.save(recorded.record)
    message(
        f"{path} of run {recorded.run_id} can't be written again: {source} is another file by now. It is no longer"
        " compared; `dvc repro` writes those of the present results"
    )


def _differing(
    tracking: Tracking, record: Record, run: Run, summary: Mapping[str, float]
) -> dict[str, tuple[str, str]]:
    """What differs, and what record and run say of it."""
    found: dict[str, tuple[str, str]] = {}
    wanted = PLACES.get(record.status, "KILLED")
    if run.info.status != wanted and (record.run_id or run.info.status == "RUNNING"):  # unrecorded: any end will do
        found["status"] = (wanted, run.info.status)
    if run.info.status in ENDED and not run.info.end_time:
        found["end"] = ("there", "absent")
    if run.info.run_name != record.name:
        found["name"] = (record.name, str(run.info.run_name))
    for what, ours, theirs in (
        ("tag ", record.tags | record.identity, run.data.tags),
        ("", record.params, run.data.params),
    ):
        found |= {
            f"{what}{key}": (value[:60], str(theirs.get(key, "absent"))[:60])
            for key, value in ours.items()
            if theirs.get(key) != value and key != SESSION_TAG  # records of earlier versions have it
        }
    if record.note and NOTE not in run.data.tags:
        found["note"] = ("there", "absent")
    found |= _measured(tracking, record, run)
    for key, value in summary.items():
        shown = run.data.metrics.get(key)
        if shown is None or not same(value, shown):
            found[key] = (str(value), str(shown))
    inputs = images_of(run)
    if record.dataset and record.dataset not in inputs:
        found["dataset"] = (" ".join(record.dataset), ", ".join(" ".join(one) for one in inputs) or "absent")
    return found | _files(tracking, record, run)


def _measured(tracking: Tracking, record: Record, run: Run) -> dict[str, tuple[str, str]]:
    """The recorded values of which the run does not have the same as its latest at that step."""
    found = {}
    for key, steps in record.metrics.items():
        latest: dict[int, tuple[int, float]] = {}
        for metric in tracking.client.get_metric_history(run.info.run_id, key) if key in run.data.metrics else ():
            if metric.timestamp >= latest.get(metric.step, (0, 0.0))[0]:
                latest[metric.step] = (metric.timestamp, metric.value)
        last, shown = max(latest, default=None), run.data.metrics.get(key)
        if last in steps and (shown is None or not same(latest[last][1], shown)):  # what pages read
            latest[last] = (0, math.nan if shown is None else shown)
        for step, value in steps.items():
            theirs = latest[step][1] if step in latest else None
            if theirs is None or not (key == MEASURED or same(value, theirs)):
                found[f"{key} at step {step}"] = (str(value), str(theirs))
    return found


def _files(tracking: Tracking, record: Record, run: Run) -> dict[str, tuple[str, str]]:
    found = {}
    for path, (digest, _) in record.artifacts.items():
        content = file_of(tracking, run.info.run_id, path)
        if content is None:
            found[f"artifact {path}"] = ("there", "absent")
        elif hashlib.sha256(content).hexdigest() != digest:
            found[f"artifact {path}"] = (digest[:12], hashlib.sha256(content).hexdigest()[:12])
    return found
