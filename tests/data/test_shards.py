import copy
import json
import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from podium.data import shards
from podium.data.dataset import Written, images_again, open_split, open_test_set, write_split
from podium.data.image_facts import PRINT_BYTES, fingerprint
from podium.data.shards import Shards, counts_of, starts_of
from podium.errors import InputError, PodiumError

COUNT = 300


def _images(count: int = COUNT) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    """Images of noise in the order of their fingerprints, and these."""
    images = np.random.default_rng(0).integers(0, 256, (count, 3, 4, 4), dtype=np.uint8)
    prints = np.array([np.frombuffer(fingerprint(image), ">u8") for image in images]).astype(np.uint64)
    assert prints.shape == (count, PRINT_BYTES // 8)
    order = np.lexsort((prints[:, 1], prints[:, 0]))
    return images[order], prints[order]


def _write(folder: Path, images: NDArray[np.uint8], prints: NDArray[np.uint64] | None, **about: Any) -> Written:
    labels = images[:, 0, 0, 0].astype(np.int64) % 2
    starts = None if prints is None else starts_of(prints)
    return write_split(folder, "train", images, labels, ("cat", "dog"), starts=starts, **about)


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "FILE_BYTES", 2048)


def _several() -> tuple[Shards, NDArray[np.uint8]]:
    images, _ = _images(20)
    return Shards(np.split(images, [3, 4, 4, 15])), images


@pytest.mark.usefixtures("_small")
def test_split_in_several_files_has_the_images_and_the_digest_of_one(tmp_path: Path) -> None:
    images, prints = _images()
    one, several = _write(tmp_path / "one", images, None), _write(tmp_path / "several", images, prints)
    assert one == several
    assert len(list((tmp_path / "several").glob("images-*.npy"))) == 8
    assert not (tmp_path / "several/images.npy").exists()
    found = open_split(tmp_path / "several").images
    assert isinstance(found, Shards)
    assert np.array_equal(np.asarray(found), images)
    assert np.array_equal(images_again(tmp_path / "several")[:], images)


@pytest.mark.usefixtures("_small")
def test_image_that_is_added_changes_one_file(tmp_path: Path) -> None:
    images, prints = _images()
    rest = np.delete(np.arange(COUNT), 123)
    _write(tmp_path / "few", images[rest], prints[rest])
    _write(tmp_path / "all", images, prints)
    few, whole = ({path.name: path.read_bytes() for path in (tmp_path / n).glob("images-*")} for n in ("few", "all"))
    assert few.keys() == whole.keys()
    assert sum(few[name] != whole[name] for name in few) == 1


def test_split_below_the_size_is_one_file_with_the_marker_of_before(tmp_path: Path) -> None:
    images, prints = _images()
    for name, known in (("a", None), ("b", prints)):
        _write(tmp_path / name, images, known)
    one, same = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "ab")
    assert one == same
    assert "images.npy" in one
    assert isinstance(open_split(tmp_path / "b").images, np.memmap)


@pytest.mark.parametrize(
    ("size", "files"), [(0, 1), (1, 1), (2048, 1), (2049, 2), (4096, 2), (4097, 4), (1 << 17, 64), (1 << 30, 64)]
)
def test_files_of_a_split_follow_from_its_size(monkeypatch: pytest.MonkeyPatch, size: int, files: int) -> None:
    monkeypatch.setattr(shards, "FILE_BYTES", 2048)
    prints = np.sort(np.random.default_rng(0).integers(0, 2**64, 1000, dtype=np.uint64))[:, None]
    counts = counts_of(starts_of(prints), (size, 1, 1, 1))
    assert len(counts) == files
    if files > 1:
        assert counts == np.bincount(prints[:, 0] >> np.uint64(64 - files.bit_length() + 1), minlength=files).tolist()


@pytest.mark.usefixtures("_small")
def test_file_without_images_is_not_there(tmp_path: Path) -> None:
    images, prints = _images()
    low = prints[:, 0] < 1 << 63
    _write(tmp_path, images[low], prints[low])
    assert [path.name for path in sorted(tmp_path.glob("images*"))] == ["images-00.npy", "images-01.npy"]
    assert np.array_equal(open_split(tmp_path).images[:], images[low])


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("damage", ["gone", "cut", "exchanged"])
def test_split_of_which_a_file_is_damaged_is_refused(tmp_path: Path, damage: str) -> None:
    _write(tmp_path, *_images())
    path, other = tmp_path / "images-03.npy", tmp_path / "images-04.npy"
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-20] if damage == "cut" else other.read_bytes())
    with pytest.raises(InputError, match=r"is damaged: .*images-03\.npy.*run `dvc repro prepare`|is damaged: mmap"):
        open_split(tmp_path)


@pytest.mark.usefixtures("_small")
def test_test_set_of_which_a_pixel_of_one_file_changed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where accesses are recorded
    _write(tmp_path / "test", *_images(), sealed=True)
    open_test_set(tmp_path / "test", "gate")
    path = tmp_path / "test/images-05.npy"
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
    with pytest.raises(InputError, match=r"images or labels do not have the digest in split\.json"):
        open_test_set(tmp_path / "test", "gate")


@pytest.mark.usefixtures("_small")
def test_marker_names_the_images_of_each_file(tmp_path: Path) -> None:
    images, prints = _images()
    _write(tmp_path, images, prints)
    about = json.loads((tmp_path / "split.json").read_text(encoding="utf-8"))
    assert about["images_per_file"] == np.bincount(prints[:, 0] >> np.uint64(61), minlength=8).tolist()


@pytest.mark.parametrize(
    "rows",
    [slice(None), slice(2, 16), slice(3, 4), slice(9, 5), slice(-5, -1), slice(17, None, -3), slice(50, 60),
     [19, 0, -1, 3, 3], [], np.arange(20) % 3 == 0,
     np.array([4, 14], np.uint8), 0, -20, np.int32(15)],
    ids=str,
)  # fmt: skip
def test_images_of_several_files_are_taken_as_from_one_array(rows: Any) -> None:
    several, images = _several()
    found = several[rows]
    assert found.dtype == np.uint8
    assert np.array_equal(found, images[np.asarray(rows, np.int64) if isinstance(rows, list) else rows])


def test_images_of_several_files_look_like_one_array() -> None:
    several, images = _several()
    assert (several.shape, several.ndim, several.dtype, several.nbytes, len(several)) == (
        *(images.shape, images.ndim, images.dtype, images.nbytes, len(images)),
    )
    assert np.array_equal(np.stack(list(several)), images)
    assert np.array_equal(np.asarray(several, np.float32), images.astype(np.float32))
    assert np.array_equal(copy.deepcopy(several)[:], images)


@pytest.mark.parametrize("rows", [20, -21, [0, 20], np.ones(3, np.bool_)], ids=str)
def test_rows_beyond_the_images_are_an_error(rows: Any) -> None:
    with pytest.raises(IndexError):
        _several()[0][rows]


@pytest.mark.parametrize("rows", [(0, 1), 1.5, [[1]], "0"], ids=str)
def test_what_is_no_row_is_an_error(rows: Any) -> None:
    with pytest.raises(TypeError, match="images are taken by rows"):
        _several()[0][rows]


@pytest.mark.usefixtures("_small")
def test_whole_files_that_may_not_be_opened_are_not_called_damaged(tmp_path: Path) -> None:
    _write(tmp_path, *_images())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 4, hard))
    try:
        with pytest.raises(PodiumError, match=r"can't be read: Too many open files\. .*\(ulimit -n\)"):
            open_split(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(open_split(tmp_path).images) == COUNT
