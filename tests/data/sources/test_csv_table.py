import re
import tracemalloc
from pathlib import Path

import pytest

from podium.data.sources import csv_table
from podium.data.sources.listing import Hides, none_hidden
from podium.errors import InputError


def _write(root: Path, text: str) -> Path:
    for name in ("a.png", "b c.png"):
        (root / name).write_bytes(b"never decoded here")
    path = root / "images.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_table_names_path_label_and_split_of_each_image(tmp_path: Path) -> None:
    path = _write(tmp_path, '﻿path,label,split\na.png,10,train\n"b c.png",9,Test\na.png,9,\n')

    source = csv_table.read(path, tmp_path)

    assert source.classes == ("9", "10")
    assert [(item.origin, item.label, item.split) for item in source.items] == [
        ("a.png", 1, "train"),
        ("b c.png", 0, "test"),
        ("a.png", 0, None),
    ]


def test_table_may_name_groups(tmp_path: Path) -> None:
    path = _write(tmp_path, "path,label,group\na.png,x,patient 1\nb c.png,x,\na.png,y, patient 1 \n")

    assert [item.group for item in csv_table.read(path, tmp_path).items] == ["patient 1", None, "patient 1"]


def test_table_rejects_what_is_missing_or_outside(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = _write(tmp_path / "in", "label,path\nx,a.png\ny,../secret.png\ny,gone.png\ny,/etc/hostname\n")

    source = csv_table.read(path, tmp_path / "in")

    assert [item.origin for item in source.items] == ["a.png"]
    assert [(reject.kind, reject.origin) for reject in source.rejects] == [
        ("outside", "../secret.png"),
        ("unreadable", "gone.png"),
        ("outside", "/etc/hostname"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must begin with a line of names, `path,label` and optionally `split` and `group`; got nothing"),
        ("file,class\na.png,x\n", "must begin with a line of names, .*; got file,class"),
        ("path,label\n", "holds no image, only a header"),
        ("path,label\na.png,\n", "has wrong lines:\n  line 2: label is empty"),
        ("path,label\n,x\n", "line 2: path is empty"),
        ("path,label\na.png,x,train\n", "line 2: has more values than the header has names"),
        ("path,label,split\na.png,x,3\n", "line 2: split must be one of train, .* or empty; got '3'"),
        ('path,label\n"a.png,x\n', "can't be read: line 2: opens a quote"),
        ("path,label\n" + "a.png,\n" * 12, "and 2 more lines"),
    ],
)
def test_table_with_wrong_lines_is_refused_with_their_numbers(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^prepare\.source: .*images\.csv (?s:.*){message}"):
        csv_table.read(_write(tmp_path, text), tmp_path)


def test_table_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.csv can't be read: No such file"):
        csv_table.read(tmp_path / "gone.csv", tmp_path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("path,label,Split", "column 'Split' may be meant as `split`.*rename it to `split`"),
        ("path,label, split", "column ' split' may be meant as `split`"),
        ("path,label,SPLIT", "column 'SPLIT' may be meant as `split`"),
        ("path,label,set", "column 'set' may be meant as `split`"),
        ("path,label,fold", "column 'fold' may be meant as `split`"),
        ("path,label,k_fold", "column 'k_fold' may be meant as `split`"),
        ("path,label,splits", "column 'splits' may be meant as `split`"),
        ("path,label,spilt", "column 'spilt' may be meant as `split`"),
        ("path,label,is_test", "column 'is_test' may be meant as `split`"),
        ("path,label,Usage", "column 'Usage' may be meant as `split`"),
        ("path,label,split,Split", "column 'Split' may be meant as `split`"),
        ("path,label,Group", "column 'Group' may be meant as `group`"),
        ("path,label,group_id", "column 'group_id' may be meant as `group`"),
        ("path,label,label", "line 1: has the column 'label' 2 times"),
        ("path;label", "line 1: the columns are separated by ';'; write the file with commas"),
        ("path\tlabel", "line 1: the columns are separated by .*; write the file with commas"),
        ("Path,label", "got Path,label; rename 'Path' to `path`"),
        ("filename,class", "rename 'filename' to `path`; rename 'class' to `label`"),
    ],
)
def test_table_with_columns_that_are_nearly_known_is_refused(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^prepare\.source: .*images\.csv (?s:.*){message}"):
        csv_table.read(_write(tmp_path, f"{header}\na.png,x,test\n"), tmp_path)


def test_table_names_the_columns_that_it_does_not_use(tmp_path: Path) -> None:
    path = _write(tmp_path, "path,label,split,width,fold\na.png,x,train,3,1\nb c.png,y, Testing ,4,2\n")

    source = csv_table.read(path, tmp_path)

    assert source.notes == ("columns that are not used: 'width', 'fold'",)
    assert [item.split for item in source.items] == ["train", "test"]


def test_table_with_groups_says_that_they_decide_the_split(tmp_path: Path) -> None:
    source = csv_table.read(_write(tmp_path, "path,label,group\na.png,x,1\nb c.png,y,2\n"), tmp_path)

    assert source.notes[0].startswith("the column group decides the split")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("photos\\a.png,x", "line 2: path has backslashes.*write 'photos/a.png'"),
        (" a.png,x", "line 2: path begins or ends with a space: ' a.png'"),
        ("a.png, x", "line 2: label begins or ends with a space: ' x'; write 'x'"),
        ("a.png,x\t", "line 2: label begins or ends with a space"),
        ("a.png,c\0t", "line 2: label holds a control character"),
        ("a.png,NaN", "line 2: label is 'NaN', as a missing value is written"),
        ("a.png;x", "line 2: has 1 value, the header has 2 names; are its values separated by ';'"),
        ("C:\\photos\\a.png,x", "line 2: path is on a drive of Windows"),
        ("https://example.org/a.png,x", "line 2: path is an address"),
    ],
)
def test_table_with_values_that_are_nearly_right_is_refused_with_the_line(
    tmp_path: Path, line: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        csv_table.read(_write(tmp_path, f"path,label\n{line}\n"), tmp_path)


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("cp1252", "line 3 is not UTF-8 .as Windows-1252 it is 'a.png,Möwe'.; save the file as UTF-8"),
        ("utf-16", "line 1: is UTF-16; save it as UTF-8"),
        ("utf-16-le", "line 1: is UTF-16; save it as UTF-8"),
    ],
)
def test_table_of_another_encoding_is_refused_with_the_line(tmp_path: Path, encoding: str, message: str) -> None:
    path = _write(tmp_path, "")
    path.write_bytes("path,label\na.png,x\na.png,Möwe\n".encode(encoding))

    with pytest.raises(InputError, match=message):
        csv_table.read(path, tmp_path)


