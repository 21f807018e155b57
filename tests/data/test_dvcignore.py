"""Files that .dvcignore hides: what DVC leaves out is left out, or used and said to be unseen."""

from pathlib import Path

import pytest
from dvc.fs import localfs
from dvc.ignore import DvcIgnoreFilter

import photos
from podium.config.params import PrepareParams
from podium.data import sources
from podium.data.audit.dvc_tree import refusals
from podium.data.dvcignore import DvcIgnore
from podium.data.sources.item import HIDDEN

FILES = (
    "raw/cat/1.png",
    "raw/cat/2.jpg",
    "raw/cat/old/3.png",
    "raw/dog/4.png",
    "raw/dog/keep.tmp.png",
    "raw/dog/a b.png",
    "raw/old/5.png",
    "raw/build/cat/6.png",
    "old/7.png",
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC project in the current folder, without git."""
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "patterns",
    [
        {".dvcignore": ""},
        {".dvcignore": "*.jpg"},
        {".dvcignore": "old"},
        {".dvcignore": "old/"},
        {".dvcignore": "/old"},
        {".dvcignore": "raw/*/old"},
        {".dvcignore": "raw/**/*.png\n!raw/dog/4.png"},
        {".dvcignore": "raw/dog\n!raw/dog/4.png"},
        {".dvcignore": "# a comment\n\n  *.tmp.*  "},
        {".dvcignore": "a b.png"},
        {".dvcignore": "*.png", "raw/.dvcignore": "!1.png"},
        {"raw/dog/.dvcignore": "*"},
        {"raw/.dvcignore": "/cat/*.png\nbuild"},
        {".dvcignore": "raw/.dvcignore", "raw/.dvcignore": "cat"},
    ],
    ids=repr,
)
def test_dvcignore_hides_what_dvc_leaves_out(project: Path, patterns: dict[str, str]) -> None:
    for name in FILES:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).touch()
    for name, text in patterns.items():
        (project / name).write_text(text, encoding="utf-8")
    dvc = DvcIgnoreFilter(localfs, str(project))
    wanted = {Path(place, name) for place, _, names in dvc.walk(localfs, str(project)) for name in names}

    ours = DvcIgnore(project)

    assert {name for name in FILES if not ours.hides(Path(name))} == {
        name for name in FILES if project / name in wanted
    }


def test_path_through_the_folder_above_is_hidden_like_the_straight_one(project: Path) -> None:
    (project / ".dvcignore").write_text("/raw/cat/1.png\n/raw/dog\n")
    ignore = DvcIgnore(project)
    assert ignore.hides(Path("raw/../raw/cat/1.png"))
    assert ignore.hides_folder(Path("raw/cat/../dog"))
    assert not ignore.hides(Path("raw/../raw/cat/2.jpg"))


def test_source_leaves_out_what_dvcignore_hides_with_classes_of_nothing_else(project: Path) -> None:
    photos.folder(project / "raw", classes=("a_old", "cat", "dog"))
    (project / ".dvcignore").write_text("raw/a_old\nraw/cat/0*\n", encoding="utf-8")
    (project / "raw/cat/00.png").write_bytes(b"hidden")
    params = PrepareParams(source="folder:raw", root="raw")

    found, every = sources.read(params), sources.read(params, follow_links=True)

    assert (found.classes, every.classes) == (("cat", "dog"), ("a_old", "cat", "dog"))
    assert {found.classes[item.label] for item in found.items} == {"cat", "dog"}
    assert {item.origin.partition("/")[0] for item in found.items} == {"cat", "dog"}
    hidden = [one for one in found.rejects if one.kind == "outside"]
    assert len(hidden) == len(every.items) - len(found.items) > 0
    assert hidden[0].why == "DVC does not see it: .dvcignore leaves it out"
    assert "cat/00.png" in every.unseen(Path("raw"), DvcIgnore(project))


@pytest.mark.parametrize(
    ("folders", "hidden", "layout", "classes"),
    [
        (["train/cat", "train/dog", "val/cat", "val/dog", "old/cat"], "raw/old", "auto", ("cat", "dog")),
        (["cat", "dog", "test"], "raw/test/", "auto", ("cat", "dog")),
        (["cat", "dog", "images/a", "images/b"], "images", "auto", ("cat", "dog")),
        (["train/cat", "train/dog", "train/junk", "test/cat", "test/dog"], "raw/*/junk", "auto", ("cat", "dog")),
        (["cat/train", "cat/test", "dog/train", "dog/test", "dog/trash"], "trash", "splits", ("cat", "dog")),
        (["cat", "dog", "train"], "raw/train", "classes", ("cat", "dog")),
    ],
)
def test_hidden_folder_is_no_class_and_no_split_and_makes_no_layout_ambiguous(
    project: Path, folders: list[str], hidden: str, layout: str, classes: tuple[str, ...]
) -> None:
    for folder in folders:
        photos.write(project / "raw" / folder / "1.png", photos.tiles()[0])
    (project / ".dvcignore").write_text(f"{hidden}\n", encoding="utf-8")
    ignore = DvcIgnore(project)

    found = sources.read(PrepareParams(source="folder:raw", root="raw", layout=layout))

    assert found.classes == classes
    out = [folder for folder in folders if ignore.hides_folder(Path("raw") / folder)]
    assert [one.origin for one in found.rejects if one.why == HIDDEN] == [f"{folder}/1.png" for folder in out]
    assert len(found.items) == len(folders) - len(out)


def test_what_dvcignore_hides_does_not_end_dvc(project: Path) -> None:
    (project / "raw/cat").mkdir(parents=True)
    (project / "raw/cat/gone.png").symlink_to("nowhere")
    before, _ = refusals(Path("raw"))
    (project / ".dvcignore").write_text("gone.png\n", encoding="utf-8")

    assert len(before) == 1
    assert refusals(Path("raw")) == ([], [])
