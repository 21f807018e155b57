"""Files that are written anew: a test image of before stays one, whatever form its picture has now."""

import io
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

import photos
from podium.config.params import DoctorParams, PrepareParams
from podium.data import split_file
from podium.data.audit.data_audit import AuditedData, audited
from podium.data.audit.replaced import taken_over
from podium.data.content import Seen, of_pixels
from podium.data.decode import Preprocess, decode_file
from podium.data.image_facts import looks as looks_of
from podium.data.split_file import SplitFile
from podium.errors import InputError
from podium.stages.prepare import prepare

Rewrite = Callable[[Path], None]
SIDE = 48
COPIES = DoctorParams(near="copies")


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


def _prepared(
    root: Path, folder: Path, audit: DoctorParams = COPIES, source: str = ""
) -> tuple[AuditedData, dict[str, str]]:
    """What is prepared, and the split of each picture by the number in its name."""
    split = folder / "split.csv"
    params = PrepareParams(source=source or f"folder:{root}", root=str(folder), size=SIDE, min_per_class=1)
    with audited(params, audit, folder / "decoded", split) as data:
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
        assert notes[0].endswith("; 16 added images look like some of them and take over their splits")


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
    assert "restore the old ones, run prepare" in lost


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


def _with_thumbnail(number: int, between: bytes = b"", note: bytes = b"") -> bytes:
    """A JPEG with a thumbnail, which is one for all, and bytes between segments or a note between its scans."""
    data = photos.encoded(photos.tiles()[number], "JPEG", progressive=True)
    small = b"Exif\0\0" + photos.encoded(photos.tiles()[0].resize((16, 16)), "JPEG")
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    note = b"\xff\xfe" + struct.pack(">H", len(note) + 2) + note if note else b""
    exif = b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small
    return data[:2] + exif + between + data[2:second] + note + data[second:]


@pytest.mark.parametrize("between", [b"", b"\0", b"stray"])
@pytest.mark.parametrize("note", [b"", b"a \xff\xd9 in a note"])
def test_different_jpegs_of_one_thumbnail_have_two_digests(between: bytes, note: bytes) -> None:
    one, other = _with_thumbnail(3, between, note), _with_thumbnail(4, between, note)
    assert _both(one)[0] != _both(other)[0]
    table = one.rindex(b"\xff\xda")  # the last scan differs only
    changed = one[: table + 40] + bytes([one[table + 40] ^ 1]) + one[table + 41 :]
    assert _both(one)[0] != _both(changed)[0]
    if not between:
        assert _both(one)[0] == _both(one + b"rest")[0]


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


def _known() -> SplitFile:
    """Four images: test, train, validation, and one more in test; all looks are far from each other."""
    looks = np.array([_look(), _look(*range(30, 60)), _look(*range(20, 40)), _look(*range(10, 30))], np.uint64)
    digests, places = np.array([1, 2, 3, 4], np.uint64), np.array([2, 0, 1, 2], np.int8)
    return SplitFile.empty("a").with_images(digests, places, "copies", looks)


def _named(places: NDArray[np.int8]) -> list[str]:
    return [split_file.PLACES[place] if place >= 0 else "" for place in places.tolist()]


@pytest.mark.parametrize(
    ("looks", "wanted"),
    [
        ([_look()], ["test"]),
        ([_look(*range(8))], ["test"]),  # 12 bits from the next
        ([_look(*range(5)), _look(*range(30, 60))], ["test", "train"]),
        ([_look(*range(40, 57))], [""]),  # 17 bits
        ([_look(*range(10, 20))], [""]),  # 10 bits from two images
        ([_look(0, *range(30, 45)), _look(1, *range(33, 46))], ["", ""]),  # the next is about as near
        ([_look(), _look()], ["test", ""]),  # one image is gone, and hands on its split once
        ([_look(*range(4)), _look(*range(5))], ["test", ""]),  # a nearer one is there
        ([0], [""]),
    ],
)
def test_added_image_takes_over_from_one_that_is_gone_and_looks_like_it(looks: list[int], wanted: list[str]) -> None:
    known = _known()
    contents = np.array([3, *range(10, 10 + len(looks))], np.uint64)  # the third is there
    seen = np.array([known.looks[2], *looks], np.uint64)
    found = taken_over(known, contents, contents, seen, np.arange(len(contents))).places
    assert _named(found) == ["", *wanted]


