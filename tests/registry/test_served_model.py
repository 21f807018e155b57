"""The model as it is served: in this process as MLflow loads it, and over HTTP as `mlflow models serve` runs it."""

import ast
import base64
import io
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from PIL import Image

import registered
import serving_process
from podium.data import decode as decode_file
from podium.data.decode import Preprocess, decode
from podium.data.image_store import decoder_files
from podium.errors import InputError, PodiumError
from podium.registry import loading, served_model, versions
from podium.registry.loading import LoadedModel
from registered import NAME, Project
from serving_process import ask


@pytest.fixture
def model(project: Project) -> LoadedModel:
    """Version 3, loaded."""
    return versions.load(project.tracking, versions.find(project.tracking, NAME, 3))


@pytest.fixture
def files(project: Project) -> list[bytes]:
    """The reference images as PNG files."""
    return registered.reference_images(project.folder)


def test_serving_and_decode_import_nothing_that_their_environment_lacks() -> None:
    allowed = set(sys.stdlib_module_names) | {"mlflow", "numpy", "pandas", "torch", "PIL", "pillow_heif"}
    for name in [Path(served_model.__file__), *decoder_files()]:
        tree = ast.parse(name.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) and not node.level else []
            if isinstance(node, ast.ImportFrom) and node.level:
                assert f"{node.module}.py" in served_model.DECODER
            assert {found.split(".")[0] for found in names} <= allowed, name


def test_serving_loads_the_files_of_the_decoder_and_leaves_no_module_behind(model: LoadedModel) -> None:
    assert decode_file.FILES == served_model.DECODER
    inside = model.model.unwrap_python_model()  # type: ignore[no-untyped-call]
    assert inside.decode.__module__.startswith("podium_model_")
    assert [name for name in sys.modules if name.startswith("podium_model_")] == []
    with pytest.raises(inside.bad_image, match="it is no image"):
        inside.decode(b"no", inside.spec)
    buffer = io.BytesIO()
    Image.new("RGB", (7, 5)).save(buffer, "PNG")
    whole = inside.decode_file(buffer.getvalue(), inside.spec)
    assert (whole.width, whole.height) == (7, 5)
    assert np.array_equal(whole.pixels, inside.decode(buffer.getvalue(), inside.spec))


def test_predict_answers_as_evaluation_recorded(model: LoadedModel, files: list[bytes]) -> None:
    with np.load("data/evaluated/reference.npz", allow_pickle=False) as reference:
        probabilities = reference["probabilities"]
    answers = model.predict(files)
    assert answers["label"].tolist() == [("left", "right", "top")[k] for k in probabilities.argmax(1)]
    np.testing.assert_allclose(answers["probability"], probabilities.max(1), atol=1e-5)


def test_predict_of_more_rows_than_a_batch_keeps_order_and_index(model: LoadedModel, files: list[bytes]) -> None:
    count = served_model.BATCH + 3
    rows = [files[n % len(files)] for n in range(count)]
    frame = pd.DataFrame({"image": rows}, index=range(1000, 1000 + count))
    got = model.model.predict(frame)
    assert isinstance(got, pd.DataFrame)
    assert got.index.tolist() == frame.index.tolist()
    expected = model.predict(files)["label"].tolist()
    assert got["label"].tolist() == [expected[n % len(files)] for n in range(count)]


def test_predict_of_no_row_gives_no_row(model: LoadedModel) -> None:
    got = model.predict([])
    assert list(got.columns) == ["label", "probability", "model"]
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
    model: LoadedModel, files: list[bytes], bad: dict[int, bytes], sentence: str
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
        with pytest.raises(MlflowException, match=f"the model's files differ from its manifest: {file} changed"):
            mlflow.pyfunc.load_model(folder.as_uri())
        with pytest.raises(PodiumError, match=f"can't be loaded: the model's files differ from its manifest: {file}"):
            loading.load(project.tracking, folder.as_uri(), "it", "unchecked")


ARRAY = [[[10, 20, 30]] * 8] * 8


def predict(model: LoadedModel, column: str, rows: list[Any], **params: bool) -> pd.DataFrame:
    answers = model.model.predict(pd.DataFrame({column: pd.Series(rows, dtype=object)}), params=params)
    assert isinstance(answers, pd.DataFrame)
    return answers


def test_predict_of_pixels_is_predict_of_the_file_of_them(model: LoadedModel, files: list[bytes]) -> None:
    arrays = [decode(file, Preprocess(3, 8, 8)).transpose(1, 2, 0) for file in files[:5]]
    for rows in (arrays, [array.tolist() for array in arrays]):
        pd.testing.assert_frame_equal(predict(model, "array", rows), model.predict(files[:5]))


