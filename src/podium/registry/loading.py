"""A registered model in memory, as a server has it: fetched, checked, loaded; it predicts from image bytes."""

import base64
import json
import logging
import os
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd

from podium.drift.reference import NAME as REFERENCE
from podium.errors import InputError, PodiumError, RefusedError
from podium.registry.exported import PARITY_LIMIT, all_digests, compare_digests, largest_difference, pixel_digest
from podium.text import reason_of
from podium.tracking.store import Tracking

# isort: split
# After podium.tracking, which turns MLflow's telemetry off before mlflow is imported.
import mlflow
from mlflow.exceptions import MlflowException

with warnings.catch_warnings():  # MLflow 3.17 warns of type hints of its own
    warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType", category=UserWarning)
    from mlflow.pyfunc import PyFuncModel

GONE = "its files are gone; MLflow keeps absolute paths: was the project moved, or mlruns/ emptied?"
NO_THRESHOLD = (
    "it has no threshold from which it answers, since it was registered without evaluate.abstain. Ask it without"
    " abstain, or set evaluate.abstain and register a new version"
)
NOT_THE_MODEL = "registered_model_meta"
"""A file that MLflow adds to what it downloads."""
_process = threading.RLock()
"""Held while MLflow's process-wide settings are ours: threads that load at once would undo each other's."""
_fetched: set[str] = set()
"""Temporary folders with fetched files."""
STORE_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
"""MLflow writes them too when it is told its store, and every process started later would follow them."""


@dataclass(frozen=True)
class LoadedModel:
    """A loaded model."""

    name: str
    """What messages call it."""
    model: PyFuncModel
    stored: list[dict[str, Any]]
    """Image files in base64 with the label and probability of the evaluation."""
    size: int
    """Bytes of all its files."""
    classes: list[str]
    """In the order of the graph's outputs."""
    reference: bytes | None = None
    """The file that drift is measured against (podium.drift.reference); None: of an earlier Podium."""
    abstain: "dict[str, float] | None" = None
    """`threshold` of the probability from which it answers, `error` and `confidence` that this promises; None: there is
    none, and it answers always."""

    data: str = ""
    """Digest of the images that it was trained on, as its files say; empty: they do not."""

    def predict(self, images: Sequence[bytes], *, probabilities: bool = False, abstain: bool = False) -> pd.DataFrame:
        """A row of `label`, `probability` and `model` for each image file. Raises InputError naming the bad ones.

        With `probabilities` a column of that name holds the probability of each class by its name. With `abstain` the
        label is None where the model is not sure enough, and a column `reason` says so. Raises InputError where it has
        no threshold.
        """
        self.check_options(abstain=abstain)
        frame = pd.DataFrame({"image": pd.Series(list(images), dtype=object)})
        try:
            options = {"probabilities": probabilities} | ({"abstain": True} if abstain else {})
            predictions = self.model.predict(frame, params=options)
        except MlflowException as error:
            raise InputError(error.message) from None
        return cast(pd.DataFrame, predictions)

    def check_options(self, *, abstain: bool) -> None:
        """Raise InputError where the model can't `abstain`: an earlier Podium's served code takes no such parameter."""
        if abstain and self.abstain is None:
            raise InputError(f"{self.name} can't abstain: {NO_THRESHOLD}")

    def check_predictions(self) -> None:
        """Predict the images stored in the model. Raises RefusedError where a prediction is not the one stored."""
        got = self.predict_stored(decoding=True)
        labels = [row["label"] for row in self.stored]
        wrong = sum(one != other for one, other in zip(got["label"], labels, strict=True))
        off = largest_difference(got["probability"].to_numpy(), np.array([row["probability"] for row in self.stored]))
        if wrong or not off <= PARITY_LIMIT:
            raise RefusedError(
                f"{self.name} does not predict what it did when it was registered: of {len(labels)} stored images"
                f" {wrong} get another label, and a probability differs by {off:.2g}"
            )

    def predict_stored(self, *, decoding: bool = False) -> pd.DataFrame:
        """The predictions for the images stored in the model; with `decoding` their pixels are compared first.

        Raises RefusedError where it has no predictions for them: a graph may load and fail when it runs.
        """
        files = [base64.b64decode(row["image"]) for row in self.stored]
        try:
            if decoding:
                self._check_decoding(files)
            return self.predict(files)
        except RefusedError:
            raise
        except Exception as error:  # of Pillow, torch or the model's code: other ones may be installed since
            raise RefusedError(
                f"{self.name} does not predict the images that are stored in it: {type(error).__name__}:"
                f" {reason_of(error)}; are other packages installed than when it was registered?"
            ) from error

    def _check_decoding(self, files: list[bytes]) -> None:
        inside = self.model.unwrap_python_model()  # type: ignore[no-untyped-call]
        known = [(file, row["decoded"]) for file, row in zip(files, self.stored, strict=True) if "decoded" in row]
        other = sum(pixel_digest(inside.decode(file, inside.spec)) != digest for file, digest in known)
        if other:
            raise RefusedError(
                f"{self.name} does not decode image files as it did when it was registered: {other} of {len(known)} of"
                " another size or mode come out with other pixels; is another Pillow installed?"
            )


