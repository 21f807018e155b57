"""What is taken for a request, and what is said of the rest."""

import base64
import json
from contextlib import suppress
from typing import Any

import pytest

from podium.serving.request_body import json_memory, read
from podium.serving.request_error import RequestError

PICTURE = b"\x89PNG\r\n\x1a\n and \xfb\xef\xff more"
TEXT = base64.b64encode(PICTURE).decode()
PIXELS = [[0, 255], [3, 4]]
FORM = (
    b'--xyz\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    + PICTURE
    + b'\r\n--xyz\r\nContent-Disposition: form-data; name="image"\r\n\r\nother\r\n--xyz--\r\n'
)


def rows(content: Any, kind: str = "application/json", query: bytes = b"", most: int = 10) -> tuple[Any, Any, bool]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    found = read(body, kind, query, most)
    return found.column, found.values, found.probabilities


@pytest.mark.parametrize(
    ("content", "column", "values"),
    [
        ({"dataframe_records": [{"image": TEXT}, {"image": ""}]}, "image", [PICTURE, b""]),
        ({"dataframe_records": [{"array": PIXELS, "id": 7}]}, "array", [PIXELS]),
        ({"dataframe_records": [{"array": PIXELS, "image": None}]}, "array", [PIXELS]),
        ({"dataframe_split": {"columns": ["id", "image"], "data": [[1, TEXT]]}}, "image", [PICTURE]),
        ({"dataframe_split": {"columns": ["array"], "data": [[PIXELS]], "index": [5]}}, "array", [PIXELS]),
        ({"instances": [{"image": TEXT}]}, "image", [PICTURE]),
        ({"instances": [TEXT, TEXT]}, "image", [PICTURE, PICTURE]),
        ({"inputs": {"image": [TEXT]}}, "image", [PICTURE]),
        ({"inputs": {"array": [PIXELS, PIXELS]}}, "array", [PIXELS, PIXELS]),
        ({"inputs": [TEXT]}, "image", [PICTURE]),
    ],
)
def test_every_form_of_json_gives_the_rows(content: Any, column: str, values: list[Any]) -> None:
    assert rows(content) == (column, values, False)
    assert rows(content | {"params": {"probabilities": True}}) == (column, values, True)
    assert rows(content, "Application/JSON; charset=utf-8", b"probabilities=true") == (column, values, True)