def test_predict_of_other_sizes_and_modes_is_predict_of_the_file_of_them(model: LoadedModel) -> None:
    draw = np.random.default_rng(0)
    for shape in ((20, 13), (20, 13, 1), (5, 30, 3), (9, 9, 4)):
        array = draw.integers(0, 256, shape, dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(array[:, :, 0] if shape[2:] == (1,) else array).save(buffer, "PNG")
        pd.testing.assert_frame_equal(predict(model, "array", [array.tolist()]), model.predict([buffer.getvalue()]))


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        ([[1, 2], [3]], "its rows are not all of one length"),
        ([1, 2], "it must be .height, width. or .height, width, 1, 3 or 4.; got .2,."),
        ([[[1, 2]]], "got .1, 1, 2."),
        ([[]], "got .1, 0."),
        ([[0.5]], "its pixels must be whole numbers from 0 to 255"),
        ([[256]], "its pixels must be whole numbers from 0 to 255"),
        ([[-1]], "its pixels must be whole numbers from 0 to 255"),
        ([["x"]], "its pixels must be whole numbers from 0 to 255"),
        (None, "got .."),
    ],
)
def test_predict_of_pixels_that_are_none_says_why(model: LoadedModel, array: Any, sentence: str) -> None:
    with pytest.raises(MlflowException, match=f"image 2 of 2: .*{sentence}"):
        predict(model, "array", [ARRAY, array])


def test_predict_with_probabilities_gives_each_class_one(model: LoadedModel, files: list[bytes]) -> None:
    answers = model.predict(files[:3], probabilities=True)
    for row in answers.to_dict("records"):
        assert list(row["probabilities"]) == ["left", "right", "top"]
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-6)
        assert row["probabilities"][row["label"]] == pytest.approx(row["probability"])


def test_predict_that_may_abstain_gives_no_label_where_it_is_unsure(project: Project, files: list[bytes]) -> None:
    model = versions.load(project.tracking, versions.find(project.tracking, NAME, 1))  # the third is always sure
    inside = model.model.unwrap_python_model()  # type: ignore[no-untyped-call]
    frame = pd.DataFrame({"image": files})
    plain = inside.predict(None, frame)
    with pytest.raises(MlflowException, match="abstain must not be true: this model has no threshold"):
        inside.predict(None, frame, {"abstain": True})
    with pytest.raises(InputError, match="can't abstain: it has no threshold"):
        model.predict(files, abstain=True)
    inside.threshold = float(plain["probability"].agg(["min", "max"]).mean())
    able = replace(model, abstain={"threshold": inside.threshold, "error": 0.1, "confidence": 0.95})
    found = able.predict(files, abstain=True, probabilities=True)
    unsure = plain["probability"] < inside.threshold
    assert 0 < unsure.sum() < len(files)
    labels = [None if one else label for one, label in zip(unsure, plain["label"], strict=True)]
    assert found["label"].tolist() == labels  # None, which is null in JSON, and not NaN
    assert found["reason"].tolist() == ["unsure" if one else None for one in unsure]
    assert found["probability"].tolist() == plain["probability"].tolist()
    pd.testing.assert_frame_equal(able.predict(files), plain)


def test_predict_of_both_columns_is_refused(model: LoadedModel, files: list[bytes]) -> None:
    with pytest.raises(MlflowException, match="must have one of the columns image .* and array"):
        model.model.predict(pd.DataFrame({"image": [files[0]], "array": [ARRAY]}))


@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_predict_as_spark_calls_it_leaves_out_the_column_that_holds_nothing(
    model: LoadedModel, files: list[bytes], nothing: object
) -> None:
    inside = model.model.unwrap_python_model()  # type: ignore[no-untyped-call]
    expected = model.predict(files[:2])
    frame = pd.DataFrame({"image": files[:2], "array": pd.Series([nothing] * 2, dtype=object)})
    pd.testing.assert_frame_equal(inside.predict(None, frame), expected)
    frame["image"] = pd.Series([files[0], nothing], dtype=object)
    with pytest.raises(MlflowException, match="image 2 of 2: it must be the bytes of an image file; got nothing"):
        inside.predict(None, frame)


