"""Evaluation, the loaded model and the server give the same answers for every sealed image."""

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import serving_process
from podium.data import decode
from podium.data.dataset import Split, open_test_set
from podium.errors import RefusedError
from podium.registry import versions
from podium.registry.exported import MANIFEST, PARITY_LIMIT, write_manifest
from podium.registry.loading import LoadedModel, digests
from podium.training.prediction import predict_probabilities
from podium.training.trained import TrainedModel
from registered import NAME, Project


@pytest.fixture
def model(project: Project) -> LoadedModel:
    return versions.load(project.tracking, versions.find(project.tracking, NAME, 3))


@pytest.fixture
def sealed(project: Project) -> Split:
    return open_test_set(project.path("sealed") / "test", "gate")


@pytest.fixture
def evaluated(project: Project, sealed: Split) -> NDArray[np.float32]:
    """(N, classes): what evaluation computes for every sealed image."""
    return predict_probabilities(TrainedModel.load(project.path("retrained"))[1], sealed.images)


def compared(answers: pd.DataFrame, sealed: Split, evaluated: NDArray[np.float32]) -> float:
    """The largest difference of any class's probability; labels must be the same."""
    assert answers["label"].tolist() == [sealed.classes[k] for k in evaluated.argmax(1)]
    table = np.array([[row[name] for name in sealed.classes] for row in answers["probabilities"]])
    return float(np.abs(table - evaluated).max())


def as_files(sealed: Split) -> list[bytes]:
    return [decode.encode_png(np.asarray(image)) for image in sealed.images]


def as_arrays(sealed: Split) -> list[list[list[list[int]]]]:
    return [image.transpose(1, 2, 0).tolist() for image in sealed.images]


def test_loaded_model_answers_every_sealed_image_as_evaluation(
    model: LoadedModel, sealed: Split, evaluated: NDArray[np.float32], record_property: Callable[[str, object], None]
) -> None:
    files = model.predict(as_files(sealed), probabilities=True)
    arrays = model.model.predict(pd.DataFrame({"array": as_arrays(sealed)}), params={"probabilities": True})
    assert isinstance(arrays, pd.DataFrame)
    single = pd.concat([model.predict([file], probabilities=True) for file in as_files(sealed)])
    largest = max(compared(answers, sealed, evaluated) for answers in (files, arrays, single))
    record_property("largest difference", largest)
    assert largest <= PARITY_LIMIT


@pytest.fixture
def server(project: Project) -> Iterator[str]:
    project.tracking.client.set_registered_model_alias(NAME, "champion", "3")
    with serving_process.plain(NAME) as address:
        yield address


@pytest.mark.slow
def test_server_answers_every_sealed_image_as_evaluation(
    server: str, sealed: Split, evaluated: NDArray[np.float32], record_property: Callable[[str, object], None]
) -> None:
    files = [base64.b64encode(file).decode() for file in as_files(sealed)]
    largest = 0.0
    for column, data in (("image", files), ("array", as_arrays(sealed))):
        frame = {"columns": [column], "data": [[row] for row in data]}
        status, said = serving_process.ask(server, {"dataframe_split": frame, "params": {"probabilities": True}})
        assert status == 200
        largest = max(largest, compared(pd.DataFrame(said["predictions"]), sealed, evaluated))
    record_property("largest difference", largest)
    assert largest <= PARITY_LIMIT


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Resampling.BILINEAR", "Resampling.NEAREST"),
        ("image.size, ImageColor.getrgb(spec.background)", 'image.size, "black"'),
        ("whole = (0.0, 65535.0)", "whole = (0.0, 255.0)"),
        ("LEAST = 2 * THUMB", "LEAST = 1"),
    ],
    ids=["another resize", "another background", "16 bits clipped", "another part of a JPEG"],
)
def test_changed_decoding_is_caught_by_the_stored_answers(project: Project, tmp_path: Path, old: str, new: str) -> None:
    client = project.tracking.client
    folder = tmp_path / "changed"
    stored = client.get_model_version_download_uri(NAME, "3").removeprefix("file://")
    shutil.copytree(stored, folder, ignore=shutil.ignore_patterns("__pycache__"))  # what a server may have left
    inside = folder / "artifacts/model"
    (path,) = [path for path in inside.glob("*.py") if old in path.read_text(encoding="utf-8")]
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    (inside / MANIFEST).unlink()
    write_manifest(inside)  # somebody who covers the tracks: no digest tells
    tags = {versions.FILES: json.dumps(digests(folder))}
    made = client.create_model_version(NAME, folder.as_uri(), tags=tags)
    version = versions.find(project.tracking, NAME, int(made.version))
    with pytest.raises(RefusedError, match="does not decode image files as it did when it was registered: [1-5] of 5"):
        versions.load(project.tracking, version).check_predictions()


def test_stored_answers_are_of_files_as_they_come(model: LoadedModel) -> None:
    rows = json.loads(json.dumps(model.stored))
    assert len(rows) == 13
    model.check_predictions()
