"""A project that was moved or copied: MLflow stores absolute paths, and here they become those of the present folder.

Only a local SQLite store is touched. The root is where its database lies: artifacts lie beside it.
"""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from podium.errors import RefusedError

COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)
"""Where MLflow 3.17 stores paths."""
ARTIFACTS = "artifacts"


@dataclass(frozen=True)
class Move:
    """A folder of the database that is stored, and where it is."""

    stored: Path
    here: Path


def moved(database: Path, experiment: str) -> Move | None:
    """The move that the paths in `database` have not followed yet; None: there was none.

    It is seen by where the artifacts of `experiment` were to lie. Where they did not come along (here is no folder of
    them), the stored paths are left as they are.
    """
    here = database.resolve().parent
    if not database.is_file() or not (here / ARTIFACTS).is_dir():
        return None
    with closing(sqlite3.connect(database)) as connection:
        if not _columns(connection):
            return None
        query = "SELECT artifact_location FROM experiments WHERE name = ?"
        rows = connection.execute(query, (experiment,)).fetchall()
    stored = [path for (location,) in rows if (path := _path(location)) and path.name == ARTIFACTS]
    return Move(stored[0].parent, here) if stored and stored[0].parent != here else None


def relocate(database: Path, experiment: str) -> tuple[Move, int] | None:
    """Make every stored path follow the project, all or none; returns the move and how many were changed.

    Raises RefusedError where the database is the one of a copy that is still at the stored place.
    """
    move = moved(database, experiment)
    if move is None:
        return None
    other = move.stored / database.name
    if other.is_file() and other.samefile(database):
        raise RefusedError(
            f"{database} is one and the same file as {other}: two copies of the project would share one database, and"
            f" the paths in it can be those of one only. Give this copy its own: `cp --remove-destination {other}"
            f" {database}`, or remove the other one"
        )
    with closing(sqlite3.connect(database)) as connection, connection:
        count = 0
        for table, column in _columns(connection):
            for old, new in ((move.stored.as_uri(), move.here.as_uri()), (str(move.stored), str(move.here))):
                count += connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",  # noqa: S608
                    (new, len(old) + 1, len(old) + 1, f"{old}/"),
                ).rowcount
    return move, count


def _columns(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Those of COLUMNS that this database has."""
    found = []
    for table, column in COLUMNS:
        names = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        found += [(table, column)] if column in names else []
    return found


def _path(location: str | None) -> Path | None:
    """The folder of an artifact location; None for one that is not on this machine."""
    parts = urlsplit(location or "")
    if parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path) if parts.scheme else location or "")