def test_predict_of_any_number_of_rows_holds_one_batch_of_pixels(
    model: LoadedModel, files: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = model.model.unwrap_python_model()  # type: ignore[no-untyped-call]
    seen: list[int] = []
    run = inside.probabilities

    def counting(images: Any) -> Any:
        seen.append(len(images))
        return run(images)

    monkeypatch.setattr(inside, "probabilities", counting)
    got = model.predict([files[0]] * 5000)
    assert len(got) == 5000
    assert max(seen) == served_model.BATCH


def test_predict_names_bad_rows_of_every_batch(model: LoadedModel, files: list[bytes]) -> None:
    rows = [files[0]] * 600
    rows[3] = rows[599] = b"x"
    with pytest.raises(MlflowException, match="image 4 of 600: .*; image 600 of 600: "):
        model.model.predict(pd.DataFrame({"image": rows}))


def test_models_that_four_threads_load_at_once_all_predict(project: Project, files: list[bytes]) -> None:
    version = versions.find(project.tracking, NAME, 3)
    source = project.tracking.client.get_model_version_download_uri(NAME, "3")
    expected = versions.load(project.tracking, version).predict(files[:3])["probability"].tolist()

    def by_podium() -> list[float]:
        return list(versions.load(project.tracking, version).predict(files[:3])["probability"])

    def by_mlflow() -> list[float]:
        frame = pd.DataFrame({"image": files[:3]})
        return list(mlflow.pyfunc.load_model(source).predict(frame)["probability"])

    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(way) for way in (by_podium, by_mlflow) * 4]
        assert [one.result() for one in found] == [expected] * 8


def test_native_flavour_loads_without_running_code_of_the_model(
    project: Project, files: list[bytes], model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The second is the one that MLflow 3.17 reads: it then looks through the archive for anything pickled.
    for name in ("MLFLOW_ALLOW_MODEL_CODE_EXECUTION", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"):
        monkeypatch.setenv(name, "false")
    with versions.checked(project.tracking, versions.find(project.tracking, NAME, 3)) as folder:
        graph = mlflow.pytorch.load_model(folder.as_uri())
    images = np.stack([decode(file, Preprocess(3, 8, 8)) for file in files])
    with torch.inference_mode():
        probabilities = graph(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(probabilities.max(1), model.predict(files)["probability"], atol=1e-6)


@pytest.fixture
def server(project: Project) -> Iterator[str]:
    """The address of a server that was started with MLflow's plain command, from the project's folder."""
    project.tracking.client.set_registered_model_alias(NAME, "champion", "3")
    with serving_process.plain(NAME) as address:
        yield address


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.slow
def test_server_answers_as_predict_does_and_survives_bad_requests(
    server: str, model: LoadedModel, files: list[bytes]
) -> None:
    good = {"dataframe_split": {"columns": ["image"], "data": [[text(data)] for data in files]}}
    expected = model.predict(files).to_dict("records")
    assert ask(server, good) == (200, {"predictions": expected})
    one = {"dataframe_records": [{"image": text(files[3])}]}
    status, answer = ask(server, one)
    assert (status, answer["predictions"][0]["label"]) == (200, expected[3]["label"])
    assert answer["predictions"][0]["model"] == f"{NAME}/3"
    array = {"dataframe_records": [{"array": ARRAY}], "params": {"probabilities": True}}
    assert list(ask(server, array)[1]["predictions"][0]["probabilities"]) == ["left", "right", "top"]
    for content, sentence in (
        ({"dataframe_records": [{"image": text(files[0])}, {"image": text(b"no")}]}, "image 2 of 2: it is no image"),
        ({"dataframe_records": [{"image": text(files[0][:50])}]}, "image 1 of 1: it can't be decoded"),
        ({"dataframe_records": [{"image": ""}]}, "image 1 of 1: it is empty"),
        ({"dataframe_records": [{"image": "a"}]}, "base64"),
        ({"dataframe_records": [{"image": None}]}, "image"),
        ({"dataframe_records": [{"picture": text(files[0])}]}, "must have one of the columns image"),
        ({"dataframe_records": []}, "image"),
        ({"dataframe_records": [{"array": [[300]]}]}, "image 1 of 1: its pixels must be whole numbers"),
        ({"inputs": [text(files[0])]}, "image"),
    ):
        status, answer = ask(server, content)
        assert status == 400, content
        assert sentence in answer["message"]
    assert ask(server, good) == (200, {"predictions": expected})
    assert sorted(path.name for path in Path().iterdir()) == ["data", "mlruns", "params.yaml", "server.log"]


@pytest.mark.slow
def test_podium_serve_answers_and_refuses_what_is_too_large(
    project: Project, model: LoadedModel, files: list[bytes]
) -> None:
    text_of_params = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(text_of_params + "serve: {max_request_mb: 0.02}\n", encoding="utf-8")
    good = {"dataframe_split": {"columns": ["image"], "data": [[text(data)] for data in files[:8]]}}
    with serving_process.podium("--alias", "challenger") as server:
        assert ask(server, good) == (200, {"predictions": model.predict(files[:8]).to_dict("records")})
        for content in (b"x" * 20_001, b"x" * 400_000):
            status, answer = ask(server, content)
            assert status == 413
            assert "a request may have at most 20,000 bytes (serve.max_request_mb); got" in answer["message"]
        assert ask(server, b"{")[0] == 400
        assert ask(server, good)[0] == 200
    log = Path("server.log").read_text(encoding="utf-8")
    assert f"{NAME} version 3 at http://127.0.0.1:" in log
