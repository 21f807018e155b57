"""Files with another colour profile than sRGB are counted, and their pixels stay as they are."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

import photos
from podium.config.params import DoctorParams, PrepareParams
from podium.data.audit.data_audit import audited
from podium.data.colour_profiles import embedded, other_than_srgb
from podium.data.decode import Preprocess, decode_file

P3 = ((0.5151, 0.2412, -0.0011), (0.2919, 0.6922, 0.0419), (0.1572, 0.0666, 0.7841))
"""X, Y and Z of Display P3's red, green and blue (D50)."""
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _fixed(*numbers: float) -> bytes:
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)


def _profile(name: str, space: bytes = b"RGB ", gamma: float = 2.2) -> bytes:
    """A profile of version 2: of P3's primaries, or of grey."""
    text = b"desc" + bytes(4) + struct.pack(">I", len(name) + 1) + name.encode() + bytes(1 + 78)
    tags = {b"desc": text, b"wtpt": b"XYZ " + bytes(4) + _fixed(0.9642, 1.0, 0.8249)}
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    if space == b"RGB ":
        for colour, xyz in zip(b"rgb", P3, strict=True):
            tags |= {bytes([colour]) + b"XYZ": b"XYZ " + bytes(4) + _fixed(*xyz), bytes([colour]) + b"TRC": curve}
    else:
        tags[b"kTRC"] = curve
    table, body, at = b"", b"", 128 + 4 + 12 * len(tags)
    for key, value in tags.items():
        padded = value + bytes(-len(value) % 4)
        table += key + struct.pack(">II", at + len(body), len(value))
        body += padded
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"lcms", 0x02400000, b"mntr", space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + _fixed(0.9642, 1.0, 0.8249) + bytes(48)
    return head + struct.pack(">I", len(tags)) + table + body


def test_profiles_are_told_by_their_colours_not_by_their_name() -> None:
    assert other_than_srgb(_profile("Some P3")) == "Some P3"
    assert other_than_srgb(_profile("Grey of a printer", b"GRAY", 1.4)) == "Grey of a printer"
    assert other_than_srgb(_profile("Grey 2.2", b"GRAY")) == ""
    assert other_than_srgb(SRGB) == ""
    assert other_than_srgb(b"damaged" * 40) == ""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_profile_is_found_in_every_kind_of_file(kind: str) -> None:
    image = Image.fromarray(np.asarray(photos.tiles()[20]))  # without the profile of the photograph
    assert embedded(photos.encoded(image, kind, icc_profile=_profile("P3"))) == _profile("P3")
    assert not embedded(photos.encoded(image, kind))


def test_files_of_another_profile_are_counted_and_have_the_same_pixels(tmp_path: Path) -> None:
    tiles = photos.tiles()[16:]
    for number in range(24):
        name = tmp_path / "raw" / ("cat", "dog")[number % 2] / f"{number:02}.png"
        profile = {0: _profile("Display P3"), 1: SRGB}.get(number % 4)
        photos.write(name, tiles[number], icc_profile=profile)
    params = PrepareParams(source=f"folder:{tmp_path / 'raw'}", root=str(tmp_path), size=32, min_per_class=1)
    for _ in range(2):  # decoded now, and before
        with audited(params, DoctorParams(), tmp_path / "decoded") as data:
            notes = [note for note in data.report.notes if "profile" in note]
            assert len(notes) == 1
            assert notes[0].startswith(
                "6 images have another colour profile than sRGB (Display P3: 6), such as cat/00.png: it is not applied"
            )
            data.report.write(tmp_path, data.pixels)
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert '<ul class="notes"><li>6 images have another colour profile than sRGB' in page
    assert " 1 note below." in page


def test_profile_changes_no_pixel() -> None:
    tile, spec = photos.tiles()[20], Preprocess(3, 32, 32)
    plain, other = (decode_file(photos.encoded(tile, icc_profile=icc), spec) for icc in (None, _profile("P3")))
    assert np.array_equal(plain.pixels, other.pixels)
