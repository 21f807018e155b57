"""What the body of a request holds: image files or pixels, one row each.

Taken are JSON in the forms of MLflow's scoring server, the bytes of one image, and a form with files (multipart).
"""

import binascii
import json
import string
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl

from python_multipart.multipart import parse_options_header

from podium.serving.form_body import form_fields
from podium.serving.request_error import RequestError, about_rows, too_many_images

Column = Literal["image", "array"]
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
OPTIONS = ("probabilities", "abstain")
"""Parameters of a request, true or false each."""
JSON_KIND, FORM_KIND = "application/json", "multipart/form-data"
UNTOLD = ("", "application/octet-stream", "application/x-www-form-urlencoded")
"""Types by which nothing is said of a body; the last one is what curl's --data-binary sends where none is given."""
IMAGE_STARTS = (
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"GIF8",
    b"II",
    b"MM",
    b"BM",
    b"RIFF",
    b"\0\0\0",
    b"\xff\x4f\xff\x51",
    b"P",
)
"""First bytes of the formats that are read; the decoder says more of what begins so and is none."""
ONE_COLUMN = "a request must have one of the columns image (an image file in base64) and array (pixels)"
NO_BASE64 = "it is no base64 of an image file"
URL_SAFE = str.maketrans("-_", "+/", string.whitespace)
"""As text without blanks: not by `split`, which makes a list of small texts of 50 bytes each."""
LIST_BYTES, OBJECT_BYTES, VALUE_BYTES = 88, 248, 72
"""Of memory at most for a list and an object of JSON with their first value, and for each further value (CPython 3.11:
an empty list has 56, an object of one value 184, a short text 53, its place in a list 8 to 9)."""


@dataclass(frozen=True)
class Rows:
    """The images of a request."""

    column: Column
    values: list[Any]
    """Image files as bytes, or pixels as nested lists."""
    probabilities: bool
    """Whether the probability of every class is wanted."""
    abstain: bool = False
    """Whether the model may be unsure."""


PLAIN_TEXTS, WIDE_TEXTS = 3, 9
"""Bytes of text for each byte of a body of JSON, of ASCII and with other characters."""
READING_BYTES = 16 * 1024
"""Of memory for the reading itself, whatever the body: its rows, a refusal with its sentence."""


def json_memory(body: bytes | bytearray) -> int:
    """An upper bound of the bytes that `body` takes as Python objects, known before it is parsed."""
    lists, objects, values = (body.count(sign) for sign in (b"[", b"{", b","))
    # As one text, then as its parts, and one part without blanks. A character that is not ASCII makes all of a text
    # wide (up to 4 bytes each); so does an escape, but in its own part only.
    texts = PLAIN_TEXTS if body.isascii() and b"\\u" not in body else WIDE_TEXTS
    return READING_BYTES + texts * len(body) + LIST_BYTES * lists + OBJECT_BYTES * objects + VALUE_BYTES * values


def read(body: bytes | bytearray, content_type: str, query: bytes, most: int) -> Rows:
    """The rows of a request of at most `most` images.

    `query` is what follows the question mark of its address: OPTIONS such as `probabilities=true`, or nothing. Raises
    RequestError 400 naming the rows that can't be used, 415 for a type that is not taken.
    """
    wanted = _of_query(query)
    kind, options = parse_options_header(content_type)
    name = kind.decode("latin-1").strip().lower()
    if name == JSON_KIND:
        rows = _of_json(body, most)
    elif name == FORM_KIND:
        rows = _of_form(bytes(body), options.get(b"boundary", b""), most)
    elif name.startswith("image/") or (name in UNTOLD and body.startswith(IMAGE_STARTS)):
        rows = Rows("image", [bytes(body)], *_wanted({}))
    else:
        raise RequestError(
            415,
            f"Content-Type must be {JSON_KIND}, {FORM_KIND} or image/*, such as image/jpeg: one image file as the body",
        )
    if not rows.values:
        raise RequestError(400, "a request must hold at least one image")
    if len(rows.values) > most:
        raise too_many_images(most, f"{len(rows.values):,}")
    return Rows(
        rows.column, rows.values, rows.probabilities or wanted["probabilities"], rows.abstain or wanted["abstain"]
    )


def _of_query(query: bytes) -> dict[str, bool]:
    given = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    names = [name for name, _ in given]
    if not {*names} <= {*OPTIONS} or len({*names}) < len(names):
        raise RequestError(
            400,
            "the address may have the parameters probabilities and abstain, once each: ?probabilities=true (or false)",
        )
    return dict.fromkeys(OPTIONS, False) | {name: _boolean(name, value) for name, value in given}


