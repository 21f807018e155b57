"""Layouts that people have: each is read as it is meant, or refused with both readings."""

import re
from collections import Counter
from pathlib import Path
from typing import Literal

import pytest

from podium.config.params import PrepareParams
from podium.data import sources
from podium.data.sources import folder
from podium.data.sources.source import Source
from podium.data.sources.split_words import split_of
from podium.errors import InputError


def _made(root: Path, text: str) -> Path:
    """A file in each folder of `text`; one that ends in / is empty."""
    for name in text.split("|"):
        path = root / name.strip()
        path.mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            (path / "a.png").write_bytes(b"never decoded here")
    return root


def _read(source: Source) -> tuple[tuple[str, ...], dict[str, int]]:
    return source.classes, dict(Counter(str(item.split) for item in source.items))


@pytest.mark.parametrize(
    ("text", "classes", "splits"),
    [
        ("cat|dog", "cat dog", {"None": 2}),
        ("Training/cat|Training/dog|Testing/cat|Testing/dog", "cat dog", {"train": 2, "test": 2}),
        ("train/cat|train/dog|dev/cat|dev/dog", "cat dog", {"train": 2, "val": 2}),
        ("train/cat|train/dog|dev/dog|test/cat", "cat dog", {"train": 2, "val": 1, "test": 1}),
        ("TRAIN/cat|TRAIN/dog|VAL/cat", "cat dog", {"train": 2, "val": 1}),
        ("training_set/cat|training_set/dog|test_set/cat", "cat dog", {"train": 2, "test": 1}),
        ("train2017/cat|train2017/dog|val2017/cat", "cat dog", {"train": 2, "val": 1}),
        ("train/cat|train/dog|valid/cat|test/dog", "cat dog", {"train": 2, "val": 1, "test": 1}),
        ("train/cat|train/dog|holdout/cat", "cat dog", {"train": 2, "test": 1}),
        ("train/cat|train/dog|hold-out/cat", "cat dog", {"train": 2, "test": 1}),
        ("TrainImages/cat|TrainImages/dog|TestImages/cat", "cat dog", {"train": 2, "test": 1}),
        ("images-train/cat|images-train/dog|images-val/cat", "cat dog", {"train": 2, "val": 1}),
        ("seg_train/seg_train/cat|seg_train/seg_train/dog|seg_test/seg_test/cat", "cat dog", {"train": 2, "test": 1}),
        ("flowers_train/rose|flowers_train/tulip|flowers_test/rose", "rose tulip", {"train": 2, "test": 1}),
        ("train/cat|train/dog|test/cat|eval/cat", "cat dog", {"train": 2, "test": 1, "val": 1}),
        ("train/cat|train/dog|val/cat|eval/cat", "cat dog", {"train": 2, "val": 1, "test": 1}),
        ("cat/train|cat/test|dog/train|dog/test", "cat dog", {"train": 2, "test": 2}),
        ("cat/Training|cat/Validation|dog/Training|dog/Validation", "cat dog", {"train": 2, "val": 2}),
        ("train/cat|train/dog", "cat dog", {"train": 2}),
        ("train|bus", "bus train", {"None": 2}),
        ("bullet train|train station|test tube", "bullet train|test tube|train station", {"None": 3}),
        ("cat/2023|cat/2024|dog/2022", "cat dog", {"None": 3}),
        ("cat/images|dog/images", "cat dog", {"None": 2}),
        ("cat/extra|dog/extra", "cat dog", {"None": 2}),
        ("cat|cat/extra|dog|dog/other", "cat dog", {"None": 4}),
        ("contest|protest|restrain|constrain", "constrain contest protest restrain", {"None": 4}),
        ("trainers|valves|devices|testes", "devices testes trainers valves", {"None": 4}),
        ("cat/left|cat/right|dog/front|dog/back", "cat dog", {"None": 4}),
        ("cat/2023|cat/2024|dog/2024", "cat dog", {"None": 3}),
        ("cat/2023-01|cat/2024-02|dog/2023-01|dog/2024-02", "cat dog", {"None": 4}),
        ("cat/20230105|cat/20240211|dog/20230105|dog/20240211", "cat dog", {"None": 4}),
        ("ok/day 1|ok/day 2|defect/day 1|defect/day 2", "defect ok", {"None": 4}),
        ("cat/siamese|cat/other|dog/beagle|dog/other", "cat dog", {"None": 4}),
        ("ok/batch1|ok/batch2|defect/batch1", "defect ok", {"None": 3}),
        ("cat/2020-05|dog/2020-05|dog/2021-01", "cat dog", {"None": 3}),
        ("cat|cat/left|cat/right|dog|dog/left|dog/right", "cat dog", {"None": 6}),
        ("ok/top/|ok/scratch|ok/a|defect/top|defect/b|defect/c", "defect ok", {"None": 5}),
        ("cat/left|cat/right|dog/left|dog/right|fox|emu|elk", "cat dog elk emu fox", {"None": 7}),
        ("trainer|tester|coach", "coach tester trainer", {"None": 3}),
        ("trainer|tester", "tester trainer", {"None": 2}),
        ("pretrain|pretest|other", "other pretest pretrain", {"None": 3}),
        ("toy train|toy test|toy car|ball", "ball|toy car|toy test|toy train", {"None": 4}),
        ("Trainingsdaten/a|Trainingsdaten/b|Testdaten/a|Testdaten/b", "a b", {"train": 2, "test": 2}),
        ("cat|dog|@eaDir/cat|#recycle", "cat dog", {"None": 2}),
        ("train/cat|train/dog|train/@eaDir|test/cat|@eaDir", "cat dog", {"train": 2, "test": 1}),
        ("cat|dog|lost+found", "cat dog", {"None": 2}),
        ("mask|no mask|images of dogs", "images of dogs|mask|no mask", {"None": 3}),
        ("images|videos", "images videos", {"None": 2}),
        ("train|mask|bus", "bus mask train", {"None": 3}),
        ("0|1|label", "0 1 label", {"None": 3}),
    ],
)
def test_layout_is_read_as_it_is_meant(tmp_path: Path, text: str, classes: str, splits: dict[str, int]) -> None:
    wanted = tuple(classes.split("|") if "|" in classes else classes.split())

    assert _read(folder.read(_made(tmp_path, text))) == (wanted, splits)


