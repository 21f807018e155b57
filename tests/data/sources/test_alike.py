"""Names that are hard to tell apart."""

import pytest

from podium.data.sources.alike import about_dates, alike

PAIRS = [
    ("1,0", "1.0"),
    ("-1", "\u22121"),
    ("1", "\u0661"),
    ("cat", "'cat'"),
    ("cat", "cat."),
    ("cat", "\u201ccat\u201d"),
    ("cat", "Cat "),
    ("1", "01"),
    ("1", "1.0"),
    ("-0", "0"),
    ("p7", "p07"),
    ("a-b", "a b"),
    ("cafe\u0301", "caf\u00e9"),
    ("cat", "\uff43\uff41\uff54"),
    ("3", "\u0969"),
    ("True", "1"),
    ("0", "false"),
    ("dog - Copy", "dog"),
    ("dog", "dog - Copy (2)"),
]
OTHERS = [
    *(("2", "\u00b2"), ("c", "c++"), ("+", "-"), (".", ","), ("1,000", "1"), ("1.05", "1.5"), ("p1", "p10")),
    ("C", "\u2102"),
    *(("id card", "id card - copy"), ("Photo - COPY", "photo")),
    *(("true", "yes"), ("false", "off"), ("passport", "passport copy"), ("room (1)", "room (2)"), ("false alarm", "0")),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_names_of_one_look_are_alike(one: str, other: str) -> None:
    assert alike(["x", one, other]) == [[one, other]]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["0", "1", "true", "false"], [["0", "false"], ["1", "true"]]),  # as where two tables were joined
        (["0", "1", "2", "true", "false"], []),
        ([*"0123456789", "True"], []),
        (["1", "01", "2", "true"], [["1", "01"]]),
    ],
)
def test_truth_is_a_number_where_there_are_no_others(names: list[str], found: list[list[str]]) -> None:
    assert alike(names) == found


@pytest.mark.parametrize(("one", "other"), OTHERS)
def test_names_that_look_different_are_not(one: str, other: str) -> None:
    assert alike([one, other]) == []


@pytest.mark.parametrize(
    ("classes", "count"),
    [(("1-Mar", "2-Sep", "cat"), 1), (("Mar-01", "DEC1"), 1), (("1-Mar", "2-Mar"), 0), (("1-Mars", "cat"), 0)],
)
def test_labels_of_which_some_are_dates_are_named(classes: tuple[str, ...], count: int) -> None:
    assert len(about_dates(classes)) == count
