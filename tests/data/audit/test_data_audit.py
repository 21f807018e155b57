"""The audit of a folder with planted defects of every kind: counts exact, the report readable and safe."""

import csv
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import photos
from podium.config.params import DoctorParams, PrepareParams
from podium.data.audit.audit_page import BARRED, PER_CLASS
from podium.data.audit.data_audit import AuditedData, audited, refuse
from podium.data.audit.findings import KINDS
from podium.errors import InputError

HOSTILE = "<img src=x onerror=alert(1)>\"'|`*\n🐱.png"


@contextmanager
def _audited(root: Path, audit: DoctorParams | None = None, **fields: Any) -> Iterator[AuditedData]:
    source = {"source": f"folder:{root}", "root": str(root), "size": 32} | fields
    with audited(PrepareParams(**source), audit or DoctorParams(), root.parent / "decoded") as data:
        yield data


def _found(data: AuditedData) -> dict[str, tuple[int, int]]:
    """Images and groups of each kind."""
    return {finding.kind: (finding.images, finding.groups) for finding in data.report.findings}


def _plant(root: Path) -> None:
    """One folder with every defect; 12 sound photographs a class in train, 6 in test."""
    tiles = photos.tiles()
    for number in range(12):
        photos.write(root / "train/cat" / f"{number:02}.png", tiles[number])
        photos.write(root / "train/dog" / f"{number:02}.png", tiles[24 + number])
    for number in range(6):
        photos.write(root / "test/cat" / f"{number:02}.png", tiles[12 + number])
        photos.write(root / "test/dog" / f"{number:02}.png", tiles[36 + number])
    cat = root / "train/cat"
    (cat / "empty.jpg").write_bytes(b"")
    (cat / "notes.png").write_text("no image", encoding="utf-8")
    (cat / "cut.png").write_bytes((cat / "00.png").read_bytes()[:3000])
    (cat / "cut.jpg").write_bytes(photos.encoded(tiles[44], "JPEG")[:-900])
    whole = photos.encoded(tiles[45])
    (cat / "broken.png").write_bytes(whole[:8000] + bytes(200) + whole[8200:])
    photos.write(cat / "bomb.png", Image.new("1", (3000, 3000)))
    (root / "readme.txt").write_text("beside the splits", encoding="utf-8")
    (root / "train/loose.png").write_bytes(whole)
    (cat / "out.png").symlink_to("/etc/hostname")
    (cat / "nowhere.png").symlink_to("gone")
    photos.write(cat / "tiny.png", tiles[46].resize((5, 90)))
    photos.write(root / "train/dog" / HOSTILE.replace("/", ""), tiles[46].resize((300, 60)))
    photos.write(root / "train/dog/cmyk.jpg", tiles[47].convert("CMYK"), "JPEG")
    dog = root / "train/dog"
    (dog / "00-again.png").write_bytes((dog / "00.png").read_bytes())
    (dog / "01-cat.png").write_bytes((cat / "03.png").read_bytes())
    (dog / "02-leak.png").write_bytes((root / "test/dog/00.png").read_bytes())
    photos.write(dog / "05-near.jpg", tiles[29], "JPEG", quality=60)
    photos.write(dog / "06-near-cat.jpg", tiles[6].crop((4, 4, 92, 92)), "JPEG", quality=90)
    photos.write(dog / "07-near-leak.png", tiles[38].resize((70, 70)))


PLANTED = {
    "unreadable": (1, 1),
    "empty": (1, 1),
    "not_image": (1, 1),
    "truncated": (2, 2),
    "corrupt": (1, 1),
    "huge": (1, 1),
    "outside": (1, 1),
    "stray": (2, 2),
    "tiny": (1, 1),
    "odd_size": (1, 1),
    "odd_mode": (1, 1),
    "duplicates": (2, 1),
    "conflicts": (2, 1),
    "leaks": (2, 1),
    "near_duplicates": (2, 1),
    "near_conflicts": (2, 1),
    "near_leaks": (2, 1),
}


NOT_PLANTED = {"changed", "similar_classes", "imbalance", "blank", "mixed_channels", "large_groups", "left_out"}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("audit") / "photos"
    _plant(root)
    return root


def test_every_planted_defect_is_found_and_nothing_else(planted: Path) -> None:
    with _audited(planted, DoctorParams(max_left_out=1.0, max_megapixels=8.0)) as data:
        assert _found(data) == PLANTED
        assert data.report.near == "crops"
        assert data.report.used == 36 + 8
    assert set(PLANTED) | NOT_PLANTED == set(KINDS)


