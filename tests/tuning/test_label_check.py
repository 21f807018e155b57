"""Doubtful labels are found by networks that have not seen them, and what a person decided stays."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from podium.cli import main
from podium.data.dataset import write_split
from podium.data.image_files import ImageFile
from podium.tuning.folds import LearningSet
from podium.tuning.label_check import Doubt, doubts, write_doubts

WRONG = (0, 7, 20)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_relabel_finds_labels_that_were_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of 90 labels are wrong; the sealed images are not even there, nor is the GPU of the retraining's ranks."""
    monkeypatch.chdir(tmp_path)
    prepared = tiny.prepare(tmp_path / "data/prepared", 90, 30)
    images, labels = tiny.pixels(90, 1)
    labels[list(WRONG)] = (labels[list(WRONG)] + 1) % 3
    files = [ImageFile(f"{n}.png", f"raw/{n}.png", str(n)) for n in range(90)]
    write_split(prepared / "train", "train", images, labels, tiny.CLASSES, files=files)
    (tmp_path / "params.yaml").write_text(
        "model: {width: 4, hidden: 16}\ntrain: {epochs: 30, batch_size: 16, label_smoothing: 0.0}\n"
        "runtime: {device: cuda, devices: 2}\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    main(["relabel", "--folds", "3", "--out", "second.csv"])
    found = {row["path"]: row for row in _rows(tmp_path / "data/labels/second.csv")}
    assert {f"{n}.png" for n in WRONG} <= set(found)
    assert len(found) <= 8
    row = found["7.png"]
    assert (row["label"], row["suggested"]) == (tiny.CLASSES[labels[7]], tiny.CLASSES[7 % 3])
    assert row["file"] == "raw/7.png"
    assert row["new_label"] == row["leave_out"] == ""


def _images(count: int = 30) -> LearningSet:
    files = [ImageFile(f"{n}.png", "", str(n)) for n in range(count)]
    return LearningSet(np.arange(count) % 3, files, tiny.CLASSES, np.arange(6))


def test_doubts_are_the_labels_that_sure_predictions_contradict() -> None:
    images = _images()
    probabilities = np.full((30, 3), 0.05)
    probabilities[np.arange(30), images.labels] = 0.9
    probabilities[4] = [0.05, 0.02, 0.93]
    (found,) = doubts(images, probabilities)
    assert found == Doubt(4, 2, 0.02, 0.93)


def test_labels_without_a_doubt_give_an_empty_table(tmp_path: Path) -> None:
    images = _images()
    assert doubts(images, np.eye(3)[images.labels] * 0.9 + 0.1 / 3) == []
    assert write_doubts(tmp_path / "x.csv", images, []) == 0
    assert _rows(tmp_path / "x.csv") == []


def test_what_a_person_decided_stays_and_is_not_asked_again(tmp_path: Path) -> None:
    path, images = tmp_path / "labels/x.csv", _images()
    assert write_doubts(path, images, [Doubt(1, 2, 0.1, 0.9), Doubt(2, 0, 0.2, 0.8)]) == 2
    rows = _rows(path)
    rows[0]["new_label"] = "top"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert write_doubts(path, images, [Doubt(1, 2, 0.1, 0.9), Doubt(5, 0, 0.3, 0.7)]) == 1
    assert [(row["path"], row["new_label"]) for row in _rows(path)] == [("1.png", "top"), ("5.png", "")]


def test_what_a_person_noted_in_a_column_of_their_own_stays(tmp_path: Path) -> None:
    path, images = tmp_path / "x.csv", _images()
    head = "comment;path;label;new_label;leave_out;suggested\n"
    path.write_text(
        head + "a cat;1.png;left;;;right\n;2.png;left;;;top\nblurred;3.png;left;;yes;top\n", encoding="utf-8"
    )
    assert write_doubts(path, images, [Doubt(1, 2, 0.1, 0.9), Doubt(5, 0, 0.3, 0.7)]) == 1
    found = {row["path"]: row for row in _rows(path)}
    assert list(found) == ["1.png", "3.png", "5.png"]
    assert (found["1.png"]["comment"], found["1.png"]["suggested"], found["1.png"]["new_label"]) == (
        "a cat",
        "right",
        "",
    )
    assert (found["3.png"]["comment"], found["3.png"]["leave_out"]) == ("blurred", "yes")


def test_relabel_names_its_own_parameter_where_a_class_has_too_few_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.prepare(tmp_path / "data/prepared", 9, 3)
    (tmp_path / "params.yaml").write_text("", encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        main(["relabel", "--folds", "5"])
    told = capsys.readouterr().err
    assert "--folds: every class needs a group of images for each fold" in told
    assert "Lower it to 4, or add images" in told


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--folds", "1"], "--folds must be 2 to 20; got 1"),
        (["--out", "../x.csv"], "--out must be the name of a .csv file in data/labels"),
    ],
)
def test_relabel_refuses_what_it_cannot_do(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["relabel", *words])
    assert sentence in capsys.readouterr().err


def test_relabel_says_before_the_trainings_that_its_file_can_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/labels").mkdir(parents=True)
    Path("data/labels/suspicious.csv").write_text("path,label\ncat/00.png,cat\n", encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["relabel"])
    assert ended.value.code == 2
    assert "suspicious.csv must have the columns path, label, new_label" in capsys.readouterr().err
