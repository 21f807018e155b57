"""A source of the user's own: a function that returns or yields rows.

A row is a tuple (content, label), (content, label, split) or (content, label, split, group), or a mapping with these
keys (path, image and bytes mean content, too):

- content: the path of an image file (relative to the project's folder), the bytes of one, a uint8 array or tensor
  (H, W), (H, W, C) or (C, H, W) of 1 or 3 channels, or a Pillow image
- label: text or a whole number; all rows have the same kind. Classes are sorted
- split: train, val, test or None. None: the split follows from the pixels
- group: a name of what belongs together, such as a patient, a scene or a burst, or None; a group stays in one split
"""

import math
import os
import sysconfig
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from tqdm import tqdm

from podium import own_code
from podium.data.sources.alike import is_no_value
from podium.data.sources.item import Content, Item, Reject, in_order, shown
from podium.data.sources.source import Source
from podium.data.sources.split_words import named_split
from podium.errors import InputError

KEYS = ("content", "label", "split", "group")
CONTENT_KEYS = ("content", "path", "image", "bytes")
"""Of a mapping, one of which holds the content."""
SHOWN = 10
"""Wrong rows that an error names; after so many the function is not asked for more."""
PODIUM = Path(__file__).parents[2]
LIBRARIES = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
"""Folders of code that is not the user's own."""


class _RowError(ValueError):
    """The message says what is wrong with the row."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A row that was checked."""

    origin: str
    content: Content
    label: str | int
    split: str | None
    group: str | None


def read(function: Callable[..., Any], arguments: Mapping[str, Any], name: str) -> Source:
    """The images of `function(**arguments)`, an iterable of rows, in its order. `name`: as in params.yaml.

    Arrays and Pillow images are not copied: memory holds them once, until they are decoded into the store. A Pillow
    image of a file whose pixels were not touched is read from the file.

    Raises InputError where the function fails (with the line of its code), yields nothing or yields wrong rows: it
    names the first of them. A path that leads to no file is a reject.
    """
    reader = _Reader()
    with tqdm(desc="rows", unit=" rows", delay=1, leave=False, disable=None) as bar:
        for row in _rows(function, arguments, name, reader):
            reader.add(row)
            bar.update()
            if len(reader.problems) == SHOWN:
                break
    if reader.problems:
        more = [f"and perhaps more; these are the first {SHOWN}"] if len(reader.problems) == SHOWN else []
        raise InputError(
            f"prepare.source: {name}{own_code.at(name)} has wrong rows (the first is row 0):\n  "
            + "\n  ".join([*reader.problems, *more])
        )
    if not reader.count:
        raise InputError(
            f"prepare.source: {name}{own_code.at(name)} yielded no rows; it must yield (content, label) for each image"
        )
    return reader.source(name)


