import os
from pathlib import Path
from typing import Any

import pytest

import photos
from podium.config.params import PrepareParams
from podium.data import sources
from podium.data.sources import folder
from podium.data.sources.source import Source
from podium.errors import InputError


def _files(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"never decoded here")
    return root


def _labels(source: Source) -> dict[str, str]:
    return {item.origin: source.classes[item.label] for item in source.items}


def _rejected(source: Source) -> list[tuple[str, str]]:
    return sorted((reject.kind, reject.origin) for reject in source.rejects)


def test_folder_has_a_class_a_sub_folder_however_deep_its_files_lie(tmp_path: Path) -> None:
    source = folder.read(
        _files(tmp_path, "dog/b.png", "cat/a.png", "cat/2024/summer/c.png", "cat/.hidden", "cat/Thumbs.db")
    )

    assert source.classes == ("cat", "dog")
    assert _labels(source) == {"cat/2024/summer/c.png": "cat", "cat/a.png": "cat", "dog/b.png": "dog"}
    assert source.rejects == []
    assert {item.split for item in source.items} == {None}


def test_folder_with_splits_keeps_them(tmp_path: Path) -> None:
    source = folder.read(
        _files(tmp_path, "train/cat/a.png", "train/dog/a.png", "Validation/cat/b.png", "test/dog/c.png")
    )

    assert {item.origin: item.split for item in source.items} == {
        "train/cat/a.png": "train",
        "train/dog/a.png": "train",
        "Validation/cat/b.png": "val",
        "test/dog/c.png": "test",
    }
    assert source.classes == ("cat", "dog")


def test_folder_with_classes_named_like_splits_and_another_one_has_classes(tmp_path: Path) -> None:
    assert folder.read(_files(tmp_path, "train/a.png", "bus/a.png")).classes == ("bus", "train")


def test_folder_with_numbers_for_classes_has_them_in_order(tmp_path: Path) -> None:
    assert folder.read(_files(tmp_path, "10/a", "9/a", "2/a")).classes == ("2", "9", "10")


def test_class_folder_without_a_file_is_a_class(tmp_path: Path) -> None:
    (tmp_path / "fox").mkdir()

    assert folder.read(_files(tmp_path, "cat/a", "dog/a")).classes == ("cat", "dog", "fox")


def test_files_beside_the_classes_are_stray(tmp_path: Path) -> None:
    assert _rejected(folder.read(_files(tmp_path, "cat/a", "dog/a", "notes.txt"))) == [("stray", "notes.txt")]


def test_links_that_leave_the_folder_are_rejected_and_followed_on_demand(tmp_path: Path) -> None:
    other = _files(tmp_path / "other", "secret.png", "more/deep.png")
    root = _files(tmp_path / "mine", "cat/a", "dog/a")
    (root / "cat/link.png").symlink_to(other / "secret.png")
    (root / "cat/all").symlink_to(other / "more")
    (root / "cat/same.png").symlink_to(root / "cat/a")
    (root / "dog/nowhere.png").symlink_to(other / "gone.png")

    source = folder.read(root)

    assert _rejected(source) == [("outside", "cat/all"), ("outside", "cat/link.png"), ("unreadable", "dog/nowhere.png")]
    assert set(_labels(source)) == {"cat/a", "cat/same.png", "dog/a"}
    followed = folder.read(root, follow_links=True)
    assert set(_labels(followed)) == {"cat/a", "cat/all/deep.png", "cat/link.png", "cat/same.png", "dog/a"}


def test_folder_behind_a_link_needs_a_root_that_dvc_follows(tmp_path: Path) -> None:
    _files(tmp_path / "elsewhere", "cat/a.png", "dog/a.png")
    (tmp_path / "raw").mkdir()
    linked = tmp_path / "raw/photos"
    linked.symlink_to(tmp_path / "elsewhere", target_is_directory=True)

    with pytest.raises(InputError, match=r"^prepare\.root: .*DVC would not follow it(?s:.*)`root: .*raw/photos`"):
        folder.read(linked, tmp_path / "raw")
    assert set(_labels(folder.read(linked, linked))) == {"cat/a.png", "dog/a.png"}


@pytest.mark.parametrize(
    ("link", "behind", "beside"),
    [
        ("cat", ["a.png", "b.png"], ["dog/a.png"]),
        ("train", ["cat/a.png", "cat/b.png"], ["test/cat/c.png"]),
        ("train/cat", ["a.png", "b.png"], ["train/dog/a.png", "test/cat/c.png"]),
    ],
)
def test_class_folders_that_are_links_out_of_the_root_are_refused(
    tmp_path: Path, link: str, behind: list[str], beside: list[str]
) -> None:
    elsewhere = _files(tmp_path / "elsewhere", *behind)
    root = _files(tmp_path / "mine", *beside)
    (root / link).symlink_to(elsewhere, target_is_directory=True)

    with pytest.raises(InputError, match=rf"^prepare\.source: class folders are links(?s:.*){link}.* -> .*elsewhere"):
        folder.read(root)
    assert folder.read(root, follow_links=True).unseen(root) == [f"{link}/{name}" for name in behind]


