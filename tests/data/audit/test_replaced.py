"""Files that are written anew: a test image of before stays one, whatever form its picture has now."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import photos
from podium.config.params import DoctorParams, PrepareParams
from podium.data import split_file
from podium.data.audit.data_audit import AuditedData, audited
from podium.data.audit.replaced import taken_over
from podium.data.content import Seen, of_pixels
from podium.data.decode import Preprocess, decode_file
from podium.data.split_file import SplitFile

Rewrite = Callable[[Path], None]
SIDE = 48


def _rewritten(mode: str = "RGB", kind: str = "PNG", **options: object) -> Rewrite:
    def rewrite(path: Path) -> None:
        image = Image.open(path).convert(mode)
        path.with_suffix(f".{kind.lower()}").write_bytes(photos.encoded(image, kind, **options))
        if kind != "PNG":
            path.unlink()

    return rewrite


def _sixteen_bits(path: Path) -> None:
    Image.fromarray(np.asarray(Image.open(path), np.uint16) * 257).save(path)


def _halved(path: Path) -> None:
    Image.open(path).resize((SIDE // 2, SIDE // 2)).save(path)


def _with_a_rest(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(16))


def _made(root: Path, mode: str, kind: str) -> None:
    tiles = photos.tiles()[16:]  # what shows next to nothing (sky) has no look that lasts
    for number in range(32):
        image = tiles[number].resize((SIDE, SIDE)).convert(mode)
        photos.write(root / ("cat", "dog")[number % 2] / f"{number:02}.{kind.lower()}", image, kind)


def _prepared(root: Path, folder: Path) -> tuple[AuditedData, dict[str, str]]:
    """What is prepared, and the split of each picture by the number in its name."""
    split = folder / "split.csv"
    params = PrepareParams(source=f"folder:{root}", root=str(root), size=SIDE, min_per_class=1)
    with audited(params, DoctorParams(near="copies"), folder / "decoded", split) as data:
        split_file.write(split, data.split)
        parts = data.division.parts().items()
        return data, {Path(one.origin).stem: name for name, rows in parts for one in data.files.of(rows)}


@pytest.mark.parametrize(
    ("mode", "kind", "rewrite", "is_gone"),
    [
        ("RGB", "PNG", _rewritten("RGBA"), False),
        ("RGB", "PNG", _rewritten(kind="BMP"), False),
        ("L", "PNG", _rewritten("RGB"), False),
        ("L", "PNG", _rewritten("LA"), False),
        ("L", "PNG", _sixteen_bits, False),
        ("RGB", "JPEG", _with_a_rest, False),
        ("RGB", "PNG", _rewritten(kind="JPEG", quality=95), True),
        ("RGB", "PNG", _rewritten(kind="WEBP", quality=90), True),
        ("RGB", "PNG", _halved, True),
    ],
)
def test_image_keeps_its_split_when_its_file_is_written_anew(
    tmp_path: Path, mode: str, kind: str, rewrite: Rewrite, is_gone: bool
) -> None:
    root = tmp_path / "raw"
    _made(root, mode, kind)
    first, before = _prepared(root, tmp_path)
    for path in sorted(root.rglob("*.*"))[::2]:
        rewrite(path)
    second, after = _prepared(root, tmp_path)
    assert after == before
    assert second.split.drawn == first.split.drawn
    notes = [note for note in second.report.notes if "remembered split" in note]
    assert len(notes) == is_gone
    if is_gone:
        assert notes[0].startswith("16 images with a remembered split are not in the source any more (train ")
        assert notes[0].endswith("; 16 of them look like files that are there, in the same split")


def test_images_that_are_gone_are_counted_by_split_and_those_that_come_are_placed(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    _made(root, "RGB", "PNG")
    data, _ = _prepared(root, tmp_path)
    gone = data.division.parts()["test"][:2]
    for one in data.files.of(gone):
        (root / one.origin).unlink()
    photos.write(root / "cat/40.png", photos.tiles()[2])
    after, splits = _prepared(root, tmp_path)
    assert "40" in splits
    assert after.report.notes == ("2 images with a remembered split are not in the source any more (test 2)",)


def test_splits_remembered_by_former_digests_hold_and_lines_without_looks_are_named(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    _made(root, "L", "PNG")
    for path in root.rglob("*.png"):
        _rewritten("RGB")(path)
    data, before = _prepared(root, tmp_path)
    lines = [f'# salt: "podium"\n# drawn: {data.split.drawn}\n# near-duplicates: copies\ndigest,split\n']
    for path in root.rglob("*.png"):
        lines.append(f"{of_pixels(np.asarray(Image.open(path))).hex()},{before[path.stem]}\n")
    (tmp_path / "split.csv").write_text("".join([*lines, "# end\n"]), encoding="utf-8")
    again, after = _prepared(root, tmp_path)
    assert after == before
    assert len(again.split.digests) == 64  # those of now are remembered as well

    (tmp_path / "split.csv").write_text("".join([*lines, "# end\n"]), encoding="utf-8")
    for path in sorted(root.rglob("*.png")):
        _rewritten(kind="JPEG", quality=90)(path)
    lost = "\n".join(_prepared(root, tmp_path)[0].report.notes)
    assert "32 images with a remembered split are not in the source any more (train " in lost
    assert "test images among them looked is not remembered" in lost
    assert "bring the old ones back, run prepare" in lost


def _both(data: bytes) -> tuple[bytes, bytes]:
    seen = Seen(data)
    decode_file(data, Preprocess(3, 8, 8), 32, seen)
    return seen.digest, seen.former


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000", "AVIF", "PNG", "WEBP"])
@pytest.mark.parametrize("rest", [bytes(16), b"\xff\xd9", b"Samsung\0" * 20])
def test_what_follows_the_end_of_a_file_is_no_part_of_the_picture(kind: str, rest: bytes) -> None:
    data = photos.encoded(photos.tiles()[3], kind)
    assert _both(data)[0] == _both(data + rest)[0]
    progressive = photos.encoded(photos.tiles()[3], "JPEG", progressive=True)
    assert _both(progressive)[0] == _both(progressive + rest)[0] == _both(progressive)[1]


def test_other_pictures_stay_others() -> None:
    tile = np.asarray(photos.tiles()[3])
    grey = np.asarray(photos.tiles()[3].convert("L"))
    faint = np.dstack([tile, np.full(tile.shape[:2], 254, np.uint8)])
    deep = grey.astype(np.uint16) * 256
    files = [photos.encoded(Image.fromarray(pixels)) for pixels in (tile, grey, faint, deep)]
    buffer = io.BytesIO()
    Image.fromarray(tile).convert("CMYK").save(buffer, "TIFF")
    assert len({_both(data)[0] for data in [*files, buffer.getvalue()]}) == 5


def _look(*bits: int) -> int:
    return (1 << 63) | sum(1 << bit for bit in bits)


@pytest.mark.parametrize(
    ("looks", "wanted"),
    [
        ([_look()], ["test"]),
        ([_look(*range(16))], ["test"]),
        ([_look(*range(24))], ["test"]),  # far, but each is the nearest to the other
        ([_look(*range(30))], [""]),
        ([_look(*range(16)), _look(*range(24))], ["test", ""]),  # a nearer one is there
        ([_look(*range(30, 60))], ["train"]),
        ([0], [""]),
    ],
)
def test_added_image_takes_over_from_one_that_is_gone_and_looks_like_it(looks: list[int], wanted: list[str]) -> None:
    remembered = np.array([_look(), _look(*range(30, 60)), _look(*range(5))], np.uint64)
    digests, places = np.array([1, 2, 3], np.uint64), np.array([2, 0, 1], np.int8)
    known = SplitFile.empty("a").with_images(digests, places, "copies", remembered)
    contents = np.array([3, *range(10, 10 + len(looks))], np.uint64)  # the third is there
    found = taken_over(
        known, contents, contents, np.array([remembered[2], *looks], np.uint64), np.arange(len(contents))
    )
    assert [split_file.PLACES[place] if place >= 0 else "" for place in found[1:].tolist()] == wanted
    assert found[0] == -1


def test_images_that_share_a_split_take_over_one_place_and_none_beside_a_remembered_one() -> None:
    remembered = np.array([_look(), _look(*range(30, 60)), _look(*range(20, 40))], np.uint64)
    digests, places = np.array([1, 2, 3], np.uint64), np.array([2, 0, 1], np.int8)
    known = SplitFile.empty("a").with_images(digests, places, "copies", remembered)
    contents = np.array([3, 10, 11, 12, 13], np.uint64)
    looks = remembered[[2, 0, 0, 1, 0]]
    found = taken_over(known, contents, contents, looks, np.array([0, 1, 1, 1, 0]))
    assert found.tolist() == [-1, 2, 2, 2, -1]
