"""Labels that a person corrected, in a CSV next to the images."""

import csv
from pathlib import Path
from typing import Any

import pytest

import photos
from podium.config.params import PrepareParams, parse
from podium.data import sources
from podium.data.image_files import read_files
from podium.data.label_corrections import corrected
from podium.data.sources.folder import read
from podium.data.sources.source import Source
from podium.errors import InputError
from podium.stages.prepare import prepare


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """Two classes of four images."""
    return read(photos.folder(tmp_path / "photos", 4))


def _file(tmp_path: Path, *rows: str, head: str = "path,label,new_label,leave_out") -> Path:
    path = tmp_path / "corrections.csv"
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("head", "row", "sentence"),
    [
        ("path,label,new_label,Leave_Out", "cat/00.png,cat,,yes", "line 1: .* 'Leave_Out': did you mean leave_out"),
        ("path,label,new_label,leaveout", "cat/00.png,cat,,yes", "line 1: .* 'leaveout': did you mean leave_out"),
        ("path,label,new_label,Leave Out", "cat/00.png,cat,,yes", "line 1: .* 'Leave Out': did you mean leave_out"),
        ("path,label,new_label,leav_out", "cat/00.png,cat,,yes", "line 1: .* 'leav_out': did you mean leave_out"),
        ("path,label,new_label,New-Label", "cat/00.png,cat,,dog", "line 1: .* 'New-Label': did you mean new_label"),
        ("path,label,new_label,new_label", "cat/00.png,cat,dog,", "line 1: has the column 'new_label' 2 times"),
        ("path,label,new_label", "cat/00.png,cat,dog,yes", "line 2: has 4 values, the header has 3 names"),
        ("path,label,new_label,leave_out", "cat/00.png,cat,dog", "line 2: has 3 values, the header has 4 names"),
        ("path,label,new_label", '"cat/00.png,cat,dog', "line 2: opens a quote"),
    ],
)
def test_file_of_other_columns_or_lengths_is_refused(
    tmp_path: Path, source: Source, head: str, row: str, sentence: str
) -> None:
    with pytest.raises(InputError, match=rf"^prepare\.corrections: .*corrections\.csv (?s:.*){sentence}"):
        corrected(source, _file(tmp_path, row, head=head))


@pytest.mark.parametrize(
    "name", ["comment", "labeler", "reviewed_by", "label_note", "old_label", "correct_label", "file_path", ""]
)
def test_column_of_a_reviewer_is_named_and_not_used(tmp_path: Path, source: Source, name: str) -> None:
    found = corrected(
        source, _file(tmp_path, "cat/00.png,cat,dog,,blurred", head=f"path,label,new_label,leave_out,{name}")
    )
    assert found.notes[-2].endswith(f"corrections.csv: columns that are not used: {name!r}")
    assert "1 label corrected" in found.notes[-1]


