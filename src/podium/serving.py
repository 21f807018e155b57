"""The registered model as it is served: image bytes in, label and probability out.

MLflow copies this file into the model and runs it there ("models from code"), where there is no Podium. What it needs
of ours lies beside it: the exported graph, the decoder of training, the names of the classes, and a manifest of
digests that is checked before any of them is used.
"""

import hashlib
import json
import types
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
"""Rows that pass the network at once: larger ones are no faster on a CPU, and memory stays bounded."""
NAMED = 5
"""Bad rows that an error names; it counts the rest."""


class Classifier(PythonModel):
    """A column `image` (bytes of an image file) to `label` and `probability`."""

    def load_context(self, context: Any) -> None:
        """Check every file against the manifest, then load them. Raises MlflowException where one was changed."""
        folder = Path(context.artifacts["model"])
        _check(folder)
        about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        decoder = _module(folder / "decode.py")
        self.classes = np.array(about["classes"], dtype=object)
        self.spec = decoder.Preprocess.from_dict(about["preprocess"])
        self.decode: Callable[..., NDArray[np.uint8]] = decoder.decode
        self.bad_image: type[ValueError] = decoder.BadImage
        self.graph = torch.export.load(folder / "graph.pt2").module()

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row of `label` and `probability` for each row of `model_input`, in its order and under its index.

        Raises MlflowException (HTTP 400) naming every row that is no usable image; then no row is answered.
        """
        frame = pd.DataFrame(model_input)  # MLflow lets dictionaries and lists of records through
        rows = list(frame["image"])
        images = self._decode_all(rows)
        chunks = [self.probabilities(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
        probabilities = np.concatenate(chunks) if chunks else np.empty((0, len(self.classes)), np.float32)
        best = probabilities.argmax(axis=1)
        top = probabilities[np.arange(len(best)), best].astype(np.float64)
        return pd.DataFrame({"label": self.classes[best], "probability": top}, index=frame.index)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (N, C, H, W) to float32 (N, classes)."""
        with torch.inference_mode():
            answer: NDArray[np.float32] = self.graph(torch.from_numpy(images)).numpy()
        return answer

    def _decode_all(self, rows: list[Any]) -> NDArray[np.uint8]:
        shape = (self.spec.channels, self.spec.height, self.spec.width)
        images = np.empty((len(rows), *shape), np.uint8)
        problems: list[str] = []
        for number, data in enumerate(rows):
            try:
                images[number] = self.decode(data, self.spec)
            except self.bad_image as error:
                problems.append(f"image {number + 1} of {len(rows)}: {error}")
        if problems:
            rest = [f"and {len(problems) - NAMED} more"] if len(problems) > NAMED else []
            raise MlflowException("; ".join(problems[:NAMED] + rest), error_code=INVALID_PARAMETER_VALUE)
        return images


def _check(folder: Path) -> None:
    """What `podium.export.check_manifest` does, where there is no Podium."""
    listed: dict[str, str] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    del files["manifest.json"]
    found = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    wrong = sorted(name for name in listed.keys() | found.keys() if listed.get(name) != found.get(name))
    if wrong:
        raise MlflowException(f"the model is not as it was made: {', '.join(wrong)} changed, missing or not listed")


def _module(path: Path) -> types.ModuleType:
    """The module in `path`, from its source: an import would also run a compiled file planted beside it."""
    module = types.ModuleType(f"podium_{path.stem}")
    exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)  # noqa: S102 (its digest is checked)
    return module


set_model(Classifier())
