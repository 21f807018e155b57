"""Files that Pillow reads otherwise than they are meant, without an error."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

import photos
from podium.config.params import DoctorParams, PrepareParams
from podium.data.audit.data_audit import audited
from podium.data.damage import BadImage
from podium.data.decode import Preprocess, decode_file
from podium.errors import InputError

RAMP = np.arange(32 * 24, dtype=np.uint16).reshape(32, 24)
"""32 rows, 24 columns."""
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">' + (
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def _tiff(pixels: np.ndarray[Any, Any], **tags: Any) -> bytes:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        info[int(tag[1:])] = value
    return photos.encoded(Image.fromarray(pixels), "TIFF", tiffinfo=info)


def _signed_tiff() -> tuple[bytes, np.ndarray[Any, Any]]:
    values = (RAMP % 200 - 100).astype(np.int16).astype(np.int8)
    data = _tiff(values.view(np.uint8), t339=1)
    return data.replace(struct.pack("<HHII", 339, 3, 1, 1), struct.pack("<HHII", 339, 3, 1, 2)), values


def _png16(channels: list[np.ndarray[Any, Any]], colour: int) -> bytes:
    """A PNG of 16 bits of the type `colour` (4: grey and alpha, 6: RGBA), which Pillow does not write."""
    import zlib

    rows = np.stack(channels, -1).astype(">u2")
    raw = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], 16, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _decoded(data: bytes, channels: int = 1, **how: Any) -> Any:
    return decode_file(data, Preprocess(channels, 32, 24, **how))


def test_tiff_that_its_xmp_alone_turns_has_the_size_of_the_turned_one() -> None:
    pixels = np.asarray(photos.tiles()[0].resize((24, 32)).convert("L"))
    found = decode_file(_tiff(pixels, t700=XMP), Preprocess(1, 24, 32))
    assert (found.width, found.height) == (32, 24)
    assert np.array_equal(found.pixels[0], np.rot90(pixels, -1))


def test_size_of_a_source_of_such_tiffs_is_that_of_the_turned_ones(tmp_path: Path) -> None:
    for number in range(24):
        pixels = np.asarray(photos.tiles()[number].resize((24, 32)).convert("L"))
        path = tmp_path / "raw" / ("cat", "dog")[number % 2] / f"{number}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_tiff(pixels, t700=XMP))
    with audited(PrepareParams(source=f"folder:{tmp_path}/raw", root=str(tmp_path)), DoctorParams(), tmp_path) as data:
        assert data.report.shape == [1, 24, 32]


@pytest.mark.parametrize("deep", [4095, 65535])
@pytest.mark.parametrize("colour", [4, 6])
def test_alpha_and_grey_of_sixteen_bits_are_scaled_by_the_range(colour: int, deep: int) -> None:
    grey = RAMP * 5  # to 3835: 12 bits
    data = _png16([*[grey] * (1 if colour == 4 else 3), np.full_like(RAMP, deep)], colour)
    found = _decoded(data, range=(0.0, 4095.0))
    assert found.values == (0.0, 3835.0)
    assert np.abs(found.pixels[0].astype(int) - np.rint(grey / 4095 * 255)).max() <= 1


def test_signed_numbers_of_eight_bits_are_dark_below_zero() -> None:
    data, values = _signed_tiff()
    found = _decoded(data, range=(-100.0, 99.0))
    assert found.values == (-100.0, 99.0)
    assert np.array_equal(found.pixels[0] == 0, values == -100)
    whole = _decoded(data).pixels[0].astype(int)
    assert np.array_equal(whole, values.astype(int) + 128)


def _zeroed(data: bytes, fraction: float = 0.5) -> bytes:
    keep = int(len(data) * fraction)
    return data[:keep] + bytes(len(data) - keep)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.8])
def test_file_of_which_the_rest_is_zero_bytes_is_damaged(kind: str, fraction: float) -> None:
    with pytest.raises(BadImage) as caught:
        _decoded(_zeroed(photos.encoded(photos.tiles()[3], kind), fraction), 3)
    assert caught.value.kind in ("truncated", "corrupt")


def test_png_whose_pixels_have_another_checksum_is_corrupt() -> None:
    data = bytearray(photos.encoded(photos.tiles()[3]))
    data[data.rindex(b"IEND") - 8] ^= 1
    with pytest.raises(BadImage, match="their checksum is wrong") as caught:
        _decoded(bytes(data), 3)
    assert caught.value.kind == "corrupt"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
def test_zero_bytes_behind_the_end_of_a_whole_file_do_no_harm(kind: str) -> None:
    data = photos.encoded(photos.tiles()[3], kind)
    assert np.array_equal(_decoded(data + bytes(200), 3).pixels, _decoded(data, 3).pixels)


def _prepared(root: Path, **params: Any) -> Any:
    return audited(
        PrepareParams(source=f"folder:{root}", root=str(root), **params), DoctorParams(), root / ".d", root / "s.csv"
    )


@pytest.mark.parametrize(("kind", "frames"), [(0, 1), (0x020002, 2)])
def test_second_picture_of_a_telephone_is_no_frame_and_that_of_a_stereo_camera_is(kind: int, frames: int) -> None:
    buffer = io.BytesIO()
    photos.tiles()[3].save(buffer, "MPO", save_all=True, append_images=[photos.tiles()[4]])
    data = buffer.getvalue()
    with Image.open(io.BytesIO(data)) as image:
        size = image.mpinfo[0xB002][0]["Size"]  # type: ignore[attr-defined]
    at = data.index(struct.pack("<LL", 0x030000, size)) + 16  # the second entry follows 16 bytes after the first
    data = data[:at] + struct.pack("<L", kind) + data[at + 4 :]
    spec = Preprocess(3, 16, 16)

    assert decode_file(data, spec).frames == frames


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\xff\x0a" + b"\x3f" * 20, "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b'<?xml version="1.0"?><Error/>', "XML"),
        (b'{"error": 404}', "JSON"),
        (b"\0" * 900, "zero bytes"),
        (b"\0" * 128 + b"DICM", "DICOM"),
        (b"\0\0\0\x18ftypmp42", "a video"),
        (b"%PDF-1.7", "PDF"),
    ],
)
def test_file_that_is_no_image_is_called_what_it_is(data: bytes, what: str) -> None:
    with pytest.raises(BadImage, match=rf"it is no image that can be read \(.*\), but {what}") as caught:
        _decoded(data)
    assert caught.value.kind == "not_image"


def test_pointer_of_git_annex_is_called_that() -> None:
    with pytest.raises(BadImage, match="run `git annex get`"):
        _decoded(b"/annex/objects/SHA256E-s1--a.jpg\n")


def test_frames_that_are_dropped_are_always_said(tmp_path: Path) -> None:
    for number in range(24):
        path = tmp_path / ("cat", "dog")[number % 2] / f"{number}.gif"
        path.parent.mkdir(exist_ok=True)
        tiles = photos.tiles()[number : number + 3]
        tiles[0].save(path, save_all=True, append_images=tiles[1:])
    with _prepared(tmp_path) as data:
        assert any(note.startswith("24 files have several frames or pages") for note in data.report.notes)
        assert "odd_mode" in [finding.kind for finding in data.report.findings]


def test_range_of_images_of_eight_bits_is_refused(tmp_path: Path) -> None:
    root = photos.folder(tmp_path / "raw")
    with (
        pytest.raises(InputError, match=r"^prepare\.range: \[0, 31\] counts for images deeper"),
        _prepared(root, range=[0, 31]),
    ):
        pass
    with _prepared(root, range=[0, 255]):
        pass


def test_fraction_that_is_changed_after_the_split_is_said_to_count_for_added_images(tmp_path: Path) -> None:
    from podium.data import split_file

    root = photos.folder(tmp_path / "raw", 24)
    for fraction, notes in ((0.15, 0), (0.15, 0), (0.4, 1)):
        with _prepared(root, test_fraction=fraction, min_per_class=1) as data:
            split_file.write(root / "s.csv", data.split)
            found = [note for note in data.report.notes if note.startswith("prepare.test_fraction is 0.4, and 1")]
            assert len(found) == notes


def test_given_test_images_of_which_none_can_be_used_are_refused(tmp_path: Path) -> None:
    root = photos.folder(tmp_path / "raw")
    lines = [f"{path.relative_to(root)},{path.parent.name},train" for path in sorted(root.rglob("*.png"))]
    lost = "lost.png,dog,train"
    for gone in ("gone.png,cat,test", "cat/broken.png,cat,test"):
        (root / "cat/broken.png").write_bytes(b"no image")
        (root / "t.csv").write_text("\n".join(["path,label,split", *lines, lost, gone]) + "\n", encoding="utf-8")
        name = gone.split(",")[0]
        params = PrepareParams(source=f"csv:{root}/t.csv", root=str(root))
        with (
            pytest.raises(InputError, match=rf"test images, and none of them can be used:\n  '{name}'.*\nOthers"),
            audited(params, DoctorParams(), tmp_path / ".d"),
        ):
            pass


def _linked(root: Path) -> str:
    outside = root.parent / "outside.png"
    photos.write(outside, photos.tiles()[40])
    for path in sorted((root / "test").rglob("*.png")):
        path.unlink()
        path.symlink_to(outside)
    return r"'test/cat/00.png': it is a link that leaves the folder.*and 1 more.*`doctor.outside: keep` follows links"


def _hidden_by_dvc(root: Path) -> str:
    (root.parent / ".dvcignore").write_text("raw/test/**/*.png\n", encoding="utf-8")
    return r"'test/cat/00.png': .*dvcignore"


def _damaged(root: Path) -> str:
    for path in (root / "test").rglob("*.png"):
        path.write_bytes(b"")
    return r"'test/cat/00.png': it is empty \(0 bytes\)"


def _equal(root: Path) -> str:
    for path in (root / "test").rglob("*.png"):
        photos.write(path, photos.tiles()[0].resize((4, 4)))
    return r"'test/cat/00.png': it is left out .*`skip` below doctor"


@pytest.mark.parametrize("spoil", [_linked, _hidden_by_dvc, _damaged, _equal])
@pytest.mark.parametrize("split", ["test", "val"])
def test_given_split_of_a_folder_of_which_nothing_can_be_used_is_refused_with_the_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], str], split: str
) -> None:
    root = tmp_path / "raw"
    photos.folder(root / "train", 8)
    photos.folder(root / "test", 3)
    photos.write(root / "loose.png", photos.tiles()[41])  # of no split: it is no reason
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    reason = spoil(root)
    (root / "test").rename(root / split)
    reason = reason.replace("test/", f"{split}/")
    if spoil is _hidden_by_dvc:
        (tmp_path / ".dvcignore").write_text(f"raw/{split}/**/*.png\n", encoding="utf-8")
    params = PrepareParams(source="folder:raw", root="raw", size=32)
    with (
        pytest.raises(InputError, match=rf"(?s)gives .* images, and none of them can be used:\n  {reason}"),
        audited(params, DoctorParams(tiny="skip"), tmp_path / ".d"),
    ):
        pass


@pytest.mark.parametrize("missing", [-9999.0, -32768.0, -3.4028235e38, 3.4e38])
def test_number_for_missing_values_is_no_end_of_the_range(tmp_path: Path, missing: float) -> None:
    for number in range(24):
        pixels = np.asarray(photos.tiles()[number].convert("F").resize((32, 32))).copy()
        pixels[:4] = missing
        path = tmp_path / "raw" / ("cat", "dog")[number % 2] / f"{number}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    with (
        pytest.raises(InputError, match=r"^prepare\.range: .*missing values.*`range: \[0, 4095\]`"),
        _prepared(tmp_path / "raw"),
    ):
        pass
    with _prepared(tmp_path / "raw", range=[0, 255]) as data:
        assert len(data.labels) == 24


@pytest.mark.parametrize(
    ("bits", "kind", "what"),
    [(64, 3, "floats of 64 bits"), (16, 3, "floats of 16 bits"), (64, 1, "whole numbers of 64")],
)
def test_tiff_of_numbers_that_are_not_read_is_called_that(bits: int, kind: int, what: str) -> None:
    data = _tiff(RAMP.astype(np.uint8), t339=1)
    data = data.replace(struct.pack("<HHII", 339, 3, 1, 1), struct.pack("<HHII", 339, 3, 1, kind))
    data = data.replace(struct.pack("<HHII", 258, 3, 1, 8), struct.pack("<HHII", 258, 3, 1, bits))
    with pytest.raises(BadImage, match=f"it is a TIFF of {what}.*not read") as caught:
        _decoded(data)
    assert caught.value.kind == "not_image"


def test_pixels_that_are_no_numbers_are_counted() -> None:
    pixels = np.zeros((24, 32), np.float32)
    pixels[0, :5] = np.nan
    with pytest.raises(BadImage, match="5 of its 768 pixels are not numbers .* write a number"):
        _decoded(photos.encoded(Image.fromarray(pixels), "TIFF"))