@dataclass
class _Reader:
    """Rows read so far, and what is wrong with others."""

    count: int = 0
    rows: list[_Row] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    lazy: bool = False
    """Whether rows are yielded one by one, so that an earlier one may be overwritten by a later one."""
    labels: set[str | int] = field(default_factory=set)
    """Those of rejects too."""
    splits: set[str] = field(default_factory=set)
    """Those of rejects too."""
    _first: tuple[int, str | int] | None = None
    """The first row with a label, and the label: all others are of its kind."""
    _memory: dict[tuple[Any, ...], tuple[int, int]] = field(default_factory=dict)
    """The first row whose pixels lie at a place in memory, and their checksum."""

    def add(self, row: Any) -> None:
        """Check the next row."""
        number = self.count
        self.count += 1
        try:
            fields = _fields(row)
            label = self._label(number, fields["label"])
            split, group = _split(fields["split"]), _group(fields["group"])
            content = self._content(number, fields["content"])
        except _RowError as error:
            self.problems.append(f"row {number}: {error}")
            return
        self.labels.add(label)
        self.splits |= {split} if split else set()
        if not isinstance(content, Path):
            self.rows.append(_Row(f"row {number}", content, label, split, group))
        elif os.path.isfile(content):  # noqa: PTH113 (Path raises where its folder may not be entered)
            self.rows.append(_Row(shown(content), content, label, split, group))
        else:
            self.rejects.append(Reject("unreadable", shown(content), "there is no such file", split=split))

    def source(self, name: str) -> Source:
        """What was read."""
        texts = in_order({label for label in self.labels if isinstance(label, str)})
        classes = [*texts, *sorted(label for label in self.labels if isinstance(label, int))]  # one of the two is empty
        numbers = {label: number for number, label in enumerate(classes)}
        items = [Item(row.origin, numbers[row.label], row.split, row.content, row.group) for row in self.rows]
        names = tuple(shown(str(label)) for label in classes)
        return Source(name, names, items, self.rejects, given=frozenset(self.splits))

    def _label(self, number: int, label: Any) -> str | int:
        if hasattr(label, "item") and math.prod(getattr(label, "shape", (0,))) == 1:  # an array, a tensor
            label = label.item()
        if isinstance(label, bool) or not isinstance(label, str | int | np.integer):
            raise _RowError(f"label must be text or a whole number; got {_about(label)}{_label_remedy(label)}")
        if isinstance(label, str) and not label.strip():
            raise _RowError("label is empty")
        if isinstance(label, str) and is_no_value(label):
            raise _RowError(f"label is {label!r}, as a missing value is written: give another word")
        plain: str | int = str.__str__(label) if isinstance(label, str) else int(label)
        self._first = self._first or (number, plain)
        first, other = self._first
        if isinstance(plain, str) != isinstance(other, str):
            raise _RowError(
                f"labels must be all text or all whole numbers; got {plain!r} here and {other!r} in row {first}"
            )
        return plain

    def _content(self, number: int, content: Any) -> Content:
        if hasattr(content, "detach") and hasattr(content, "numpy"):  # a tensor of torch, which is not imported for it
            content = content.detach().cpu().numpy()
        if isinstance(content, dict) and set(content) == {"bytes", "path"}:  # as Hugging Face's data sets have it
            content = content["path"] if content["bytes"] is None else content["bytes"]
        match content:
            case str() | Path():
                return _path(content)
            case bytes() | bytearray():
                return bytes(content)
            case BytesIO():
                return content.getvalue()
            case np.ndarray():
                pixels = _channels_first(content)
                place = pixels.__array_interface__["data"][0], pixels.shape, pixels.strides
                self._check_reuse(number, pixels, place)
                return pixels
            case Image.Image():
                if path := _untouched_file(content):
                    return path
                self._check_reuse(number, content, (id(content),))
                return content
        raise _RowError(
            "content must be the path or the bytes of an image file, a uint8 array or a Pillow image; got"
            f" {_about(content)}"
        )

    def _check_reuse(self, number: int, pixels: NDArray[np.uint8] | Image.Image, place: tuple[Any, ...]) -> None:
        """Whether a generator writes each image over the one before: rows are held until all are there.

        An image that comes again as it was, as where a dataset is oversampled, is none.
        """
        if not self.lazy:
            return
        checksum = _checksum(pixels)
        before, known = self._memory.setdefault(place, (number, checksum))
        if known != checksum:
            raise _RowError(
                f"is the same object as row {before}, whose pixels it has overwritten: yield a copy of it, or return a"
                " list of rows"
            )


def _rows(function: Callable[..., Any], arguments: Mapping[str, Any], name: str, reader: _Reader) -> Iterator[Any]:
    """What `function` yields; what it raises becomes an InputError."""
    try:
        result = function(**arguments)
    except own_code.RAISED as error:
        raise _failure(error, function, name) from error
    if whole := _is_whole(result):
        raise InputError(f"prepare.source: {name}{own_code.at(name)} must return rows; {whole}")
    try:
        rows = iter(_by_number(result) if _is_dataset(result) else result)
    except TypeError:
        raise InputError(
            f"prepare.source: {name}{own_code.at(name)} must return an iterable of rows, such as a list, or yield them;"
            f" got {_about(result)}"
        ) from None
    reader.lazy = rows is result or _is_dataset(result)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except own_code.RAISED as error:
            raise _failure(error, function, name) from error
        yield row


def _is_whole(result: Any) -> str:
    """What to return in the place of `result`, which gives names of columns or splits where rows are wanted."""
    if hasattr(result, "itertuples"):
        return (
            "a table gives the names of its columns: return table[[...]].itertuples(index=False), with the columns of"
            " content and label, and of split and group if there are some, in this order"
        )
    if isinstance(result, Mapping):
        names = ", ".join(map(str, list(result)[:SHOWN]))
        return f"a mapping gives its keys ({names}): yield (content, label, split) for the rows of each"
    return ""


def _is_dataset(result: Any) -> bool:
    """Whether it is a dataset as of PyTorch, which is asked for its items by number and need not end otherwise."""
    return not hasattr(result, "__iter__") and hasattr(result, "__getitem__") and hasattr(result, "__len__")


def _by_number(dataset: Any) -> Iterator[Any]:
    """The items of a dataset; up to an IndexError where it says that it has no length."""
    try:
        count = len(dataset)
    except (NotImplementedError, TypeError):
        yield from dataset
    else:
        for number in range(count):
            yield dataset[number]


def _failure(error: BaseException, function: Callable[..., Any], name: str) -> InputError:
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    return InputError(f"prepare.source: {name} failed with {what}\n  {_place(error, function)}")