@pytest.mark.parametrize(
    ("body", "kind", "query"),
    [
        ({"instances": [TEXT], "params": {"abstain": True}}, "application/json", b""),
        ({"instances": [TEXT], "params": {"abstain": True, "probabilities": False}}, "application/json", b""),
        ({"instances": [TEXT]}, "application/json", b"abstain=true"),
        ({"instances": [TEXT]}, "application/json", b"probabilities=false&abstain=TRUE"),
        (PICTURE, "image/png", b"abstain=true"),
        (
            b'--xyz\r\nContent-Disposition: form-data; name="abstain"\r\n\r\ntrue\r\n' + FORM,
            "multipart/form-data; boundary=xyz",
            b"",
        ),
    ],
)
def test_abstain_is_asked_for_as_probabilities_are(body: Any, kind: str, query: bytes) -> None:
    found = read(body if isinstance(body, bytes) else json.dumps(body).encode(), kind, query, 10)
    assert (found.abstain, found.probabilities) == (True, False)


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.rstrip("="),
        TEXT.replace("+", "-").replace("/", "_"),
        f"data:image/png;base64,{TEXT}",
        f"DATA:image/png;charset=x;BASE64,{TEXT}",
        "\n".join(TEXT[n : n + 8] for n in range(0, len(TEXT), 8)) + "\r\n",
    ],
    ids=["plain", "no padding", "url-safe", "data URL", "capitals", "lines"],
)
def test_base64_that_can_be_read_in_one_way_is_read(text: str) -> None:
    assert rows({"instances": [text]})[1] == [PICTURE]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "no JSON: .* at character 2"),
        (b"\xff", "it is not UTF-8"),
        (b"[" * 50_000, "nested too deeply"),
        (b'{"a":' * 50_000, "nested too deeply"),
        (b'{"instances": [{"array": [[NaN]]}]}', "NaN and Infinity"),
        (b'{"instances": [' + b"9" * 5000 + b"]}", "too long"),
        (b'{"instances": ["a"], "instances": ["b"]}', "one key twice"),
        ([], "must be a JSON object with one of dataframe_split, dataframe_records, instances, inputs"),
        ({}, "must be a JSON object with one of"),
        ({"instances": [TEXT], "inputs": [TEXT]}, "must be a JSON object with one of"),
        ({"instances": [TEXT], "secret": 1}, "and no other key"),
        ({"instances": [TEXT], "params": {"secret": 1}}, "it knows no other parameter"),
        ({"instances": [TEXT], "params": {"probabilities": 1}}, "probabilities must be true or false"),
        ({"instances": [TEXT], "params": {"abstain": "true"}}, "abstain must be true or false"),
        ({"instances": []}, "at least one image"),
        ({"instances": {}}, "instances must be a list of rows"),
        ({"dataframe_records": [TEXT]}, "rows of dataframe_records must be objects"),
        ({"instances": [PIXELS]}, "rows of instances must be objects .* or all of them image files in base64"),
        ({"instances": [TEXT] * 11}, r"at most 10 images \(serve.max_images\); got 11"),
        ({"dataframe_records": [{"secret": TEXT}]}, "must have one of the columns image"),
        ({"dataframe_records": [{"image": TEXT}, {"array": PIXELS}]}, "must have one of the columns image"),
        ({"dataframe_records": [{"image": TEXT}, {"image": None}, {}]}, "image 2 of 3: .* got nothing; image 3 of 3"),
        ({"dataframe_records": [{"image": 7}]}, "image 1 of 1: it must be an image file in base64; got no text"),
        ({"instances": [TEXT, "a"]}, "image 2 of 2: it is no base64"),
        ({"instances": ["a"] * 7}, "image 5 of 7: it is no base64 of an image file; and 2 more"),
        ({"instances": ["secret?"]}, "image 1 of 1: it is no base64"),
        ({"instances": ["data:image/png,secret"]}, "its data URL must be such as"),
        ({"inputs": {"image": TEXT}}, "as a list"),
        ({"inputs": {"image": [TEXT], "array": [PIXELS]}}, "must have one of the columns image"),
        ({"dataframe_split": {"columns": ["image"]}}, "must be an object with columns, data"),
        ({"dataframe_split": {"columns": ["image", "image"], "data": []}}, "must have one of the columns"),
        ({"dataframe_split": {"columns": ["image"], "data": [[TEXT], [], TEXT]}}, "image 2 of 3: .* image 3 of 3"),
    ],
)
def test_json_that_is_no_request_is_400_and_is_not_echoed(content: Any, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence) as caught:
        rows(content)
    assert caught.value.status == 400
    assert "secret" not in str(caught.value)
    assert TEXT not in str(caught.value)


@pytest.mark.parametrize("kind", ["image/png", "IMAGE/jpeg", "", "application/octet-stream"])
def test_body_that_is_an_image_is_one_row(kind: str) -> None:
    assert rows(PICTURE, kind) == ("image", [PICTURE], False)
    assert rows(PICTURE, kind, b"probabilities=True") == ("image", [PICTURE], True)


def test_body_as_curl_sends_it_without_a_type_is_taken_if_it_begins_like_an_image() -> None:
    assert rows(PICTURE, "application/x-www-form-urlencoded")[1] == [PICTURE]
    with pytest.raises(RequestError, match="Content-Type must be application/json") as caught:
        rows(b"a=b", "application/x-www-form-urlencoded")
    assert caught.value.status == 415


@pytest.mark.parametrize("kind", ["text/csv", "application/vnd.apache.parquet", "application/jsonx"])
def test_body_of_another_type_is_415(kind: str) -> None:
    with pytest.raises(RequestError, match="Content-Type must be application/json") as caught:
        rows(b"x", kind)
    assert caught.value.status == 415


