"""Torchvision's own readers on small files made here. Nothing is downloaded."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

import idx
from data.sources.reading import given, pixels
from podium.config.params import PrepareParams
from podium.data.sources import read
from podium.data.sources.source import Source
from podium.data.sources.torchvision import SETS
from podium.errors import InputError


def _read(name: str, root: Path, **arguments: Any) -> Source:
    return read(PrepareParams(source=f"torchvision:{name}", root=str(root), arguments=arguments))


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("place", ["FashionMNIST/raw", "FashionMNIST", "."])
def test_idx_files_wherever_they_lie_are_read_with_their_test_split(tmp_path: Path, place: str, packed: bool) -> None:
    idx.write(tmp_path / place, train=3, test=2, packed=packed)

    source = _read("FashionMNIST", tmp_path)

    images, labels = idx.pixels(3, seed=1)
    got, known = pixels(source)
    assert got.shape == (50, 1, 8, 8)
    assert np.array_equal(got[:30, 0], images)
    assert np.array_equal(known[:30], labels)
    assert given(source) == ["train"] * 30 + ["test"] * 20
    assert source.classes[0] == "T-shirt/top"


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST"])
def test_idx_classes_are_those_of_torchvision(tmp_path: Path, name: str) -> None:
    idx.write(tmp_path, train=1, test=1)

    assert list(_read(name, tmp_path).classes) == getattr(datasets, name).classes


def test_idx_files_in_a_folder_that_can_not_be_written_are_read_and_left(tmp_path: Path) -> None:
    idx.write(tmp_path, packed=True)
    before = sorted(tmp_path.rglob("*"))

    _read("MNIST", tmp_path)

    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "fashionmnist",
            "fashionmnist is no classification set of torchvision; did you mean torchvision:FashionMNIST?",
        ),
        ("CIFAR1O", "CIFAR1O is no classification set of torchvision; did you mean torchvision:CIFAR10"),
        ("VOCDetection", "VOCDetection is no classification set of torchvision; available: CIFAR10, CIFAR100,"),
    ],
)
def test_unknown_set_is_refused_with_the_one_that_was_meant(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        _read(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("FashionMNIST", r"Put train-images-idx3-ubyte, .* \(or \.gz\) into .*/FashionMNIST/raw\."),
        ("CIFAR10", "Put its files into .*/cifar-10-batches-py"),
        ("GTSRB", "Put its files into .*, in the folders that torchvision expects"),
        ("SVHN", "Put its files into "),
    ],
)
def test_missing_files_are_refused_with_the_folder_and_the_remedy(tmp_path: Path, name: str, remedy: str) -> None:
    with pytest.raises(InputError, match=rf"can't read {name} in {tmp_path}: .*not found.*{remedy}") as caught:
        _read(name, tmp_path)

    assert str(caught.value).endswith("Or set prepare.download: true.")


@pytest.mark.parametrize("name", idx.NAMES)
def test_truncated_idx_file_is_refused(tmp_path: Path, name: str) -> None:
    idx.write(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-5])

    with pytest.raises(InputError, match=rf"{name} is damaged: it must be an IDX file .*as long as its header says"):
        _read("MNIST", tmp_path)


def test_truncated_gz_file_is_refused_by_name(tmp_path: Path) -> None:
    idx.write(tmp_path, packed=True)
    path = tmp_path / f"{idx.NAMES[0]}.gz"
    path.write_bytes(path.read_bytes()[:-30])

    with pytest.raises(InputError, match=rf"{path} is damaged"):
        _read("MNIST", tmp_path)


def test_label_beyond_the_classes_is_refused(tmp_path: Path) -> None:
    idx.write(tmp_path)
    idx.write_file(tmp_path / idx.NAMES[1], np.full(200, 17, np.uint8))

    with pytest.raises(InputError, match="labels in .*train-labels-idx1-ubyte must be 0 to 9; got 17"):
        _read("MNIST", tmp_path)


def test_colour_arrays_with_channels_last_come_channels_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = _write_cifar10(tmp_path / "cifar-10-batches-py", monkeypatch)

    source = _read("CIFAR10", tmp_path)

    got, labels = pixels(source)
    assert np.array_equal(got, np.concatenate([images] * 6))
    assert labels.tolist() == [0, 1] * 6
    assert given(source) == ["train"] * 10 + ["test"] * 2
    assert source.classes == ("cat", "dog")


def test_colour_arrays_with_channels_first_stay_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
    digests = {}
    for part in ("train", "test"):
        path = tmp_path / f"{part}_32x32.mat"
        savemat(path, {"X": images.transpose(2, 3, 1, 0), "y": np.arange(1, 13)[:, None] % 10})
        digests[part] = ["", path.name, _md5(path)]
    monkeypatch.setattr(datasets.SVHN, "split_list", digests)

    source = _read("SVHN", tmp_path)

    assert np.array_equal(pixels(source)[0], np.concatenate([images] * 2))
    assert source.classes == tuple("0123456789")


def test_set_of_image_files_is_read_one_by_one(tmp_path: Path) -> None:
    _write_eurosat(tmp_path, [(6, 6)] * 4)

    source = _read("EuroSAT", tmp_path)

    images, labels = pixels(source)
    assert images.shape == (4, 3, 6, 6)
    assert images[:, 0, 0, 0].tolist() == [0, 20, 10, 30]  # by class
    assert labels.tolist() == [0, 0, 1, 1]
    assert source.classes == ("Forest", "River")
    assert given(source) == [None] * 4


def test_set_with_arguments_of_its_own_takes_them(tmp_path: Path) -> None:
    source = _read("FakeData", tmp_path, size=12, num_classes=3)

    assert len(source.items) == 12


@pytest.mark.parametrize(
    ("name", "argument", "message"),
    [
        ("CIFAR10", "train", r"prepare\.arguments\.train: is no argument of CIFAR10 that is free; those are none"),
        ("DTD", "partiton", r"prepare\.arguments\.partiton: is no argument of DTD that is free; those are partition"),
    ],
)
def test_argument_that_is_not_free_is_refused(tmp_path: Path, name: str, argument: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _read(name, tmp_path, **{argument: 1})


def test_every_set_is_a_class_of_torchvision() -> None:
    assert [name for name in SETS if not hasattr(datasets, name)] == []


def _write_cifar10(folder: Path, monkeypatch: pytest.MonkeyPatch) -> NDArray[np.uint8]:
    """CIFAR10's files with two images each, and torchvision's checksums set to theirs."""
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    batch = {"data": images.reshape(2, -1), "labels": [0, 1]}
    for name, content in {"batch": batch, "meta": {"label_names": ["cat", "dog"]}}.items():
        (folder / name).write_bytes(pickle.dumps(content))  # the form in which CIFAR10 is published
    one = ["batch", _md5(folder / "batch")]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [one] * 5)
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [one])
    meta = {"filename": "meta", "key": "label_names", "md5": _md5(folder / "meta")}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    return images


def _write_eurosat(root: Path, sizes: list[tuple[int, int]]) -> None:
    """EuroSAT's folders with PNGs (width, height) of one colour, taking turns between two classes."""
    for number, size in enumerate(sizes):
        folder = root / "eurosat/2750" / ("Forest", "River")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (10 * number, 1, 2)).save(folder / f"{number}.png")


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
