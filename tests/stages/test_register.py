"""register on a tiny trained model: what it registers, what it refuses, and that a second time is no second version."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from mlflow.entities import LoggedModelStatus
from mlflow.pyfunc.scoring_server import predictions_to_json

import registered
from podium.config import run_sections
from podium.errors import InputError, PodiumError, RefusedError
from podium.registry import graph_export, logged_model, versions
from podium.registry.exported import load_graph
from podium.training.trained import TrainedModel
from registered import NAME, Project

pytestmark = pytest.mark.slow


def numbers(project: Project) -> list[int]:
    return [version.number for version in versions.every(project.tracking, NAME)]


def test_register_writes_version_json_of_a_challenger_that_answers(fresh: Project) -> None:
    assert registered.register(fresh) == 1
    version = versions.find(fresh.tracking, NAME, "challenger")
    trained, _ = TrainedModel.load(fresh.path("retrained"))
    written = registered.version_json(fresh)
    assert (written["name"], written["version"], written["run_id"]) == (NAME, 1, trained.run_id)
    assert written["model_uri"] == version.model_uri
    assert written["weights_digest"] == trained.weights_digest == version.tags["weights_digest"]
    versions.load(fresh.tracking, version).check_predictions()


def test_register_of_a_model_that_may_abstain_serves_it(fresh: Project) -> None:
    counts = {"images": 90, "answered": 60, "wrong": 1}
    promise = {"threshold": 0.5, "error": 0.1, "confidence": 0.95, "validation": counts, "test": counts}
    (fresh.path("evaluated") / "abstain.json").write_text(json.dumps(promise), encoding="utf-8")
    registered.register(fresh)
    model = versions.load(fresh.tracking, versions.find(fresh.tracking, NAME, 1))
    assert model.abstain == {"threshold": 0.5, "error": 0.1, "confidence": 0.95}
    files = registered.reference_images(fresh.folder)
    plain, found = model.predict(files), model.predict(files, abstain=True)
    unsure = plain["probability"] < 0.5
    assert unsure.any()
    assert [label is None for label in found["label"]] == unsure.tolist()
    with io.StringIO() as sent:  # as `mlflow models serve` answers
        predictions_to_json(found, sent)  # type: ignore[no-untyped-call]
        rows = json.loads(sent.getvalue(), parse_constant=pytest.fail)["predictions"]
    assert [row["reason"] == "unsure" for row in rows] == unsure.tolist()


def test_register_twice_makes_one_version(fresh: Project) -> None:
    assert [registered.register(fresh), registered.register(fresh)] == [1, 1]
    assert numbers(fresh) == [1]
    for key in ("model_digest", "accuracy"):
        fresh.tracking.client.delete_model_version_tag(NAME, "1", key)
    assert registered.register(fresh) == 1  # these are for people
    fresh.tracking.client.set_model_version_tag(NAME, "1", "files", "null")
    assert registered.register(fresh) == 2  # the first one can't be checked any more


def test_register_with_onnx_makes_a_version_that_holds_it_checked_and_digested(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(graph_export, "PARITY_LIMIT", -1.0)
        with pytest.raises(RefusedError, match=r"Nothing was registered; with register.formats: \[\] it is registered"):
            registered.register(project, formats=["onnx"])
    assert numbers(project) == [1, 2, 3]
    assert registered.register(project, formats=["onnx"]) == 4  # with it is another version of the same weights
    version, before = (versions.find(project.tracking, NAME, number) for number in (4, 3))
    assert version.tags["weights_digest"] == before.tags["weights_digest"]
    assert "artifacts/model/model.onnx" in json.loads(version.tags["files"])
    assert "artifacts/model/model.onnx" not in json.loads(before.tags["files"])
    with versions.checked(project.tracking, version) as folder:
        inside = folder / "artifacts/model"
        assert graph_export.ONNX in json.loads((inside / "manifest.json").read_text(encoding="utf-8"))
        session = onnxruntime.InferenceSession((inside / graph_export.ONNX).read_bytes())
        images = np.random.default_rng(1).integers(0, 256, (5, 3, 8, 8), dtype=np.uint8)
        (got,) = session.run(["probabilities"], {"images": images})
        np.testing.assert_allclose(got, load_graph(inside / "model.pt2")(images), atol=1e-5)
    about = session.get_modelmeta().custom_metadata_map
    assert about["version"] == f"{NAME}, weights {version.tags['weights_digest'][:12]}"


def test_register_with_onnx_where_its_packages_are_missing_is_refused_before_any_work(
    fresh: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(run_sections.FORMAT_PACKAGES, "onnx", ("onnx", "no_such_package"))
    monkeypatch.setattr(TrainedModel, "load", lambda _: pytest.fail("it worked"))
    with pytest.raises(InputError, match=r"register.formats: onnx needs no_such_package, not installed here: `pip"):
        registered.register(fresh, formats=["onnx"])


def test_register_of_an_earlier_model_again_makes_a_new_version(fresh: Project) -> None:
    first, _ = TrainedModel.load(fresh.path("retrained"))
    kept = {p: p.read_bytes() for name in ("retrained", "evaluated") for p in fresh.path(name).iterdir()}
    registered.register(fresh)
    registered.write_model(fresh, steps=0)
    assert registered.register(fresh) == 2
    for path, content in kept.items():
        path.write_bytes(content)
    assert registered.register(fresh) == 3
    one, three = (versions.find(fresh.tracking, NAME, n) for n in (1, 3))
    assert one.tags["weights_digest"] == three.tags["weights_digest"] == first.weights_digest
    assert three.aliases == ("challenger",)


def test_register_after_a_kill_before_the_alias_completes_the_version(fresh: Project) -> None:
    registered.register(fresh)
    fresh.tracking.client.delete_registered_model_alias(NAME, "challenger")
    fresh.path("registered").joinpath("version.json").unlink()
    assert registered.register(fresh) == 1
    assert versions.aliases(fresh.tracking, NAME) == {"challenger": 1}
    assert registered.version_json(fresh)["version"] == 1


def test_register_after_a_kill_before_the_version_uses_what_was_logged(fresh: Project) -> None:
    registered.register(fresh)
    first = versions.find(fresh.tracking, NAME, 1)
    fresh.tracking.client.delete_model_version(NAME, "1")
    registered.register(fresh)
    assert versions.find(fresh.tracking, NAME, "challenger").model_uri == first.model_uri


def test_register_again_where_the_logged_files_changed_logs_again(fresh: Project) -> None:
    registered.register(fresh)
    first = versions.find(fresh.tracking, NAME, 1)
    folder = Path(fresh.tracking.client.get_model_version_download_uri(NAME, "1").removeprefix("file://"))
    (folder / "served_model.py").write_text("print('mine')\n", encoding="utf-8")
    fresh.tracking.client.delete_model_version(NAME, "1")
    registered.register(fresh)
    version = versions.find(fresh.tracking, NAME, "challenger")
    assert version.model_uri != first.model_uri
    versions.load(fresh.tracking, version).check_predictions()


def test_register_after_a_kill_while_logging_removes_the_half(fresh: Project) -> None:
    store = fresh.tracking
    registered.register(fresh)
    first = versions.find(store, NAME, 1)
    run = store.client.get_run(first.run_id)
    tags = {logged_model.IDENTITY: first.tags[logged_model.IDENTITY]}
    store.client.delete_registered_model(NAME)
    store.client.delete_logged_model(first.model_uri.removeprefix("models:/"))
    store.client.create_logged_model(run.info.experiment_id, "model", first.run_id, tags=tags)
    assert registered.register(fresh) == 1
    found = store.client.search_logged_models([run.info.experiment_id])
    assert [model.status for model in found] == [LoggedModelStatus.READY]


def changed_answers(project: Project, add: float) -> None:
    path = project.path("evaluated") / "reference.npz"
    with np.load(path, allow_pickle=False) as arrays:
        content = dict(arrays)
    content["probabilities"] = (content["probabilities"] + add).astype(np.float32)
    np.savez(path, allow_pickle=False, **content)


def test_register_of_a_model_that_is_not_the_evaluated_one_is_refused(fresh: Project) -> None:
    changed_answers(fresh, 1e-4)
    with pytest.raises(RefusedError, match=r"does not give the probabilities that evaluation recorded.*0\.0001"):
        registered.register(fresh)
    assert numbers(fresh) == []
    assert not fresh.path("registered").exists()
    assert fresh.tracking.client.search_logged_models([fresh.tracking.experiment_id]) == []


def test_register_of_a_graph_that_answers_otherwise_is_refused(fresh: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from podium.registry import exported

    monkeypatch.setattr(exported.Probabilities, "forward", lambda self, images: self.model(images).sigmoid())
    with pytest.raises(RefusedError, match=r"0(\.\d+)?(e-\d+)? \(model\), 0\.\d+ \(exported graph\)"):
        registered.register(fresh)
    assert numbers(fresh) == []


def test_register_of_a_decoder_that_changes_pixels_is_refused(fresh: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from podium.data import decode

    right = decode.decode
    monkeypatch.setattr(decode, "decode", lambda data, spec: right(data, spec) // 2)
    with pytest.raises(RefusedError, match="reference image 0, written as PNG and decoded, differs in"):
        registered.register(fresh)
    assert numbers(fresh) == []


def test_register_never_opens_the_sealed_images(fresh: Project) -> None:
    for file in (fresh.path("sealed") / "test").iterdir():
        file.unlink()
    assert registered.register(fresh) == 1


@pytest.mark.parametrize(
    ("missing", "command"),
    [
        ("retrained/model.json", "dvc repro retrain"),
        ("evaluated/metrics.json", "dvc repro evaluate"),
        ("evaluated/reference.npz", "dvc repro evaluate"),
        ("evaluated/per_class.csv", "dvc repro evaluate"),
        ("selected/config.json", "dvc repro select"),
        ("prepared/dataset.json", "dvc repro prepare"),
    ],
)
def test_register_without_an_earlier_stage_names_its_command(fresh: Project, missing: str, command: str) -> None:
    fresh.path(missing).unlink()
    with pytest.raises(InputError, match=f"{Path(missing).name} is missing: run `{command}`"):
        registered.register(fresh)


def test_register_into_a_store_that_lost_the_run_says_what_to_do(fresh: Project) -> None:
    path = fresh.path("retrained") / "model.json"
    about = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(about | {"run_id": "0" * 32}), encoding="utf-8")
    with pytest.raises(PodiumError, match="dvc repro --force --single-item retrain` makes a new one"):
        registered.register(fresh)


def test_registered_graph_gives_evaluations_probabilities_for_the_raw_pixels(fresh: Project) -> None:
    registered.register(fresh)
    source = fresh.tracking.client.get_model_version_download_uri(NAME, "1").removeprefix("file://")
    graph = Path(source) / "artifacts/model/model.pt2"
    manifest = json.loads(graph.with_name("manifest.json").read_text(encoding="utf-8"))
    assert hashlib.sha256(graph.read_bytes()).hexdigest() == manifest["model.pt2"]
    with np.load(fresh.path("evaluated") / "reference.npz", allow_pickle=False) as reference:
        np.testing.assert_allclose(load_graph(graph)(reference["images"]), reference["probabilities"], atol=1e-5)
    assert torch.is_grad_enabled()
