"""Folds of train and validation: who is judged where, and a confirmation by them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from podium.config.params import TrackingParams
from podium.data.dataset import open_split, write_split
from podium.data.image_files import ImageFile
from podium.data.shards import Shards
from podium.errors import InputError
from podium.training.batches import Batches
from podium.tuning.confirm import confirm
from podium.tuning.folds import LearningSet, assign, warning
from podium.tuning.outcome import search
from podium.tuning.work import TrialData


def _images(train: int, val: int, group_of: int = 1, classes: int = 2) -> LearningSet:
    """Images in turn of each class; so many of one class in a row share a picture."""
    labels = np.arange(train + val) % classes
    names = [f"{label}-{number // classes // group_of}" for number, label in enumerate(labels)]
    files = [ImageFile(f"{number}.png", "", name) for number, name in enumerate(names)]
    _, pictures = np.unique(names, return_inverse=True)
    return LearningSet(labels, files, tuple("abcdefgh"[:classes]), pictures[train:])


@pytest.mark.parametrize("group_of", [1, 3])
def test_every_image_is_judged_once_and_groups_stay_together(group_of: int) -> None:
    images = _images(80, 20, group_of)
    fold = assign(images, 5)
    assert sorted(set(fold.tolist())) == [0, 1, 2, 3, 4]
    by_group: dict[str, set[int]] = {}
    for one, number in zip(images.files, fold.tolist(), strict=True):
        by_group.setdefault(one.group, set()).add(number)
    assert all(len(folds) == 1 for folds in by_group.values())
    for number in range(5):
        assert abs(int((images.labels[fold == number] == 0).sum()) - 10) <= group_of
    assert np.array_equal(assign(images, 5), fold)
    assert not np.array_equal(assign(images, 5, seed=1), fold)


def test_folds_of_a_class_with_too_few_groups_are_refused() -> None:
    with pytest.raises(InputError, match=r"^select\.folds: every class needs a group .* got 5 folds, .* of a \(4\), b"):
        assign(_images(32, 8, group_of=5), 5)
    with pytest.raises(InputError, match="Lowering it does not help: one group can't be divided, or add images"):
        assign(_images(1, 1), 2)


@pytest.mark.parametrize(
    ("train", "val", "group_of", "folds", "sentence"),
    [
        (80, 20, 1, 0, ""),
        (80, 18, 1, 0, "fewer than 10 validation images of a (9), b (9): one image decides much"),
        (80, 40, 4, 0, "select.folds: 5 chooses by all"),
        (4, 2, 1, 0, "select.folds: 3 chooses by all"),
        (2, 1, 1, 0, "add images"),
        (80, 18, 1, 5, ""),
        (2000, 18, 1, 0, "add images"),
    ],
)
def test_few_validation_images_are_named(train: int, val: int, group_of: int, folds: int, sentence: str) -> None:
    found = warning(_images(train, val, group_of), folds)
    assert sentence in found
    assert bool(found) is bool(sentence)


def test_what_judges_is_not_trained_on(tmp_path: Path) -> None:
    data = tiny.trial_data(tiny.prepare(tmp_path, 60, 20))
    train, val = data.divided([0, 61, 79])
    assert (len(train), len(val)) == (77, 3)
    assert val.labels.tolist() == [int(data.train.labels[0]), int(data.val.labels[1]), int(data.val.labels[19])]
    assert data.divided([]) == (data.train, data.val)


@pytest.mark.slow
def test_confirmation_by_folds_judges_every_image_of_train_and_val(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: TrackingParams, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.prepare(tmp_path / "prepared")
    params = tiny.params(store, "n_trials: 3")
    search(params, tmp_path / "prepared", tmp_path / "search")
    by_folds = params.model_copy(update={"select": params.select.model_copy(update={"folds": 4})})
    chosen = confirm(by_folds, tmp_path / "prepared", tmp_path / "search", tmp_path / "selected")
    assert [len(entry["values"]) for entry in chosen["candidates"]] == [4, 4]
    assert chosen["folds"] == 4
    assert chosen["optimism"] is None
    assert "over 4 folds of train and val" in capsys.readouterr().out
    assert json.loads((tmp_path / "selected/config.json").read_text(encoding="utf-8")) == chosen


def test_images_of_an_earlier_podium_are_prepared_again_first(tmp_path: Path) -> None:
    tiny.prepare(tmp_path)
    (tmp_path / "val/files.csv").unlink()
    with pytest.raises(InputError, match="run `dvc repro prepare`"):
        LearningSet.read(tmp_path)
    images, labels = tiny.pixels(6, 0)
    write_split(tmp_path / "val", "val", images, labels, tiny.CLASSES)
    assert len(LearningSet.read(tmp_path).files) == 66


def test_images_that_do_not_fit_into_memory_have_no_folds(tmp_path: Path) -> None:
    splits = [open_split(tiny.prepare(tmp_path) / name) for name in ("train", "val")]
    device = torch.device("cpu")
    train, val = (Batches.mapped([split], device) for split in splits)
    with pytest.raises(InputError, match=r"^folds \(select\.folds, podium relabel\) need all 80 images"):
        TrialData(train, val, tiny.IMAGES, device).divided([0])


def test_images_in_several_files_that_fit_have_the_folds_of_those_in_one(tmp_path: Path) -> None:
    train, val = (open_split(tiny.prepare(tmp_path) / name) for name in ("train", "val"))
    device = torch.device("cpu")
    whole = TrialData.load(tmp_path, device)
    files = replace(train, images=Shards(np.split(np.asarray(train.images), [20, 50])))
    several = TrialData(Batches.of([files], device), Batches.of([val], device), tiny.IMAGES, device)
    for one, same in zip(several.divided([0, 25, 79]), whole.divided([0, 25, 79]), strict=True):
        assert torch.equal(one.images[:], same.images[:])
        assert torch.equal(one.labels, same.labels)
