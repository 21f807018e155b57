"""The random id of a project's folder, by which the runs of its retrainings are found; and how a copy gets another.

While `podium sync --as-copy` gives a copy other ids, the file of its plan is in mlruns/locks. Where it was killed, some
records and studies have their new ids and some the original's: nothing is logged until it has gone on from that plan.
"""

import os
import uuid
from pathlib import Path

from pydantic import BaseModel, ValidationError

from podium import paths
from podium.errors import PodiumError, RefusedError
from podium.locks import locked


class Plan(BaseModel):
    """Which ids are to be replaced by which: each pair is the old one and the new one."""

    project: tuple[str, str]
    studies: dict[str, tuple[str, str]]
    """By the study's name; the old one is empty where it was copied from another study and has none of its own."""


def project_id() -> str:
    """The random id of the project's folder mlruns, made once: it tells two clones on one server apart.

    Raises RefusedError where the folder is about to get another one.
    """
    refuse_while_planned()
    return old_project_id()


def old_project_id() -> str:
    """As `project_id`, also while the folder is about to get another one."""
    with locked(paths.lock("project.id"), wait=True):
        path = _file()
        found = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
        if not found:  # empty: it was being made when the machine or the disk failed
            _write(path, found := uuid.uuid4().hex)
        return found


def set_project_id(new: str) -> None:
    """Make `new` the id of the project's folder mlruns."""
    with locked(paths.lock("project.id"), wait=True):
        _write(_file(), new)


def planned() -> Plan | None:
    """The plan that `plan` has written; None: there is none. Raises PodiumError where its file is damaged."""
    path = _plan_file()
    if not path.is_file():
        return None
    try:
        return Plan.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise PodiumError(
            f"{path} can't be read: {' '.join(str(error).split())[:200]}. It says which ids `podium sync --as-copy` was"
            " giving to this folder when it was killed: remove it, and run `podium sync --as-copy` again, which gives"
            " others"
        ) from None


def plan(ids: Plan) -> None:
    """Write down that `ids` are about to be replaced; until `carried_out` nothing is logged from this folder."""
    _write(_plan_file(), ids.model_dump_json(indent=1))


def carried_out() -> None:
    """The plan is carried out: this folder may log again."""
    _plan_file().unlink(missing_ok=True)


def refuse_while_planned() -> None:
    """Raise RefusedError where `podium sync --as-copy` has begun and not ended: the ids of this folder are mixed."""
    if (path := _plan_file()).is_file():
        raise RefusedError(
            f"`podium sync --as-copy` has begun in this folder and not ended ({path} is there): some of its studies and"
            " retrainings have ids of their own by now, others those of the original. Nothing was changed. Run `podium"
            " sync --as-copy` again, which goes on"
        )


def _write(path: Path, text: str) -> None:
    """Write the file `path`, whole or not at all, also where the machine loses its power."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f"{path.suffix}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _file() -> Path:
    return paths.lock("").parent / "project.id"


def _plan_file() -> Path:
    return paths.lock("").parent / "as-copy.json"
