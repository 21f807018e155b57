"""A copied project that gets runs of its own in MLflow: other ids for its studies and retrainings."""

import uuid
from pathlib import Path

import optuna

from podium import paths
from podium.config.params import RuntimeParams
from podium.errors import RefusedError
from podium.locks import locked
from podium.tracking import recorded_run
from podium.tracking.record import new_id, study_id
from podium.tracking.run_names import ID_TAG, PROJECT_TAG, SESSION_TAG
from podium.tracking.store import project_id
from podium.tuning import storage


def separate(runtime: RuntimeParams) -> int:
    """Give each study and each retraining of this folder another id; returns how many studies that were.

    The runs of the ids that they had are left to the original. `podium sync` then logs all of this folder again.
    Raises RefusedError where the studies lie in a database: a copy of the folder shares them.
    """
    where = storage.place(runtime)
    if not isinstance(where, Path):
        raise RefusedError(
            "sync --as-copy: the studies lie in a database (runtime.storage), which a copy of the folder shares. Set"
            " runtime.storage to another database, or to none for a journal in mlruns"
        )
    count = 0
    if where.is_file():
        opened = storage.open_at(where)
        for name in sorted(optuna.get_all_study_names(opened)):
            with storage.alone(where, name):
                study = optuna.load_study(study_name=name, storage=opened)
                if (old := study_id(study)) is not None:
                    _refer(ID_TAG, old, new_id(study))
                    count += 1
    _refer(PROJECT_TAG, project_id(), new := uuid.uuid4().hex)
    with locked(paths.lock("project.id"), wait=True):
        (paths.lock("").parent / "project.id").write_text(new, encoding="utf-8")
    return count


def _refer(tag: str, old: str, new: str) -> None:
    """Let the records whose runs are found by `tag` = `old` be found by `new`: these runs are yet to be made."""
    for path in recorded_run.files(["search", "retrain"]):
        record = recorded_run.read(path)
        if record.identity.get(tag) != old:
            continue
        record.identity[tag] = new
        record.tags.pop(SESSION_TAG, None)
        record.former += [record.run_id] if record.run_id else []
        record.run_id = ""
        recorded_run.save(record)
        if path.stem != record.key:
            path.unlink()