def _boolean(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise RequestError(400, f"{name} must be true or false")
    return text.lower() == "true"


def _wanted(options: dict[str, bool]) -> list[bool]:
    """`options`, those that are not given false, in the order of Rows."""
    return [options.get(name, False) for name in OPTIONS]


def _of_json(body: bytes | bytearray, most: int) -> Rows:
    try:
        content = json.loads(body, object_pairs_hook=_object, parse_constant=_no_number)
    except RecursionError:
        raise RequestError(400, "the body is nested too deeply") from None
    except UnicodeDecodeError:
        raise RequestError(400, "the body is no JSON: it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise RequestError(400, f"the body is no JSON: {error.msg} at character {error.pos + 1:,}") from None
    except ValueError:  # a number of thousands of digits
        raise RequestError(400, "the body is no JSON that can be read: it holds a number that is too long") from None
    forms = [name for name in FORMS if isinstance(content, dict) and name in content]
    if len(forms) != 1 or not content.keys() <= {*FORMS, "params"}:
        raise RequestError(
            400, f"the body must be a JSON object with one of {', '.join(FORMS)}, params if you like, and no other key"
        )
    column, values = _table(forms[0], content[forms[0]])
    wanted = _params(content.get("params"))
    if len(values) > most:
        raise too_many_images(most, f"{len(values):,}")
    if column == "image":
        values = _files(values)
    return Rows(column, values, *_wanted(wanted))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise RequestError(400, "an object of the body has one key twice")
    return found


def _no_number(_: str) -> float:
    raise RequestError(400, "the body is no JSON: NaN and Infinity are no numbers")


def _params(params: Any) -> dict[str, bool]:
    if params is None:
        return {}
    if not isinstance(params, dict) or not params.keys() <= {*OPTIONS}:
        raise RequestError(
            400, 'params must be such as {"probabilities": true, "abstain": false}: it knows no other parameter'
        )
    for name, value in params.items():
        if not isinstance(value, bool):
            raise RequestError(400, f"params: {name} must be true or false")
    return params


def _table(form: str, table: Any) -> tuple[Column, list[Any]]:
    """The column with the images, and its values."""
    if form == "dataframe_split":
        return _of_split(table)
    if form == "inputs" and isinstance(table, dict):
        return _of_columns(table)
    if not isinstance(table, list):
        raise RequestError(400, f"{form} must be a list of rows")
    if form != "dataframe_records" and table and all(isinstance(row, str) for row in table):
        return "image", table
    if not all(isinstance(row, dict) for row in table):
        plain = "" if form == "dataframe_records" else ", or all of them image files in base64"
        raise RequestError(400, f'the rows of {form} must be objects such as {{"image": "..."}}{plain}')
    return _of_records(table)


def _of_split(table: Any) -> tuple[Column, list[Any]]:
    known = {"columns", "data", "index"}
    if not isinstance(table, dict) or not {"columns", "data"} <= table.keys() <= known:
        raise RequestError(400, "dataframe_split must be an object with columns, data and, if you like, index")
    columns, data = table["columns"], table["data"]
    if not isinstance(columns, list) or not isinstance(data, list):
        raise RequestError(400, "columns and data of dataframe_split must be lists")
    places = [(name, place) for place, name in enumerate(columns) if name in ("image", "array")]
    if len(places) != 1:
        raise RequestError(400, ONE_COLUMN)
    column, place = places[0]
    wrong = f"it must be a list of {len(columns)}, one value for each of columns"
    bad = [(n, wrong) for n, row in enumerate(data) if not isinstance(row, list) or len(row) != len(columns)]
    if bad:
        raise about_rows(bad, len(data))
    return column, [row[place] for row in data]


def _of_columns(table: dict[str, Any]) -> tuple[Column, list[Any]]:
    columns: list[Column] = [name for name in ("image", "array") if name in table]
    if len(columns) != 1 or not isinstance(table[columns[0]], list):
        raise RequestError(400, f"{ONE_COLUMN}, as a list")
    return columns[0], table[columns[0]]


def _of_records(rows: list[dict[str, Any]]) -> tuple[Column, list[Any]]:
    used = {name for row in rows for name in ("image", "array") if row.get(name) is not None}
    if len(used) > 1 or (not used and not any("image" in row or "array" in row for row in rows) and rows):
        raise RequestError(400, ONE_COLUMN)
    column: Column = "array" if used == {"array"} else "image"
    return column, [row.get(column) for row in rows]


def _files(values: list[Any]) -> list[bytes]:
    found: list[bytes] = []
    problems: list[tuple[int, str]] = []
    for row, value in enumerate(values):
        try:
            found.append(_file(value))
        except ValueError as error:
            problems.append((row, str(error)))
    if problems:
        raise about_rows(problems, len(values))
    return found


def _file(value: Any) -> bytes:
    """The image file of base64 (also for addresses, broken into lines, without padding) or of a data URL (RFC 2397)."""
    if not isinstance(value, str):
        raise ValueError("it must be an image file in base64; got " + ("nothing" if value is None else "no text"))
    if value[:5].lower() == "data:":
        about, comma, value = value.partition(",")
        if not comma or not about.lower().endswith(";base64"):
            raise ValueError("its data URL must be such as data:image/png;base64,... (in base64)")
    if not value.isascii():  # each further text of it would be wide
        raise ValueError(NO_BASE64)
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except ValueError:  # the usual case is read once; what follows mends what can be read in one way only
        plain = value.translate(URL_SAFE).rstrip("=")
    try:
        plain += "=" * (-len(plain) % 4)
        return binascii.a2b_base64(plain, strict_mode=True)
    except ValueError:
        raise ValueError(NO_BASE64) from None


def _of_form(body: bytes, boundary: bytes, most: int) -> Rows:
    parts = form_fields(body, boundary, most)
    images = [data for name, data in parts if name == b"image"]
    others = [(name.decode("latin-1"), data.decode("latin-1")) for name, data in parts if name != b"image"]
    given = dict(others)
    if not given.keys() <= {*OPTIONS} or len(given) < len(others):
        raise RequestError(
            400, "the fields of a form must be image (a file, as often as you like), probabilities and abstain"
        )
    return Rows("image", images, *_wanted({name: _boolean(name, text) for name, text in given.items()}))