@pytest.mark.parametrize("column", ["data_split", "Split 1", "my-split", "dataset split"])
def test_column_whose_name_holds_split_is_refused(tmp_path: Path, column: str) -> None:
    path = _write(tmp_path, f"path,label,{column}\na.png,x,0\n")

    with pytest.raises(InputError, match=f"column '{column}' may be meant as `split`"):
        csv_table.read(path, tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        ("train", "Test"),
        ("TRAINING", ""),
        ("val", "holdout"),
        ("TR", "TE"),
        ("Training", "PublicTest"),
        ("train_a", "val_a"),
    ],
)
def test_column_that_holds_names_of_splits_is_refused_whatever_its_name(
    tmp_path: Path, values: tuple[str, str]
) -> None:
    lines = f"a.png,x,{values[0]}\nb c.png,y,{values[1]}\n" * 2
    path = _write(tmp_path, f"path,label,stage\n{lines}")

    with pytest.raises(InputError, match=r"column 'stage' holds names of splits \(.*rename it to `split`"):
        csv_table.read(path, tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        ("train/001.png", "val/002.png", "train/001.png", "val/002.png"),
        ("train_1.png", "test_1.png") * 2,
        ("train station", "test tube"),
        ("train", "dev server"),
        tuple(f"{split} {letter}" for letter in "abcdef" for split in ("train", "test")) * 2,
    ],
)
def test_values_that_hold_a_word_for_a_split_are_none_of_splits(tmp_path: Path, values: tuple[str, ...]) -> None:
    lines = "".join(f"a.png,x,{value}\n" for value in values)
    source = csv_table.read(_write(tmp_path, f"path,label,note\n{lines}"), tmp_path)
    assert source.notes[:1] == ("columns that are not used: 'note'",)


def test_column_of_languages_is_none_of_splits(tmp_path: Path) -> None:
    path = _write(tmp_path, "path,label,language\na.png,x,tr\nb c.png,y,te\na.png,x,en\n")

    assert len(csv_table.read(path, tmp_path).items) == 3


