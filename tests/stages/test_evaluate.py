"""evaluate on a model whose answers are known by hand: it calls an image bright or dark by its mean."""

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from podium.components import Choice
from podium.config.params import EvaluateParams, TrackingParams
from podium.data import accesses, shards
from podium.data.dataset import write_split
from podium.data.image_files import ImageFile
from podium.errors import InputError, PodiumError
from podium.stages import evaluate as evaluate_stage
from podium.stages.evaluate import evaluate, main
from podium.tracking.store import connect
from podium.training import answering
from podium.training.prediction import predict_probabilities
from podium.training.trained import TrainedModel

CLASSES = ("dark", "bright/white")
SURE_OF_DARK = 1 / (1 + math.exp(-0.5))
BRIGHT = [1] * 40 + [0] * 40
LABELS = [1] * 38 + [0] * 2 + [0] * 37 + [1] * 3  # two bright images are labelled dark, three dark ones bright
FILES = ["calibration.csv", "calibration.png", "confusion.csv", "confusion.png", "evaluation.json", "gallery.json"]
FILES += ["metrics.json", "per_class.csv", "predictions.csv", "probabilities.npy", "reference.npz"]


def images_of(bright: list[int], size: int = 5) -> NDArray[np.uint8]:
    levels = np.where(np.array(bright) == 1, 250, 5).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (len(bright), 1, size, size)).copy()


def write_model(
    folder: Path,
    run_id: str,
    classes: tuple[str, ...] = CLASSES,
    size: int = 5,
    splits: tuple[str, ...] = ("train", "val"),
) -> None:
    """Every weight 1, so that what is below the mean ends at 0 and what is above it grows; logits (0.5, that)."""
    about = TrainedModel(
        recipe={"model": {"width": 1, "hidden": 1}, "train": {}},
        classes=list(classes),
        shape=[1, size, size],
        mean=[0.5],
        std=[0.25],
        seed=0,
        device="cpu",
        data_digest="0" * 64,
        study="podium-test",
        trial=3,
        confirmation_seeds=[1, 2],
        run_id=run_id,
        splits=list(splits),
    )
    model = about.build()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(0 if name.endswith("bias") else 1)
        head = model[-1]
        assert isinstance(head, torch.nn.Linear)
        head.weight[0], head.bias[0] = 0, 0.5
    about.save(folder, model)


@pytest.fixture
def run_id(store: TrackingParams) -> str:
    """The finished run of the retraining."""
    opened = connect(store)
    run = opened.client.create_run(opened.experiment_id, run_name="retrain")
    opened.client.log_metric(run.info.run_id, "train_loss", 0.1)
    opened.client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


@pytest.fixture
def project(tmp_path: Path, run_id: str) -> Path:
    """A sealed set and a trained model, as the stages before leave them."""
    write_split(tmp_path / "sealed/test", "test", images_of(BRIGHT), np.array(LABELS), CLASSES, sealed=True)
    write_model(tmp_path / "retrained", run_id)
    return tmp_path


def call(project: Path, store: TrackingParams) -> dict[str, float]:
    return evaluate(EvaluateParams(), store, project / "sealed", project / "retrained", project / "evaluated")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_evaluate_known_answers_writes_them_in_every_file(project: Path, store: TrackingParams) -> None:
    returned = call(project, store)
    out = project / "evaluated"
    assert sorted(path.name for path in out.iterdir()) == FILES
    written = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert written == returned
    assert next(iter(written)) == "accuracy"
    assert (written["accuracy"], written["count"]) == (75 / 80, 80)
    assert written["accuracy_low"] < 75 / 80 < written["accuracy_high"]
    made_with = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert made_with == {
        "confidence": 0.95,
        "weights_digest": TrainedModel.load(project / "retrained")[0].weights_digest,
    }
    dark, bright = rows(out / "per_class.csv")
    assert (dark["class"], dark["support"], dark["recall"], dark["precision"]) == ("dark", "39", "0.948718", "0.925000")
    assert (bright["class"], bright["support"], bright["recall"]) == ("bright/white", "41", "0.926829")
    pairs = [(row["actual"], row["predicted"]) for row in rows(out / "confusion.csv")]
    assert pairs.count(("dark", "bright/white")) == 2
    assert pairs.count(("bright/white", "dark")) == 3
    assert sum(int(row["count"]) for row in rows(out / "calibration.csv")) == 80


