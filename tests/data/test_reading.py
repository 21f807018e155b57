"""Decoding into the store: what is decoded, what is known, and files that misbehave."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import photos
from podium.config.params import DoctorParams, PrepareParams
from podium.data import reading
from podium.data.decode import BadImage, Preprocess
from podium.data.image_shape import preprocess_of
from podium.data.image_store import Store, key_of, persistent_store
from podium.data.sources import folder
from podium.data.sources.item import Item
from podium.errors import InputError

SPEC = Preprocess(3, 16, 16)


def _read(root: Path, decoded: Path, spec: Preprocess = SPEC) -> tuple[reading.Images, np.ndarray]:
    with persistent_store(decoded, spec) as store:
        images = reading.read(folder.read(root), spec, store)
        return images, store.pixels.take(images.rows)


def test_only_new_files_are_decoded_again(tmp_path: Path) -> None:
    root = photos.folder(tmp_path / "photos", per_class=4)
    first, pixels = _read(root, tmp_path / "decoded")
    photos.write(root / "dog/new.jpg", photos.tiles()[40], "JPEG")
    (root / "cat/00.png").rename(root / "dog/moved.png")

    second, again = _read(root, tmp_path / "decoded")

    assert (first.decoded, second.decoded) == (8, 1)
    assert np.array_equal(again[:3], pixels[1:4])


def test_equal_files_are_kept_once(tmp_path: Path) -> None:
    root = photos.folder(tmp_path / "photos", per_class=2)
    (root / "dog/copy.png").write_bytes((root / "cat/00.png").read_bytes())

    images, pixels = _read(root, tmp_path / "decoded")

    assert len(images.rows) == 5
    assert len(set(images.rows.tolist())) == 4
    assert np.array_equal(pixels[0], pixels[-1])


def test_another_size_is_another_store(tmp_path: Path) -> None:
    root = photos.folder(tmp_path / "photos", per_class=2)
    _read(root, tmp_path / "decoded")

    images, pixels = _read(root, tmp_path / "decoded", Preprocess(1, 8, 8))

    assert images.decoded == 4
    assert pixels.shape == (4, 1, 8, 8)


@pytest.mark.parametrize("damage", ["pixels", "thumbs"])
def test_store_whose_files_were_cut_decodes_again(tmp_path: Path, damage: str) -> None:
    root = photos.folder(tmp_path / "photos", per_class=3)
    _, pixels = _read(root, tmp_path / "decoded")
    os.truncate(tmp_path / "decoded" / key_of(SPEC) / damage, 100)

    images, again = _read(root, tmp_path / "decoded")

    assert images.decoded == 6
    assert np.array_equal(again, pixels)


def test_rows_that_a_killed_run_did_not_name_are_overwritten(tmp_path: Path) -> None:
    root = photos.folder(tmp_path / "photos", per_class=3)
    _, pixels = _read(root, tmp_path / "decoded")
    with (tmp_path / "decoded" / key_of(SPEC) / "pixels").open("ab") as file:
        file.write(bytes(1000))
    photos.write(root / "dog/new.png", photos.tiles()[40])

    images, again = _read(root, tmp_path / "decoded")

    assert images.decoded == 1
    assert images.rows.tolist() == list(range(7))
    assert np.array_equal(again[:6], pixels)


def test_image_is_known_by_its_own_size_and_mode(tmp_path: Path) -> None:
    photos.write(tmp_path / "a/1.png", photos.tiles()[0].resize((50, 20)).convert("P"))

    with persistent_store(tmp_path / "decoded", SPEC) as store:
        images = reading.read(folder.read(tmp_path), SPEC, store)

    assert images.sizes.tolist() == [[50, 20]]
    assert list(images.modes) == ["P"]


def test_file_that_grows_while_it_is_read_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = photos.write(tmp_path / "a.png", photos.tiles()[0])
    stat = os.fstat

    def growing(fd: int) -> os.stat_result:
        with path.open("ab") as file:
            file.write(b"more")
        return stat(fd)

    monkeypatch.setattr("podium.data.reading.os.fstat", growing)
    with pytest.raises(BadImage, match="it changed while it was read, again and again") as caught:
        reading.read_file(path, 10**6)
    assert caught.value.kind == "changed"


def test_file_that_has_gone_is_changed(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="it went away while the images were read") as caught:
        reading.read_file(tmp_path / "gone.png", 100)
    assert caught.value.kind == "changed"


def test_long_file_is_huge_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "film.png"
    with path.open("wb") as file:
        file.truncate(10**12)

    with pytest.raises(BadImage, match="it has 1,000,000,000,000 bytes; at most 1,000 are taken") as caught:
        reading.read_file(path, 1000)
    assert caught.value.kind == "huge"


def test_store_for_the_time_being_has_no_index(tmp_path: Path) -> None:
    store = Store(tmp_path, SPEC)
    store.close()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["pixels", "thumbs"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("https://example.org/cat.png", "it is an address: nothing is downloaded"),
        ("folder", "folder is a folder, not a file"),
        ("cat.png", "there is no file "),
        ("text.png", "it can't be read: cannot identify image file"),
    ],
)
def test_images_that_can_not_be_read_at_all_are_named_with_the_first_reasons(
    tmp_path: Path, name: str, why: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.png").write_text("no image")
    items = [Item(name, 0, None, tmp_path / name)] * 5
    source = SimpleNamespace(items=items, name="my_data:rows")
    with pytest.raises(InputError, match="none of the first images of my_data:rows can be read") as caught:
        preprocess_of(source, PrepareParams(), DoctorParams())  # type: ignore[arg-type]
    _head, *lines, last = str(caught.value).splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"  {name}: ") and why in line for line in lines)
    assert last == "  and 2 more"