def test_form_gives_a_row_for_each_file() -> None:
    kind = "multipart/form-data; boundary=xyz"
    assert rows(FORM, kind) == ("image", [PICTURE, b"other"], False)
    wanted = b'--xyz\r\nContent-Disposition: form-data; name="probabilities"\r\n\r\ntrue\r\n'
    assert rows(wanted + FORM, kind) == ("image", [PICTURE, b"other"], True)


@pytest.mark.parametrize(
    ("body", "kind", "sentence"),
    [
        (FORM, "multipart/form-data", "damaged"),
        (FORM, "multipart/form-data; boundary=abc", "damaged"),
        (FORM[:-20], "multipart/form-data; boundary=xyz", "damaged"),
        (b"", "multipart/form-data; boundary=xyz", "damaged"),
        (FORM.replace(b'"image"', b'"secret"'), "multipart/form-data; boundary=xyz", "fields of a form must be image"),
        (
            FORM.replace(b"Content-Type: image/png", b"Content-Transfer-Encoding: base64"),
            "multipart/form-data; boundary=xyz",
            "send the bytes as they are",
        ),
    ],
)
def test_form_that_can_not_be_read_is_400(body: bytes, kind: str, sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence) as caught:
        rows(body, kind)
    assert caught.value.status == 400
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "query",
    [
        b"x=1",
        b"probabilities=2",
        b"abstain=2",
        b"abstain=true&abstain=true",
        b"probabilities=true&probabilities=false",
        b"secret",
    ],
)
def test_parameter_of_the_address_that_is_not_known_is_400(query: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        rows({"instances": [TEXT]}, query=query)
    assert caught.value.status == 400
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("inside", [b"[]", b"{}", b"1.5", b'"ab"', b"[[1.5,2.5]]", b'{"a":{}}', b"123456789"])
def test_json_memory_is_an_upper_bound(inside: bytes) -> None:
    import tracemalloc

    body = b"[" + b",".join([inside] * 20_000) + b"]"
    tracemalloc.start()
    content = json.loads(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(content) == 20_000
    assert peak <= json_memory(body)


@pytest.mark.parametrize(
    "text",
    [
        "A" * 1_000_000,
        " A" * 500_000,
        "A\\n" * 500_000,
        "A" * 1_000_000 + "\U0001f600",
        "A" * 1_000_000 + "\u00e9",
        "A" * 1_000_000 + "\\ud83d\\ude00",
        "\\u00e9" * 200_000,
        "A" * 999_998,
    ],
    ids=["plain", "blanks", "lines", "wide", "accent", "wide escape", "escapes", "no padding"],
)
def test_json_memory_is_an_upper_bound_of_reading_images(text: str) -> None:
    import tracemalloc

    body = f'{{"instances": ["{text}"]}}'.encode()
    tracemalloc.start()
    with suppress(RequestError):  # some are no base64
        read(body, "application/json", b"", 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= json_memory(body)


def test_form_of_too_many_parts_is_refused_before_all_are_read() -> None:
    import tracemalloc

    part = b'--xyz\r\nContent-Disposition: form-data; name="image"\r\n\r\n\r\n'
    for start in (part, b"--xyz\r\n\r\n\r\n"):
        body = start * 50_000 + b"--xyz--\r\n"
        tracemalloc.start()
        with pytest.raises(RequestError, match=r"at most 10 images \(serve.max_images\); got more"):
            read(body, "multipart/form-data; boundary=xyz", b"", 10)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100_000


def test_form_of_as_many_images_as_are_allowed_and_probabilities_is_taken() -> None:
    kind = "multipart/form-data; boundary=xyz"
    wanted = b'--xyz\r\nContent-Disposition: form-data; name="probabilities"\r\n\r\ntrue\r\n'
    assert rows(wanted + FORM, kind, most=2) == ("image", [PICTURE, b"other"], True)
    with pytest.raises(RequestError, match="at most 1 images .* got 2"):
        rows(FORM, kind, most=1)


def test_texts_of_too_many_images_are_not_read() -> None:
    with pytest.raises(RequestError, match="at most 10 images .* got 11"):
        rows({"instances": ["secret?"] * 11})