def test_class_folder_that_is_a_link_within_the_root_is_read(tmp_path: Path) -> None:
    _files(tmp_path / "raw/store", "a.png", "b.png")
    root = _files(tmp_path / "raw/photos", "dog/a")
    (root / "cat").symlink_to(tmp_path / "raw/store", target_is_directory=True)

    source = folder.read(root, tmp_path / "raw")

    assert set(_labels(source)) == {"cat/a.png", "cat/b.png", "dog/a"}
    assert source.unseen(tmp_path / "raw") == []


def test_link_to_a_folder_around_it_brings_no_other_class(tmp_path: Path) -> None:
    root = _files(tmp_path, "cat/a", "dog/b")
    (root / "cat/loop").symlink_to("..")

    source = folder.read(root)

    assert _labels(source) == {"cat/a": "cat", "dog/b": "dog"}
    assert _rejected(source) == [("outside", "cat/loop")]


def test_class_folder_that_is_a_link_to_another_class_is_refused(tmp_path: Path) -> None:
    root = _files(tmp_path, "cat/a", "dog/b")
    (root / "alias").symlink_to("cat")

    with pytest.raises(InputError, match=r"^prepare\.source: .*cat and .*alias are one folder.*Remove the link"):
        folder.read(root)


def test_link_to_the_folder_of_another_class_is_rejected(tmp_path: Path) -> None:
    root = _files(tmp_path, "cat/a", "dog/b", "dog/deep/c")
    (root / "cat/more").symlink_to("../dog")
    (root / "dog/again").symlink_to("deep")

    source = folder.read(root)

    assert _labels(source) == {"cat/a": "cat", "dog/b": "dog", "dog/deep/c": "dog", "dog/again/c": "dog"}
    assert [(one.origin, one.why) for one in source.rejects] == [
        ("cat/more", "it is a link to the folder of another class, 'dog'")
    ]


def test_hidden_folder_of_images_is_named_and_those_of_programs_are_not(tmp_path: Path) -> None:
    root = _files(
        tmp_path, "cat/a", "dog/b", ".fox/c.png", "cat/.old/d.png", ".git/e.png", "cat/.ipynb_checkpoints/f.png"
    )

    assert folder.read(root).notes == ("2 hidden folders of images are ignored, such as cat/.old",)