def _place(error: BaseException, function: Callable[..., Any]) -> str:
    """The innermost line of the user's own code that led to `error`; that of the function if none was reached."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename).absolute()
        if path.is_file() and not any(path.is_relative_to(folder) for folder in (PODIUM, *LIBRARIES)):
            return f"{_near(path)}, line {frame.lineno}, in {frame.name}: {frame.line}"
    code = getattr(function, "__code__", None)
    return f"{_near(Path(code.co_filename))}, line {code.co_firstlineno}" if code else f"in {function!r}"


def _near(path: Path) -> str:
    """`path` from the current folder if it is below."""
    return shown(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _fields(row: Any) -> dict[str, Any]:
    """The four fields of a row; split and group are None where the row has none."""
    if isinstance(row, tuple | list):
        if not 2 <= len(row) <= len(KEYS):
            raise _RowError(f"must have 2 to 4 values, ({', '.join(KEYS)}); got {len(row)}")
        return dict.fromkeys(KEYS) | dict(zip(KEYS, row, strict=False))
    if not isinstance(row, Mapping):
        raise _RowError(f"must be a tuple ({', '.join(KEYS)}) or a mapping with these keys; got {_about(row)}")
    unknown = [str(key) for key in row if key not in {*KEYS, *CONTENT_KEYS}]
    if unknown:
        raise _RowError(
            f"has unknown keys: {', '.join(unknown)}; known are {', '.join(KEYS)}, path, image and bytes. Yield those"
            f" alone: {{'image': row[...], 'label': row[...]}}"
        )
    contents = [key for key in CONTENT_KEYS if row.get(key) is not None]
    if len(contents) != 1:
        raise _RowError(f"must have one of {', '.join(CONTENT_KEYS)}; got {' and '.join(contents) or 'none'}")
    if "label" not in row:
        raise _RowError("has no label")
    return {key: row.get(key) for key in KEYS} | {"content": row[contents[0]]}


def _split(split: Any) -> str | None:
    if split is None:
        return None
    try:
        if isinstance(split, str):
            return named_split(split)
    except KeyError:
        pass
    raise _RowError(f"split must be train, val, test or None; got {_about(split)}")


def _group(group: Any) -> str | None:
    if group is None:
        return None
    if isinstance(group, bool) or not isinstance(group, str | int | np.integer) or not str(group).strip():
        raise _RowError(f"group must be a name or None; got {_about(group)}")
    return str(group).strip()


def _path(content: str | Path) -> Path:
    if not str(content) or "\0" in str(content):
        raise _RowError(f"path is {'no path' if str(content) else 'empty'}: {str(content)!r}")
    return Path(content)


def _channels_first(array: NDArray[Any]) -> NDArray[np.uint8]:
    """`array` as (C, H, W), a view of it."""
    shape = "x".join(map(str, array.shape))
    if array.dtype != np.uint8:
        raise _RowError(
            f"an array must be of uint8, 0 to 255; got {array.dtype} ({shape}): give the image as it was before it was"
            " scaled, or (255 * it).round() as uint8 where it is from 0 to 1"
        )
    if array.ndim == 2 and array.size:
        return array[None]
    first, last = (array.ndim == 3 and array.size and array.shape[axis] in (1, 3) for axis in (0, 2))
    if first and last:
        raise _RowError(
            f"an array of {shape} can be read as (C, H, W) and as (H, W, C): give (H, W), a Pillow image or image bytes"
        )
    if not first and not last:
        raise _RowError(f"an array must be (H, W), (H, W, C) or (C, H, W) with 1 or 3 channels; got {shape}")
    return array if first else array.transpose(2, 0, 1)


def _checksum(pixels: NDArray[np.uint8] | Image.Image) -> int:
    try:
        return zlib.crc32(pixels.tobytes())
    except Exception:  # damaged; decoding will say so
        return 0


def _untouched_file(image: Image.Image) -> Path | None:
    """The file of an opened image that was not loaded yet. Another image is loaded now: threads may read it then."""
    if isinstance(image, ImageFile.ImageFile) and image.tile and image.filename and not image.tell():
        path = Path(os.fsdecode(image.filename))
        if path.is_file():
            return path
    try:
        image.load()
    except Exception:  # damaged; decoding will say so
        return None
    return None


def _label_remedy(label: Any) -> str:
    """What to give in the place of a wrong label, where that is clear."""
    if isinstance(label, bool | float | np.bool_ | np.floating):
        return ": give int(...) or str(...) of it"
    if len(getattr(label, "shape", ())) == 1:
        return ": a row is one image and its class; of probabilities or a one-hot vector, give int(....argmax())"
    return ""


def _about(value: Any) -> str:
    """The type of a wrong value, and the value if that is short."""
    text = repr(value)
    return f"{type(value).__name__} {text}" if len(text) <= 40 else type(value).__name__
