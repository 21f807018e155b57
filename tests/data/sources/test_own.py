"""A function of the user's own that returns or yields rows."""

import io
import json
import os
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import photos
from data.sources.reading import given, pixels
from own import OwnCode
from podium.config.params import DoctorParams, PrepareParams
from podium.data import reading, sources
from podium.data.decode import Preprocess
from podium.data.image_store import persistent_store
from podium.data.sources import own
from podium.data.sources.source import Source
from podium.errors import InputError
from podium.stages.prepare import prepare

GREY = np.arange(30, dtype=np.uint8).reshape(5, 6)
COLOUR = np.arange(90, dtype=np.uint8).reshape(5, 6, 3)
FIRST = np.ascontiguousarray(COLOUR.transpose(2, 0, 1))


def _read(*rows: Any) -> Source:
    return own.read(lambda: list(rows), {}, "mine:images")


def _refused(*rows: Any) -> str:
    with pytest.raises(InputError, match=r"^prepare\.source: mine:images ") as caught:
        _read(*rows)
    return str(caught.value)


class _Endless:
    """A dataset as of PyTorch: it is asked for its items by number, and has one for each number."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, number: int) -> tuple[NDArray[np.uint8], int]:
        return GREY + np.uint8(number), number % 2


def test_dataset_that_is_asked_by_number_ends_at_its_length() -> None:
    assert len(own.read(_Endless, {}, "mine:images").items) == 3


class _Oversampled(_Endless):
    """Each image twice; those in memory are the same objects."""

    def __init__(self, kind: str) -> None:
        arrays = [GREY, GREY + np.uint8(1)]
        self.images: list[Any] = arrays if kind == "array" else [Image.fromarray(one[0]) for one in arrays]

    def __len__(self) -> int:
        return 4

    def __getitem__(self, number: int) -> tuple[Any, int]:
        return self.images[number // 2], number % 2


@pytest.mark.parametrize("kind", ["array", "Pillow image"])
def test_dataset_may_give_an_image_again(kind: str) -> None:
    assert len(own.read(_Oversampled, {"kind": kind}, "mine:images").items) == 4


class _Overwriting(_Endless):
    """Each image in the place of the one before."""

    def __init__(self) -> None:
        self.image = GREY.copy()

    def __getitem__(self, number: int) -> tuple[NDArray[np.uint8], int]:
        self.image += np.uint8(1)
        return self.image, number % 2


def test_dataset_that_overwrites_its_images_is_refused() -> None:
    with pytest.raises(InputError, match="row 1: is the same object as row 0, .*: yield a copy of it"):
        own.read(_Overwriting, {}, "mine:images")


@pytest.mark.parametrize("error", [NotImplementedError, TypeError])
def test_dataset_that_has_no_length_ends_at_its_index_error(error: type[Exception]) -> None:
    class Unknown(_Endless):
        def __len__(self) -> int:
            raise error

        def __getitem__(self, number: int) -> tuple[NDArray[np.uint8], int]:
            if number == 3:
                raise IndexError
            return super().__getitem__(number)

    assert len(own.read(Unknown, {}, "mine:images").items) == 3


def test_dataset_whose_length_fails_is_named_with_the_line() -> None:
    class Broken(_Endless):
        def __len__(self) -> int:
            raise RuntimeError("not loaded")

    with pytest.raises(InputError, match="failed with RuntimeError: not loaded\n .*test_own.py, line .*, in __len__"):
        own.read(Broken, {}, "mine:images")


@pytest.mark.parametrize(
    ("written", "split"), [("dev", "val"), (" Test ", "test"), ("TRAINING", "train"), ("holdout", "test"), ("", None)]
)
def test_split_of_a_row_is_written_as_in_a_table(written: str, split: str | None) -> None:
    assert [item.split for item in _read((GREY, "a", written)).items] == [split]


class _Animal(str, Enum):  # noqa: UP042 (as code for Python 3.10 has it)
    CAT = "cat"
    DOG = "dog"


@pytest.mark.parametrize(
    ("label", "name"),
    [(np.array([3]), "3"), (np.array([[3]]), "3"), (np.array(3), "3"), (_Animal.CAT, "cat"), (np.str_("cat"), "cat")],
)
def test_label_of_another_type_is_the_value_that_it_stands_for(label: Any, name: str) -> None:
    assert _read((GREY, label)).classes == (name,)


@pytest.mark.parametrize("label", ["none", "NA", "?", "missing"])
def test_label_that_is_also_a_missing_value_is_a_class_with_a_note(label: str) -> None:
    source = _read((GREY, label), (GREY, label), (GREY, "cat")).with_notes()
    assert set(source.classes) == {label, "cat"}
    assert source.notes == (
        f"label {label!r} (2 images) is also how a missing value is written: it is read as a class",
    )
    assert "row 0: label is 'NaN', as a missing value is written" in _refused((GREY, "NaN"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (GREY, GREY[None]),
        (GREY[..., None], GREY[None]),
        (GREY[None], GREY[None]),
        (COLOUR, FIRST),
        (FIRST, FIRST),
    ],
    ids=["HW", "HW1", "1HW", "HW3", "3HW"],
)
def test_array_of_any_layout_becomes_channels_first_without_a_copy(
    content: NDArray[np.uint8], expected: NDArray[np.uint8]
) -> None:
    (item,) = _read((content, "cat")).items

    assert isinstance(item.content, np.ndarray)
    assert np.array_equal(item.content, expected)
    assert np.shares_memory(item.content, content)


def test_paths_bytes_arrays_and_pillow_images_are_decoded_to_the_same_pixels(tmp_path: Path) -> None:
    tile = photos.tiles()[0]
    path = photos.write(tmp_path / "a.png", tile)
    opened = Image.open(path)
    contents = (path, str(path), path.read_bytes(), np.asarray(tile), tile, opened)
    source = _read(*((content, 0) for content in contents))
    opened.close()

    spec = Preprocess(3, 32, 32)
    with persistent_store(tmp_path / "decoded", spec) as store:
        images = reading.read(source, spec, store)
        found = store.pixels.take(images.rows)

    assert images.rejects == []
    assert images.sizes.tolist() == [[96, 96]] * 6
    assert (found == found[0]).all()
    assert len(set(images.rows.tolist())) == 3  # of one file, of the array and of the image


def test_rows_may_be_tuples_or_mappings_with_split_and_group(tmp_path: Path) -> None:
    data = photos.encoded(photos.tiles()[0])
    path = photos.write(tmp_path / "a.png", photos.tiles()[1])

    source = _read(
        (data, "b"),
        (data, "a", "val"),
        (data, "a", None, "patient 1"),
        {"bytes": data, "label": "b", "split": "test", "group": 7},
        {"path": path, "label": "b", "image": None},
        {"content": path, "label": "c", "split": None, "group": None},
    )

    assert source.name == "mine:images"
    assert source.classes == ("a", "b", "c")
    assert [item.label for item in source.items] == [1, 0, 0, 1, 1, 2]
    assert given(source) == [None, "val", None, "test", None, None]
    assert [item.group for item in source.items] == [None, None, "patient 1", "7", None, None]
    assert [item.origin for item in source.items][2:5] == ["row 2", "row 3", str(path)]


def test_function_gets_its_arguments_and_may_yield() -> None:
    def images(count: int, *, value: int) -> Iterator[tuple[NDArray[np.uint8], np.int64]]:
        for number in range(count):
            yield np.full((4, 4), value + number, np.uint8), np.int64(10 - number)

    source = own.read(images, {"count": 3, "value": 5}, "mine:images")

    assert source.classes == ("8", "9", "10")
    found, labels = pixels(source)
    assert found[:, 0, 0, 0].tolist() == [5, 6, 7]
    assert labels.tolist() == [2, 1, 0]


def test_whole_numbers_are_sorted_by_value() -> None:
    assert _read((GREY, 10), (GREY, -1), (GREY, 2)).classes == ("-1", "2", "10")


def test_path_that_does_not_exist_is_a_reject(tmp_path: Path) -> None:
    path = photos.write(tmp_path / "a.png", photos.tiles()[0])

    source = _read((path, "a"), (tmp_path / "gone.png", "b", "val"), (tmp_path, "b"))

    assert [item.content for item in source.items] == [path]
    assert source.classes == ("a", "b")
    assert [(one.kind, one.origin, one.why, one.split) for one in source.rejects] == [
        ("unreadable", str(tmp_path / "gone.png"), "there is no such file", "val"),
        ("unreadable", str(tmp_path), "there is no such file", None),
    ]


def test_opened_image_is_read_from_its_file_unless_it_was_touched(tmp_path: Path) -> None:
    path = photos.write(tmp_path / "a.png", photos.tiles()[0])
    with Image.open(path) as untouched, Image.open(path) as touched:
        touched.putpixel((0, 0), (1, 2, 3))

        first, second = _read((untouched, "a"), (touched, "a")).items

    assert first.content == path
    assert second.content is touched


def test_damaged_image_is_a_reject_of_its_kind(tmp_path: Path) -> None:
    cut = photos.encoded(photos.tiles()[0])[:-900]
    path = tmp_path / "cut.png"
    path.write_bytes(cut)
    with Image.open(path) as image:
        source = _read((cut, "a"), (b"", "a"), (b"text", "a"), (image, "a"), (Image.open(io.BytesIO(cut)), "a"))

    spec = Preprocess(3, 8, 8)
    with persistent_store(tmp_path / "decoded", spec) as store:
        images = reading.read(source, spec, store)

    assert [(one.kind, one.origin) for one in images.rejects] == [
        ("truncated", "row 0"),
        ("empty", "row 1"),
        ("not_image", "row 2"),
        ("truncated", str(path)),
        ("corrupt", "row 4"),
    ]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ((GREY,), "must have 2 to 4 values, (content, label, split, group); got 1"),
        ((GREY, "a", None, None, 1), "must have 2 to 4 values, (content, label, split, group); got 5"),
        (GREY, "must be a tuple (content, label, split, group) or a mapping with these keys; got ndarray"),
        ({"image": GREY, "lable": "a"}, "has unknown keys: lable; known are"),
        (
            {"image": GREY, "path": "a.png", "label": "a"},
            "one of content, path, image, bytes; got path and image",
        ),
        ({"label": "a"}, "must have one of content, path, image, bytes; got none"),
        ({"image": GREY}, "has no label"),
        ((GREY, 1.5), "label must be text or a whole number; got float 1.5"),
        ((GREY, True), "label must be text or a whole number; got bool True"),
        ((GREY, None), "label must be text or a whole number; got NoneType None"),
        ((GREY, " "), "label is empty"),
        ((GREY, "a", "fold1"), "split must be train, val, test or None; got str 'fold1'"),
        ((GREY, "a", "eval"), "split must be train, val, test or None; got str 'eval'"),
        ((GREY, "a", float("nan")), "split must be train, val, test or None; got float nan"),
        ((GREY, "a", None, 1.5), "group must be a name or None; got float 1.5"),
        ((GREY / 255, "a"), "an array must be of uint8, 0 to 255; got float64 (5x6)"),
        ((GREY[0], "a"), "an array must be (H, W), (H, W, C) or (C, H, W) with 1 or 3 channels; got 6"),
        ((np.zeros((5, 6, 4), np.uint8), "a"), "with 1 or 3 channels; got 5x6x4"),
        ((np.zeros((0, 6), np.uint8), "a"), "with 1 or 3 channels; got 0x6"),
        ((np.zeros((3, 6, 3), np.uint8), "a"), "an array of 3x6x3 can be read as (C, H, W) and as (H, W, C)"),
        (
            (3.5, "a"),
            "content must be the path or the bytes of an image file, a uint8 array or a Pillow image; got",
        ),
        (("", "a"), "path is empty"),
        (("a\0.png", "a"), r"path is no path: 'a\x00.png'"),
        ((GREY, 3), "labels must be all text or all whole numbers; got 3 here and 'sound' in row 0"),
    ],
)
def test_wrong_row_is_refused_with_its_number(row: Any, problem: str) -> None:
    message = _refused((GREY, "sound"), (GREY, "sound"), row)

    assert message.startswith("prepare.source: mine:images has wrong rows (the first is row 0):\n  row 2: ")
    assert problem in message


def test_first_wrong_rows_are_named_and_the_rest_is_not_asked_for() -> None:
    asked = []

    def images() -> Iterator[Any]:
        for number in range(1000):
            asked.append(number)
            yield (GREY, None)

    with pytest.raises(InputError) as caught:
        own.read(images, {}, "mine:images")

    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines[1:-1]] == [f"  row {number}" for number in range(10)]
    assert lines[-1] == "  and perhaps more; these are the first 10"
    assert len(asked) == 10


def test_generator_that_overwrites_its_buffer_is_refused() -> None:
    def images() -> Iterator[Any]:
        buffer = np.zeros((4, 4), np.uint8)
        for number in range(2):
            buffer[:] = number
            yield buffer, "a"

    with pytest.raises(InputError, match="row 1: is the same object as row 0, .*: yield a copy of it"):
        own.read(images, {}, "mine:images")


@pytest.mark.parametrize("rows", [[], iter(())], ids=["list", "iterator"])
def test_source_without_rows_is_refused(rows: Any) -> None:
    with pytest.raises(InputError, match="mine:images yielded no rows"):
        own.read(lambda: rows, {}, "mine:images")


@pytest.mark.parametrize(
    "content",
    [
        torch.from_numpy(GREY.copy()),
        io.BytesIO(photos.encoded(Image.fromarray(GREY))),
        {"bytes": photos.encoded(Image.fromarray(GREY)), "path": None},
        {"bytes": photos.encoded(Image.fromarray(GREY)), "path": "a.png"},
    ],
    ids=["tensor", "file in memory", "dict of bytes", "dict of bytes and name"],
)
def test_content_as_libraries_give_it_is_taken(content: Any) -> None:
    (item,) = _read({"image": content, "label": torch.tensor(3)}).items
    found = item.content
    if isinstance(found, bytes):
        found = np.asarray(Image.open(io.BytesIO(found)))
    assert isinstance(found, np.ndarray)
    assert np.array_equal(found.reshape(GREY.shape), GREY)


@pytest.mark.parametrize(
    ("result", "remedy"),
    [
        (pd.DataFrame({"image": [GREY], "label": ["a"]}), r"return table\[\[\.\.\.\]\].itertuples\(index=False\)"),
        ({"train": [(GREY, "a")], "test": []}, r"its keys \(train, test\): yield \(content, label, split\)"),
        ([(GREY, np.eye(3)[0])], r"give int\(\.\.\.\.argmax\(\)\)"),
        ([(GREY, 1.0)], r"give int\(\.\.\.\) or str\(\.\.\.\) of it"),
        ([{"image": GREY, "label": 1, "image_id": 3}], "image_id; .* Yield those alone"),
        (
            [(torch.rand(1, 5, 6), 1)],
            "an array must be of uint8, 0 to 255; got float32 .*as it was before it was scaled",
        ),
    ],
    ids=["table", "splits", "one-hot", "float", "other columns", "scaled"],
)
def test_what_is_nearly_rows_is_refused_with_the_remedy(result: Any, remedy: str) -> None:
    with pytest.raises(InputError, match=remedy):
        own.read(lambda: result, {}, "mine:images")


def test_rows_of_a_table_are_taken() -> None:
    table = pd.DataFrame({"image": [GREY, GREY + np.uint8(1)], "label": ["a", "b"]})
    assert own.read(lambda: table.itertuples(index=False), {}, "mine:images").classes == ("a", "b")


def test_function_that_returns_no_rows_is_refused() -> None:
    with pytest.raises(InputError, match="mine:images must return an iterable of rows, .*; got NoneType None"):
        own.read(lambda: None, {}, "mine:images")


CODE = """\
import json

