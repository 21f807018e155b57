"""Which preset the images suggest."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

import photos
from podium.config.params import Params, parse
from podium.doctor.preset_choice import preset

PRESETS = Path(__file__).parents[2] / "presets"


def _params(folder: Path, more: str = "") -> Params:
    return parse(f"prepare: {{source: 'folder:{folder}', root: '{folder}'}}\n{more}")


def _photographs(number: int) -> Image.Image:
    return photos.tiles()[2 * number]


def _small(number: int) -> Image.Image:
    return photos.tiles()[2 * number].resize((32, 32))


def _icon(number: int) -> Image.Image:
    image = Image.new("RGBA", (128, 128), (0, 0, 0, 0))
    ImageDraw.Draw(image).ellipse((20, 20, 60 + number, 100), fill=(200, 30, 10 * number % 250, 255))
    return image


def _digit(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 16, (8, 8), dtype=np.uint8) * 15)


@pytest.mark.parametrize(
    ("draw", "name", "what"),
    [
        (_photographs, "photos", "photographs"),
        (_small, "", "small pictures"),
        (_icon, "", "icons, digits or drawings"),
        (_digit, "", "icons, digits or drawings"),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_preset_follows_from_what_the_images_look_like(
    tmp_path: Path, draw: object, name: str, what: str, kind: str
) -> None:
    for number in range(24):
        image: Image.Image = draw(number)  # type: ignore[operator]
        photos.write(tmp_path / f"{'ab'[number % 2]}/{number}.{kind.lower()}", image, kind, lossless=True)
    found = preset(_params(tmp_path), PRESETS)
    assert f"24 images looked at: {what} (" in found.found
    assert found.level == ("note" if name else "ok")
    assert (f"podium preset {name}" in found.remedy) is bool(name)


def test_folder_that_may_be_listed_and_not_entered_holds_no_image_to_look_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(24):
        photos.write(tmp_path / f"images/{'ab'[number % 2]}/{number}.png", _icon(number))
    photos.write(tmp_path / "images/closed/1.png", _icon(1))
    stat = os.stat

    def closed(path: Any, *others: Any, **more: Any) -> os.stat_result:
        if "closed/" in os.fsdecode(path):  # root may enter every folder
            raise PermissionError(13, "Permission denied")
        return stat(path, *others, **more)

    monkeypatch.setattr(os, "stat", closed)
    assert "24 images looked at: icons" in preset(_params(tmp_path / "images"), PRESETS).found


def test_preset_for_photographs_that_params_has_is_fine(tmp_path: Path) -> None:
    photos.folder(tmp_path, 24)
    weights = "model: {name: 'timm:tf_efficientnet_lite0', weights: imagenet}\n"
    assert preset(_params(tmp_path, weights), PRESETS).level == "ok"


def test_photographs_that_params_does_not_name_yet_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photos.folder(tmp_path / "data/raw/photos", 24)
    assert "podium preset photos" in preset(parse(""), PRESETS).remedy


@pytest.mark.parametrize("content", [None, b"", b"no image"])
def test_folder_without_an_image_recommends_nothing(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "x.png").write_bytes(content)
    found = preset(_params(tmp_path), PRESETS)
    assert (found.level, found.found) == ("ok", f"no image file in {tmp_path}: nothing to recommend one by")