def load(tracking: Tracking, uri: str, name: str, files: dict[str, str] | Literal["unchecked"]) -> LoadedModel:
    """Fetch the model at `uri`, check its files against the digests `files`, and load it.

    "unchecked": of a model that this process has just logged.
    Raises RefusedError naming the files that differ, PodiumError where it can't be fetched or loaded.
    """
    with checked(tracking, uri, name, files) as folder:
        try:
            inside = folder / "artifacts/model"
            stored = json.loads((inside / "answers.json").read_text(encoding="utf-8"))
            about = json.loads((inside / "model.json").read_text(encoding="utf-8"))
            reference = inside / REFERENCE
            compared = reference.read_bytes() if reference.is_file() else None
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            model = mlflow.pyfunc.load_model(folder.as_uri())
            data = about.get("trained", {}).get("data_digest", "")
            return LoadedModel(name, model, stored, size, about["classes"], compared, about.get("abstain"), data)
        except Exception as error:  # a disk, a damaged file, an import: each has its own
            raise _not_loaded(name, error) from error


@contextmanager
def checked(tracking: Tracking, uri: str, name: str, files: dict[str, str] | Literal["unchecked"]) -> Iterator[Path]:
    """A copy of the model at `uri` whose files have the digests `files`; it goes when the block ends.

    From a copy: what was checked is what is loaded, and loading leaves no compiled files in the store. Raises
    RefusedError naming the files that differ, PodiumError where it can't be fetched.
    """
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(fetched(tracking, uri))
            found = digests(folder)
        except Exception as error:  # a store, a disk, a network: each has its own
            raise _not_loaded(name, error) from error
        if not found:
            raise PodiumError(f"{name} can't be loaded: {GONE}")
        problems = compare_digests(files, found) if files != "unchecked" else ""
        if problems:
            raise RefusedError(f"{name} is not what was registered: {problems}")
        yield folder


def _not_loaded(name: str, error: Exception) -> PodiumError:
    return PodiumError(f"{name} can't be loaded: {error}")


@contextmanager
def fetched(tracking: Tracking, uri: str) -> Iterator[Path]:
    """The files of an MLflow model in a folder that goes when the block ends."""
    with process_store(tracking), tempfile.TemporaryDirectory(prefix="podium-") as folder, _remembered(folder):
        files = Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder))
        # A server that loads from the store leaves compiled files there; a planted one would be run: none is kept.
        for compiled in list(files.rglob("__pycache__")):
            shutil.rmtree(compiled)
        yield files


@contextmanager
def _remembered(folder: str) -> Iterator[None]:
    _fetched.add(folder)
    try:
        yield
    finally:
        _fetched.discard(folder)


def remove_fetched() -> None:
    """Remove the fetched files of blocks that are still under way: for a process that ends without leaving them."""
    for folder in list(_fetched):
        shutil.rmtree(folder, ignore_errors=True)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a fetched model, MLflow's own files too."""
    return {name: digest for name, digest in all_digests(folder).items() if name != NOT_THE_MODEL}


@contextmanager
def process_store(tracking: Tracking) -> Iterator[None]:
    """Within the block MLflow's process-wide store is ours: logging, fetching and loading models know no other way.

    One thread at a time: the settings are the process's.
    """
    with _process, _own_settings(tracking):
        yield


@contextmanager
def _own_settings(tracking: Tracking) -> Iterator[None]:
    before, compiling = {name: os.environ.get(name) for name in STORE_VARIABLES}, sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # MLflow runs serving.py where the model's files are: they stay as they are
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    mlflow.set_tracking_uri(tracking.uri)
    mlflow.set_registry_uri(tracking.uri)
    try:
        yield
    finally:
        sys.dont_write_bytecode = compiling
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type] # None: back to what the environment says
        mlflow.set_registry_uri(None)  # type: ignore[arg-type]
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({name: value} if value else {})