def test_column_with_names_of_several_splits_among_other_values_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, "path,label,part\na.png,x,train\nb c.png,y,test\na.png,x,unlabelled\n")

    with pytest.raises(InputError, match=r"column 'part' holds names of splits \(test, train\)"):
        csv_table.read(path, tmp_path)


def test_line_with_fewer_values_than_names_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, "path,label,split\na.png,x\nb c.png,y,test\n")

    with pytest.raises(InputError, match="line 2: has 2 values, the header has 3 names"):
        csv_table.read(path, tmp_path)


@pytest.mark.parametrize("column", ["patient_id", "PatientID", "scene", "video name"])
def test_column_that_may_say_what_belongs_together_is_said_to_be(tmp_path: Path, column: str) -> None:
    source = csv_table.read(_write(tmp_path, f"path,label,{column}\na.png,x,1\nb c.png,y,2\n"), tmp_path)

    assert source.notes[1] == (
        f"column {column!r} may say which images belong together: if they do, call it group, and they share a split"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('path,label\na.png,x\n"b c.png,y\n', 'line 3: opens a quote \\("\\) that is never closed'),
        ("sep=,\npath,label\na.png,x\n", "line 1: is 'sep=,', a note to spreadsheets.*: delete this line"),
        ("sep=;\npath;label\na.png;x\n", "line 1: is 'sep=;', a note"),
        ("path,label;split\na.png,x;train\n", "line 1: the columns in 'label;split' are separated by ';'"),
        ("path,label\na.png,x\npath,label\nb c.png,y\n", "line 3: is the header again"),
        ("path,label\na.png,<NA>\n", "line 2: label is '<NA>', as a missing value"),
        ("path,label\na.png,#N/A\n", "line 2: label is '#N/A', as a missing value"),
        ("path,label\na.png,\n", "line 2: label is empty"),
        ("path,label,,\na.png,x,,\na.png,y,,note\n", "has the column '' 2 times"),
        ("path,label\na.png,x,note\n", "line 2: has more values than the header has names"),
    ],
)
def test_line_that_can_not_be_meant_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^prepare\.source: .*images\.csv (?s:.*){message}"):
        csv_table.read(_write(tmp_path, text), tmp_path)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *((name, "split") for name in ("folds", "fold_id", "cv", "cv_fold", "test_set", "for_testing", "train/val")),
        *((name, "split") for name in ("is_test", "TestSet", "isTraining", "kfold_5")),
        *((name, "group") for name in ("grp", "groups", "groupid", "GroupID", "gruop")),
        ("Label", "label"),
        (" path", "path"),
    ],
)
def test_column_that_may_be_one_that_is_read_is_refused(tmp_path: Path, name: str, meant: str) -> None:
    path = _write(tmp_path, f"path,label,{name}\na.png,x,1\nb c.png,y,2\n")
    with pytest.raises(InputError, match=rf"column '{name}' may be meant as `{meant}`"):
        csv_table.read(path, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        *("age_group", "blood group", "testimonial", "device", "cvss", "training_hours"),
        *("group_size", "is_group_photo", "cv_score", "xval", "CV score", "folder", "folded"),
    ],
)
def test_column_of_another_meaning_is_named_as_not_used(tmp_path: Path, name: str) -> None:
    path = _write(tmp_path, f"path,label,{name}\na.png,x,1\nb c.png,y,2\n")
    assert csv_table.read(path, tmp_path).notes == (f"columns that are not used: {name!r}",)


@pytest.mark.parametrize("name", ["study_group", "species_group", "treatment_group", "GroupNo", "image grp"])
def test_column_of_some_groups_is_not_used_and_said_to_be_perhaps_together(tmp_path: Path, name: str) -> None:
    source = csv_table.read(_write(tmp_path, f"path,label,{name}\na.png,x,1\nb c.png,y,2\n"), tmp_path)
    assert source.notes[0] == f"columns that are not used: {name!r}"
    assert source.notes[1].startswith(f"column {name!r} may say which images belong together")
    assert {item.group for item in source.items} == {None}


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        ("split,split_seed", "train,1"),
        ("group,group_id", "p1,7"),
        ("group,subgroups", "p1,7"),
    ],
)
def test_column_beside_the_one_that_is_read_is_not_used(tmp_path: Path, columns: str, values: str) -> None:
    source = csv_table.read(_write(tmp_path, f"path,label,{columns}\na.png,x,{values}\n"), tmp_path)
    assert source.notes[0] == f"columns that are not used: {columns.split(',')[1]!r}"