def test_report_is_json_markdown_and_a_page_in_which_names_do_no_harm(planted: Path, tmp_path: Path) -> None:
    with _audited(planted, DoctorParams(max_left_out=1.0, max_megapixels=8.0)) as data:
        data.report.write(tmp_path, data.pixels)

    report = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))
    odd = next(finding for finding in report["findings"] if finding["kind"] == "odd_size")
    assert odd["examples"][0]["files"] == [f"train/dog/{HOSTILE}"]
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    thumbnails, samples = 15, sum(map(len, data.report.samples.values()))
    assert samples == 2 * PER_CLASS
    assert page.count('src="data:image/') == thumbnails + samples
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    markdown = (tmp_path / "audit.md").read_text(encoding="utf-8")
    assert "### Image files that end too early" in markdown
    assert not any(line.startswith("🐱") for line in markdown.splitlines())


def test_page_of_many_classes_shows_the_first_of_them_before_a_click(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for number in range(BARRED + 4):
        folder = tmp_path / "photos" / f"class {number:02}"
        folder.mkdir(parents=True)
        for image in range(6):
            Image.fromarray(draw.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / f"{image}.png")
    with _audited(tmp_path / "photos", size=8) as data:
        data.report.write(tmp_path, data.pixels)
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    bars, _, rest = page[page.index('id="classes"') : page.index('id="samples"')].partition("<details>")
    assert bars.count('<span title="class ') == BARRED
    assert "<summary>4 more classes</summary>" in rest
    assert rest.count('<span title="class ') == 4


def test_table_beside_the_page_has_every_file_of_every_finding(planted: Path, tmp_path: Path) -> None:
    with _audited(planted, DoctorParams(max_left_out=1.0, max_megapixels=8.0)) as data:
        data.report.write(tmp_path, data.pixels)

    with (tmp_path / "audit.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert Counter(row["kind"] for row in rows) == {kind: images for kind, (images, _) in PLANTED.items()}
    assert {row["policy"] for row in rows if row["kind"] == "empty"} == {"skip"}
    near = [(row["group"], row["file"]) for row in rows if row["kind"] == "near_duplicates"]
    assert near == [("1", "train/dog/05-near.jpg"), ("1", "train/dog/05.png")]
    (odd,) = [row for row in rows if row["kind"] == "odd_size"]
    assert (odd["file"], odd["classes"], odd["why"]) == (f"train/dog/{HOSTILE}", "dog", "300x60")


def test_table_has_what_the_page_leaves_out(tmp_path: Path) -> None:
    root = photos.folder(tmp_path / "photos", per_class=20)
    for number in range(30):
        (root / "cat" / f"={number:02}.png").write_bytes(b"")

    with _audited(root, DoctorParams(max_left_out=1.0)) as data:
        data.report.write(tmp_path, data.pixels)
        (finding,) = data.report.findings
    assert len(finding.examples) == 12
    assert "and 18 more in audit.csv" in (tmp_path / "audit.html").read_text(encoding="utf-8")
    lines = (tmp_path / "audit.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "kind,policy,group,file,classes,why"
    assert lines[30] == "empty,skip,30,cat/=29.png,,empty: it is empty (0 bytes)"


@pytest.mark.parametrize(
    ("change", "refused", "tone", "headline"),
    [
        ("", [], "fine", "Nothing wrong was found"),
        ("empty", [], "skip", "Usable, with 1 finding to look at"),
        ("same", [], "keep", "Usable, with 1 finding to look at"),
        ("empty", ["too few images\nof a class"], "refuse", "Refused: prepare does not use these images"),
    ],
)
def test_verdict_of_the_page_has_the_colour_of_the_worst(
    tmp_path: Path, change: str, refused: list[str], tone: str, headline: str
) -> None:
    root = photos.folder(tmp_path / "photos")
    if change == "empty":
        (root / "cat/none.png").touch()
    if change == "same":
        (root / "cat/same.png").write_bytes((root / "cat/00.png").read_bytes())

    with _audited(root) as data:
        data.report.write(tmp_path, data.pixels, refused)
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")

    assert f'class="verdict {tone}"' in page
    assert f"<strong>{headline}</strong>" in page
    assert all(line in page for text in refused for line in text.split("\n"))


def test_samples_are_images_that_are_trained_on(tmp_path: Path) -> None:
    with _audited(photos.folder(tmp_path / "photos", per_class=24)) as data:
        train = {int(data.rows[number]) for number in data.division.train}
        for rows in data.report.samples.values():
            assert len(rows) == PER_CLASS
            assert set(rows) <= train


def test_skipping_leaves_out_what_each_kind_says(planted: Path) -> None:
    skip = dict.fromkeys(("odd_size", "odd_mode", "duplicates", "conflicts", "leaks"), "skip")
    near = dict.fromkeys(("near_duplicates", "near_conflicts", "near_leaks"), "skip")

    with _audited(planted, DoctorParams(max_left_out=1.0, max_megapixels=8.0, **skip, **near)) as data:
        left = data.report.used

    assert left == 44 - 2 - 1 - 2 - 1 - 1 - 2 - 1


def test_refusing_names_every_finding_with_its_files(planted: Path) -> None:
    audit = DoctorParams(max_left_out=1.0, max_megapixels=8.0, truncated="refuse", leaks="refuse")

    with (
        _audited(planted, audit) as data,
        pytest.raises(
            InputError,
            match=r"doctor\.truncated: image files that .* 2, refused: .*cut\.jpg(?s:.*)doctor\.leaks: equal images",
        ),
    ):
        refuse(data.report)


def test_near_duplicates_share_a_split(planted: Path) -> None:
    with _audited(planted, DoctorParams(max_left_out=1.0, max_megapixels=8.0)) as data:
        parts = {name: {int(data.rows[i]) for i in rows} for name, rows in data.division.parts().items()}
        finding = next(one for one in data.report.findings if one.kind == "near_duplicates")
        together = set(finding.examples[0].rows)

    assert any(together <= rows for rows in parts.values())


def test_sound_images_have_no_findings(tmp_path: Path) -> None:
    with _audited(photos.folder(tmp_path / "photos")) as data:
        assert data.report.findings == []
        assert data.report.summary()[-1] == "  nothing wrong was found"


def test_second_examination_gives_the_same_report(planted: Path) -> None:
    reports = []
    for _ in range(2):
        with _audited(planted, DoctorParams(max_left_out=1.0, max_megapixels=8.0)) as data:
            reports.append(data.report.to_dict())

    assert reports[0] == reports[1]


def test_classes_that_differ_by_case_only_are_refused(tmp_path: Path) -> None:
    root = photos.folder(tmp_path / "photos", classes=("cat", "Cat"))

    with _audited(root) as data, pytest.raises(InputError, match=r"doctor\.similar_classes: .*'Cat', 'cat'"):
        refuse(data.report)


def test_classes_out_of_balance_are_reported(tmp_path: Path) -> None:
    root = photos.folder(tmp_path / "photos")
    for path in list((root / "dog").iterdir())[1:]:
        path.unlink()

    with _audited(root) as data:
        (finding,) = data.report.findings
        assert finding.examples[0].why == "'dog' has 1 images and 'cat' has 12 images"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: photos.folder(root, classes=("cat",)), r"needs images of at least 2 classes; .* has 1: 'cat'"),
        (
            lambda root: _broken(root),
            r"holds no image that can be used \(4 not_image\):\n  'cat/0\.png': it is no image",
        ),
    ],
    ids=["one class", "all broken"],
)
def test_source_without_usable_images_is_refused(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "photos")

    with pytest.raises(InputError, match=rf"^prepare\.source: .*{message}"), _audited(tmp_path / "photos"):
        pass


def test_sizes_that_differ_need_a_size(tmp_path: Path) -> None:
    root = photos.folder(tmp_path / "photos")
    photos.write(root / "cat/wide.png", photos.tiles()[40].resize((120, 96)))

    message = r"^prepare\.size: must say .* has \(channels x height x width\) 3x96x96 \(24\), 3x96x120 \(1\)\."
    with pytest.raises(InputError, match=message), _audited(root, size=None):
        pass


def test_shape_is_the_sources_own_where_nothing_else_is_asked_for(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for number in range(3):
            photos.write(tmp_path / "photos" / name / f"{number}.png", photos.tiles()[number].convert("L"))

    with _audited(tmp_path / "photos", size=None) as data:
        assert data.report.shape == [1, 96, 96]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_file_that_may_not_be_read_is_unreadable(tmp_path: Path) -> None:
    root = photos.folder(tmp_path / "photos")
    (root / "cat/00.png").chmod(0)

    with _audited(root) as data:
        assert _found(data) == {"unreadable": (1, 1)}


def _broken(root: Path) -> None:
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(2):
            (root / name / f"{number}.png").write_text("no image", encoding="utf-8")
