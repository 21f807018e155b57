"""Torchvision's own readers on small files made here. Nothing is downloaded."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

import idx
from podium.errors import InputError
from podium.params import PrepareParams
from podium.sources import read
from podium.sources.images import RawImages
from podium.sources.torchvision import SETS


def _read(name: str, root: Path, *, download: bool = False) -> RawImages:
    return read(PrepareParams(source=f"torchvision:{name}", root=str(root), download=download))


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("place", ["FashionMNIST/raw", "FashionMNIST", "."])
def test_idx_files_wherever_they_lie_are_read_with_their_test_split(tmp_path: Path, place: str, packed: bool) -> None:
    idx.write(tmp_path / place, train=3, test=2, packed=packed)

    raw = _read("FashionMNIST", tmp_path)

    images, labels = idx.pixels(3, seed=1)
    assert raw.images.shape == (50, 1, 8, 8)
    assert np.array_equal(raw.images[:30, 0], images)
    assert np.array_equal(raw.labels[:30], labels)
    assert raw.given_test is not None
    assert raw.given_test.tolist() == [False] * 30 + [True] * 20
    assert raw.classes[0] == "T-shirt/top"


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
        ("VOCDetection", "VOCDetection is no classification set of torchvision; known here: CIFAR10, CIFAR100,"),
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

    with pytest.raises(InputError, match="torchvision can't read MNIST in"):
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

    with pytest.raises(InputError, match="labels of torchvision's MNIST must be 0 to 9; got 0 to 17"):
        _read("MNIST", tmp_path)


def test_colour_arrays_with_channels_last_come_channels_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = _write_cifar10(tmp_path / "cifar-10-batches-py", monkeypatch)

    raw = _read("CIFAR10", tmp_path)

    assert np.array_equal(raw.images, np.concatenate([images] * 6))
    assert raw.labels.tolist() == [0, 1] * 6
    assert raw.given_test is not None
    assert raw.given_test.tolist() == [False] * 10 + [True] * 2
    assert raw.classes == ("cat", "dog")


def test_colour_arrays_with_channels_first_stay_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
    digests = {}
    for part in ("train", "test"):
        path = tmp_path / f"{part}_32x32.mat"
        savemat(path, {"X": images.transpose(2, 3, 1, 0), "y": np.arange(1, 13)[:, None] % 10})
        digests[part] = ["", path.name, _md5(path)]
    monkeypatch.setattr(datasets.SVHN, "split_list", digests)

    raw = _read("SVHN", tmp_path)

    assert np.array_equal(raw.images, np.concatenate([images] * 2))
    assert raw.classes == tuple("0123456789")


def test_set_of_image_files_is_read_one_by_one(tmp_path: Path) -> None:
    _write_eurosat(tmp_path, [(6, 6)] * 4)

    raw = _read("EuroSAT", tmp_path)

    assert raw.images.shape == (4, 3, 6, 6)
    assert raw.images[:, 0, 0, 0].tolist() == [0, 20, 10, 30]  # by class
    assert raw.labels.tolist() == [0, 0, 1, 1]
    assert raw.classes == ("Forest", "River")
    assert raw.given_test is None


def test_images_of_several_sizes_are_refused_with_the_sizes(tmp_path: Path) -> None:
    _write_eurosat(tmp_path, [(6, 6), (6, 6), (8, 6), (6, 6)])

    with pytest.raises(InputError, match=r"must have one size .*first 4 there are 3x6x6 \(3\), 3x6x8 \(1\)"):
        _read("EuroSAT", tmp_path)


def test_image_file_that_is_damaged_is_refused(tmp_path: Path) -> None:
    _write_eurosat(tmp_path, [(6, 6)] * 4)
    (tmp_path / "eurosat/2750/River/1.png").write_bytes(b"no image")

    with pytest.raises(InputError, match=r"an image of torchvision's EuroSAT can't be read: .*River/1\.png"):
        _read("EuroSAT", tmp_path)


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