@pytest.mark.parametrize(
    ("looks", "places", "added", "wanted"),
    [
        ([_look(), _look()], [2, 0], [_look()], [""]),  # of one look in two splits
        ([_look(), _look()], [2, 2], [_look(), _look(), _look()], ["test", "test", ""]),
        ([_look(), _look(0, 1, 2)], [2, 2], [_look(0, 1)], ["test"]),  # it was re-encoded before
        ([_look(0), _look(1)], [2, 0], [_look()], [""]),  # equally near in two splits
        ([_look()], [2], [_look(*range(10)), _look(*range(30, 42))], ["", ""]),  # of two strangers one is nearer
        ([_look()], [2], [_look(*range(6)), _look(*range(4))], ["", "test"]),  # of one burst
    ],
)
def test_several_remembered_images_of_nearly_one_look_hand_on_their_split_where_it_is_one(
    looks: list[int], places: list[int], added: list[int], wanted: list[str]
) -> None:
    digests, seen = np.arange(1, len(looks) + 1, dtype=np.uint64), np.array(looks, np.uint64)
    known = SplitFile.empty("a").with_images(digests, np.array(places, np.int8), "copies", seen)
    contents = np.arange(10, 10 + len(added), dtype=np.uint64)
    found = taken_over(known, contents, contents, np.array(added, np.uint64), np.arange(len(added)))
    assert _named(found.places) == wanted


def test_near_duplicates_that_would_be_in_several_splits_are_in_none() -> None:
    known = _known()
    contents = np.array([3, 10, 11, 12], np.uint64)
    looks = known.looks[[2, 0, 1, 3]]
    for near, wanted in (
        ([0, 1, 2, 3], ["", "test", "train", "test"]),
        ([0, 1, 1, 3], ["", "none", "none", "test"]),
        ([0, 1, 2, 1], ["", "test", "train", "test"]),
        ([0, 0, 2, 3], ["", "none", "train", "test"]),  # beside a validation image
    ):
        assert _named(taken_over(known, contents, contents, looks, np.array(near)).places) == wanted


def _table(folder: Path, groups: Callable[[int], str] | None, split: str = "") -> str:
    """A table of the images, with a column of groups and one of splits where asked for."""
    lines = ["path,label" + (",group" if groups else "") + (",split" if split else "")]
    for number, path in enumerate(sorted((folder / "raw").rglob("*.*"))):
        row = [str(path.relative_to(folder)), path.parent.name, *([groups(number)] if groups else [])]
        lines.append(",".join([*row, *([split if number else "test"] if split else [])]))
    (folder / "t.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"csv:{folder}/t.csv"


@pytest.mark.parametrize("step", [1, 2])
def test_groups_that_would_tear_re_encoded_images_are_refused(tmp_path: Path, step: int) -> None:
    root = tmp_path / "raw"
    _made(root, "RGB", "PNG")
    _prepared(root, tmp_path)
    for path in sorted(root.rglob("*.png"))[::step]:
        _rewritten(kind="JPEG", quality=95)(path)
    with pytest.raises(InputError, match=r"all images of a group must be in one split.*placed before they were one"):
        _prepared(root, tmp_path, source=_table(tmp_path, lambda number: f"group-{'abcd'[number % 4]}"))
    _prepared(root, tmp_path, source=_table(tmp_path, lambda number: f"group-{number}x"))


def test_re_encoded_test_images_that_the_source_now_gives_as_train_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    _made(root, "RGB", "PNG")
    _prepared(root, tmp_path)
    for path in sorted(root.rglob("*.png")):
        _rewritten(kind="JPEG", quality=95)(path)
    with pytest.raises(InputError, match=r"gives \d+ images another split than .* remembers \(.*test to train"):
        _prepared(root, tmp_path, source=_table(tmp_path, None, "train"))


def test_few_re_encoded_test_images_that_the_source_gives_as_train_are_named(tmp_path: Path) -> None:
    root, rng = tmp_path / "raw", np.random.default_rng(0)
    _made(root, "RGB", "PNG")
    _, before = _prepared(root, tmp_path)
    lines = ["path,label,split"]
    for path in sorted(root.rglob("*.png")):
        split = before[path.stem]
        if split == "test" and "test" in "".join(lines[1:]):  # all but one
            _rewritten(kind="JPEG", quality=95)(path)
            path, split = path.with_suffix(".jpeg"), "train"
        elif split == "train":  # most are others now
            photos.write(path, Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)))
        lines.append(f"{path.relative_to(tmp_path)},{path.parent.name},{split}")
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    data, _ = _prepared(root, tmp_path, source=f"csv:{tmp_path}/t.csv")
    named = [note for note in data.report.notes if "can be re-encoded test images" in note]
    assert len(named) == 1
    many = sum(".jpeg," in line for line in lines)
    assert named[0].startswith(f"{many} added images, such as 'raw/")
    assert ".jpeg', can be" in named[0]


