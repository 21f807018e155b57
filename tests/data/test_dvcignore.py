"""Files that .dvcignore hides: what DVC leaves out is left out, or used and said to be unseen."""

from pathlib import Path
from typing import Any

import pytest
from dvc.fs import localfs
from dvc.ignore import DvcIgnoreFilter

import photos
from podium.config.params import DoctorParams, PrepareParams
from podium.data import sources
from podium.data.audit.data_audit import audited, refuse
from podium.data.audit.dvc_tree import refusals
from podium.data.dvcignore import LEFT_OUT, DvcIgnore
from podium.data.sources import folder as folder_source
from podium.data.sources.listing import entries
from podium.errors import InputError

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
    count = len(list((project / "raw/a_old").iterdir()))
    assert (hidden[0].origin, hidden[0].why) == ("a_old", f"{LEFT_OUT}, with {count} files in it")
    assert {one.why for one in hidden[1:]} == {LEFT_OUT}
    assert count + len(hidden) - 1 == len(every.items) - len(found.items)
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
    highest = {
        next(str(one) for one in [*reversed(Path(folder).parents), Path(folder)] if ignore.hides_folder("raw" / one))
        for folder in out
    }
    assert {one.origin for one in found.rejects if not one.meant} == highest
    assert len(found.items) == len(folders) - len(out)