def _close(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let what asks for the content of `folder` fail as where it may not be entered: root may enter every folder."""

    def closing(function: Any, *, lists: bool) -> Any:
        def call(path: Any, *others: Any, **options: Any) -> Any:
            asked = Path(path).absolute()
            if folder in asked.parents or (lists and folder == asked):
                raise PermissionError(13, "Permission denied", str(path))
            return function(path, *others, **options)

        return call

    monkeypatch.setattr(Path, "stat", closing(Path.stat, lists=False))
    monkeypatch.setattr(os, "scandir", closing(os.scandir, lists=True))
    monkeypatch.setattr(os, "listdir", closing(os.listdir, lists=True))


@pytest.mark.parametrize("closed", ["cat/closed", "fox"])
def test_folder_that_may_not_be_entered_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    _files(tmp_path / "raw", "cat/a.png", "dog/b.png", f"{closed}/c.png")
    _close(monkeypatch, tmp_path / "raw" / closed)

    source = sources.read(PrepareParams(source="folder:raw", root="raw"))

    assert len(source.items) == 2
    assert [(one.origin, one.why) for one in source.rejects] == [(closed, "it can't be listed: Permission denied")]


def test_folder_of_a_split_that_may_not_be_entered_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _files(tmp_path / "raw", "train/cat/a", "train/dog/b", "test/cat/c", "test/dog/d")
    _close(monkeypatch, root / "test")

    with pytest.raises(InputError, match=r"^prepare\.source: .*test can't be listed: Permission denied.*permissions"):
        folder.read(root)


def test_hidden_images_are_counted(tmp_path: Path) -> None:
    names = ("cat/a.png", "dog/a.png", "cat/.b.png", "dog/.c.JPG", "dog/._a.png", "dog/.DS_Store", "@eaDir/a.jpg")

    assert folder.read(_files(tmp_path, *names)).notes == (
        "2 hidden files named like an image are ignored, such as cat/.b.png",
    )


def test_link_to_a_folder_above_it_ends_nothing(tmp_path: Path) -> None:
    root = _files(tmp_path, "cat/a", "dog/a")
    (root / "cat/loop").symlink_to(root / "cat")

    assert _rejected(folder.read(root)) == [("outside", "cat/loop")]


def test_pipe_is_rejected_and_not_opened(tmp_path: Path) -> None:
    root = _files(tmp_path, "cat/a", "dog/a")
    os.mkfifo(root / "cat/pipe.png")

    assert _rejected(folder.read(root)) == [("unreadable", "cat/pipe.png")]


@pytest.mark.parametrize("name", ["a b", "🐱", "line\nbreak", 'it\'s "it"', "<b>&amp;", "ä"])
def test_class_of_any_name_is_read(tmp_path: Path, name: str) -> None:
    source = folder.read(_files(tmp_path, f"{name}/{name}.png", "dog/a"))

    assert _labels(source)[f"{name}/{name}.png"] == name


def test_name_that_is_no_text_can_be_printed(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/cat\xff"
    os.mkdir(path)  # noqa: PTH102 (bytes)
    Path(os.fsdecode(path + b"/a")).write_bytes(b"x")

    source = folder.read(_files(tmp_path, "dog/a"))

    assert source.classes == ("cat\\xff", "dog")
    assert source.items[0].origin.encode("utf-8") == b"cat\\xff/a"


def test_two_thousand_classes_are_read(tmp_path: Path) -> None:
    assert len(folder.read(_files(tmp_path, *(f"{n:04}/a" for n in range(2000)))).classes) == 2000


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root / "nowhere", "nowhere does not exist; it must hold one sub-folder per class"),
        (lambda root: photos.write(root / "a.png", photos.tiles()[0]), r"a\.png is no folder"),
        (lambda root: root, "holds no image that could be read: it needs a sub-folder with images for each class"),
        (lambda root: _files(root, "a.png").resolve(), r"; files such as 'a\.png' lie in no class folder"),
    ],
    ids=["missing", "file", "empty", "loose files"],
)
def test_folder_without_images_is_refused(tmp_path: Path, make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(InputError, match=rf"^prepare\.source: .*{message}"):
        folder.read(make(tmp_path))


@pytest.mark.parametrize("inside", [("cat/a.png", "dog/a.png"), ("train/cat/a.png", "test/cat/a.png")])
def test_folder_around_the_folder_of_the_images_is_refused_with_the_source_to_write(
    tmp_path: Path, inside: tuple[str, ...]
) -> None:
    _files(tmp_path / "photos/archive", *inside)

    with pytest.raises(InputError, match=r"would have one class, 'archive'.* write `source: folder:.*photos/archive`"):
        folder.read(tmp_path / "photos")


def test_folder_that_was_not_brought_says_how(tmp_path: Path) -> None:
    (tmp_path / "photos.dvc").write_text("outs: []", encoding="utf-8")
    with pytest.raises(InputError, match=r"does not exist; .*; DVC tracks it, .*: run `dvc pull .*/photos\.dvc`"):
        folder.read(tmp_path / "photos" / "2024")
    with pytest.raises(InputError, match="holds no|needs|one sub-folder per class$"):
        folder.read(tmp_path / "others")


def test_backup_copies_and_unfinished_downloads_are_left_out(tmp_path: Path) -> None:
    names = ("cat/a.png~", "cat/b.png.bak", "dog/c.jpg.part", "dog/d.png.crdownload", "dog/e.JPG.Download")
    source = folder.read(_files(tmp_path, "cat/a.png", "cat/partial.png", "dog/no ending", "dog/bak", *names))

    assert sorted(_labels(source)) == ["cat/a.png", "cat/partial.png", "dog/bak", "dog/no ending"]
    assert _rejected(source) == [("not_image", name) for name in sorted(names)]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ("cat/train_1.png cat/test_1.png dog/train_1.png", "test, train, such as cat/test_1.png"),
        ("cat/1_val.png cat/2_train.png dog/1-train.png", "train, val, such as cat/1_val.png"),
        ("cat/train2014_1.png dog/train2014_2.png", ""),
        ("cat/train_1.png cat/test_1.png dog/1.png", ""),
        ("train/cat/train_1.png train/dog/test_1.png", ""),
    ],
)
def test_names_of_files_that_say_splits_are_named(tmp_path: Path, files: str, said: str) -> None:
    notes = [note for note in folder.read(_files(tmp_path, *files.split())).notes if "names of files say" in note]
    assert [note.startswith(f"names of files say {said}: ") for note in notes] == ([True] if said else [])
