"""The registered model as it is served: image files or raw pixels in, label and probability out.

MLflow copies this file into the model and runs it there ("models from code"), where there is no Podium. What it needs
of ours is in the model's artifacts: the exported graph, the decoder of training, the names of the classes, and a
manifest of digests that is checked before any of them is used.
"""

import hashlib
import json
import sys
import threading
import types
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel
from numpy.typing import NDArray

BATCH = 256
"""Rows that are decoded and pass the network at once: larger ones are no faster on a CPU, and memory stays bounded."""
NAMED = 5
"""Bad rows that an error names; it counts the rest."""
DECODER = ("damage.py", "depth.py", "decode.py")
"""podium.data.decode.FILES: each may import those before it."""
UNSURE = "unsure"
NO_THRESHOLD = (
    "abstain must not be true: this model has no threshold from which it answers, since it was registered without"
    " evaluate.abstain"
)
META = "registered_model_meta"
"""Where MLflow writes name and version of what it has fetched, in the folder of MLmodel."""


class Classifier(PythonModel):
    """`image` (bytes of an image file) or `array` (its pixels) to `label`, `probability` and `model`."""

    def load_context(self, context: Any) -> None:
        """Check every file against the manifest, then load them. Raises MlflowException where one was changed."""
        folder = Path(context.artifacts["model"])
        _check(folder)
        about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        decoder = _decoder(folder)
        self.classes = np.array(about["classes"], dtype=object)
        self.spec = decoder.Preprocess.from_dict(about["preprocess"])
        self.decode: Callable[..., NDArray[np.uint8]] = decoder.decode
        self.decode_file: Callable[..., Any] = decoder.decode_file
        """The same with what the image was, such as its size, which `podium serve` asks for."""
        self.decode_array: Callable[..., NDArray[np.uint8]] = decoder.decode_array
        self.bad_image: type[ValueError] = decoder.BadImage
        self.threshold: float | None = about.get("abstain", {}).get("threshold")
        """From which probability it answers a request that lets it abstain; None: none was chosen."""
        self.name = _name(folder.parents[1] / META)
        with _loading():
            self.graph = torch.export.load(folder / "model.pt2").module()

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row of `label`, `probability` and `model` (name/version) for each row, in order and under its index.

        Any number of rows, of which BATCH are in memory as pixels. With the parameter `probabilities` there is a column
        of that name too: the probability of every class by its name. With `abstain` the label is None where the model
        is not sure enough, and a column `reason` says "unsure" there. Raises MlflowException (HTTP 400) naming every
        row that is no usable image; then no row is predicted.
        """
        options = params or {}
        if options.get("abstain") and self.threshold is None:
            raise _refused(NO_THRESHOLD)
        frame = pd.DataFrame(model_input)  # MLflow lets dictionaries and lists of records through
        column = _column(frame)
        found = [np.empty((0, len(self.classes)), np.float32)]
        named: list[str] = []
        bad = 0
        for start in range(0, len(frame), BATCH):
            images, problems = self._decoded(column, frame[column].iloc[start : start + BATCH])
            named += [f"image {start + row + 1} of {len(frame)}: {why}" for row, why in problems[: NAMED - len(named)]]
            bad += len(problems)
            if not bad:  # else the other bad rows are still looked for
                found.append(self.probabilities(images))
        if bad:
            raise _refused("; ".join(named + ([f"and {bad - NAMED} more"] if bad > NAMED else [])))
        every, abstain = (bool(options.get(name)) for name in ("probabilities", "abstain"))
        return self._table(np.concatenate(found), frame.index, every=every, abstain=abstain)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (N, C, H, W) to float32 (N, classes)."""
        with torch.inference_mode():
            found: NDArray[np.float32] = self.graph(torch.from_numpy(images)).numpy()
        return found

    def _decoded(self, column: str, rows: pd.Series) -> tuple[NDArray[np.uint8], list[tuple[int, str]]]:
        """The pixels of `rows`, and the place of each bad one with what is wrong with it."""
        images = np.empty((len(rows), self.spec.channels, self.spec.height, self.spec.width), np.uint8)
        problems: list[tuple[int, str]] = []
        for row, data in enumerate(rows):
            try:
                if column == "array":
                    images[row] = self.decode_array(data, self.spec)
                elif isinstance(data, bytes | bytearray | memoryview):
                    images[row] = self.decode(bytes(data), self.spec)
                else:
                    what = "nothing" if _is_missing(data) else f"a value of type {type(data).__name__}"
                    problems.append((row, f"it must be the bytes of an image file; got {what}"))
            except self.bad_image as error:
                problems.append((row, str(error)))
        return images, problems

    def _table(
        self, probabilities: NDArray[np.float32], index: pd.Index, *, every: bool, abstain: bool
    ) -> pd.DataFrame:
        best = probabilities.argmax(axis=1)
        top = probabilities[np.arange(len(best)), best].astype(np.float64)
        predictions: dict[str, Any] = {"label": self.classes[best], "probability": top, "model": self.name}
        if every:
            names = [str(name) for name in self.classes]
            predictions["probabilities"] = [dict(zip(names, row, strict=True)) for row in probabilities.tolist()]
        if abstain:
            for name, values in _unsure(predictions["label"], top >= np.float64(self.threshold)).items():
                # Of objects: pandas would make a text column of it, with NaN, which is no JSON, in place of None.
                predictions[name] = pd.Series(values, index=index, dtype=object)
        return pd.DataFrame(predictions, index=index)