def test_correction_changes_the_label_and_nothing_else(tmp_path: Path, source: Source) -> None:
    rows = ["cat/00.png,cat,dog,", "dog/01.png,dog,,yes", "cat/02.png,cat,,", "gone.png,cat,,"]
    found = corrected(source, _file(tmp_path, *rows))
    items = {item.origin: item for item in found.items}
    assert found.classes[items["cat/00.png"].label] == "dog"
    assert items["dog/01.png"].left_out
    assert [item.origin for item in found.items] == [item.origin for item in source.items]
    assert sum(one != other for one, other in zip(found.items, source.items, strict=True)) == 2
    assert "1 label corrected, 1 image left out" in found.notes[-1]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (["cat/000.png,cat,dog,"], "line 2: path 'cat/000.png' is no image of the source; did you mean 'cat/00.png'?"),
        (["cat/00.png,cat,dig,"], "line 2: new_label 'dig' is no class of the source; did you mean dog?"),
        (["cat/00.png,cat,dog,yes"], "line 2: has both new_label ('dog') and leave_out; empty one of them"),
        (["cat/00.png,dog,bird,", "x,y,z,"], "new_label 'bird' is no class of the source; available: cat, dog"),
        (["cat/00.png,bird,dog,"], "label is 'bird', and the source has 'cat' by now"),
        (["cat/00.png,cat,,maybe"], "leave_out must be yes, or empty; got 'maybe'"),
        (["cat/00.png,cat,dog,", "cat/00.png,cat,,yes"], "line 3: 'cat/00.png' is decided otherwise in line 2"),
    ],
)
def test_correction_that_does_not_fit_is_refused_with_its_line(
    tmp_path: Path, source: Source, rows: list[str], sentence: str
) -> None:
    with pytest.raises(InputError, match=r"^prepare\.corrections: .* does not fit folder:") as caught:
        corrected(source, _file(tmp_path, *rows))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("path:label:new_label\n", "path, label, new_label missing, got path:label:new_label"),
        ("sep=;\npath:label:new_label\n", "path, label, new_label missing, got path:label:new_label"),
        ("path, label, new_label, label \n", "line 1: has the column 'label' 2 times"),
        ("", "got nothing"),
        ("path,label\n", "new_label missing"),
        ("path,label,new_label\n\xff", "line 2 is not UTF-8"),
        ("PK\x03\x04", "is a workbook of a spreadsheet"),
        ("p\0a\0t\0h\0", "is UTF-16; save it as UTF-8"),
    ],
)
def test_file_that_is_no_table_of_corrections_is_refused(
    tmp_path: Path, source: Source, text: str, sentence: str
) -> None:
    (tmp_path / "corrections.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError) as caught:
        corrected(source, tmp_path / "corrections.csv")
    assert sentence in str(caught.value)


@pytest.mark.parametrize("name", ["x.txt", "../x.csv", "a/b.csv", ".csv"])
def test_corrections_are_a_file_of_data_labels(name: str) -> None:
    with pytest.raises(InputError, match=r"must be the name of a \.csv file in data/labels"):
        parse(f"prepare: {{corrections: {name}}}\n")


def test_prepare_uses_corrected_labels_and_leaves_every_other_image_in_its_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photos.folder(tmp_path / "data/raw/photos", 24)
    before = PrepareParams(source="folder:data/raw/photos", size=16, min_per_class=1)
    assert not sources.read(before).notes
    audit = parse("").doctor
    prepare(before, audit, Path("one/prepared"), Path("one/sealed"), Path("decoded"), Path("split.csv"))
    (tmp_path / "data/labels").mkdir()
    rows = _rows(Path("one/prepared"))
    moved, gone = sorted(rows)[:2]
    _file(tmp_path / "data/labels", f"{moved},{rows[moved][1]},dog,", f"{gone},{rows[gone][1]},,x")
    after = before.model_copy(update={"corrections": "corrections.csv"})
    prepare(after, audit, Path("two/prepared"), Path("two/sealed"), Path("decoded"), Path("split.csv"))
    found = _rows(Path("two/prepared"))
    assert found == {name: row for name, row in rows.items() if name != gone} | {moved: (rows[moved][0], "dog")}


def _rows(prepared: Path) -> dict[str, tuple[str, str]]:
    """Split and label of each image of train and validation."""
    from podium.data.dataset import open_split

    found = {}
    for part in ("train", "val"):
        split = open_split(prepared / part)
        for one, label in zip(read_files(prepared / part, len(split.labels)), split.labels, strict=True):
            found[one.origin] = (part, split.classes[label])
    return found


def test_file_with_a_byte_order_mark_is_read(tmp_path: Path, source: Source) -> None:
    with (tmp_path / "excel.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([["path", "label", "new_label"], ["cat/00.png", "cat", " dog "]])
    assert corrected(source, tmp_path / "excel.csv").items[0].label == 1


@pytest.mark.parametrize(
    ("separator", "encoding", "line_end", "first"),
    [
        (";", "utf-8", "\r\n", ""),
        (";", "utf-8-sig", "\n", ""),
        (";", "utf-8", "\r\n", "sep=;\r\n"),
        (";", "utf-8", "\r", "sep=;\r"),
        ("|", "utf-8", "\n", "sep=|\n"),
        ("|", "utf-8", "\n", ""),
        ("^", "utf-8", "\n", '"sep=^"\n'),
        (",", "utf-8", "\n", "sep=;\n"),
        ("\t", "utf-16", "\r\n", ""),
        (",", "utf-8-sig", "\r\n", ""),
    ],
)
@pytest.mark.parametrize("quoted", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_file_that_a_spreadsheet_saved_is_read(
    tmp_path: Path, source: Source, separator: str, encoding: str, line_end: str, first: str, quoted: Any
) -> None:
    path = tmp_path / "corrections.csv"
    with path.open("w", encoding=encoding, newline="") as file:
        file.write(first)
        writer = csv.writer(file, delimiter=separator, lineterminator=line_end, quoting=quoted)
        writer.writerow(["path", "label", "probability_of_label", "new_label", "leave_out", "file"])
        writer.writerow(["cat/00.png", "cat", "0,1", "dog", "", "a, b; c"])
        writer.writerow(["cat/01.png", "cat", "0,2", "", "yes", "a"])
    found = corrected(source, path)
    assert found.notes[-1].endswith("1 label corrected, 1 image left out (prepare.corrections)")
    path.write_text(path.read_text(encoding=encoding).replace("dog", "cow"), encoding=encoding)
    with pytest.raises(InputError, match=f"line {3 if first else 2}: new_label 'cow' is no class"):
        corrected(source, path)


@pytest.mark.parametrize(
    "text",
    [
        "path; label; new_label\ncat/00.png; cat; dog\n",
        'path, "label", "new_label"\ncat/00.png, "cat", "dog"\n',
        "path ;label ;new_label \ncat/00.png;cat ;dog \n",
        "path,label,new_label, leave_out\ncat/00.png,cat,dog,\n",
    ],
)
def test_spaces_around_separators_say_nothing(tmp_path: Path, source: Source, text: str) -> None:
    (tmp_path / "corrections.csv").write_text(text, encoding="utf-8")
    assert corrected(source, tmp_path / "corrections.csv").items[0].label == 1


def test_file_in_another_character_set_is_refused_with_its_line(tmp_path: Path, source: Source) -> None:
    path = tmp_path / "corrections.csv"
    path.write_bytes("path;label;new_label\ncat/00.png;cat;dog\ncat/01.png;cat;K\u00e4fer\n".encode("cp1252"))
    with pytest.raises(InputError, match="line 3 is not UTF-8"):
        corrected(source, path)


def test_empty_lines_and_columns_of_a_spreadsheet_are_no_corrections(tmp_path: Path, source: Source) -> None:
    (tmp_path / "excel.csv").write_text("path,label,new_label,,\ncat/00.png,cat,dog,,\n,,,,\n", encoding="utf-8")
    assert corrected(source, tmp_path / "excel.csv").items[0].label == 1