TWO = "can be read in two ways"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train/cat|train/dog|val/cat|valid/cat", f"{TWO}: .*'val', 'valid' all mean val"),
        ("train/cat|train/dog|test/cat|extra/cat", f"{TWO}: .*'extra' is no split"),
        ("Training/cat|Training/dog|other|more", f"{TWO}: .*'more', 'other' are no split"),
        ("test/cat|val/cat|val/dog", f"{TWO}: .*no folder is for training"),
        ("train|test", f"{TWO}: .*hold their files directly"),
        ("train|test|notes", f"{TWO}: .*hold their files directly"),
        ("train/cat|train/dog|eval/cat", f"{TWO}: .*rename it to either"),
        ("train1/cat|train2/cat|test/cat", f"{TWO}: .*all mean train"),
        ("cat/train|cat/test|dog", f"{TWO}: 'cat' holds folders of splits"),
        ("fold1/cat|fold2/cat|fold3/dog", f"{TWO}: .*parts of one set"),
        ("fold1/cat|fold1/dog|fold2/cat|fold2/dog", f"{TWO}: .*parts of one set"),
        ("train_cat|train_dog|test_cat|test_dog", f"{TWO}: .*splits of classes"),
        ("cat|dog|val", f"{TWO}: .*'val' holds its files directly.*train/"),
        ("trainval/cat|trainval/dog|test/cat", f"{TWO}: .*no folder is for training.*train/"),
        ("learn/cat|learn/dog|check/cat|check/dog", f"{TWO}: 'check', 'learn' as classes, or the folders in them"),
        ("tr/0|tr/1|tr/2|te/0|te/2", f"{TWO}: .*folders of the same names"),
        ("images/cat|images/dog|masks/cat|masks/dog", f"{TWO}: .*'images' is called like a container"),
        ("imgs/cat|imgs/dog|notes", f"{TWO}: .*'imgs' is called like a container"),
        ("learn/cat|learn/dog|check/cat|check/bird", f"{TWO}: .*'cat' is a folder in several of them"),
        ("tr/cat|tr/dog|tr/fox|te/cat|te/dog|te/emu", f"{TWO}: .*'cat', 'dog' are folders in several"),
        ("batch_1/cat|batch_1/dog|batch_2/dog|batch_2/fox", f"{TWO}: .*'dog' is a folder"),
        ("site_a/cat|site_a/dog|site_b/cat", f"{TWO}: .*'cat' is a folder"),
        ("site_a/cat|site_a/dog|site_b/Cat|site_c/fox", f"{TWO}: .*'cat' is a folder"),
        ("in_sample/cat|in_sample/dog|out_of_sample/cat|out_of_sample/dog|in_sample", f"{TWO}: .*'cat', 'dog' are"),
        ("tr/0|tr/1|te/1|te/2", f"{TWO}: .*'1' is a folder"),
        ("learn/cat|learn/dog|check/cat|check/dog|samples", f"{TWO}: .*'cat', 'dog' are folders"),
        ("cat/left|cat/right|dog/left|dog/right", f"{TWO}: .*'left', 'right' are folders"),
        ("train-cat|train-dog|test-cat|test-dog|unknown", f"{TWO}: .*splits of classes"),
        ("train_cat|test_cat|train_dog", f"{TWO}: .*or 'test_cat', 'train_cat' as splits of classes"),
        ("cat_train|cat_test|dog_train", f"{TWO}: .*splits of classes"),
        ("cat (train)|cat (test)|dog (train)", f"{TWO}: .*splits of classes"),
        ("toy train|toy test", f"{TWO}: "),
        ("cattrain|cattest|dogtrain|dogtest", f"{TWO}: .*splits of classes"),
        ("Trainingsdaten|Testdaten", f"{TWO}: .*hold their files directly.*put the images of each class into a folder"),
        ("images|masks", f"{TWO}: .*'masks' as what is marked in the images"),
        ("train/images|train/labels/|valid/images|valid/labels", f"{TWO}: .*'labels' as what is marked"),
        ("images/train|images/val|labels/train|labels/val", f"{TWO}: .*'labels' as what is marked"),
        ("JPEGImages|Annotations|ImageSets/Main|SegmentationClass", f"{TWO}: .*'Annotations', 'SegmentationClass' as"),
        ("train|train_masks", f"{TWO}: .*'train_masks' as what is marked"),
        ("2023/cat|2023/dog|2024/cat|2024/dog", f"{TWO}: .*'cat', 'dog' are folders"),
        ("siteA/1950|siteA/1960|siteB/1950|siteB/1960", f"{TWO}: 'siteA', 'siteB' as classes, or the folders in them"),
        ("cat/2023|cat/2024|dog/2023|dog/2024", f"{TWO}: .*'2023', '2024' are folders"),
        ("tr/2023|tr/2024|te/2023|te/2024", f"{TWO}: .*'2023', '2024' are folders"),
        ("img|ground_truth", f"{TWO}: .*'ground_truth' as what is marked"),
    ],
)
def test_layout_of_two_readings_is_refused_with_the_parameter(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^prepare\.layout: .*{message}(?s:.*)`layout: (classes|splits)`"):
        folder.read(_made(tmp_path, text))


@pytest.mark.parametrize("layout", ["auto", "splits"])
@pytest.mark.parametrize("held", ["val", "test"])
def test_folders_of_held_out_images_within_classes_are_refused_where_all_are_empty(
    tmp_path: Path, layout: str, held: str
) -> None:
    made = _made(tmp_path, f"cat/train|cat/{held}/|dog/train|dog/{held}/")
    with pytest.raises(InputError, match=rf"^prepare\.layout: .*cat/{held} is the folder .* holds no file, nor do"):
        folder.read(made, layout=layout)
    (tmp_path / f"dog/{held}/a.png").write_bytes(b"never decoded here")
    assert _read(folder.read(made, layout=layout))[1] == {"train": 2, held: 1}


def test_class_folder_that_is_called_like_a_missing_value_is_named(tmp_path: Path) -> None:
    source = folder.read(_made(tmp_path, "cat|None")).with_notes()
    assert source.notes == ("label 'None' (1 image) is also how a missing value is written: it is read as a class",)


@pytest.mark.parametrize("layout", ["auto", "splits"])
@pytest.mark.parametrize(
    ("test", "what"),
    [
        ("test/", "holds no file"),
        ("test/cat/|test/dog/", "holds no file"),
        ("test/cat/left/|test/dog/", "holds no file"),
        ("test", "holds 1 file and no folder of a class"),
    ],
)
def test_folder_of_test_images_without_any_is_refused(tmp_path: Path, layout: str, test: str, what: str) -> None:
    made = _made(tmp_path, f"train/cat|train/dog|val/cat|val/dog|{test}")
    with pytest.raises(InputError, match=rf"^prepare\.layout: .*test is the folder of the held-out test .*{what}"):
        folder.read(made, layout=layout)


@pytest.mark.parametrize("layout", ["auto", "splits"])
@pytest.mark.parametrize("test", ["test", "test/test", "test1", "[test] set"])
def test_folder_of_test_images_without_classes_can_be_left_out_by_the_line_that_the_message_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: Literal["auto", "splits"], test: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    made = _made(tmp_path / "raw", f"train/cat|train/dog|{test}").relative_to(tmp_path)
    params = PrepareParams(source=f"folder:{made}", root="raw", layout=layout)

    with pytest.raises(InputError, match=r"nobody knows the classes of its images, leave it out: write") as caught:
        sources.read(params)
    (line,) = re.findall(r"write the line (/.*/) into \.dvcignore, and others are drawn from train", str(caught.value))
    (tmp_path / ".dvcignore").write_text(line + "\n", encoding="utf-8")
    found = sources.read(params)

    assert _read(found) == (("cat", "dog"), {"train": 2})
    assert [(one.kind, one.meant) for one in found.rejects] == [("outside", False)]
    assert found.notes == (
        "the source gives no val and no test images: these are drawn from those of train (prepare.val_fraction,"
        " prepare.test_fraction)",
    )


def test_folder_of_test_images_without_classes_outside_of_a_project_is_to_be_moved(tmp_path: Path) -> None:
    made = _made(tmp_path, "train/cat|train/dog|test")
    with pytest.raises(InputError, match=r"leave it out: move it out of that folder, and others are drawn"):
        sources.read(PrepareParams(source=f"folder:{made}", root=str(made)), follow_links=True)


@pytest.mark.parametrize(
    ("text", "layout", "classes", "splits"),
    [
        ("train/cat|train/dog|val/cat|valid/cat", "splits", "cat dog", {"train": 2, "val": 2}),
        ("train/cat|train/dog|val/cat|valid/cat", "classes", "train val valid", {"None": 4}),
        ("train/cat|train/dog|test/cat|extra/cat", "splits", "cat dog", {"train": 2, "test": 1}),
        ("train|test", "classes", "test train", {"None": 2}),
        ("images|masks", "classes", "images masks", {"None": 2}),
        ("folder|label|pen", "auto", "folder label pen", {"None": 3}),
        ("samples|boxes", "auto", "boxes samples", {"None": 2}),
        ("data|gt", "auto", "data gt", {"None": 2}),
        ("mask|no_mask|images", "auto", "images mask no_mask", {"None": 3}),
        ("image|mask|video", "auto", "image mask video", {"None": 3}),
        ("train/images|train/masks|val/images|val/masks", "splits", "images masks", {"train": 2, "val": 2}),
        ("cat/train|cat/test|dog", "splits", "cat dog", {"train": 1, "test": 1, "None": 1}),
        ("cat/train|cat/test|dog", "classes", "cat dog", {"None": 3}),
        ("cat/2023|cat/2024|dog/2023|dog/2024", "classes", "cat dog", {"None": 4}),
    ],
)
def test_layout_that_is_named_decides(
    tmp_path: Path, text: str, layout: str, classes: str, splits: dict[str, int]
) -> None:
    source = folder.read(_made(tmp_path, text), layout=layout)

    assert _read(source) == (tuple(classes.split()), splits)


def test_layout_of_splits_without_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^prepare\.layout: splits needs a folder train/"):
        folder.read(_made(tmp_path, "cat|dog"), layout="splits")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("Test", ("test", "")),
        ("VALIDATION_SET", ("val", "")),
        ("my dev", ("val", "my")),
        ("trainset", ("train", "")),
        ("training", ("train", "")),
        ("cat", None),
        ("train_test", None),
        ("тест_train", ("train", "тест")),
    ],
)
def test_name_of_a_split_in_any_spelling(name: str, split: tuple[str, str] | None) -> None:
    assert split_of(name) == split


@pytest.mark.parametrize("text", ["train/n1|train/n2|val/images", "train/n1/images|train/n2|val/n1|val/n2|test/images"])
def test_folder_of_images_in_that_of_a_split_is_no_class(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="holds only 'images', which is no class of the training images.*leave it out"):
        folder.read(_made(tmp_path, text))


@pytest.mark.parametrize(
    ("tree", "layout", "names"),
    [
        ("siteA/1950|siteA/1960|siteB/1950", "auto", "1950"),
        ("cat/2023-01|cat/2024-02|dog/2023-01|dog/2024-02", "auto", "2023-01, 2024-02"),
        ("siteA/1950|siteA/1960|siteB/1950", "classes", ""),
        ("cat/a|dog/b", "auto", ""),
    ],
)
def test_folders_of_one_name_that_are_taken_as_parts_of_classes_are_said_to_be(
    tmp_path: Path, tree: str, layout: str, names: str
) -> None:
    for number, path in enumerate(tree.split("|")):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / f"{number}.png").touch()
    said = [note for note in folder.read(tmp_path, layout=layout).notes if "taken as parts" in note]
    assert [note.startswith(f"folders called {names} are in several classes") for note in said] == [True] * bool(names)