def test_evaluate_of_images_in_several_files_writes_what_it_writes_of_one(
    project: Path, store: TrackingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(project, store)
    whole = {path.name: path.read_bytes() for path in (project / "evaluated").iterdir()}
    shutil.rmtree(project / "sealed/test")
    monkeypatch.setattr(shards, "FILE_BYTES", 300)  # twelve images
    starts = shards.starts_of(np.arange(80, dtype=np.uint64)[:, None] << np.uint64(57))  # the last files are empty
    about: dict[str, Any] = {"sealed": True, "starts": starts}
    write_split(project / "sealed/test", "test", images_of(BRIGHT), np.array(LABELS), CLASSES, **about)
    assert len(list((project / "sealed/test").glob("images-*.npy"))) > 3

    call(project, store)

    assert {path.name: path.read_bytes() for path in (project / "evaluated").iterdir()} == whole


def test_evaluate_predictions_follow_the_order_of_the_sealed_images(project: Path, store: TrackingParams) -> None:
    call(project, store)
    found = rows(project / "evaluated/predictions.csv")
    assert [row["index"] for row in found] == [str(n) for n in range(80)]
    assert [row["label"] for row in found] == [CLASSES[k] for k in LABELS]
    assert [row["predicted"] for row in found] == [CLASSES[k] for k in BRIGHT]
    assert found[-1]["probability"] == f"{SURE_OF_DARK:.6f}"
    kept = np.load(project / "evaluated/probabilities.npy", allow_pickle=False)
    assert kept.shape == (80, 2)
    assert kept[-1] == pytest.approx([SURE_OF_DARK, 1 - SURE_OF_DARK])


def test_evaluate_reference_is_what_the_stored_model_answers(project: Path, store: TrackingParams) -> None:
    call(project, store)
    with np.load(project / "evaluated/reference.npz", allow_pickle=False) as reference:
        images, labels, probabilities = reference["images"], reference["labels"], reference["probabilities"]
    assert (images.shape, images.dtype) == ((64, 1, 5, 5), np.uint8)
    assert labels.tolist() == LABELS[:64]
    _, model = TrainedModel.load(project / "retrained")
    np.testing.assert_allclose(probabilities, predict_probabilities(model, images), atol=1e-6)


def test_evaluate_tells_the_run_of_the_retraining(project: Path, store: TrackingParams, run_id: str) -> None:
    returned = call(project, store)
    client = connect(store).client
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    told = {name.removeprefix("test_"): value for name, value in run.data.metrics.items() if name.startswith("test_")}
    assert told == pytest.approx({name: value for name, value in returned.items() if name not in ("count", "groups")})
    assert run.data.metrics["recall_dark"] == pytest.approx(37 / 39)
    assert run.data.metrics["recall_bright_white"] == pytest.approx(38 / 41)
    assert run.data.metrics["train_loss"] == 0.1
    there = {artifact.path for artifact in client.list_artifacts(run_id, "evaluation")}
    assert {"evaluation/confusion.png", "evaluation/calibration.png", "evaluation/per_class.csv"} <= there
    assert not {"evaluation/reference.npz", "evaluation/probabilities.npy"} & there  # no sealed image leaves data/


def test_evaluate_twice_writes_the_same_files_and_tells_nothing_twice(
    project: Path, store: TrackingParams, run_id: str
) -> None:
    out = project / "evaluated"
    call(project, store)
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    shutil.rmtree(out)
    call(project, store)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    client = connect(store).client
    assert all(len(client.get_metric_history(run_id, name)) == 1 for name in client.get_run(run_id).data.metrics)


def test_evaluate_prints_the_result_and_the_weakest_classes(
    project: Path, store: TrackingParams, capsys: pytest.CaptureFixture[str]
) -> None:
    call(project, store)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "held-out test set: 80 images, 2 classes"
    assert lines[1].startswith("  accuracy  0.9375  (95% interval 0.86")
    assert [line.split()[0] for line in lines[-2:]] == ["bright/white", "dark"]


def test_evaluate_weights_changed_is_refused_and_writes_nothing(project: Path, store: TrackingParams) -> None:
    weights = project / "retrained/weights.pt"
    state = torch.load(weights, weights_only=True)
    next(iter(state.values())).add_(1e-3)
    torch.save(state, weights)
    with pytest.raises(InputError, match=r"weights\.pt is not what .*model\.json describes"):
        call(project, store)
    assert not (project / "evaluated").exists()


@pytest.mark.parametrize(
    ("classes", "size", "message"),
    [
        (("dark", "light"), 5, r"its classes must be .* got \['dark', 'light'\] for \['dark', 'bright/white'\]"),
        (("bright/white", "dark"), 5, "its classes must be those of the test images"),
        (CLASSES, 6, r"its shape .* got \[1, 6, 6\] for \[1, 5, 5\]: run `dvc repro retrain`"),
    ],
)
def test_evaluate_model_for_other_images_is_refused_and_writes_nothing(
    project: Path, store: TrackingParams, run_id: str, classes: tuple[str, ...], size: int, message: str
) -> None:
    write_model(project / "retrained", run_id, classes, size)
    with pytest.raises(InputError, match=message):
        call(project, store)
    assert not (project / "evaluated").exists()


def test_evaluate_run_that_mlflow_has_lost_keeps_the_files_and_says_what_to_do(
    project: Path, store: TrackingParams
) -> None:
    write_model(project / "retrained", "f" * 32)
    with pytest.raises(PodiumError, match=r"run f{32} .*can't be given the evaluation.*`podium sync` first"):
        call(project, store)
    assert sorted(path.name for path in (project / "evaluated").iterdir()) == FILES


def test_evaluate_store_away_and_back_again_tells_the_run(project: Path, store: TrackingParams, run_id: str) -> None:
    database = project / "mlruns/mlflow.db"
    away = TrackingParams(uri=f"sqlite:///{project}/split.json/mlflow.db")
    (project / "split.json").write_text("a file where a folder should be")
    with pytest.raises(PodiumError, match=r"tracking\.uri: .*then run again"):
        call(project, away)
    assert (project / "evaluated/metrics.json").is_file()
    call(project, store)
    assert database.is_file()
    assert connect(store).client.get_run(run_id).data.metrics["test_accuracy"] == 75 / 80


def test_evaluate_class_names_alike_after_cleaning_are_told_apart(
    project: Path, store: TrackingParams, run_id: str
) -> None:
    classes = ("a?", "a!")
    shutil.rmtree(project / "sealed")
    write_split(project / "sealed/test", "test", images_of(BRIGHT), np.array(LABELS), classes, sealed=True)
    write_model(project / "retrained", run_id, classes)
    call(project, store)
    told = connect(store).client.get_run(run_id).data.metrics
    assert (told["recall_a__0"], told["recall_a__1"]) == pytest.approx((37 / 39, 38 / 41))


def test_evaluate_names_files_links_copies_and_shows_what_spoke_for_an_error(
    project: Path, store: TrackingParams
) -> None:
    """The two bright images that are labelled dark show the same, so one of them is shown."""
    files = [ImageFile(f"x/{n}.png", f"data/raw/x/{n}.png", str(n)) for n in range(80)]
    files[39] = ImageFile("x/39.png", "", "38")
    same = np.array([38 if number == 39 else number for number in range(80)])
    about: dict[str, Any] = {"sealed": True, "files": files, "duplicates": same}
    write_split(project / "sealed/test", "test", images_of(BRIGHT), np.array(LABELS), CLASSES, **about)
    call(project, store)
    found = rows(project / "evaluated/predictions.csv")
    assert [(row["file"], row["copy_of"]) for row in found[38:41]] == [
        ("data/raw/x/38.png", ""),
        ("x/39.png", "38"),
        ("data/raw/x/40.png", ""),
    ]
    shown = json.loads((project / "evaluated/gallery.json").read_text(encoding="utf-8"))
    worst = [entry for entry in shown if entry["kind"] == "worst"]
    assert [(entry["file"], entry["copies"]) for entry in worst if entry["label"] == "dark"] == [("x/38.png", 2)]
    assert {entry["map_kind"] for entry in worst} == {
        "occlusion"
    }  # five pixels: the last convolution has one place left


@pytest.mark.parametrize(("devices", "expected"), [(1, "cuda"), (2, "auto")])
def test_evaluate_beside_a_retraining_on_a_cluster_takes_the_device_that_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: int, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(f"runtime: {{device: cuda, devices: {devices}}}\n", encoding="utf-8")
    seen: list[Any] = []
    monkeypatch.setattr("podium.stages.evaluate.evaluate", lambda *given: seen.extend(given))
    main()
    assert expected in seen


def test_metrics_that_are_asked_for_are_among_the_figures(project: Path, store: TrackingParams, run_id: str) -> None:
    params = EvaluateParams(metrics=[Choice(name="mcc"), Choice(name="brier")])
    places = project / "sealed", project / "retrained", project / "evaluated"
    found = evaluate(params, store, *places, Choice(name="balanced_accuracy"))
    assert found["balanced_accuracy_low"] <= found["balanced_accuracy"] <= found["balanced_accuracy_high"]
    assert {"mcc", "brier"} <= set(found)
    about = json.loads((project / "evaluated/evaluation.json").read_text(encoding="utf-8"))
    assert (about["metric"], about["direction"], about["percent"]) == ("balanced_accuracy", "maximize", True)
    logged = connect(store).client.get_run(run_id).data.metrics
    assert logged["test_balanced_accuracy"] == pytest.approx(found["balanced_accuracy"])
    assert logged["test_mcc"] == pytest.approx(found["mcc"])


def abstaining(project: Path, store: TrackingParams, error: float, wrong: int = 0) -> dict[str, float]:
    """Validation: 60 bright images, of which it is sure, and 40 dark ones, of which `wrong` are labelled bright."""
    labels = np.array([1] * 60 + [1] * wrong + [0] * (40 - wrong))
    write_split(project / "prepared/val", "val", images_of([1] * 60 + [0] * 40), labels, CLASSES)
    places = project / "sealed", project / "retrained", project / "evaluated"
    return evaluate(EvaluateParams(abstain=error), store, *places, prepared=project / "prepared")


def test_evaluate_abstain_chooses_on_validation_and_checks_on_the_test_set(
    project: Path, store: TrackingParams, run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(project / "retrained", run_id, splits=("train",))
    found = abstaining(project, store, 0.06, wrong=20)
    assert (found["coverage"], found["answered_error"]) == (0.5, 2 / 40)  # the bright ones: two of them are dark
    assert found["answered_error_high"] > 0.06
    about = json.loads((project / "evaluated/abstain.json").read_text(encoding="utf-8"))
    assert about["threshold"] > SURE_OF_DARK
    assert about["validation"] == {"images": 100, "answered": 60, "wrong": 0}
    assert (about["test"], about["finding"]) == ({"images": 80, "answered": 40, "wrong": 2}, "not contradicted")
    curve = rows(project / "evaluated/coverage.csv")
    assert [(row["coverage"], row["error"]) for row in curve] == [("0.500000", "0.050000"), ("1.000000", "0.062500")]
    assert float(curve[0]["threshold"]) == about["threshold"]
    assert f"at least {about['threshold']!r}: promised is an error of 0.06 at most" in capsys.readouterr().out
    client = connect(store).client
    assert client.get_run(run_id).data.metrics["test_coverage"] == 0.5
    there = {artifact.path for artifact in client.list_artifacts(run_id, "evaluation")}
    assert {"evaluation/abstain.json", "evaluation/coverage.csv", "evaluation/coverage.png"} <= there
    assert client.get_run(run_id).data.tags["podium.abstain_threshold"] == repr(about["threshold"])
    call(project, store)
    assert sorted(path.name for path in (project / "evaluated").iterdir()) == FILES  # off: as it was
    left = {artifact.path for artifact in client.list_artifacts(run_id, "evaluation")}
    assert left == there - {"evaluation/abstain.json", "evaluation/coverage.csv", "evaluation/coverage.png"}
    assert client.get_run(run_id).data.tags["podium.abstain_threshold"] == "none"


@pytest.mark.parametrize(
    ("splits", "error", "wrong", "message"),
    [
        (("train", "val"), 0.06, 0, "this model has learnt them: set retrain.images: train"),
        (
            ("train",),
            0.02,
            0,
            "even without a wrong prediction 149 validation images are needed, and there are 100; 0.03",
        ),
        (("train",), 0.04, 30, r"too many of the most confident .*; 0\.049 can be promised, answering 60% of them"),
    ],
)
def test_evaluate_abstain_that_can_not_be_reached_is_refused_before_the_test_set_is_opened(
    project: Path, store: TrackingParams, run_id: str, splits: tuple[str, ...], error: float, wrong: int, message: str
) -> None:
    write_model(project / "retrained", run_id, splits=splits)
    with pytest.raises(InputError, match=message):
        abstaining(project, store, error, wrong)
    assert not (project / "evaluated").exists()
    assert accesses_now(project) == []


def accesses_now(project: Path) -> list[str]:
    """Who opened the test set, each time."""
    digest = json.loads((project / "sealed/test/split.json").read_text(encoding="utf-8"))["digest"]
    return list(accesses.known(digest).values())


@pytest.mark.parametrize(
    ("classes", "size", "message"),
    [
        (CLASSES, 6, r"its shape .* the validation images; got \[1, 5, 5\] for \[1, 6, 6\]"),
        (CLASSES[::-1], 5, "its classes must be those of the validation images"),
    ],
)
def test_evaluate_abstain_with_other_validation_images_is_refused_before_the_test_set_is_opened(
    project: Path, store: TrackingParams, run_id: str, classes: tuple[str, ...], size: int, message: str
) -> None:
    write_model(project / "retrained", run_id, splits=("train",))
    write_split(project / "prepared/val", "val", images_of(BRIGHT, size), np.array(LABELS), classes)
    places = project / "sealed", project / "retrained", project / "evaluated"
    with pytest.raises(InputError, match=message):
        evaluate(EvaluateParams(abstain=0.1), store, *places, prepared=project / "prepared")
    assert accesses_now(project) == []


@pytest.mark.parametrize("role", ["search.metric", "evaluate.metrics"])
def test_evaluate_metric_that_does_not_fit_the_classes_is_refused_before_the_test_set_is_opened(
    project: Path, store: TrackingParams, role: str
) -> None:
    metric = Choice(name="recall_at_precision", arguments={"class_name": "nope"})
    places = project / "sealed", project / "retrained", project / "evaluated"
    params, objective = EvaluateParams(metrics=[metric]), Choice(name="accuracy")
    if role == "search.metric":
        params, objective = EvaluateParams(), metric
    with pytest.raises(InputError, match=rf"{role}: recall_at_precision: class_name must be a class; got 'nope'"):
        evaluate(params, store, *places, objective)
    assert accesses_now(project) == []


def test_evaluate_abstain_predicts_validation_and_test_images_on_the_device(
    project: Path, store: TrackingParams, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices: list[tuple[int, str]] = []

    def on_device(
        model: torch.nn.Module, images: Any, where: torch.device, *into: Any
    ) -> tuple[NDArray[np.float32], float]:
        devices.append((len(images), where.type))
        return predict_probabilities(model, images, **({"into": into[0]} if into else {})), 0.0

    for module in (evaluate_stage, answering):
        monkeypatch.setattr(module, "predict_on", on_device)
    monkeypatch.setattr(evaluate_stage, "pick", lambda wanted: torch.device(wanted))
    write_model(project / "retrained", run_id, splits=("train",))
    write_split(project / "prepared/val", "val", images_of(BRIGHT), np.array(LABELS), CLASSES)
    places = project / "sealed", project / "retrained", project / "evaluated"
    evaluate(EvaluateParams(abstain=0.3), store, *places, device="mps", prepared=project / "prepared")
    assert devices == [(80, "mps"), (80, "mps")]
    assert accesses_now(project) == ["evaluate"]