@pytest.mark.parametrize(
    "values",
    ["check final", "fit check", "valid", "dev final", "te en", "tr", "fit tuning", "learn final", "train plane"],
)
def test_values_that_say_something_else_are_none_of_splits(tmp_path: Path, values: str) -> None:
    lines = "".join(f"a.png,x,{value}\n" for value in values.split())
    source = csv_table.read(_write(tmp_path, f"path,label,status\n{lines}"), tmp_path)
    assert source.notes[:1] == ("columns that are not used: 'status'",)


@pytest.mark.parametrize("name", ["none", "None", "NA", "?", "nil", "nat", "missing", "null", "n/a"])
def test_label_that_is_also_a_missing_value_is_a_class_with_a_note(tmp_path: Path, name: str) -> None:
    source = csv_table.read(_write(tmp_path, f"path,label\na.png,{name}\nb c.png,{name}\na.png,x\n"), tmp_path)
    source = source.with_notes()
    assert sorted(source.classes) == sorted([name, "x"])
    assert source.notes == (f"label {name!r} (2 images) is also how a missing value is written: it is read as a class",)


def test_values_that_are_stages_of_training_are_taken_for_splits(tmp_path: Path) -> None:
    path = _write(tmp_path, "path,label,stage\na.png,x,fit\nb c.png,y,tune\na.png,y,final\n")
    with pytest.raises(InputError, match="column 'stage' holds names of splits"):
        csv_table.read(path, tmp_path)


def test_column_without_a_name_is_called_an_index(tmp_path: Path) -> None:
    path = _write(tmp_path, ",path,label\n0,a.png,x\n1,b c.png,y\n")
    assert csv_table.read(path, tmp_path).notes == (
        "columns that are not used: '' (column 1, without a name, as pandas writes its index)",
    )


def test_table_of_utf_32_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "images.csv").write_bytes("path,label\na.png,x\n".encode("utf-32"))
    with pytest.raises(InputError, match="line 1: is UTF-32; save it as UTF-8"):
        csv_table.read(tmp_path / "images.csv", tmp_path)


def test_column_of_other_words_is_named_as_not_used(tmp_path: Path) -> None:
    path = _write(tmp_path, "path,label,stage\na.png,x,train\nb c.png,y,platform\n")

    assert csv_table.read(path, tmp_path).notes == ("columns that are not used: 'stage'",)


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.png,x\nb c.png,y\n,\n,\n",
        "path,label,,\na.png,x,,\nb c.png,y,,\n",
        "path,label\na.png,x,\nb c.png,y,\n",
        "path,label,\na.png,x\nb c.png,y\n , ,\n",
    ],
)
def test_empty_lines_and_columns_of_a_spreadsheet_say_nothing(tmp_path: Path, text: str) -> None:
    source = csv_table.read(_write(tmp_path, text), tmp_path)

    assert (len(source.items), source.classes, source.notes) == (2, ("x", "y"), ())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04\x14\0\x06\0", "is a workbook of a spreadsheet"),
        (b"\x1f\x8b\x08\0", r"is compressed \(gzip\)"),
        (b"PAR1\x15\x04", "is Parquet, not CSV"),
        (b'[{"path": "a.png", "label": "x"}]', "is JSON, not CSV"),
        (b'{"path": "a.png", "label": "x"}\n', "is JSON, not CSV"),
    ],
)
def test_file_that_is_no_csv_is_called_what_it_is(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "images.csv").write_bytes(data)
    with pytest.raises(InputError, match=rf"^prepare\.source: .*images\.csv {message}"):
        csv_table.read(tmp_path / "images.csv", tmp_path)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a", "there is no such file; write it with its ending, a.png"),
        ("A.PNG", "there is no such file; there is a.png"),
        ("raw/a.png", r"there is no such file below raw, the folder of the table, .*from the project's"),
        ("more", "it is a folder, not a file"),
        ("gone.png", "there is no such file"),
        *((f"{'n' * length}.png", "there is no such file") for length in (247, 251, 300)),
        (f"{'n' * 300}/a.png", "there is no such file"),
    ],
)
def test_missing_file_is_rejected_with_the_one_that_may_be_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw/more").mkdir(parents=True)
    _write(tmp_path / "raw", f"path,label\nb c.png,x\n{name},y\n")

    (reject,) = csv_table.read(Path("raw/images.csv"), Path("raw")).rejects

    assert re.match(why, reject.why)


