"""Whether an MLflow store that fails is away, so that it pays to try again, or says no, so that a person has to act."""

import errno
import re
from pathlib import Path
from urllib.parse import urlsplit

from mlflow.exceptions import MlflowException

from podium.errors import InputError, RefusedError
from podium.private_names import private_or_public
from podium.text import masked, reason_of
from podium.tracking.fresh_database import SQLITE

UNKNOWN_USER = {"UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}
LONGEST_EXPERIMENT = 500
"""Characters of an experiment's name that MLflow takes."""
LONGEST = 300
"""Characters of MLflow's own words that are shown."""
NO_SUCH_RUN = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
"""What MLflow says of a run that is not there, and of an id that can be none."""


def is_gone(error: Exception) -> bool:
    """Whether it is raised since a run was deleted, for a time or for good."""
    gone = r"The run \S+ must be in the 'active' state|Run with id=\S+ not found"
    return isinstance(error, MlflowException) and bool(re.search(gone, str(error)))


def is_refused(error: Exception) -> bool:
    """Whether it says that a name or a value is none that this store takes, now or later."""
    code = error.error_code if isinstance(error, MlflowException) else ""
    return code == "INVALID_PARAMETER_VALUE" and not is_gone(error)


def refusal(error: BaseException, uri: str, experiment: str) -> RefusedError | None:
    """What a person has to do about `error` of the store at `uri`; None: the store is away, or it is no refusal."""
    if isinstance(error, RefusedError):
        return error
    remedy = _remedy(error, uri, experiment)
    if remedy is None:
        return None
    words = reason_of(error, LONGEST)
    return RefusedError(f"tracking.uri: {uri} does not work: {remedy}. MLflow says: {words}")


def check_types(uri: object, experiment: object) -> None:
    """Raise InputError where one of them is no text."""
    for name, value in (("uri", uri), ("experiment", experiment)):
        if not isinstance(value, str) and not (name == "uri" and value is None):
            how = f'"sqlite:///{value}"' if isinstance(value, Path) else f'"{value}"'
            raise InputError(f"{name}: must be text, got {type(value).__name__}: write {how}")


def check_names(uri: str, experiment: str) -> None:
    """Raise RefusedError where `uri` is no address, or `experiment` no name that MLflow takes."""
    if not experiment.strip() or len(experiment) > LONGEST_EXPERIMENT or "\0" in experiment:
        shown = repr(experiment if len(experiment) <= 60 else f"{experiment[:60]}...")
        raise RefusedError(
            f"tracking.experiment: {shown} has {len(experiment)} characters. MLflow takes 1 to {LONGEST_EXPERIMENT},"
            " not only spaces and no character 0: set another name"
        )
    scheme = uri.partition(":")[0].lower()
    wrong = _wrong_host(uri) if scheme in ("http", "https") else ""
    file = uri.removeprefix(SQLITE).partition("?")[0]
    if scheme == "sqlite" and (not uri.startswith(SQLITE) or Path(file).is_dir()):
        wrong = "SQLite needs three slashes and a file"
    elif scheme == "sqlite" and Path(file).name == ":memory:":
        wrong = "SQLite needs a file: what is in memory only, no page of MLflow's and no other process could show"
    if wrong or not uri.strip():
        raise RefusedError(
            f"tracking.uri: {masked(uri)!r} is no address of an MLflow store: {wrong or 'it is empty'}. Set it to"
            " sqlite:///mlruns/mlflow.db or http(s)://host:port"
        )


def _wrong_host(uri: str) -> str:
    """What is wrong with host or port of an http(s) address; empty: nothing. Other schemes' drivers judge their own.

    In words of ours: Python's hold what it takes for the port, which may be half a password.
    """
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        return (
            "its host or port can't be read (a port is 1 to 65535, brackets hold an IPv6 address, and / ? # within a"
            " password are written %2F %3F %23)"
        )
    if not parts.hostname:
        return "the host is missing"
    return "the port is 0" if port == 0 else ""


def deleted(uri: str, experiment: str, experiment_id: str) -> RefusedError:
    """The error for an experiment that was deleted, which MLflow still finds by its name."""
    return RefusedError(
        f"tracking.experiment: the experiment {experiment!r} of {uri} was deleted (in MLflow's pages or by its"
        f" command). Restore it with `MLFLOW_TRACKING_URI={uri} mlflow experiments restore --experiment-id"
        f" {experiment_id}`, or set tracking.experiment to another name"
    )


def no_mlflow(uri: str) -> RefusedError:
    """The error for an address at which something answers every call with JSON that says nothing."""
    return RefusedError(
        f"tracking.uri: {uri} does not work: it answers, but not as MLflow does (its experiment has no id). Set"
        " tracking.uri to the address of MLflow's own server"
    )


def _remedy(error: BaseException, uri: str, experiment: str) -> str | None:
    text = str(error)
    code = error.error_code if isinstance(error, MlflowException) else ""
    if code in UNKNOWN_USER:
        return (
            "it does not know you (401). Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or"
            " MLFLOW_TRACKING_TOKEN, in the environment"
        )
    if code == "PERMISSION_DENIED":
        return (
            f"you may not write here (403). Ask its administrator for the permission EDIT on the experiment"
            f" {experiment!r}, or set tracking.experiment to one of yours"
        )
    if re.search(r"not in a valid JSON format.*Response body: '\s*<", text, re.DOTALL):
        return (
            "it answers with a web page, such as one to log in at, not as MLflow does. Set tracking.uri to the address"
            " of MLflow's own server"
        )
    if "failed with error code 405" in text:
        return (
            "it takes nothing that is written (405). Either it sends it to another address (http to https), where"
            " MLflow's client can't follow: set tracking.uri to that address. Or a proxy before it lets people only"
            " read: ask its administrator for the address at which one may write"
        )
    if "out-of-date database schema" in text or "Can't locate revision" in text:
        return _schema(text, uri)
    if "must be in the 'active' state" in text and "xperiment" in text:
        return f"the experiment {experiment!r} was deleted. Restore it in MLflow, or set tracking.experiment"
    system = isinstance(error, OSError) and error.errno in NOT_WRITABLE
    if system or "attempt to write a readonly database" in text:
        return "the database or its folder can't be written. `chmod -R u+w` its folder, or set tracking.uri"
    if "is in maintenance mode" in text:
        return (
            "MLflow logs to no folder of files any more. Set tracking.uri to sqlite:///mlruns/mlflow.db; `mlflow"
            " migrate-filestore` copies the runs of the folder"
        )
    if isinstance(error, ModuleNotFoundError):
        return (
            f"its driver is not installed. `pip install` what has the Python module {error.name!r}, or set tracking.uri"
        )
    if (
        "Can't load plugin" in text
        or "registered tracking stores for scheme" in text
        or "Unsupported URI" in text
        or "unsupported URI" in text
    ):
        return "no MLflow store has such an address. Set tracking.uri to sqlite:///... or http(s)://..."
    return None


def _schema(text: str, uri: str) -> str:
    """What to do about a database of another MLflow: older ones can be upgraded, for newer ones MLflow has to be."""
    import mlflow

    found = re.search(r"found version (\w+)", text)
    known = private_or_public("mlflow", "it is not known which databases are older", _known_revisions, set[str])
    if not known:
        return (
            f"its database is of another MLflow than {mlflow.__version__}, which is installed here. If of an older one,"
            f" copy it, then `mlflow db upgrade {uri}`; if of a newer one, install that, or set tracking.uri to another"
            " database"
        )
    if found and found[1] in known:
        return (
            f"its database is of an MLflow older than {mlflow.__version__}. Copy it, then `mlflow db upgrade {uri}`; no"
            " older MLflow can read it afterwards"
        )
    return (
        f"its database is of an MLflow newer than {mlflow.__version__}, which is installed here. Install that one, or"
        " set tracking.uri to another database"
    )


def _known_revisions() -> set[str]:
    """The schemas that the installed MLflow knows, newest and older ones."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    directory = ScriptDirectory.from_config(_get_alembic_config(""))  # type: ignore[no-untyped-call]
    return {script.revision for script in directory.walk_revisions()}
