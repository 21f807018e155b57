"""Runs that one call made several times, since its answer was lost on the way: known by a tag, and taken away.

A proxy that answers 502 after the server has made a run lets MLflow's client ask again, which makes another. Nothing
is taken away but empty runs that calls of this very process made. Those of a process that has ended are moved aside by
`podium sync`, which holds the lock of their study: nobody is about to log to them.
"""

import logging
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

from podium.text import reason_of
from podium.tracking.run_names import KIND_TAG, LIMIT, LONGEST_NAME, SUPERSEDED, SUPERSEDED_TAG

CALL = "podium.call"
"""The tag by which the runs are known that one call of a server made."""
REASON = "the call that created it created another run, too: its response was lost on the way"

log = logging.getLogger(__name__)


class Calls:
    """The calls of this process that made runs and have ended: one under way may still log to what it made."""

    def __init__(self) -> None:
        self._made: dict[str, int] = {}
        """The process by the tag of its call, or by its run's id: a fork has a copy, and did not make them."""

    def __bool__(self) -> bool:
        return bool(self._made)

    @contextmanager
    def call(self) -> Iterator[dict[str, str]]:
        """The tag for what is made within the block, by which it is known from its end on."""
        tag = uuid.uuid4().hex[:16]
        try:
            yield {CALL: tag}
        finally:
            self._made[tag] = os.getpid()

    def made_run(self, run_id: str) -> None:
        """Remember a run without a tag."""
        self._made[run_id] = os.getpid()

    def made(self, run: Run) -> bool:
        """Whether a call of this process made `run`, or the run that it was copied from."""
        names = (run.data.tags.get(CALL, ""), run.info.run_id)
        return any(self._made.get(name) == os.getpid() for name in names)

    def take_away(self, client: MlflowClient, runs: Iterable[Run], kept: str) -> None:
        """Delete those of `runs` that this process made beside the run `kept` and nobody has put anything into.

        Where the server refuses it (its permission EDIT deletes nothing) they are marked as superseded, and KILLED.
        No error of MLflow's comes out: a double that stays harms nothing.
        """
        for run in runs:
            run_id = run.info.run_id
            if run_id == kept or not self.made(run):
                continue
            try:
                if _is_empty(client, run_id, kept):
                    _delete(client, run_id)
            except (MlflowException, OSError) as error:
                log.warning("MLflow's run %s, an empty duplicate of %s, stays: %s", run_id, kept, reason_of(error))
                return  # each of the others would wait for a store that is away


def move_aside(client: MlflowClient, run: Run, reason: str) -> None:
    """Take `run` out of what Podium looks for: its name, kind and `reason` say so, all that it holds stays."""
    run_id, name = run.info.run_id, f"{run.info.run_name} (superseded)"[:LONGEST_NAME]
    client.set_tag(run_id, SUPERSEDED_TAG, reason[:LIMIT])
    client.set_tag(run_id, KIND_TAG, SUPERSEDED)
    client.update_run(run_id, status="KILLED" if run.info.status == "RUNNING" else None, name=name)


def empty_ones(client: MlflowClient, runs: Iterable[Run], kept: str) -> list[Run]:
    """Those of `runs` beside the run `kept` that nobody has put anything into: see `_is_empty`."""
    others = [run for run in runs if run.info.run_id != kept and run.info.lifecycle_stage == "active"]
    return [run for run in others if _is_empty(client, run.info.run_id, kept)]


def _is_empty(client: MlflowClient, run_id: str, kept: str) -> bool:
    """Whether the run is as it was made: RUNNING, with nothing in it or below it, and no tag that `kept` lacks."""
    run, other = client.get_run(run_id), client.get_run(kept)
    if {run.info.lifecycle_stage, other.info.lifecycle_stage} != {"active"} or run.info.status != "RUNNING":
        return False
    inputs = bool(run.inputs and (run.inputs.dataset_inputs or run.inputs.model_inputs))
    linked = inputs or bool(run.outputs and run.outputs.model_outputs)
    own = {key for key in run.data.tags if not key.startswith("mlflow.")} - {CALL} - other.data.tags.keys()
    if run.data.params or run.data.metrics or linked or own or "mlflow.note.content" in run.data.tags:
        return False
    below = f"tags.`mlflow.parentRunId` = '{run_id}'"
    return not client.search_runs([run.info.experiment_id], below, ViewType.ALL, max_results=1)


def _delete(client: MlflowClient, run_id: str) -> None:
    client.set_tag(run_id, SUPERSEDED_TAG, REASON)
    client.set_tag(run_id, KIND_TAG, SUPERSEDED)  # nobody finds it again, to restore it or to log to it
    try:
        client.delete_run(run_id)
    except MlflowException:
        client.set_terminated(run_id, "KILLED")