def test_link_that_leads_to_itself_is_a_reject(tmp_path: Path) -> None:
    (tmp_path / "loop.png").symlink_to("loop.png")
    path = _write(tmp_path, "path,label\na.png,x\nb c.png,x\nloop.png,y\n")

    assert [reject.origin for reject in csv_table.read(path, tmp_path).rejects] == ["loop.png"]


@pytest.mark.parametrize("follow_links", [False, True])
def test_image_that_the_table_names_is_none_beside_it_whatever_became_of_it(
    tmp_path: Path, *, follow_links: bool
) -> None:
    root = tmp_path / "raw"
    (root / "more").mkdir(parents=True)
    (tmp_path / "elsewhere.png").write_bytes(b"never decoded here")
    (root / "out.png").symlink_to("../elsewhere.png")
    (root / "link").symlink_to("more")
    for name in ("more/1.png", "more/2.png"):
        (root / name).write_bytes(b"never decoded here")
    path = _write(root, "path,label\na.png,x\nb c.png,x\nout.png,y\nlink/1.png,y\nmore/2.png,y\n../no.png,y\n")

    assert csv_table.read(path, root, follow_links=follow_links).notes == ()


def test_images_beside_a_table_are_counted_without_holding_their_names(tmp_path: Path) -> None:
    count = 6000
    for number in range(count):
        (tmp_path / f"{number:05}.png").touch()
    path = _write(tmp_path, "path,label\na.png,x\nb c.png,x\n")
    tracemalloc.start()
    try:
        notes = csv_table.read(path, tmp_path).notes
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert notes[0].startswith("6,000 image files lie next to")
    assert notes[0].endswith("00000.png")
    assert peak < 70 * count


def test_images_beside_those_of_the_table_are_counted(tmp_path: Path) -> None:
    path = _write(tmp_path, "path,label\n./a.png,x\na.png,x\n")

    assert csv_table.read(path, tmp_path).notes == (
        f"1 image file lies next to those of the table and is not in it, such as {tmp_path / 'b c.png'}",
    )


def test_folders_beside_those_of_the_table_are_named_with_their_images(tmp_path: Path) -> None:
    for name in ("cat/1.png", "dog/2.png", "fox/3.png", "fox/deep/4.jpg", "fox/notes.txt", "empty/x.txt", ".git/5.png"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"never decoded here")
    (tmp_path / "images/cat/old").mkdir()
    (tmp_path / "images/cat/old/6.png").touch()
    (tmp_path / "images/link").symlink_to("cat")
    (tmp_path / "images.csv").write_text("path,label\nimages/cat/1.png,cat\nimages/dog/2.png,dog\n", encoding="utf-8")

    assert csv_table.read(tmp_path / "images.csv", tmp_path).notes == (
        "2 folders hold images next to those of the table, which names none of them: images/cat/old (1 image),"
        " images/fox (2 images)",
    )
    hides = {tmp_path / "images/fox", tmp_path / "images/cat/old"}.__contains__
    assert csv_table.read(tmp_path / "images.csv", tmp_path, hides=hides).notes == ()


def test_folders_beside_those_of_the_table_are_looked_at_without_links_and_up_to_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("set/cat/1.png", "set/fox/2.png", "set/fox/hidden/3.png", "other/4.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "set/above").symlink_to("..")
    (tmp_path / "set/other").symlink_to(tmp_path / "other")
    table = tmp_path / "set/t.csv"
    table.write_text("path,label\ncat/1.png,cat\ncat/1.png,cat\n", encoding="utf-8")

    def said(hides: Hides = none_hidden) -> list[str]:
        notes = csv_table.read(table, tmp_path, hides=hides).notes
        return [note.partition(": ")[2] for note in notes if "folder holds" in note or "folders hold" in note]

    assert said() == ["fox (2 images)"]
    assert said({tmp_path / "set/fox/hidden"}.__contains__) == ["fox (1 image)"]
    assert csv_table.read(table, tmp_path / "set/cat").notes == ()  # DVC would not see those outside of it
    monkeypatch.setattr("podium.data.sources.listed.COUNTED", 2)
    assert said() == ["fox (1 image or more)"]
    (tmp_path / "set/deer").mkdir()
    for number in range(2):
        (tmp_path / f"set/deer/{number}.txt").touch()
    assert said() == []  # it ends before fox
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path / "set")
    assert said() == []  # beside a table in the project's own folder lie the project's


