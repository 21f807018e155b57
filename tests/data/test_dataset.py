import builtins
import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from podium.data.dataset import DatasetInfo, Written, open_split, open_test_set, write_json, write_split
from podium.data.image_files import read_files, read_sizes, write_sizes
from podium.errors import InputError, PodiumError, RefusedError

IMAGES = np.arange(5 * 3 * 4 * 4, dtype=np.uint8).reshape(5, 3, 4, 4)
LABELS = np.array([0, 1, 1, 0, 1], np.int64)
CLASSES = ("cat", "dog")


def _write(folder: Path, **changes: Any) -> Written:
    fields: dict[str, Any] = {"name": "train", "images": IMAGES, "labels": LABELS, "classes": CLASSES} | changes
    return write_split(folder, **fields)


def test_split_that_was_written_is_read_back_the_same(tmp_path: Path) -> None:
    written = _write(tmp_path)

    split = open_split(tmp_path)

    assert np.array_equal(split.images, IMAGES)
    assert np.array_equal(split.labels, LABELS)
    assert (split.name, split.classes, split.shape, split.digest) == ("train", CLASSES, (3, 4, 4), written.digest)
    assert split.counts() == {"cat": 2, "dog": 3}


def test_split_that_is_opened_maps_the_file_and_leaves_it_alone(tmp_path: Path) -> None:
    _write(tmp_path)
    before = (tmp_path / "images.npy").read_bytes()

    images = open_split(tmp_path).images
    assert isinstance(images, np.memmap)
    images[:] = 0

    assert (tmp_path / "images.npy").read_bytes() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": np.array([0, 1, 1, 0, 0], np.int64)},
        {"classes": ("cat", "fox")},
        {"images": IMAGES + np.uint8(1)},
        {"images": IMAGES.reshape(5, 3, 2, 8)},
    ],
    ids=["labels", "classes", "pixels", "shape"],
)
def test_digest_of_a_split_with_another_content_differs(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert _write(tmp_path / "a").digest != _write(tmp_path / "b", **changes).digest


def test_digest_of_the_same_content_in_another_layout_is_the_same(tmp_path: Path) -> None:
    columns = np.asfortranarray(IMAGES)

    assert _write(tmp_path / "a").digest == _write(tmp_path / "b", images=columns, name="val").digest


def test_sealed_split_is_refused_to_everybody_but_evaluation_and_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where accesses are recorded
    _write(tmp_path, name="test", sealed=True)

    with pytest.raises(RefusedError, match="is sealed: only `evaluate` and the promotion gate open it"):
        open_split(tmp_path)
    with pytest.raises(RefusedError, match="opens for evaluate and gate only; got 'search'"):
        open_test_set(tmp_path, "search")  # type: ignore[arg-type]
    assert open_test_set(tmp_path, "evaluate").name == open_test_set(tmp_path, "gate").name == "test"


def test_split_without_its_marker_is_refused_as_incomplete(tmp_path: Path) -> None:
    _write(tmp_path)
    (tmp_path / "split.json").unlink()

    with pytest.raises(InputError, match=r"no complete split \(split\.json is missing\): run `dvc repro prepare`"):
        open_split(tmp_path)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "split.json"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "other"])
def test_split_with_a_damaged_file_is_refused(tmp_path: Path, name: str, damage: str) -> None:
    _write(tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    path.write_bytes({"cut": content[:-20], "emptied": b"", "other": b"\x80\x04 a pickle?"}[damage])

    with pytest.raises(InputError, match=r"is damaged: .*run `dvc repro prepare`"):
        open_split(tmp_path)


def fail(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """Opening a file of that name fails with the error `number`, as on a file server."""
    opened = io.open

    def failing(file: Any, *arguments: Any, **options: Any) -> Any:
        if not isinstance(file, int) and Path(file).name == name:
            raise OSError(number, os.strerror(number), file)
        return opened(file, *arguments, **options)

    monkeypatch.setattr(io, "open", failing)
    monkeypatch.setattr(builtins, "open", failing)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EPERM, r"Operation not permitted\. Let this user read"),
        (errno.EACCES, r"Permission denied\. Let this user read"),
        (errno.EIO, r"Input/output error\. Its disk, mount or file server fails"),
        (errno.ESTALE, r"Stale file handle\. The file server replaced"),
        (errno.ENOTCONN, r"Transport endpoint is not connected\. Its disk, mount"),
        (errno.EMFILE, r"Too many open files\. .*\(ulimit -n\)"),
    ],
)
@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "split.json", "dataset.json", "files.csv", "sizes.npy"])
def test_whole_files_that_can_not_be_read_are_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int, message: str
) -> None:
    _write(tmp_path)
    write_sizes(tmp_path, np.ones((5, 2), np.int32))
    DatasetInfo("digits", [*CLASSES], [3, 4, 4], {}, [0.5], [0.25], "abc").write(tmp_path)

    def read() -> None:
        open_split(tmp_path)
        DatasetInfo.read(tmp_path)
        read_files(tmp_path, 5)
        read_sizes(tmp_path, 5)

    read()
    with monkeypatch.context() as patched:
        fail(patched, name, number)
        with pytest.raises(PodiumError, match=f"can't be read: {message}") as found:
            read()
    assert not isinstance(found.value, InputError)
    assert "damaged" not in str(found.value)


def test_split_whose_arrays_are_not_the_described_ones_is_refused(tmp_path: Path) -> None:
    _write(tmp_path)
    np.save(tmp_path / "labels.npy", LABELS[:3], allow_pickle=False)

    with pytest.raises(InputError, match=r"is damaged: split\.json says 5 images and the arrays hold 5, 3"):
        open_split(tmp_path)


def test_dataset_info_that_was_written_is_read_back_the_same(tmp_path: Path) -> None:
    counts = {"train": {"cat": 1, "dog": 2}}
    info = DatasetInfo("digits", ["cat", "dog"], [3, 4, 4], counts, [0.5], [0.25], "abc")

    info.write(tmp_path)

    assert DatasetInfo.read(tmp_path) == info


def test_dataset_info_that_is_missing_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dataset\.json is missing: run `dvc repro prepare`"):
        DatasetInfo.read(tmp_path)


def test_json_that_can_not_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ä": 1})

    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(tmp_path / "a.json", {"set": {1}})

    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ä": 1}
