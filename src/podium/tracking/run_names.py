"""What Podium's runs are called and tagged with in MLflow, and what MLflow takes as a name and as a value."""

import hashlib
import json
import posixpath
import re
import reprlib
from functools import lru_cache
from typing import Any

STUDY_TAG = "podium.study"
ID_TAG = "podium.id"
"""The study's own id: names can be equal, ids are not."""
RETRAIN_TAG = "podium.retrain"
PROJECT_TAG = "podium.project"
"""The id of the folder mlruns that a retraining belongs to: two clones with equal settings have two runs."""
SESSION_TAG = "podium.session"
"""The mark of the session that last logged trials below a search's run."""
TRIAL_TAG = "podium.trial"
KIND_TAG = "podium.kind"
SUPERSEDED_TAG = "podium.superseded"
"""Why a run was moved aside."""
SUPERSEDED = "superseded"
"""The kind of a run that was moved aside: nothing that looks for trials finds it."""
THRESHOLD_TAG = "podium.abstain_threshold"
"""From which probability the evaluated model answers; "none": it answers always, and what metrics such as
test_coverage say is of an earlier evaluation, for MLflow removes no metric."""
STUDY_ID = "podium:id"
"""The user attribute of a study that holds its id."""
SESSION = "podium:session:"
"""How the user attribute of a study begins that holds a session's mark: one each, so that no two replace each other."""
TITLE = "podium:title"
"""The user attribute of a study that holds what people call it; its name is a digest, by which it is found again."""
METRICS_A_CALL = 1000
OTHERS_A_CALL = 100
"""MLflow's limits on a batch: metrics, and parameters or tags."""
LEFT_OUT_TAG = "podium.left_out"
"""What of a trial MLflow can't hold, and is not on its run."""
LIMIT = 5000
"""Characters of a tag's value that every MLflow store takes."""
LONGEST_PARAM = 6000
LONGEST_NAME = 250


@lru_cache(4096)
def key_of(name: str) -> str:
    """`name`, or where MLflow does not take it as a key, what it takes, with a digest so that no two become one."""
    safe = re.sub(r"[^A-Za-z0-9_.\- :/]", "_", name)
    if posixpath.normpath(safe) != safe or safe.startswith(("..", "/")) or safe == ".":  # no plain relative path
        safe = re.sub(r"^\.+", "_", safe.replace("/", "_"))
    if safe == name and 0 < len(name) <= LONGEST_NAME:
        return name
    return f"{safe[: LONGEST_NAME - 9]}_{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"


FRONT_TAG = "podium.front"
"""yes or no: whether a completed trial of a search for several metrics is on the Pareto front."""
PEAK_MEMORY = "peak_memory_mb"
"""A trial's attribute and metric: the most memory that it used, in 10^6 bytes."""


def text_of(value: Any) -> str:
    """An attribute's value for a tag: text as it stands, all else as JSON; what is no JSON as Python shows it."""
    if isinstance(value, str):
        return clean(value)
    try:
        text = json.dumps(value, default=str)
    except Exception:  # keys that are no text, a circle, a class whose __str__ raises: the user's object may raise all
        text = plain_text(value)
    return clean(text)


def plain_text(value: Any) -> str:
    """`str(value)`, or where the user's object raises something else, its repr, or its class alone."""
    try:
        return str(value)
    except Exception:  # the user's object may raise all; the repr of its class is in `reprlib` where its own raises
        return reprlib.repr(value)


def is_id(text: str) -> bool:
    """Whether `text` is a random id of Podium's."""
    return bool(re.fullmatch("[0-9a-f]{32}", text))


def is_step(number: float) -> bool:
    """Whether `number` can be the step of a metric: MLflow's databases hold whole numbers of 64 bits."""
    return -(2**63) <= number < 2**63


def run_name(text: str) -> str:
    """`text` as the name of a run; one without a name gets one, for MLflow would invent another each time."""
    return clean(text, LONGEST_NAME) if text.strip() else "unnamed"


def clean(text: str, limit: int = LIMIT) -> str:
    """The first `limit` characters of `text` as a database takes them.

    Bytes that Python could not decode (a non-ASCII path without UTF-8 mode) are read as UTF-8, if they are; what no
    UTF-8 text can hold (half a surrogate pair, the character 0) becomes a question mark.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        pairs = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        text = _bytes_of(pairs).decode("utf-8", "replace")
    return text[:limit].replace("\0", "?")


def _bytes_of(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")