def test_set_that_was_re_encoded_twice_keeps_its_split(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    _made(root, "RGB", "PNG")
    first, before = _prepared(root, tmp_path)
    for rewrite in (_rewritten(kind="JPEG", quality=90), _rewritten(kind="WEBP", quality=80)):
        for path in sorted(root.rglob("*.*")):
            rewrite(path)
        data, after = _prepared(root, tmp_path)
        assert after == before
        assert data.split.drawn == first.split.drawn


def test_strangers_that_join_a_set_of_which_a_few_images_are_gone_take_over_nothing() -> None:
    digits = np.stack([np.asarray(Image.fromarray(one.astype(np.uint8) * 15).resize((32, 32)))
                       for one in load_digits().images[:903]])  # fmt: skip
    looks = looks_of(digits)
    known = SplitFile.empty("a").with_images(
        np.arange(1, 4, dtype=np.uint64), np.array([2, 1, 0], np.int8), "copies", looks[:3]
    )
    contents = np.arange(10, 910, dtype=np.uint64)
    found = taken_over(known, contents, contents, looks[3:], np.arange(900))
    assert not found.again
    assert not found.sure.any()


@pytest.mark.parametrize("noise", [False, True])
def test_set_of_other_images_is_a_new_set_with_its_own_fractions(
    tmp_path: Path, noise: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    digits, rng = load_digits(), np.random.default_rng(0)
    folders = []
    for part, rows in enumerate((range(300), range(300, 500))):
        folders.append(tmp_path / f"{part}" / "raw")
        for row in rows:
            pixels = rng.integers(0, 256, (SIDE, SIDE)) if noise else digits.images[row] * 15
            image = Image.fromarray(pixels.astype(np.uint8)).resize((SIDE, SIDE))
            photos.write(folders[-1] / ("cat", "dog")[digits.target[row] % 2] / f"{row}.png", image)
    audit = DoctorParams(near="off")
    before, _ = _prepared(folders[0], tmp_path, audit)
    remembered = (tmp_path / "split.csv").read_bytes()
    data, splits = _prepared(folders[1], tmp_path, audit)
    alone, alike = _prepared(folders[1], tmp_path / "1", audit)
    assert data.split.drawn not in (before.split.drawn, "")
    counts, wanted = Counter(splits.values()), Counter(alike.values())
    assert counts == wanted
    assert len(alone.labels) == 200
    (tmp_path / "split.csv").write_bytes(remembered)
    params = PrepareParams(source=f"folder:{folders[1]}", root=str(tmp_path), size=SIDE, min_per_class=1)
    prepare(params, audit, tmp_path / "p", tmp_path / "s", tmp_path / "decoded", tmp_path / "split.csv")
    assert "none of the 300 images that it remembers is in the source: this is a new set" in capsys.readouterr().out


def _turned(path: Path, number: int) -> None:
    ways = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270, Image.Transpose.FLIP_LEFT_RIGHT)
    image = Image.open(path).transpose(ways[number % len(ways)])
    image.convert("RGB").save(path.with_suffix(".jpg"), quality=90)
    path.unlink()


def test_set_that_was_turned_and_mirrored_keeps_its_split(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    _made(root, "RGB", "PNG")
    first, before = _prepared(root, tmp_path)
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        _turned(path, number)
    data, after = _prepared(root, tmp_path)
    assert after == before
    assert data.split.drawn == first.split.drawn
    assert any("take over their splits (32 of them turned or mirrored)" in note for note in data.report.notes)


@pytest.mark.parametrize("is_turned", [False, True])
def test_strangers_that_join_a_set_that_was_turned_keep_the_splits_that_the_source_gives(is_turned: bool) -> None:
    digits = np.stack([np.asarray(Image.fromarray(one.astype(np.uint8) * 15).resize((32, 32)))
                       for one in load_digits().images[:900]])  # fmt: skip
    old, new = digits[:600], digits[600:]
    added = np.concatenate([np.rot90(old, axes=(1, 2)), np.rot90(new, int(is_turned), axes=(1, 2))])
    splits = np.random.default_rng(0).choice(3, 600, p=(0.7, 0.15, 0.15)).astype(np.int8)
    known = SplitFile.empty("a").with_images(np.arange(1, 601, dtype=np.uint64), splits, "copies", looks_of(old))
    contents = np.arange(1000, 1900, dtype=np.uint64)

    def looks(rows: NDArray[np.int64], way: int) -> NDArray[np.uint64]:
        grey = added[rows][:, :, ::-1] if way >= 4 else added[rows]
        return looks_of(np.ascontiguousarray(np.rot90(grey, way, axes=(1, 2))))

    found = taken_over(known, contents, contents, looks_of(added), np.arange(900), looks)
    assert (found.places[:600] == splits).all()
    assert found.sure[:600].all()
    assert found.turned == 600
    assert (found.places[600:] == -1).all()
    assert not found.sure[600:].any()


def test_set_whose_pictures_were_changed_beyond_knowing_is_named(tmp_path: Path) -> None:
    root, rng = tmp_path / "raw", np.random.default_rng(0)
    _made(root, "RGB", "PNG")
    _prepared(root, tmp_path)
    for path in sorted(root.rglob("*.png")):
        photos.write(path, Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)))
    data, _ = _prepared(root, tmp_path)
    said = [note for note in data.report.notes if "if they are the same pictures, changed" in note]
    assert len(said) == 1
    assert said[0].startswith("32 images are new and look like none of those that are gone, which are more")