def test_folders_above_that_of_the_table_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/1.png").touch()
    (tmp_path / "raw").mkdir()
    path = _write(tmp_path / "raw", "path,label\na.png,x\nb c.png,y\n")

    assert csv_table.read(path, tmp_path).notes == ()


@pytest.mark.parametrize("label", ["#REF!", "#N/A", "#NAME?", "#DIV/0!", "#value!"])
def test_label_that_is_an_error_of_a_spreadsheet_is_refused(tmp_path: Path, label: str) -> None:
    with pytest.raises(InputError, match="line 3: label is .*, or one that a spreadsheet could not compute"):
        csv_table.read(_write(tmp_path, f"path,label\na.png,x\nb c.png,{label}\n"), tmp_path)


@pytest.mark.parametrize(
    ("name", "written", "why"),
    [
        ("a b.png", "a%20b.png", "it is written as in an address: write x/a b.png"),
        ("e\u0301.png", "\xe9.png", r"there is 'x/e\u0301.png', whose accents are made of other characters"),
        ("\xe9.png", "E\u0301.PNG", "there is x/\xe9.png"),
    ],
)
def test_file_whose_name_is_written_otherwise_is_named(tmp_path: Path, name: str, written: str, why: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / name).touch()
    source = csv_table.read(_write(tmp_path, f"path,label\na.png,x\nx/{written},y\n"), tmp_path)
    assert [one.why for one in source.rejects] == [f"there is no such file; {why}"]


def test_table_that_was_not_brought_says_how(tmp_path: Path) -> None:
    (tmp_path / "images.csv.dvc").write_text("outs: []", encoding="utf-8")
    with pytest.raises(InputError, match=r"No such file.*; DVC tracks it, .*: run `dvc pull .*/images\.csv\.dvc`"):
        csv_table.read(tmp_path / "images.csv", tmp_path)
    (tmp_path / "images.csv").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"is a pointer of Git LFS \(run `git lfs pull`\)"):
        csv_table.read(tmp_path / "images.csv", tmp_path)


def test_table_with_a_column_of_0_and_1_for_each_label_is_refused_with_both_readings(tmp_path: Path) -> None:
    path = _write(tmp_path, "path,cat,dog,price\na.png,1,0,3\nb c.png,1,1,4\n")
    message = "got path,cat,dog,price; the columns cat, dog hold 0 and 1. If each image has one of them, write its name"
    with pytest.raises(InputError, match=message):
        csv_table.read(path, tmp_path)


@pytest.mark.parametrize(
    ("labels", "is_said"),
    [
        (["cat", "cat|dog", "dog"], True),
        (["cat;dog", "dog;bird", "bird;cat"], True),
        (['"cat,dog"', "cat", "dog"], True),
        (['"[""cat"", ""dog""]"', '"[""cat""]"', '"[""dog""]"'], True),
        (["cat", "cat|dog", "bird"], False),
        (['"birds, large"', '"birds, small"'], False),
        (["T-shirt/top", "A+B", "A"], False),
        (["7", "[7]"], False),
        (["|", ";"], False),
        (["a", "b", "c", "B; a"], True),
        (["a", "b", "a+b"], True),
        (['"0,5"', '"0,25"', '"0,0"', "0", "5", "25"], False),
        (['"Tomato, healthy"', '"Tomato, blight"', '"Potato, healthy"', '"Potato, blight"'], False),
        (['"Tomato, healthy"', '"Potato, healthy"', '"Tomato, blight"', "background"], False),
        (["black & white", "black"], False),
        (["bird;cat", "bird;dog", "cat;dog"], True),
    ],
)
def test_labels_that_may_list_several_are_classes_and_said_to_be(
    tmp_path: Path, labels: list[str], is_said: bool
) -> None:
    path = _write(tmp_path, "path,label\n" + "".join(f"a.png,{label}\n" for label in labels))
    source = csv_table.read(path, tmp_path)
    assert len(source.classes) == len(set(labels))
    notes = [note for note in source.with_notes().notes if "class of its own" in note]
    assert len(notes) == is_said
    assert all("labels of one image; it is learnt as a class of its own" in note for note in notes)
