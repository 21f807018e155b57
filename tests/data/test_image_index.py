"""The index of decoded images: whatever became of it or of the pixels, the result is that of a store that is new."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import photos
from podium.config.params import DoctorParams, PrepareParams
from podium.data import reading
from podium.data.audit.audit_page import PER_CLASS
from podium.data.colour_profiles import ColourProfiles
from podium.data.decode import Preprocess
from podium.data.image_store import key_of, persistent_store
from podium.data.sources import folder
from podium.errors import PodiumError
from podium.stages.prepare import prepare

SPEC = Preprocess(3, 16, 16)
IMAGES = 12
PAGE = 4096
OLD = (
    "CREATE TABLE image (digest BLOB PRIMARY KEY, row INTEGER, width INTEGER, height INTEGER, mode TEXT,"
    " frames INTEGER, content BLOB, low REAL, high REAL, transparent INTEGER) WITHOUT ROWID"
)


def _read(root: Path, decoded: Path) -> tuple[int, list[object]]:
    """How many images were decoded, and all that is known of all of them."""
    with persistent_store(decoded, SPEC) as store:
        images = reading.read(folder.read(root), SPEC, store)
        known: list[object] = [store.pixels.take(images.rows).tobytes(), store.thumbs.take(images.rows).tobytes()]
    for field in fields(images):
        value = getattr(images, field.name)
        if field.name not in ("rows", "decoded", "rejects"):
            value = value.counts if isinstance(value, ColourProfiles) else value
            known.append(value.tolist() if isinstance(value, np.ndarray) else list(value))
    return images.decoded, known


def _made(root: Path, kind: int = 0) -> Path:
    for number in range(IMAGES):
        deep = Image.new("I;16", (20, 20), 100 * number + kind)
        image = photos.tiles()[number + 20 * kind] if number % 3 else deep
        photos.write(root / ("cat", "dog")[number % 2] / f"{number}.png", image)
    return root


def _sql(*statements: str) -> Callable[[Path, Path], None]:
    def work(place: Path, _: Path) -> None:
        with closing(sqlite3.connect(place / "index.sqlite")) as index:
            for statement in statements:
                index.execute(statement)
            index.commit()

    return work


def _exchanged(column: str) -> Callable[[Path, Path], None]:
    """What is said of two images changes places."""
    other = f"(SELECT {column} FROM image WHERE row = 5 - it.row)"  # noqa: S608
    return _sql(
        f"CREATE TEMP TABLE new AS SELECT row, {other} AS value FROM image AS it WHERE row IN (2, 3)",  # noqa: S608
        f"UPDATE image SET {column} = (SELECT value FROM new WHERE new.row = image.row) WHERE row IN (2, 3)",  # noqa: S608
    )


def _cut(place: Path, _: Path) -> None:
    path = place / "index.sqlite"
    os.truncate(path, path.stat().st_size // 2)


def _emptied(place: Path, _: Path) -> None:
    os.truncate(place / "index.sqlite", 0)


def _text(place: Path, _: Path) -> None:
    (place / "index.sqlite").write_text("no index at all\n" * 1000, encoding="utf-8")


def _of_another_set(place: Path, other: Path) -> None:
    shutil.copy2(other / "index.sqlite", place / "index.sqlite")


def _of_an_earlier_podium(place: Path, other: Path) -> None:
    (place / "index.sqlite").unlink()
    _sql(OLD)(place, other)


def _changed(name: str) -> Callable[[Path, Path], None]:
    """A row in the middle of a file, which keeps its size."""

    def work(place: Path, _: Path) -> None:
        with (place / name).open("r+b") as file:
            size = file.seek(0, os.SEEK_END) // IMAGES
            file.seek(5 * size)
            file.write(bytes(range(100)))

    return work


DAMAGES = {
    "cut": (_cut, IMAGES),
    "emptied": (_emptied, IMAGES),
    "no database": (_text, IMAGES),
    "of another set": (_of_another_set, IMAGES),
    "of an earlier Podium": (_of_an_earlier_podium, IMAGES),
    "no facts": (_sql("UPDATE image SET facts = NULL, seal = NULL WHERE row = 4"), 1),
    "other facts": (_sql("UPDATE image SET facts = digest || substr(facts, 33)"), IMAGES),
    "text": (_sql("UPDATE image SET facts = 'text', seal = 'text' WHERE row > 9"), 2),
    "row that is not there": (_sql("UPDATE image SET row = 1000000 WHERE row = 4"), 1),
    "row before": (_sql("DELETE FROM image WHERE row = 6", "UPDATE image SET row = 6 WHERE row = 7"), 2),
    "digests exchanged": (_exchanged("digest"), 2),
    "facts exchanged": (_exchanged("facts"), 2),
    "pixels changed": (_changed("pixels"), 1),
    "thumbs changed": (_changed("thumbs"), 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_images_are_those_of_a_new_store_whatever_became_of_the_old_one(tmp_path: Path, damage: str) -> None:
    root, name = _made(tmp_path / "photos"), key_of(SPEC)
    _, fresh = _read(root, tmp_path / "decoded")
    _read(_made(tmp_path / "others", kind=1), tmp_path / "other")
    work, decoded = DAMAGES[damage]
    work(tmp_path / "decoded" / name, tmp_path / "other" / name)

    again = _read(root, tmp_path / "decoded")

    assert again == (decoded, fresh)
    assert _read(root, tmp_path / "decoded") == (0, fresh)


def test_index_with_wrong_bytes_anywhere_gives_the_images_of_a_new_store(tmp_path: Path) -> None:
    root = _made(tmp_path / "photos")
    _, fresh = _read(root, tmp_path / "decoded")
    path = tmp_path / "decoded" / key_of(SPEC) / "index.sqlite"
    whole = path.read_bytes()
    for at in range(0, len(whole), PAGE // 4):
        wrong = bytearray(whole)
        wrong[at : at + 40] = bytes(byte ^ 0x5A for byte in wrong[at : at + 40])
        path.write_bytes(wrong)

        assert _read(root, tmp_path / "decoded")[1] == fresh, at


@pytest.mark.parametrize("at", [18, 19])
@pytest.mark.parametrize("byte", [0x00, 0x82, 0xFF])
def test_index_whose_version_is_damaged_gives_the_images_of_a_new_store(tmp_path: Path, at: int, byte: int) -> None:
    root = _made(tmp_path / "photos")
    _read(root, tmp_path / "decoded")
    path = tmp_path / "decoded" / key_of(SPEC) / "index.sqlite"
    wrong = bytearray(path.read_bytes())
    wrong[at] = byte
    path.write_bytes(wrong)
    photos.write(root / "cat/new.png", photos.tiles()[45])  # so that there is something to write
    _, fresh = _read(root, tmp_path / "new")

    assert [_read(root, tmp_path / "decoded")[1] for _ in range(2)] == [fresh, fresh]
    assert _read(root, tmp_path / "decoded") == (0, fresh)  # the first run removed it, the second made it anew


def test_index_that_may_not_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _made(tmp_path / "photos")
    _read(root, tmp_path / "decoded")
    path = tmp_path / "decoded" / key_of(SPEC) / "index.sqlite"
    whole = bytearray(path.read_bytes())
    whole[18] = 0xFF  # SQLite says the same of a file that may not be written, which root may
    path.write_bytes(whole)
    photos.write(root / "cat/new.png", photos.tiles()[45])
    monkeypatch.setattr("podium.data.image_index.os.access", lambda *_: False)

    with pytest.raises(PodiumError, match="index.sqlite can't be read or written: attempt to write a readonly"):
        _read(root, tmp_path / "decoded")


def test_index_that_can_not_be_opened_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "decoded" / key_of(SPEC) / "index.sqlite").mkdir(parents=True)
    with pytest.raises(PodiumError, match=r"index.sqlite can't be (opened|read or written): unable to open"):
        _read(_made(tmp_path / "photos"), tmp_path / "decoded")


def test_file_changed_in_place_to_one_of_the_same_size_is_another_image(tmp_path: Path) -> None:
    root = _made(tmp_path / "photos")
    for number, shade in ((0, 10), (1, 200)):
        photos.write(root / f"cat/same{number}.bmp", Image.new("RGB", (16, 16), (shade, 7, 9)))
    _read(root, tmp_path / "decoded")
    (root / "cat/same0.bmp").write_bytes((root / "cat/same1.bmp").read_bytes())

    assert _read(root, tmp_path / "decoded") == (0, _read(root, tmp_path / "new")[1])


def test_pixels_of_known_images_are_read_once_when_others_are_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, side, count = photos.folder(tmp_path / "photos", per_class=20), 48, 41
    read = 0
    preadv = os.preadv

    def counting(file: int, buffers: list[memoryview], at: int) -> int:
        nonlocal read
        found = preadv(file, buffers, at)
        read += found if Path(f"/proc/self/fd/{file}").readlink().name == "pixels" else 0
        return found

    def prepared(out: Path) -> str:
        params = PrepareParams(source=f"folder:{root}", root=str(root), size=side, min_per_class=1)
        return prepare(params, DoctorParams(near="off", conflicts="keep"), *(out / n for n in ("p", "s", "d"))).digest

    prepared(tmp_path)
    photos.write(root / "dog/new.png", photos.tiles()[45])
    monkeypatch.setattr("podium.data.image_store.os.preadv", counting)
    again = prepared(tmp_path)

    assert count * 3 * side * side <= read <= (count + 2 * PER_CLASS) * 3 * side * side  # the page shows some
    shutil.copytree(tmp_path / "split", tmp_path / "new/split")
    assert again == prepared(tmp_path / "new")