@pytest.mark.parametrize("hidden", ["backup", "train/cat/backup"])
def test_hidden_folder_is_one_reject_however_many_files_it_holds_and_is_not_missing(
    project: Path, hidden: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, split in enumerate(("train", "val", "test")):
        for name in ("cat", "dog"):
            photos.write(project / "raw" / split / name / "1.png", photos.tiles()[number])
    deep = project / "raw" / hidden / "deep"
    deep.mkdir(parents=True)
    for number in range(100):
        (deep / f"{number}.txt").write_text("x")
    (project / ".dvcignore").write_text("backup/\n", encoding="utf-8")
    params = PrepareParams(source="folder:raw", root="raw", layout="splits", size=8)

    found = sources.read(params)
    assert [(one.origin, one.why) for one in found.rejects if not one.meant] == [
        (hidden, f"{LEFT_OUT}, with 100 files in it")
    ]
    assert len(found.items) == 6
    with audited(params, DoctorParams(), project / "decoded") as data:
        assert "left_out" not in {finding.kind for finding in data.report.findings}
        (line,) = [finding.sentence() for finding in data.report.findings if finding.kind == "outside"]
        assert line.endswith("files that .dvcignore leaves out: 100 in 1 place, left out")
        assert data.report.files == 106
    monkeypatch.setattr(folder_source, "COUNTED", 50)
    assert [one.why for one in sources.read(params).rejects if not one.meant] == [
        f"{LEFT_OUT}, with 50 files or more in it"
    ]


def test_hidden_folder_that_leaves_one_class_is_named_with_its_files(project: Path) -> None:
    photos.folder(project / "raw", classes=("cat", "dog"))
    (project / ".dvcignore").write_text("raw/dog\n", encoding="utf-8")
    count = len(list((project / "raw/dog").iterdir()))
    message = rf"has 1: 'cat'; {count} files left out, such as 'dog': {LEFT_OUT}, with {count} files in it$"
    with (
        pytest.raises(InputError, match=message),
        audited(PrepareParams(source="folder:raw", root="raw"), DoctorParams(), project / "decoded"),
    ):
        pytest.fail("a class is missing")


def test_folder_beside_the_splits_that_can_not_be_listed_is_rejected(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("train/cat", "train/dog", "val/cat", "val/dog"):
        photos.write(project / "raw" / folder / "1.png", photos.tiles()[0])
    (project / "raw/private").mkdir()
    (project / ".dvcignore").write_text("old/\n", encoding="utf-8")

    def listed(folder: Path, *others: Any) -> list[Path]:
        if folder.name == "private":
            raise PermissionError(13, "Permission denied")
        return entries(folder, *others)

    monkeypatch.setattr(folder_source, "entries", listed)  # root may list every folder
    found = sources.read(PrepareParams(source="folder:raw", root="raw", layout="splits"))
    assert ("unreadable", "private", "it can't be listed: Permission denied") in [
        (one.kind, one.origin, one.why) for one in found.rejects
    ]


def test_what_dvcignore_hides_does_not_end_dvc(project: Path) -> None:
    (project / "raw/cat").mkdir(parents=True)
    (project / "raw/cat/gone.png").symlink_to("nowhere")
    before, _ = refusals(Path("raw"))
    (project / ".dvcignore").write_text("gone.png\n", encoding="utf-8")

    assert len(before) == 1
    assert refusals(Path("raw")) == ([], [])


@pytest.mark.parametrize("place", ["cat", "cat/more"])
def test_folder_with_a_dvc_project_of_its_own_is_rejected_with_that_reason(project: Path, place: str) -> None:
    photos.folder(project / "raw", classes=("cat", "dog", "fox"))
    (project / "raw" / place / ".dvc").mkdir(parents=True)
    photos.write(project / "raw" / place / "z.png", photos.tiles()[40])
    seen = DvcIgnoreFilter(localfs, str(project))
    assert DvcIgnore(project).hides_folder(project / "raw" / place)
    assert not any(place in root for root, _, _ in seen.walk(localfs, str(project / "raw")))
    source = sources.read(PrepareParams(source="folder:raw", root="raw"))
    (reject,) = source.rejects
    assert (reject.kind, reject.origin, reject.meant) == ("outside", place, True)
    assert f"raw/{place} holds a folder .dvc, so that it is a DVC project of its own; remove that folder" in reject.why


def test_files_that_a_pattern_leaves_out_of_a_folder_are_not_missed_and_those_of_a_table_are(project: Path) -> None:
    root = photos.folder(project / "raw")
    for number in range(12):
        photos.write(root / "cat" / f"{number:02}_thumb.png", photos.tiles()[30].resize((20, 20)))
    (project / ".dvcignore").write_text("*_thumb.png\n", encoding="utf-8")
    paths = sorted(path.relative_to(project) for path in root.rglob("*.png"))
    table = "".join(f"{path},{path.parent.name}\n" for path in paths)
    (project / "raw.csv").write_text(f"path,label\n{table}", encoding="utf-8")
    kinds, notes = [], []
    for source in ("folder:raw", "csv:raw.csv"):
        with audited(PrepareParams(source=source, root=".", size=32), DoctorParams(), project / "decoded") as data:
            kinds.append({one.kind: one.images for one in data.report.findings})
            notes += [note for note in data.report.notes if ".dvcignore" in note]
    assert kinds == [{"outside": 12}, {"outside": 12, "left_out": 12}]
    said = ".dvcignore leaves 12 of 36 files out, such as '{}cat/00_thumb.png'"
    assert notes[0] == said.format("")
    assert notes[1].startswith(said.format("raw/") + ", so that they count as missing: ")


def test_pattern_that_leaves_out_more_than_stays_is_refused_unless_max_left_out_allows_it(project: Path) -> None:
    root = photos.folder(project / "raw")
    for path in sorted(root.rglob("*.png")):
        for number in range(2):
            path.with_stem(f"{path.stem}_{number}").write_bytes(path.read_bytes())
    (project / ".dvcignore").write_text("*_?.png\n", encoding="utf-8")
    params = PrepareParams(source="folder:raw", root="raw", size=32)
    with audited(params, DoctorParams(), project / "decoded") as data:
        assert any("delete the pattern; if not, raise doctor.max_left_out" in note for note in data.report.notes)
        with pytest.raises(InputError, match=r"doctor\.left_out: (?s:.*)48 of 72 (?s:.*)\.dvcignore leaves it out"):
            refuse(data.report)
    with audited(params, DoctorParams(max_left_out=0.7), project / "decoded") as data:
        refuse(data.report)
