"""Predictions for many image files and folders: in batches, where a bad file does not stop the others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from podium.data.decode import Preprocess
from podium.errors import InputError
from podium.registry.loading import LoadedModel

BATCH = 64
"""Files read at a time, so that memory stays bounded."""
SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".jp2", ".avif"))
"""Files of a folder that are read; a file that is named is read whatever its suffix is."""


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
    error: str = ""
    """Why there is no prediction."""


def expand(paths: Sequence[Path]) -> list[Path]:
    """The files of `paths`, those of folders sorted by name. Raises InputError for a folder without any.

    A link within a folder that leads out of it is left out.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        home = path.resolve()
        files = (file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES and file.is_file())
        inside = [file for file in files if file.resolve().is_relative_to(home)]
        if not inside:
            raise InputError(f"{path} holds no image file ({' '.join(sorted(SUFFIXES))})")
        found += inside
    return found


def predict(model: LoadedModel, files: Sequence[Path], *, probabilities: bool = False) -> Iterator[Prediction]:
    """The prediction for each of `files` in order, with a progress bar where it takes long."""
    bar = tqdm(total=len(files), desc="predict", unit=" images", delay=2, leave=False, disable=None)
    with bar:
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            yield from _predict_batch(model, batch, probabilities)
            bar.update(len(batch))


def _predict_batch(model: LoadedModel, files: Sequence[Path], probabilities: bool) -> Iterator[Prediction]:
    contents = [_read(file) for file in files]
    whole = [(file, data) for file, data in zip(files, contents, strict=True) if isinstance(data, bytes)]
    try:
        found = iter(_predict_all(model, whole, probabilities))
    except InputError:  # one of them is bad: each by itself tells which
        found = iter([_predict_one(model, file, data, probabilities) for file, data in whole])
    for file, data in zip(files, contents, strict=True):
        yield next(found) if isinstance(data, bytes) else Prediction(file, error=str(data))


def _read(file: Path) -> bytes | InputError:
    try:
        if file.stat().st_size > Preprocess.max_bytes:
            return InputError(f"it has {file.stat().st_size:,} bytes; at most {Preprocess.max_bytes:,} are taken")
        return file.read_bytes()
    except OSError as error:
        return InputError(f"it can't be read: {error.strerror}")


def _predict_all(model: LoadedModel, files: Sequence[tuple[Path, bytes]], probabilities: bool) -> list[Prediction]:
    rows = model.predict([data for _, data in files], probabilities=probabilities).to_dict("records")
    return [
        Prediction(file, row["label"], row["probability"], row["model"], row.get("probabilities", {}))
        for (file, _), row in zip(files, rows, strict=True)
    ]


def _predict_one(model: LoadedModel, file: Path, data: bytes, probabilities: bool) -> Prediction:
    try:
        return _predict_all(model, [(file, data)], probabilities)[0]
    except InputError as error:
        return Prediction(file, error=str(error).removeprefix("image 1 of 1: "))
