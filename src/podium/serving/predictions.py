"""Predictions for many image files and folders: in batches, where a bad file does not stop the others."""

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from podium.data.decode import Preprocess
from podium.data.sources.folder import files_below
from podium.data.sources.item import is_meant, shown
from podium.errors import InputError
from podium.registry.loading import LoadedModel

Ask = Callable[[Sequence[bytes]], pd.DataFrame]
BATCH, BATCH_BYTES = 64, 128 * 1024**2
"""Files read at a time, and bytes of several ones, so that memory stays bounded."""
BEGINNINGS = (
    *(b"\x89PNG", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    *(b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51"),
)
"""Of files of a folder that are taken for images whatever their name is."""
NETPBM = re.compile(rb"P[1-6Ff]\s(\s|#[^\r\n]*[\r\n])*[0-9]+\s+(#|[0-9])")
"""PBM, PGM, PPM and PFM: two letters, which a text may begin with too, then width and height; comments before them."""
BMP = re.compile(rb"BM.{12}[\x0c-\x7c]\0{3}", re.DOTALL)
"""After two letters and 12 bytes the size of the second header, 12 to 124."""
LONGEST = 4096
"""Bytes that are read to tell: comments come before the size of a picture."""


@dataclass(frozen=True)
class Prediction:
    """What the model predicts for one file."""

    file: Path
    label: str = ""
    probability: float | None = None
    model: str = ""
    """name/version"""
    probabilities: dict[str, float] = field(default_factory=dict)
    """Of every class, if requested."""
    reason: str = ""
    """Why there is no label though there is a probability: unsure."""
    error: str = ""
    """Why there is no prediction."""


def expand(paths: Sequence[Path], left_out: Callable[[str, str], None] | None = None) -> list[Path]:
    """The files of `paths`, those of folders sorted by name. Raises InputError for a folder without any.

    A folder is walked as a source of images is. What is no image by name or content, and a link that leads out of the
    folder, is left out: `left_out` is called with its name and the reason.
    """
    found: list[Path] = []
    for path in paths:
        if not os.path.isdir(path):  # noqa: PTH112 (Path raises for a name that is too long, or where it may not look)
            found.append(path)
            continue
        files, rejects = files_below(path)
        images = [file for file in files if _is_image(file)]
        others = [(shown(file), "it is no image") for file in sorted({*files} - {*images})]
        others += [(f"{shown(path)}/{one.origin}", one.why) for one in rejects]
        if left_out:
            for name, why in others:
                left_out(name, why)
        if not images:
            raise InputError(f"{shown(path)} holds no image file")
        found += images
    return found


def _is_image(file: Path) -> bool:
    """By its name or its first bytes; one that can't be read is taken, so that this is said of it."""
    if is_meant(file.name):
        return True
    try:
        with file.open("rb") as opened:
            start = opened.read(LONGEST)
    except OSError:
        return True
    if start.startswith(BEGINNINGS) or start[8:12] == b"WEBP" or start[4:8] == b"ftyp":
        return True
    return NETPBM.match(start) is not None or BMP.match(start) is not None


def predict(
    model: LoadedModel, files: Sequence[Path], *, probabilities: bool = False, abstain: bool = False
) -> Iterator[Prediction]:
    """The prediction for each of `files` in order, with a progress bar where it takes long.

    With `abstain` the model may be unsure. Raises InputError where it has no threshold for that.
    """
    model.check_options(abstain=abstain)
    ask = partial(model.predict, probabilities=probabilities, abstain=abstain)
    bar = tqdm(total=len(files), desc="predict", unit=" images", delay=2, leave=False, disable=None)
    with bar:
        for batch in _batches(files):
            yield from _predict_batch(ask, batch)
            bar.update(len(batch))


def _batches(files: Sequence[Path]) -> Iterator[list[Path]]:
    batch, room = list[Path](), BATCH_BYTES
    for file in files:
        try:
            size = min(file.stat().st_size, Preprocess.max_bytes)  # of a larger one nothing is read
        except OSError:
            size = 0
        if batch and (len(batch) == BATCH or size > room):
            yield batch
            batch, room = [], BATCH_BYTES
        batch.append(file)
        room -= size
    if batch:
        yield batch


def _predict_batch(ask: Ask, files: Sequence[Path]) -> Iterator[Prediction]:
    contents = [_read(file) for file in files]
    whole = [(file, data) for file, data in zip(files, contents, strict=True) if isinstance(data, bytes)]
    try:
        found = iter(_predict_all(ask, whole))
    except InputError:  # one of them is bad: each by itself tells which
        found = iter([_predict_one(ask, file, data) for file, data in whole])
    for file, data in zip(files, contents, strict=True):
        yield next(found) if isinstance(data, bytes) else Prediction(file, error=str(data))


def _read(file: Path) -> bytes | InputError:
    try:
        if file.exists() and not file.is_file():
            return InputError(f"it is neither a file nor a folder, but of mode {stat.filemode(file.stat().st_mode)}")
        if file.stat().st_size > Preprocess.max_bytes:
            return InputError(f"it has {file.stat().st_size:,} bytes; at most {Preprocess.max_bytes:,} are taken")
        return file.read_bytes()
    except OSError as error:
        return InputError(f"it can't be read: {error.strerror}")


def _predict_all(ask: Ask, files: Sequence[tuple[Path, bytes]]) -> list[Prediction]:
    rows = ask([data for _, data in files]).to_dict("records")
    return [
        Prediction(
            file,
            row["label"] or "",
            row["probability"],
            row["model"],
            row.get("probabilities", {}),
            row.get("reason") or "",
        )
        for (file, _), row in zip(files, rows, strict=True)
    ]


def _predict_one(ask: Ask, file: Path, data: bytes) -> Prediction:
    try:
        return _predict_all(ask, [(file, data)])[0]
    except InputError as error:
        return Prediction(file, error=str(error).removeprefix("image 1 of 1: "))