def _unsure(labels: NDArray[np.object_], sure: NDArray[np.bool_]) -> dict[str, list[str | None]]:
    """`label` and `reason` of each prediction where the model may abstain."""
    return {
        "label": [label if is_sure else None for label, is_sure in zip(labels.tolist(), sure.tolist(), strict=True)],
        "reason": [None if is_sure else UNSURE for is_sure in sure.tolist()],
    }


def _column(frame: pd.DataFrame) -> str:
    """The column that holds the images. One that holds nothing counts as none: Spark gives every column there is."""
    columns = [name for name in ("image", "array") if name in frame]
    if len(columns) == 2:
        columns = [name for name in columns if not frame[name].map(_is_missing).all()] or ["image"]
    if len(columns) != 1:
        raise _refused("a request must have one of the columns image (an image file) and array (pixels)")
    return columns[0]


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


def _loading() -> threading.Lock:
    """The one lock of this process for `torch.export.load`, which is not reentrant (torch 2.14).

    Each loaded model has a copy of this module, so the lock lies where all of them find it.
    """
    lock: threading.Lock = vars(torch.export).setdefault("_podium_loading", threading.Lock())
    return lock


def _refused(sentence: str) -> MlflowException:
    return MlflowException(sentence, error_code=INVALID_PARAMETER_VALUE)


def _name(path: Path) -> str:
    """name/version of the registered model; `unregistered` of a model that was loaded past the registry."""
    if not path.is_file():
        return "unregistered"
    lines = dict(line.split(": ", 1) for line in path.read_text(encoding="utf-8").splitlines() if ": " in line)
    name, version = (lines.get(key, "null").strip("'\" ") for key in ("model_name", "model_version"))
    return "unregistered" if "null" in (name, version) else f"{name}/{version}"


def _check(folder: Path) -> None:
    """What `podium.registry.exported.check_manifest` does, where there is no Podium."""
    listed: dict[str, str] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    del files["manifest.json"]
    found = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    wrong = sorted(name for name in listed.keys() | found.keys() if listed.get(name) != found.get(name))
    if wrong:
        raise MlflowException(
            f"the model's files differ from its manifest: {', '.join(wrong)} changed, missing or not listed"
        )


def _decoder(folder: Path) -> types.ModuleType:
    """The module decode.py of `folder`, with those that it imports, as a package that only they know.

    From their source: an import would also run a compiled file planted beside it.
    """
    name = f"podium_model_{uuid.uuid4().hex}"
    package = types.ModuleType(name)
    package.__path__ = []
    known = {name: package}
    try:
        for file in DECODER:
            module = types.ModuleType(f"{name}.{Path(file).stem}")
            module.__package__ = name
            known[module.__name__] = module
            sys.modules.update(known)
            path = folder / file
            exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)  # noqa: S102 (its digest is checked)
    finally:
        for one in known:
            sys.modules.pop(one, None)
    return module


set_model(Classifier())
