"""The README's way from a folder of photographs to prepared images, in a temporary clone."""

import sqlite3
from pathlib import Path

import pytest

import photos
from pipeline import Clone

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with 24 photographs of each of two classes and the preset for folders."""
    made = Clone(tmp_path_factory.mktemp("own") / "clone", {})
    photos.folder(made.folder / "data/raw/photos", per_class=24, classes=("china", "flower"))
    made.run("podium", "preset", "folder")
    made.run("dvc", "init", "-q", "-f")
    made.run("dvc", "repro", "prepare")
    return made


def _decoded(folder: Path) -> int:
    """Files that the store knows."""
    (index,) = (folder / "data/.decoded").glob("*/index.sqlite")
    with sqlite3.connect(index) as connection:
        count: int = connection.execute("SELECT count(*) FROM image").fetchone()[0]
    return count


def test_folder_is_prepared_as_the_preset_says(clone: Clone) -> None:
    info = clone.json("prepared/dataset.json")

    assert info["shape"] == [3, 64, 64]
    assert info["classes"] == ["china", "flower"]
    assert info["preprocess"]["resize"] == "crop"
    assert (clone.folder / "data/prepared/audit.html").is_file()


def test_repro_without_a_new_image_does_nothing(clone: Clone) -> None:
    assert "didn't change" in clone.run("dvc", "repro", "prepare")


def test_image_that_is_added_is_the_only_one_decoded(clone: Clone) -> None:
    before = _decoded(clone.folder)
    moved = clone.json("prepared/dataset.json")["digest"]
    pixels = next((clone.folder / "data/.decoded").glob("*/pixels"))
    content = pixels.read_bytes()
    photos.write(clone.folder / "data/raw/photos/flower/new.jpg", photos.tiles()[20].rotate(90), "JPEG")

    assert "Running stage 'prepare'" in clone.run("dvc", "repro", "prepare")

    assert clone.json("prepared/dataset.json")["digest"] != moved
    assert _decoded(clone.folder) == before + 1
    assert pixels.read_bytes()[: len(content)] == content
    assert pixels.stat().st_size == len(content) + 3 * 64 * 64


def test_doctor_writes_its_report_and_leaves_data_alone(clone: Clone) -> None:
    before = clone.json("prepared/dataset.json")

    said = clone.run("podium", "doctor", "data", "--log")

    assert "folder:data/raw/photos: " in said
    assert "logged to MLflow as run " in said
    assert (clone.folder / "mlruns/doctor/audit.html").is_file()
    assert clone.json("prepared/dataset.json") == before


def test_folder_that_is_refused_exits_with_2_and_leaves_what_was_there(clone: Clone) -> None:
    wrong = clone.folder / "data/raw/photos/flower/cut.png"
    wrong.write_bytes(photos.encoded(photos.tiles()[3])[:900])
    before = clone.json("prepared/dataset.json")
    clone.set({"doctor.truncated": "refuse"})

    said = clone.run("python", "-m", "podium.stages.prepare", code=2)

    wrong.unlink()
    assert "doctor.truncated: image files that end too early: 1, refused: 'flower/cut.png' (it can't be decoded" in said
    assert "Traceback" not in said
    assert clone.json("prepared/dataset.json") == before


def test_images_behind_a_link_are_refused_or_seen_to_change(clone: Clone) -> None:
    elsewhere = clone.folder.parent / "elsewhere"
    (clone.folder / "data/raw/photos").rename(elsewhere)
    (clone.folder / "data/raw/photos").symlink_to(elsewhere, target_is_directory=True)

    said = clone.run("podium", "doctor", "data", code=1)
    assert "Write `root: data/raw/photos`" in said

    clone.set({"prepare.root": "data/raw/photos", "doctor.truncated": "skip"})
    clone.run("dvc", "repro", "prepare")
    photos.write(elsewhere / "china/late.jpg", photos.tiles()[7].rotate(90), "JPEG")
    assert "Running stage 'prepare'" in clone.run("dvc", "repro", "prepare")
