"""What near-duplicates were looked for when the same images were divided before.

A weaker look dissolves groups, and then a sealed image may be trained on (see podium.data.splitting). `doctor.near:
auto` would look for less once a set has grown beyond what it looks through, or small images have joined it. DVC deletes
data/prepared before it is made again, so this is remembered beside the decoded images. It never decides how images are
divided, only whether they are: the same images and parameters give the same division wherever they are divided.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from podium.config.params import DoctorParams, PrepareParams
from podium.data.decode import Preprocess
from podium.errors import InputError

WHAT = ("off", "copies", "crops")
"""Each finds all that those before it find."""


def memory(decoded: Path, params: PrepareParams, spec: Preprocess) -> Path:
    """Where it is remembered, below the folder `decoded`: for this source, salt and pixels, with which places go."""
    pixels = [spec.channels, spec.height, spec.width, spec.resize, spec.background]
    facts = json.dumps([params.source, params.arguments, params.salt, *pixels], sort_keys=True)
    return decoded / f"near-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"


def check(path: Path, doctor: DoctorParams, sizes: NDArray[np.int32], what: str) -> None:
    """Raise InputError where `auto` looks for `what` among images of `sizes` (N, 2), and for more according to `path`.

    Where params.yaml itself says so, a sentence is printed.
    """
    before = _read(path)
    if WHAT.index(what) >= WHAT.index(before):
        return
    if doctor.near != "auto":
        print(
            f"doctor.near: {before} were looked for when these images were divided before, {what} are now: an image"
            " that was sealed may be trained on"
        )
        return
    side = float(np.median(sizes.min(1)))
    again = "take the small images out again" if what == "off" else f"write `near: {before}`, which looks as before"
    raise InputError(
        f"doctor.near: auto looked for {before} when these images were divided before, and for {len(sizes):,} images of"
        f" {side:g} pixels (the median of the shorter sides) it would be {what}: groups of near-duplicates would fall"
        f" apart, and an image that was sealed might be trained on. Either {again}, or write `near: {what}` where that"
        " does not matter"
    )


def remember(path: Path, what: str) -> None:
    """Note in `path` that `what` was looked for; what is stronger stays."""
    if WHAT.index(what) > WHAT.index(_read(path)):
        path.write_text(f"{what}\n", encoding="utf-8")


def _read(path: Path) -> str:
    """What is remembered; off where that is nothing."""
    text = path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""
    return text if text in WHAT else "off"
