"""The page of `podium drift`: what it says, that every text is escaped, and that nothing is fetched."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from drift_world import CLASSES, Served, as_pixels, reference
from podium.config.params import DriftParams
from podium.drift.windows import Rules, Windows
from podium.report import drift_page


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Windows:
    """Five complete windows, of which the last is dark, and an open one."""
    folder, served = tmp_path_factory.mktemp("windows"), Served()
    place = Windows(folder, reference(), Rules.of(DriftParams(window=150)), clock=lambda: 1000.0)
    for _ in range(4):
        place.add(served.sketch(150))
    place.add(served.sketch(150, lambda images: as_pixels(images * 0.6)))
    place.add(served.sketch(40))
    return place


def text(place: Windows, path: Path) -> str:
    return drift_page.build("digits version 3", place, place.settle(), path).read_text(encoding="utf-8")


def test_page_names_what_drifted_and_shows_every_feature(filled: Windows, tmp_path: Path) -> None:
    page = text(filled, tmp_path / "deep/drift.html")
    assert "<title>digits version 3: Podium drift</title>" in page
    assert '<p class="headline">Drift</p>' in page
    assert "5 complete windows, 40 images of 150 in the open one" in page
    assert "darker" in page
    figures = json.loads(re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    assert {"effects", "classes", *(f"feature-{name.replace(' ', '-')}" for name in reference().names)} == set(figures)
    marks = dict(zip(figures["effects"]["data"][0]["y"], figures["effects"]["data"][0]["text"], strict=True))
    assert marks["brightness"] == ["", "", "", "", "\N{BULLET}"]
    assert not re.search(r'(src|href)="https?:', page[: page.index('id="figures"')])


def test_page_that_does_not_show_all_windows_says_which_it_shows(
    filled: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "of 5 windows" not in text(filled, tmp_path / "all.html")
    monkeypatch.setattr(drift_page, "ROWS", 2)
    assert '<p class="note">The last 2 of 5 windows.</p>' in text(filled, tmp_path / "some.html")


def test_page_of_no_window_says_so(tmp_path: Path) -> None:
    place = Windows(tmp_path / "w", reference(), Rules.of(DriftParams()))
    place.add(Served().sketch(30))
    page = text(place, tmp_path / "drift.html")
    assert "No window is complete yet" in page
    assert "30 images so far" in page


def test_names_of_classes_are_escaped(tmp_path: Path) -> None:
    odd = replace(reference(), classes=("<script>alert(1)</script>", *CLASSES[1:]))
    place = Windows(tmp_path / "w", odd, Rules.of(DriftParams(window=100)))
    place.add(Served().sketch(150, mix=(0.7, 0.1, 0.1, 0.1)))
    page = text(place, tmp_path / "drift.html")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