def yielding():
    yield b"", "a"
    yield helper()

def returning():
    return [helper()]

def library():
    return json.loads("{")

def helper():
    raise KeyError("x")

def ending():
    import sys

    raise SystemExit(0)

def ends_later():
    import sys

    yield b"", "a"
    sys.exit("enough")
"""


@pytest.fixture
def project(request: pytest.FixtureRequest) -> OwnCode:
    """The fixture `own`, whose name is that of the module here."""
    found: OwnCode = request.getfixturevalue("own")
    return found


ARGUMENTS = {
    "unknown": ({"most": 1, "mots": 3}, "prepare.arguments.mots: {m}:rows has no such argument; did you mean most?"),
    "missing": ({}, "prepare.arguments: {m}:rows needs most, which has no default: give it there"),
    "both": (
        {"root": 3},
        "prepare.arguments.root: {m}:rows has no such argument; it takes most\n  prepare.arguments: ",
    ),
}


@pytest.mark.parametrize(("arguments", "problem"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_of_a_source_are_named_by_their_place(
    project: OwnCode, arguments: dict[str, Any], problem: str
) -> None:
    module = project.write("def rows(most: int):\n    yield from ()\n")
    with pytest.raises(InputError) as caught:
        sources.read(PrepareParams(source=f"{module}:rows", arguments=arguments))
    assert str(caught.value).startswith(problem.format(m=module))


WRONG = {
    "wrong rows": (
        "    yield 1\n",
        "{m}:rows (src/{m}.py, line 1) has wrong rows (the first is row 0):\n  row 0: must",
    ),
    "no rows": ("    return []\n", "{m}:rows (src/{m}.py, line 1) yielded no rows; it must yield"),
    "nothing": ("    pass\n", "{m}:rows (src/{m}.py, line 1) must return an iterable of rows"),
}


@pytest.mark.parametrize(("body", "problem"), WRONG.values(), ids=WRONG)
def test_source_that_gives_something_else_is_named_with_its_file_and_line(
    project: OwnCode, body: str, problem: str
) -> None:
    module = project.write(f"def rows():\n{body}")
    with pytest.raises(InputError) as caught:
        sources.read(PrepareParams(source=f"{module}:rows"))
    assert str(caught.value).startswith(f"prepare.source: {problem.format(m=module)}")


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """A function of a user's module by its name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(CODE, encoding="utf-8")
    names: dict[str, Any] = {}
    exec(compile(CODE, str(tmp_path / "mine.py"), "exec"), names)  # noqa: S102 (as an import, without its cache)
    return names.__getitem__


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("yielding", {}, "KeyError: 'x'\n  mine.py, line 14, in helper: raise KeyError"),
        ("returning", {}, "KeyError: 'x'\n  mine.py, line 14, in helper: raise KeyError"),
        ("library", {}, "JSONDecodeError: .*\n  mine.py, line 11, in library: return json.loads"),
        ("ending", {}, "SystemExit: 0\n  mine.py, line 19, in ending: raise SystemExit"),
        ("ends_later", {}, "SystemExit: enough\n  mine.py, line 25, in ends_later: sys.exit"),
        ("returning", {"root": 1}, "TypeError: .* unexpected keyword argument 'root'\n  mine.py, line 7"),
    ],
    ids=["generator", "function", "library", "end", "later", "arguments"],
)
def test_exception_of_the_users_code_names_its_file_and_line(
    code: Callable[[str], Any], function: str, arguments: dict[str, Any], message: str
) -> None:
    expected = rf"^prepare\.source: mine:images failed with {message}"
    with pytest.raises(InputError, match=expected) as caught:
        own.read(code(function), arguments, "mine:images")

    assert caught.value.exit_code == 2
    assert isinstance(caught.value.__cause__, KeyError | json.JSONDecodeError | TypeError | SystemExit)


def test_own_source_is_prepared_with_its_groups_in_one_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    rows = [(draw.integers(0, 256, (8, 8), dtype=np.uint8), row % 2, None, f"scene {row // 4}") for row in range(80)]
    source = own.read(lambda: rows, {}, "mine:images")
    monkeypatch.setattr("podium.data.sources.read", lambda *_, **__: source)

    params = PrepareParams(val_fraction=0.3, test_fraction=0.3, min_per_class=1)
    info = prepare(params, DoctorParams(), tmp_path / "prepared", tmp_path / "sealed", tmp_path / "decoded")

    group = {image[None].tobytes(): name for image, _, _, name in rows}
    folders = [tmp_path / "prepared/train", tmp_path / "prepared/val", tmp_path / "sealed/test"]
    groups = [{group[image.tobytes()] for image in np.load(folder / "images.npy")} for folder in folders]
    assert sum(map(len, groups)) == 20
    assert info.shape == [1, 8, 8]
    assert os.listdir(tmp_path / "decoded") == []  # noqa: PTH208 (pixels without a file are not stored from run to run)
