"""Labels that come later: what a table may be, what it is refused for, and what it counts as."""

import difflib
from pathlib import Path

import pytest

from podium.errors import InputError
from podium.shadow import feedback_labels, label_table, pair_summary
from podium.shadow.feedback_labels import Taken
from podium.shadow.sequential_test import path
from podium.text import for_table, from_table
from shadow.pairs import DIGESTS, MODEL, digest, kept, pair, versions


def take(folder: Path, text: str | bytes, *, correct: bool = False) -> Taken:
    path = folder / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return feedback_labels.remember(folder, MODEL, feedback_labels.read(path), correct=correct)


def differences(folder: Path, challenger: int) -> list[int]:
    found: list[int] = pair_summary.summary(folder, MODEL, 3, challenger).labelled.difference.tolist()
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images: two alone, two in one request; 1 was sent twice."""
    alone = pair(1, "cat", "dog"), pair(2, "cat", "cat"), pair(1, "cat", "dog", "again")
    together = pair(3, "dog", "cat", "both", 1, 2), pair(4, "dog", "=owl", "both", 2, 2)
    kept(tmp_path, *alone, *together, pair(5, "cat", "dog", "reused"), pair(6, "cat", "dog", "reused")).close()
    return tmp_path


def test_labels_by_id_and_by_digest_count_each_image_once(folder: Path) -> None:
    taken = take(folder, f"label,digest,remark\ndog,{digest(1)},x\ncat,{digest(2).upper()},\n,{digest(3)},later\n")
    assert taken == Taken(2, 0, 0, [])
    taken = take(folder, "\ufeffid,label\nagain,dog\nboth/1,dog\nboth/2,=owl\nunheard-of,cat\n")
    assert taken == Taken(2, 1, 0, ["unheard-of"])
    found = pair_summary.summary(folder, MODEL, 3, 4)
    assert found.labelled.images == 4
    assert (found.labelled.champion_right, found.labelled.challenger_right) == (2, 3)
    assert sorted(differences(folder, 4)) == [-1, 0, 1, 1]
    assert pair_summary.served(folder, MODEL, (3, DIGESTS[0]), (9, DIGESTS[1])).images == 0


@pytest.mark.parametrize(
    "text",
    [
        "id;label\r\nr1;dog\r\nboth/2;=owl\r\n",
        "sep=;\r\nid;label\r\nr1;dog\r\nboth/2;=owl\r\n",
        "id\tlabel\nr1\tdog\nboth/2\t=owl\n".encode("utf-16"),
        "id,label,,\nr1,dog,,\n,,,\nboth/2,'=owl,,\n",
        "id, label\nr1, dog\nboth/2, =owl\n",
        "id,label\rr1,dog\rboth/2,=owl\r",
    ],
)
def test_table_is_read_as_a_spreadsheet_of_any_country_saves_it(folder: Path, text: str | bytes) -> None:
    assert take(folder, text) == Taken(2, 0, 0, [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["must have a column `label` and one of `id`"]),
        ("id\nr1\n", ["must have a column `label`", "its first line has id"]),
        ("id,digest,label\n", ["has both columns, `id` and `digest`", "leave one of them out"]),
        ("id,label,label\n", ["the column 'label' is there twice"]),
        ("id,label\nr1\n", ["line 2: it has 1 cell, the header 2"]),
        ("id,label\n../x,cat\n=1+1,cat\n", ["line 2: id must be a request's id", "'../x'", "line 3:"]),
        ("digest,label\nabc,cat\n", ["line 2: digest must be a SHA-256"]),
        ("id,label\nr1,dog\nr1,cat\n", ["line 3: r1 is 'dog' in line 2, 'cat' here: leave the wrong one out"]),
        ("id,label\nr1,dog\nagain,cat\n", ["line 3: again is the same image as r1 in line 2", "another label"]),
        ("id,label\nr1,Dog\nr2,xyz\n", ["line 2: no version has a class 'Dog'; did you mean 'dog'?", "line 3:"]),
        ("id,label\nboth,dog\n", ["line 2: the request both has 2 images: write both/1, both/2"]),
        ("id,label\nreused,dog\n", ["reused was sent as the id of different images: name them by their digest"]),
        (
            "id,label\nno,dog\nneither,dog\n",
            ["none of the 2 rows is about an image that is stored", "the first one is no"],
        ),
        ("id;label\nr1;dog;more\n", ["line 2: it has 3 cells, the header 2"]),
        (b"id,label\nr1,\xff\n", ["line 2", "UTF-8"]),
        (b"PK\x03\x04xlsx", ["is a workbook of a spreadsheet", "export the table as CSV"]),
        ('id,label\nr1,"dog\n', ["line 2: opens a quote"]),
    ],
)
def test_wrong_tables_are_refused_with_every_reason_and_nothing_is_kept(
    folder: Path, text: str | bytes, words: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        take(folder, text)
    for word in words:
        assert word in str(caught.value)
    assert pair_summary.summary(folder, MODEL, 3, 4).labelled.images == 0


def test_other_label_than_before_needs_to_be_a_correction(folder: Path) -> None:
    take(folder, "id,label\nr1,cat\n")
    with pytest.raises(InputError, match="line 2: r1 was labelled 'cat' before: --correct replaces it"):
        take(folder, "id,label\nr1,dog\n")
    assert take(folder, "id,label\nr1,dog\n", correct=True) == Taken(0, 0, 1, [])
    assert differences(folder, 4) == [1]


def test_label_counts_for_each_pair_of_versions_that_saw_the_image(folder: Path) -> None:
    kept(folder, pair(1, "cat", "cat"), versions=versions(3, 5, ("cat", "dog"))).close()
    take(folder, f"digest,label\n{digest(1)},dog\n")
    assert differences(folder, 4) == [1]
    assert differences(folder, 5) == [0]


def test_table_of_disagreements_can_be_filled_and_read_and_is_not_overwritten(folder: Path) -> None:
    out = folder / "to_label.csv"
    assert label_table.write(out, pair_summary.disagreements(folder, MODEL, 3, 4)) == 5
    text = out.read_text(encoding="utf-8")
    assert f"{digest(4)},,both/2,dog,0.750000,'=owl,0.750000\n" in text
    assert feedback_labels.read(out).empty == 5
    out.write_text(text.replace(f"{digest(1)},", f"{digest(1)},cat"), encoding="utf-8")
    assert feedback_labels.remember(folder, MODEL, feedback_labels.read(out)).images == 1
    with pytest.raises(InputError, match="is there already and may hold labels"):
        label_table.write(out, [])


def test_nothing_kept_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing is stored of served images yet"):
        take(tmp_path, "id,label\nr1,dog\n")
    with pytest.raises(InputError, match=r"missing\.csv can't be read: No such file"):
        feedback_labels.read(tmp_path / "missing.csv")


def test_order_of_a_table_is_not_that_of_the_chart(tmp_path: Path) -> None:
    kept(tmp_path, *[pair(n, "cat", "dog") for n in range(60)]).close()
    by_class = "".join(f"{digest(n)},{'dog' if n < 30 else 'cat'}\n" for n in range(60))
    take(tmp_path, f"digest,label\n{by_class}")
    found = pair_summary.summary(tmp_path, MODEL, 3, 4).labelled
    assert sorted(found.difference.tolist()) == [-1] * 30 + [1] * 30
    assert path(found.difference).max() < 20
    assert found.evidence.better < 1


def test_label_that_one_of_two_comparisons_knows_makes_both_wrong_in_the_other(folder: Path) -> None:
    kept(folder, pair(1, "cat", "cat"), versions=versions(3, 5, ("cat", "dog", "eel"))).close()
    with pytest.raises(InputError, match="no version has a class 'eal'; did you mean 'eel'"):
        take(folder, f"digest,label\n{digest(1)},eal\n")
    assert take(folder, f"digest,label\n{digest(1)},dog\n") == Taken(1, 0, 0, [])
    assert (differences(folder, 4), differences(folder, 5)) == ([1], [0])
    assert take(folder, f"digest,label\n{digest(1)},eel\n", correct=True) == Taken(0, 0, 1, [])
    assert (differences(folder, 4), differences(folder, 5)) == ([0], [0])
    assert take(folder, f"digest,label\n{digest(1)},eel\n") == Taken(0, 1, 0, [])
    found = pair_summary.summary(folder, MODEL, 3, 4).labelled
    assert (found.images, found.champion_right, found.challenger_right) == (1, 0, 0)
    served = pair_summary.served(folder, MODEL, (3, DIGESTS[0]), (4, DIGESTS[1]))
    assert (served.labelled, served.equal, served.unlabelled) == (1, 2, 4)  # not lost for good


def test_correction_keeps_what_the_two_said_the_first_time(folder: Path) -> None:
    kept(folder, pair(1, "dog", "cat", "later")).close()
    take(folder, "id,label\nr1,cat\n")
    assert take(folder, "id,label\nlater,dog\n", correct=True) == Taken(0, 0, 1, [])
    assert differences(folder, 4) == [1]


@pytest.mark.parametrize("name", ["+up", "=1+1", "-x", "'+up", "''@", "'tis", "-1", "'-1", "plain", "it's", ""])
def test_name_of_a_class_comes_back_from_a_table(name: str) -> None:
    assert from_table(for_table(name)) == name
    assert not for_table(name).startswith(("=", "+", "@"))


def test_table_with_labels_is_read_as_it_was_written(folder: Path) -> None:
    take(folder, "id,label\nboth/2,=owl\n")
    out = folder / "labelled.csv"
    label_table.write(out, pair_summary.disagreements(folder, MODEL, 3, 4))
    assert f"{digest(4)},'=owl," in out.read_text(encoding="utf-8")
    assert feedback_labels.remember(folder, MODEL, feedback_labels.read(out)) == Taken(0, 1, 0, [])


def test_many_wrong_labels_cost_no_more_than_those_that_are_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def matches(word: str, *_: object) -> list[str]:
        asked.append(word)
        return []

    monkeypatch.setattr(difflib, "get_close_matches", matches)
    kept(folder, *[pair(n, "cat", "dog") for n in range(100, 120)]).close()
    with pytest.raises(InputError, match="and 15 more"):
        take(folder, "digest,label\n" + "".join(f"{digest(n)},wrong\n" for n in range(100, 120)))
    assert len(asked) == 5
