"""Passwords within addresses are found and masked, and counts have their noun."""

import csv
import io
import json

import pytest

from podium.text import (
    against,
    capitalized,
    counted,
    given,
    holds_password,
    masked,
    number,
    one_line,
    red,
    shown_json,
    write_row,
)
from podium.tracking.store import shown


@pytest.mark.parametrize(
    ("address", "without"),
    [
        ("https://me:hunter2@host", "https://me:***@host"),
        ("redis://:hunter2@host", "redis://:***@host"),
        ("postgresql://me:hun@ter2@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:hun/ter2@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:12/hunter2@host/db", "postgresql://me:***@host/db"),
        ("https://me:hun?ter2@host", "https://me:***@host"),
        ("http://me:1a#hunter2@[bad", "http://me:***@[bad"),
        ("postgresql://host/db?user=u&password=hunter2", "postgresql://host/db?user=u&password=***"),
        ("postgresql://host/db?PASSWORD=hunter2", "postgresql://host/db?PASSWORD=***"),
        ("mysql://host/db?passwd=hunter2&x=1", "mysql://host/db?passwd=***&x=1"),
        ("postgresql://host/db?sslpassword=hunter2#x", "postgresql://host/db?sslpassword=***#x"),
        ("postgresql://me:hunter2@host/db?password=hunter2", "postgresql://me:***@host/db?password=***"),
    ],
)
def test_address_with_a_password_is_found_and_masked(address: str, without: str) -> None:
    assert holds_password(address)
    assert masked(f"x = '{address}'") == f"x = '{without}'"
    assert shown(address) == without


@pytest.mark.parametrize(
    "address",
    [
        "sqlite:///mlruns/mlflow.db",
        "https://host:5000/a@b",
        "http://host:/a@b",
        "http://[bad",
        "postgresql://host:5432/db",
        "postgresql://me@host/db?sslmode=require&passfile=/home/me/.pgpass",
        "postgresql://host/db?password=",
        '{"uri": "http://host:80", "mail": "a@b"}',
    ],
)
def test_address_without_a_password_is_let_be(address: str) -> None:
    assert not holds_password(address)
    assert masked(address) == address
    assert shown(address) == address


@pytest.mark.parametrize(
    ("count", "noun", "expected"),
    [
        (0, "trial", "0 trials"),
        (1, "trial", "1 trial"),
        (1000, "trial", "1,000 trials"),
        (2, "study", "2 studies"),
        (3, "class", "3 classes"),
    ],
)
def test_count_has_its_noun_in_the_right_number(count: int, noun: str, expected: str) -> None:
    assert counted(count, noun) == expected


@pytest.mark.parametrize(
    ("text", "shown_as"),
    [
        ("a b.png", "a b.png"),
        ("a\nb", r"a\nb"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\u202ea", r"\u202ea"),
        ("\u00fc", "\u00fc"),
    ],
)
def test_name_on_one_line_has_nothing_that_a_terminal_obeys(text: str, shown_as: str) -> None:
    assert one_line(text) == shown_as


def test_row_of_a_table_is_read_again_as_it_was() -> None:
    values = ["a\rb", "c\nd", 'e"f', "g,h", " ", ""]
    file = io.StringIO(newline="")
    write_row(file, values)
    assert list(csv.reader(io.StringIO(file.getvalue(), newline=""))) == [values]


@pytest.mark.parametrize(
    ("is_terminal", "environment", "is_red"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_red_is_for_terminals_that_want_colours(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool, environment: dict[str, str], is_red: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal)
    assert red("No better", stream) == ("\033[31mNo better\033[0m" if is_red else "No better")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.9812, "0.9812"), (0.00004, "0.000040"), (0.0, "0.0000"), (71586.0, "71,586"), (-0.00012, "-0.00012"),
     (3e-9, "3.0e-09"), (12.5, "12.5000"), (150.0, "150"), (1.0, "1.0000"), (float("inf"), "inf")],
)  # fmt: skip
def test_number_has_two_significant_digits_at_least(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "limit", "text"),
    [(7.2, 5, "7.2000"), (5.00001, 5, "5.00001"), (0.61234, 0.61233, "0.61234"), (0.6, 0.60004, "0.6000"),
     (0.59999999, 0.6, "0.59999999"), (71586.4, 71586, "71,586.4"), (71587.0, 71586, "71,587"), (150.0, 150.0, "150"),
     (4e-8, 4.01e-8, "4.0e-08")],
)  # fmt: skip
def test_value_beyond_its_limit_reads_as_beyond_it(value: float, limit: float, text: str) -> None:
    assert against(value, limit) == text
    shown = float(text.replace(",", ""))
    assert (shown > limit, shown < limit) == (value > limit, value < limit)


@pytest.mark.parametrize(("value", "text"), [(1_000_000, "1,000,000"), (0.4, "0.4"), (5.0, "5"), (71586.5, "71,586.5")])
def test_parameter_is_shown_as_it_was_written(value: float, text: str) -> None:
    assert given(value) == text


def test_capital_letter_leaves_the_others() -> None:
    assert [capitalized(text) for text in ("accuracy", "MulticlassJaccardIndex", "")] == [
        "Accuracy", "MulticlassJaccardIndex", ""
    ]  # fmt: skip


def test_json_for_a_terminal_holds_the_same_and_nothing_that_moves_its_cursor() -> None:
    content = {"why": '\u7ae0 \x1b[2J \x9b31m \u202e\n"', "to": [1, None, "\U000e0001"]}
    text = shown_json(content)
    assert json.loads(text) == content
    assert "\u7ae0" in text
    assert all(line.isprintable() for line in text.split("\n"))
