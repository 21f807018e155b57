"""What is wrong with a set as a whole, and how deep its values are: said, and refused where params.yaml says so."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import photos
from podium.config.params import DoctorParams, PrepareParams
from podium.data.audit.data_audit import AuditedData, audited, refuse
from podium.data.audit.dvc_tree import refusals
from podium.errors import InputError


@contextmanager
def _audited(root: Path, audit: DoctorParams | None = None, **fields: Any) -> Iterator[AuditedData]:
    source = {"source": f"folder:{root}", "root": str(root), "size": 32} | fields
    with audited(PrepareParams(**source), audit or DoctorParams(), root.parent / "decoded") as data:
        yield data


def _found(data: AuditedData) -> dict[str, int]:
    return {finding.kind: finding.images for finding in data.report.findings}


def _deep(root: Path, dtype: type, top: float, low: float = 0.0) -> Path:
    """Photographs whose grey values lie from `low` to `top`."""
    for number, tile in enumerate(photos.tiles()[:24]):
        grey = np.asarray(tile.convert("L"), np.float64) / 255
        grey[0, :2] = 0, 1
        values: Any = (low + grey * (top - low)).astype(dtype)
        photos.write(root / ("cat", "dog")[number % 2] / f"{number}.tif", Image.fromarray(values), "TIFF")
    return root


@pytest.mark.parametrize(
    ("dtype", "top", "low", "ends"),
    [
        (np.uint16, 4095, 0, (0.0, 4095.0)),
        (np.uint16, 1000, 0, (0.0, 1023.0)),
        (np.uint16, 65535, 0, None),
        (np.uint16, 200, 0, (0.0, 255.0)),
        (np.int32, 3000, -1000, (-1000.0, 3000.0)),
        (np.int32, 100_000, 0, (0.0, 100_000.0)),
        (np.float32, 1, 0, (0.0, 1.0)),
        (np.float32, 255, 0, (0.0, 255.0)),
        (np.float32, 1, -1, (-1.0, 1.0)),
        (np.float32, 1.02, 0, (0.0, float(np.float32(1.02)))),
        (np.float32, 4000, 300, (300.0, 4000.0)),
    ],
)
def test_range_of_deep_images_is_that_of_the_whole_set(
    tmp_path: Path, dtype: type, top: float, low: float, ends: tuple[float, float] | None
) -> None:
    with _audited(_deep(tmp_path / "deep", dtype, top, low)) as data:
        assert data.spec.range == ends
        pixels = data.images(np.arange(24, dtype=np.int64))[slice(0, 24)]
        assert pixels.min() < 40
        assert pixels.max() > 190
        assert any("deeper than 8 bits" in note for note in data.report.notes)


def test_range_of_params_counts(tmp_path: Path) -> None:
    root = _deep(tmp_path / "deep", np.uint16, 4095)

    with _audited(root, range="container") as data:
        assert data.spec.range is None
        assert _found(data)["blank"] > 0
    with _audited(root, range=(0.0, 8191.0)) as data:
        assert data.spec.range == (0.0, 8191.0)


@pytest.mark.parametrize(("top", "ends"), [(1, (0.0, 1.0)), (200, (0.0, 255.0))])
def test_container_of_floats_is_one_for_the_whole_set(tmp_path: Path, top: float, ends: tuple[float, float]) -> None:
    root = _deep(tmp_path / "deep", np.float32, top)
    photos.write(root / "cat/dark.tif", Image.fromarray(np.full((9, 9), 0.5, np.float32)), "TIFF")

    with _audited(root, range="container") as data:
        assert data.spec.range == ends


def test_whole_numbers_and_floats_have_no_range_in_common(tmp_path: Path) -> None:
    root = _deep(tmp_path / "deep", np.uint16, 4095)
    photos.write(root / "cat/f.tif", Image.fromarray(np.zeros((9, 9), np.float32)), "TIFF")

    with pytest.raises(InputError, match=r"^prepare\.range: .*`range: \[0, 65535\]`"), _audited(root):
        pass


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (Image.new("RGB", (96, 96)), "nearly black"),
        (Image.new("RGB", (96, 96), (255, 252, 255)), "nearly white"),
        (Image.new("L", (96, 96), 128), "of one shade"),
        (Image.new("RGBA", (96, 96), (9, 90, 9, 0)), "fully transparent"),
        (Image.fromarray(np.random.default_rng(0).integers(0, 9, (96, 96), dtype=np.uint8)), "nearly black"),
    ],
)
def test_image_on_which_nothing_can_be_seen_is_found(tmp_path: Path, image: Image.Image, why: str) -> None:
    root = photos.folder(tmp_path / "photos")
    photos.write(root / "cat/none.png", image)

    with _audited(root) as data:
        finding = next(one for one in data.report.findings if one.kind == "blank")
    assert (finding.images, finding.examples[0].files, finding.examples[0].why) == (1, ["cat/none.png"], why)


def test_one_coloured_image_among_grey_ones_makes_all_of_them_rgb(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for number, tile in enumerate(photos.tiles()[:24]):
        grey = tile if number == 5 else tile.convert("L")
        photos.write(root / ("cat", "dog")[number % 2] / f"{number:02}.png", grey)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("podium.data.image_shape.LOOKED_AT", 2)  # a sample that does not see it
        with _audited(root) as data:
            assert data.report.shape == [3, 32, 32]
            assert _found(data) == {"mixed_channels": 1, "odd_mode": 1}
    with _audited(root, channels=1) as data:
        assert data.report.shape == [1, 32, 32]


def test_files_beside_images_of_their_name_are_not_missing(tmp_path: Path) -> None:
    root = photos.folder(tmp_path / "raw", per_class=6)
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        suffix = (".json", ".png.meta.json", ".CR2")[number % 3]
        path.with_name(path.stem + suffix).write_bytes(b"II*\0\x10\0\0\0CR\2\0")

    with _audited(root) as data:
        assert _found(data)["not_image"] == 12
        refuse(data.report)


@pytest.mark.parametrize("suffix", ["~", ".bak", ".part", ".download"])
def test_copies_beside_their_images_are_not_missing_and_images_named_as_copies_are(tmp_path: Path, suffix: str) -> None:
    root = photos.folder(tmp_path / "photos", per_class=8)
    images = sorted(root.rglob("*.png"))
    for path in images:
        path.with_name(path.name + suffix).write_bytes(path.read_bytes())
    with _audited(root) as data:
        assert _found(data)["not_image"] == 16
        refuse(data.report)
    for path in images[::2]:
        path.unlink()
    with _audited(root) as data, pytest.raises(InputError, match=r"doctor\.left_out: (?s:.*)8 of 16 (?s:.*)rename it"):
        refuse(data.report)


@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", b"<html></html>"])
def test_file_that_is_named_like_an_image_is_missing_whatever_lies_beside_it(tmp_path: Path, content: bytes) -> None:
    root = photos.folder(tmp_path / "photos", per_class=6)
    beside = min((root / "cat").iterdir())
    for suffix in (".jpg", ".001.png", ".002.png"):
        beside.with_name(beside.stem + suffix).write_bytes(content)

    with _audited(root) as data, pytest.raises(InputError, match=r"doctor\.left_out: (?s:.*)3 of 15 "):
        refuse(data.report)


def test_too_many_files_that_are_left_out_are_refused(tmp_path: Path) -> None:
    root = photos.folder(tmp_path / "photos")
    for number in range(3):
        (root / "cat" / f"{number}.heic").write_bytes(b"no HEIC, whatever its name says")

    with (
        _audited(root) as data,
        pytest.raises(InputError, match=r"doctor\.left_out: (?s:.*)3 of 27 (?s:.*)it is no image"),
    ):
        refuse(data.report)
    with _audited(root, DoctorParams(max_left_out=0.2)) as data:
        refuse(data.report)
        assert _found(data) == {"not_image": 3}


def test_group_that_holds_much_of_a_class_is_named(tmp_path: Path) -> None:
    root = photos.folder(tmp_path / "photos")
    for number in range(10):
        photos.write(root / "dog" / f"same{number}.jpg", photos.tiles()[17], "JPEG", quality=95 - number)

    with _audited(root) as data:
        finding = next(one for one in data.report.findings if one.kind == "large_groups")
    assert finding.examples[0].why == "11 of the 22 images of 'dog' share one split"


@pytest.mark.parametrize(
    ("one", "other"), [("0", "0.0"), ("1", "01"), ("cat", "cat "), ("New York", "new_york"), ("cat", "cat\u200b")]
)
def test_classes_that_differ_by_form_only_are_refused(tmp_path: Path, one: str, other: str) -> None:
    root = photos.folder(tmp_path / "photos", classes=(one, other))

    with _audited(root) as data, pytest.raises(InputError, match=r"doctor\.similar_classes: "):
        refuse(data.report)


def test_groups_that_are_hard_to_tell_apart_are_kept_where_the_policy_says_so(tmp_path: Path) -> None:
    root = photos.folder(tmp_path / "photos")
    paths = [path.relative_to(root) for path in sorted(root.rglob("*.png"))]
    rows = [f"{path},{path.parent},{7 + number // 2}{'.0' * (number % 2)}" for number, path in enumerate(paths)]
    (root / "t.csv").write_text("\n".join(["path,label,group", *rows, ""]), encoding="utf-8")
    source = f"csv:{root}/t.csv"

    with (
        pytest.raises(InputError, match=r"^doctor\.similar_groups: (?s:.*)'7' .*'7\.0' "),
        _audited(root, source=source),
    ):
        pass
    with _audited(root, DoctorParams(similar_groups="keep"), source=source) as data:
        assert any("'7' and '7.0'" in note for note in data.report.notes)


@pytest.mark.parametrize(("one", "other"), [("R", "\u211d"), ("m2", "m\u00b2"), ("1", "\u2460"), ("iii", "iv")])
def test_classes_that_look_different_are_different(tmp_path: Path, one: str, other: str) -> None:
    root = photos.folder(tmp_path / "photos", classes=(one, other))

    with _audited(root) as data:
        assert "similar_classes" not in [finding.kind for finding in data.report.findings]


def test_floats_of_two_scales_are_refused_unless_the_range_is_named(tmp_path: Path) -> None:
    root = _deep(tmp_path / "deep", np.float32, 255)
    for path in sorted(root.rglob("*.tif"))[:6]:
        with Image.open(path) as image:
            values = np.asarray(image) / np.float32(255)
        Image.fromarray(values).save(path)

    message = r"prepare\.range: 6 images of floats have values up to 1, and 18 up to 255"
    with pytest.raises(InputError, match=message), _audited(root):
        pass
    with _audited(root, range=(0, 255)) as data:
        assert data.spec.range == (0.0, 255.0)


def test_what_dvc_stumbles_over_is_named(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    (root / "cat").mkdir(parents=True)
    (root / "cat/nowhere.png").symlink_to("gone")
    (root / "cat/linked").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(root / "cat/pipe")
    Path(os.fsdecode(os.fsencode(root) + b"/cat/\xff.png")).write_bytes(b"x")

    wrong, notes = refusals(root)

    assert [line.rpartition("/")[2].partition(":")[0] for line in wrong] == ["nowhere.png", "pipe", "\\xff.png"]
    assert len(notes) == 1
    assert "cat/linked is a link to a folder" in notes[0]


def test_file_that_can_not_be_reached_ends_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos.folder(tmp_path / "raw", 1)
    stat = Path.stat

    def refused(path: Path, **options: Any) -> Any:
        if path.parent.name == "dog":  # as where a folder may be listed, and not entered
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refused)

    assert refusals(tmp_path / "raw")[0] == [
        f"{tmp_path}/raw/dog/00.png: it can't be reached (Permission denied); change the permissions of its folder"
    ]


def test_root_that_is_missing_ends_dvc(tmp_path: Path) -> None:
    wrong, _ = refusals(tmp_path / "none")

    assert len(wrong) == 1
    assert wrong[0].startswith("prepare.root: ")


def test_folder_that_dvc_needs_and_is_missing_ends_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = photos.folder(tmp_path / "photos", per_class=1)
    assert refusals(root) == ([], [])
    pipeline = tmp_path / "dvc.yaml"
    pipeline.write_text("stages: {prepare: {cmd: x, deps: [data/raw]}}\n", encoding="utf-8")
    assert refusals(root) == ([], [])  # somebody's own, which names neither
    pipeline.write_text("stages: {prepare: {cmd: x, deps: [data/labels, data/split]}}\n", encoding="utf-8")
    (tmp_path / "data/labels").mkdir(parents=True)
    wrong, _ = refusals(root)
    assert [one.partition(" does not exist")[0] for one in wrong] == ["data/split"]
