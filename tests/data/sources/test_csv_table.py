from pathlib import Path

import pytest

from podium.data.sources import csv_table
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
        ("path,label,split\na.png,x,dev\n", "line 2: split must be one of train, .* or empty; got 'dev'"),
        ('path,label\n"a.png,x\n', "can't be read: unexpected end of data"),
        ("path,label\n" + "a.png,\n" * 12, "and 2 more lines"),
    ],
)
def test_table_with_wrong_lines_is_refused_with_their_numbers(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^prepare\.source: .*images\.csv (?s:.*){message}"):
        csv_table.read(_write(tmp_path, text), tmp_path)


def test_table_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.csv can't be read: No such file"):
        csv_table.read(tmp_path / "gone.csv", tmp_path)
