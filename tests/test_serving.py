"""The model as it is served: in this process as MLflow loads it, and over HTTP as `mlflow models serve` runs it."""

import ast
import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

import registered
from podium import registry, served, serving
from podium.errors import PodiumError
from podium.served import Served
from registered import NAME, Project


@pytest.fixture
def model(project: Project) -> Served:
    """Version 3, loaded."""
    return registry.load(project.tracking, registry.find(project.tracking, NAME, 3))


@pytest.fixture
def files(project: Project) -> list[bytes]:
    """The reference images as PNG files."""
    return registered.reference_images(project.folder)


def test_serving_and_decode_import_nothing_that_their_environment_lacks() -> None:
    allowed = set(sys.stdlib_module_names) | {"mlflow", "numpy", "pandas", "torch", "PIL"}
    for name in ("serving.py", "decode.py"):
        tree = ast.parse(Path(serving.__file__).with_name(name).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert {found.split(".")[0] for found in names} <= allowed, name


def test_predict_answers_as_evaluation_recorded(model: Served, files: list[bytes]) -> None:
    with np.load("data/evaluated/reference.npz", allow_pickle=False) as reference:
        probabilities = reference["probabilities"]
    answers = model.answer(files)
    assert answers["label"].tolist() == [("left", "right", "top")[k] for k in probabilities.argmax(1)]
    np.testing.assert_allclose(answers["probability"], probabilities.max(1), atol=1e-5)


def test_predict_of_more_rows_than_a_batch_keeps_order_and_index(model: Served, files: list[bytes]) -> None:
    count = serving.BATCH + 3
    rows = [files[n % len(files)] for n in range(count)]
    frame = pd.DataFrame({"image": rows}, index=range(1000, 1000 + count))
    got = model.model.predict(frame)
    assert isinstance(got, pd.DataFrame)
    assert got.index.tolist() == frame.index.tolist()
    expected = model.answer(files)["label"].tolist()
    assert got["label"].tolist() == [expected[n % len(files)] for n in range(count)]


def test_predict_of_no_row_gives_no_row(model: Served) -> None:
    got = model.answer([])
    assert list(got.columns) == ["label", "probability"]
    assert len(got) == 0


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ({1: b"x"}, "image 2 of 9: it is no image that can be read"),
        ({0: b"", 8: b"x"}, r"image 1 of 9: it is empty \(0 bytes\); image 9 of 9: it is no image"),
        (dict.fromkeys(range(7), b""), "image 5 of 9: it is empty .0 bytes.; and 2 more"),
    ],
)
def test_predict_with_bad_bytes_names_each_row_up_to_five(
    model: Served, files: list[bytes], bad: dict[int, bytes], sentence: str
) -> None:
    frame = pd.DataFrame({"image": [bad.get(n, files[n]) for n in range(9)]})
    with pytest.raises(MlflowException, match=sentence) as caught:
        model.model.predict(frame)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_load_outside_of_the_registry_still_checks_the_manifest(project: Project, tmp_path: Path) -> None:
    source = project.tracking.client.get_model_version_download_uri(NAME, "3").removeprefix("file://")
    for file, content in (("decode.py", b"print('mine')"), ("planted.pkl", b"cos\nsystem\n")):
        folder = tmp_path / file
        shutil.copytree(source, folder)
        (folder / "artifacts/model" / file).write_bytes(content)
        with pytest.raises(MlflowException, match=f"the model is not as it was made: {file} changed"):
            mlflow.pyfunc.load_model(folder.as_uri())
        with pytest.raises(PodiumError, match=f"can't be loaded: the model is not as it was made: {file}"):
            served.load(project.tracking, folder.as_uri(), "it")


@pytest.fixture
def server(project: Project) -> Iterator[str]:
    """The address of a server that was started with MLflow's plain command, from the project's folder."""
    client = project.tracking.client
    client.set_registered_model_alias(NAME, "champion", "3")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("mlflow")), "models", "serve", "-m", f"models:/{NAME}@champion"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {"MLFLOW_TRACKING_URI": "sqlite:///mlruns/mlflow.db"}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with Path("server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(address, process)
        yield address
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def _wait(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            with urlopen(f"{address}/ping", timeout=5):  # noqa: S310 (our own server)
                return
        except (URLError, ConnectionError):
            time.sleep(0.2)
    raise AssertionError(Path("server.log").read_text(encoding="utf-8"))


def ask(address: str, content: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Status and JSON of a request."""
    body = json.dumps(content).encode()
    request = Request(f"{address}/invocations", body, {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urlopen(request, timeout=60) as response:  # noqa: S310
            return response.status, json.load(response)
    except HTTPError as error:
        return error.code, json.load(error)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.slow
def test_server_answers_as_predict_does_and_survives_bad_requests(
    server: str, model: Served, files: list[bytes]
) -> None:
    good = {"dataframe_split": {"columns": ["image"], "data": [[text(data)] for data in files]}}
    expected = model.answer(files).to_dict("records")
    assert ask(server, good) == (200, {"predictions": expected})
    one = {"dataframe_records": [{"image": text(files[3])}]}
    assert ask(server, one) == (200, {"predictions": [pytest.approx(expected[3])]})
    for content, sentence in (
        ({"dataframe_records": [{"image": text(files[0])}, {"image": text(b"no")}]}, "image 2 of 2: it is no image"),
        ({"dataframe_records": [{"image": text(files[0][:50])}]}, "image 1 of 1: it can't be decoded"),
        ({"dataframe_records": [{"image": ""}]}, "image 1 of 1: it is empty"),
        ({"dataframe_records": [{"image": "a"}]}, "base64"),
        ({"dataframe_records": [{"image": None}]}, "image"),
        ({"dataframe_records": [{"picture": text(files[0])}]}, "missing inputs"),
        ({"dataframe_records": []}, "image"),
        ({"inputs": [text(files[0])]}, "image"),
    ):
        status, answer = ask(server, content)
        assert status == 400, content
        assert sentence in answer["message"]
    assert ask(server, good) == (200, {"predictions": expected})
    assert sorted(path.name for path in Path().iterdir()) == ["data", "mlruns", "params.yaml", "server.log"]
