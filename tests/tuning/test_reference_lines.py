"""What the validation images give without a search, and what is said of a search that does not beat it."""

from pathlib import Path

import numpy as np
import pytest
import torch

import photos
import tiny
from own import OwnCode
from podium.config.params import Params, parse
from podium.data import shards
from podium.data.dataset import DatasetInfo, open_split, write_split
from podium.tuning import reference_measuring
from podium.tuning.reference_lines import Line, Lines, described, lines_of, remedies, verdict
from podium.tuning.reference_measuring import measure, spread


def _photographs(folder: Path, side: int) -> Path:
    """Tiles of two photographs, one class each, as data/prepared."""
    tiles = [np.asarray(tile.resize((side, side))).transpose(2, 0, 1) for tile in photos.tiles()]
    images, labels = np.stack(tiles), (np.arange(48) >= 24).astype(np.int64)
    for name, rows in (("train", np.arange(48) % 3 > 0), ("val", np.arange(48) % 3 == 0)):
        write_split(folder / name, name, images[rows], labels[rows], ("china", "flower"))
    DatasetInfo("photos", ["china", "flower"], [3, side, side], {}, [0.5] * 3, [0.3] * 3, "0" * 64).write(folder)
    return folder


def _params(metric: str = "accuracy") -> Params:
    return parse(f"search: {{metric: {metric}}}\n")


def _lines(*values: float, direction: str = "maximize") -> Lines:
    named = zip(("majority", "simple", "pretrained"), values, strict=False)
    lines = tuple(Line(name, value, value, 100) for name, value in named)
    return Lines("accuracy" if direction == "maximize" else "loss", direction, 20, lines, {})


def test_lines_of_small_images_are_majority_and_simple_features(tmp_path: Path) -> None:
    lines = measure(_params(), tiny.prepare(tmp_path))
    found = {line.name: line.value for line in lines.lines}
    assert found["majority"] == pytest.approx(7 / 20)
    assert found["simple"] > 0.9  # a half that is bright is all that there is to learn
    assert lines.skipped == {"pretrained": "images of 8 pixels are too small (at least 32)"}
    assert Lines.from_dict(lines.to_dict()) == lines
    assert measure(_params(), tmp_path) == lines


def test_lines_of_images_in_several_files_are_those_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = measure(_params(), tiny.prepare(tmp_path / "one"))
    monkeypatch.setattr(shards, "FILE_BYTES", 4096)
    tiny.prepare(tmp_path / "several")
    starts = shards.starts_of(np.arange(60, dtype=np.uint64)[:, None] << np.uint64(58))
    train = open_split(tmp_path / "one/train")
    write_split(tmp_path / "several/train", "train", train.images, train.labels, train.classes, starts=starts)
    assert isinstance(open_split(tmp_path / "several/train").images, shards.Shards)
    assert measure(_params(), tmp_path / "several") == one


@pytest.mark.parametrize(("strengths", "is_there"), [(0, False), (1, True), (2, True)])
def test_line_of_too_much_work_has_fewer_strengths_or_says_why_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strengths: int, is_there: bool
) -> None:
    prepared = tiny.prepare(tmp_path)
    train = open_split(prepared / "train")
    features = 8 * 8 * 3 + 3 * reference_measuring.BINS  # a small picture and three histograms
    one = len(train.labels) * features * len(train.classes) * reference_measuring.LEAST_ITERATIONS
    monkeypatch.setattr(reference_measuring, "MOST_WORK", (strengths + 0.5) * one)

    lines = measure(_params(), prepared)

    assert ("simple" in {line.name for line in lines.lines}) is is_there
    assert ("would take minutes" in lines.skipped.get("simple", "")) is not is_there
    assert lines.strongest.name == ("simple" if is_there else "majority")


@pytest.mark.parametrize("present", [(0, 1), (0,)])
def test_class_without_a_training_image_is_never_answered(tmp_path: Path, present: tuple[int, ...]) -> None:
    prepared = tiny.prepare(tmp_path)
    train = open_split(prepared / "train")
    rows = np.isin(train.labels, present)
    write_split(prepared / "train", "train", train.images[rows], train.labels[rows], train.classes)
    lines = measure(_params("macro_f1"), prepared)
    named = [line.name for line in lines.lines]
    if len(present) == 1:
        assert named == ["majority"]
        assert lines.skipped["simple"] == "all training images are of one class"
    else:
        assert named == ["majority", "simple"]
        assert 0.5 < lines.lines[1].value < 0.7  # two of three classes are told


