"""Images deeper than 8 bits, from files through prepare and registration to serving: one range, the same pixels."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import photos
import registered
from podium.config.params import DoctorParams, PrepareParams
from podium.data.dataset import DatasetInfo
from podium.registry import versions
from podium.stages.prepare import prepare
from registered import NAME, Project

RANGES: list[tuple[str, Callable[[NDArray[np.float64]], NDArray[np.generic]], tuple[float, float]]] = [
    ("PNG", lambda grey: np.rint(grey * 4095).astype(np.uint16), (0.0, 4095.0)),
    ("TIFF", lambda grey: grey.astype(np.float32) * 3.5, (0.0, 3.5)),
    ("TIFF", lambda grey: np.rint(grey * 3000 - 1000).astype(np.int32), (-1000.0, 2000.0)),
    ("white is zero", lambda grey: np.rint((1 - grey) * 4095).astype(np.uint16), (0.0, 4095.0)),
]


def _written(folder: Path, kind: str, values_of: Callable[[NDArray[np.float64]], NDArray[np.generic]]) -> list[bytes]:
    """24 photographs of two classes, their grey values as `values_of` gives them of 0 to 1; the files' bytes."""
    files = []
    for number, tile in enumerate(photos.tiles()[:24]):
        grey = np.asarray(tile.resize((8, 8)).convert("L"), np.float64) / 255
        grey[0, :2] = 0, 1
        data = photos.encoded(Image.fromarray(values_of(grey)), "PNG" if kind == "PNG" else "TIFF")
        if kind == "white is zero":
            at = data.find(b"\x06\x01\x03\x00\x01\x00\x00\x00")  # PhotometricInterpretation
            data = data[: at + 8] + b"\0" + data[at + 9 :]
        path = folder / ("cat", "dog")[number % 2] / f"{number}.img"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        files.append(data)
    return files


def _prepared(tmp_path: Path, folder: Path, **fields: object) -> tuple[DatasetInfo, NDArray[np.uint8]]:
    source = {"source": f"folder:{folder}", "root": str(folder), "channels": 3, "size": 8, "min_per_class": 1}
    params = PrepareParams.model_validate(source | fields)
    out = [tmp_path / name for name in ("prepared", "sealed", ".decoded")]
    info = prepare(params, DoctorParams(near="off"), *out)
    parts = [out[0] / "train", out[0] / "val", out[1] / "test"]
    return info, np.concatenate([np.load(part / "images.npy") for part in parts])


def _sums(images: NDArray[np.uint8]) -> list[int]:
    return sorted(zlib.crc32(image.tobytes()) for image in images)


@pytest.mark.parametrize(("kind", "values_of", "ends"), RANGES, ids=["12 bits", "floats", "int32", "white is zero"])
def test_range_of_the_set_is_in_what_is_prepared(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    values_of: Callable[[NDArray[np.float64]], NDArray[np.generic]],
    ends: tuple[float, float],
) -> None:
    _written(tmp_path / "raw", kind, values_of)
    info, images = _prepared(tmp_path, tmp_path / "raw")

    assert tuple(info.preprocess["range"]) == ends
    assert (images.min(), images.max()) == (0, 255)
    low, high = (f"{end:g}" for end in ends)
    assert f"{low} to {high} became black to white (prepare.range)" in capsys.readouterr().out
    shades = np.array([np.asarray(tile.resize((8, 8)).convert("L")) for tile in photos.tiles()[:24]]).astype(int)
    shades[:, 0, :2] = 0, 255
    found = images[np.argsort(images.reshape(24, -1).sum(1)), 0].astype(int)
    assert np.abs(found - shades[np.argsort(shades.reshape(24, -1).sum(1))]).mean() < 3  # black stays black


@pytest.mark.slow
@pytest.mark.parametrize("case", RANGES[::3], ids=["12 bits", "white is zero"])
def test_served_model_gives_the_pixels_that_were_prepared(
    fresh: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, Callable[..., NDArray[np.generic]], object],
) -> None:
    monkeypatch.chdir(fresh.folder)
    files = _written(tmp_path / "raw", *case[:2])
    info, images = _prepared(tmp_path / "other", tmp_path / "raw")
    model = fresh.path("retrained") / "model.json"
    about = json.loads(model.read_text(encoding="utf-8"))
    model.write_text(json.dumps(about | {"preprocess": info.preprocess}), encoding="utf-8")

    registered.register(fresh)
    loaded = versions.load(fresh.tracking, versions.find(fresh.tracking, NAME, 1))
    inside = loaded.model.unwrap_python_model()  # type: ignore[no-untyped-call]

    assert _sums(np.stack([inside.decode(file, inside.spec) for file in files])) == _sums(images)
    assert len(loaded.predict(files)) == 24