def test_lines_are_by_the_metric_of_the_search(tmp_path: Path) -> None:
    lines = measure(_params("loss"), tiny.prepare(tmp_path))
    assert lines.direction == "minimize"
    assert lines.strongest.name == "simple"
    assert {line.name: line.value for line in lines.lines}["majority"] == pytest.approx(np.log(3), abs=0.01)


@pytest.mark.slow
def test_lines_of_photographs_have_imagenet_features_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kernels: list[torch.device] = []
    monkeypatch.setattr(reference_measuring, "set_kernels", lambda where, **given: kernels.append(where))
    lines = measure(_params(), _photographs(tmp_path / "prepared", 64))
    assert [line.name for line in lines.lines] == ["majority", "simple", "pretrained"]
    assert kernels  # else features on CUDA would be computed in TF32
    assert lines.lines[2].value > 0.8
    assert len(list((tmp_path / "mlruns/features").glob("*.safetensors"))) == 2


@pytest.mark.parametrize(
    ("values", "direction", "best", "beaten"),
    [
        ((0.3, 0.6, 0.9), "maximize", 0.91, True),
        ((0.3, 0.6, 0.9), "maximize", 0.9, False),
        ((0.3, 0.6), "maximize", 0.5, False),
        ((1.1, 0.4), "minimize", 0.39, True),
        ((1.1, 0.4), "minimize", 0.4, False),
    ],
)
def test_lines_are_beaten_by_what_is_better_than_all(
    values: tuple[float, ...], direction: str, best: float, beaten: bool
) -> None:
    lines = _lines(*values, direction=direction)
    assert lines.beaten_by(best) is beaten
    assert bool(verdict(lines, best, {})) is not beaten


@pytest.mark.parametrize(
    ("strongest", "model", "sentence"),
    [
        ("pretrained", {"model.weights": ""}, "preset photos"),
        ("pretrained", {"model.weights": "imagenet", "train.backbone_rate": 0.0}, "train.backbone_rate 0.05"),
        ("pretrained", {"model.weights": "imagenet", "train.backbone_rate": 1.0}, "a lower train.backbone_rate"),
        ("simple", {"model.weights": ""}, "a lower train.learning_rate"),
        ("majority", {"model.weights": ""}, "podium doctor data"),
    ],
)
def test_remedy_follows_from_the_line_and_the_network(strongest: str, model: dict[str, object], sentence: str) -> None:
    assert sentence in "; ".join(remedies(strongest, model))


def test_console_shows_the_search_above_the_lines() -> None:
    shown = described(_lines(0.25, 0.5), 0.75, "the search's best (trial 3)")
    assert shown[0] == "baselines, accuracy on the same 20 validation images:"
    assert [line.split()[-1] for line in shown[1:]] == ["0.7500", "0.2500", "0.5000"]
    assert verdict(_lines(0.25, 0.5), 0.4, {}).startswith("No better than logistic regression on small pictures")


@pytest.mark.parametrize("most", [1, 7, 30, 500])
def test_rows_that_are_taken_have_every_class(most: int) -> None:
    labels = np.repeat([0, 1, 2], [200, 20, 2])
    rows = spread(labels, most)
    assert set(labels[rows]) == {0, 1, 2}
    assert len(rows) <= most + 3
    assert len(set(rows.tolist())) == len(rows)


@pytest.mark.parametrize(
    ("body", "there", "words"),
    [
        ("return 1 / (len(set(logits.argmax(1).tolist())) - 1)", {"simple"}, "fails: src/{m}.py, line 2, in odd: Zero"),
        ("return float('inf') if len(set(logits.argmax(1).tolist())) < 2 else 0.5", {"simple"}, "odd gives NaN or an"),
        ("return [][0]", set[str](), "search.metric: {m}:odd fails: src/{m}.py, line 2, in odd: IndexError"),
    ],
)
def test_line_that_an_own_metric_can_not_measure_is_left_out_and_said(
    own: OwnCode, tmp_path: Path, body: str, there: set[str], words: str
) -> None:
    module = own.write(f"def odd(logits, labels):\n    {body}\n\n\nodd.direction = 'maximize'\n")
    lines = measure(_params(f"{module}:odd"), tiny.prepare(tmp_path / "prepared"))
    assert {line.name for line in lines.lines} == there
    assert words.format(m=module) in lines.skipped["majority"]
    shown = described(lines, 0.75, "the search's best (trial 3)")
    assert any("majority class" in line and "not computed: " in line for line in shown)
    assert verdict(lines, 0.75, {}) == ""
    assert (lines_of(lines.to_dict()) is not None) is bool(there)
