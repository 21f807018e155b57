"""Pairs of answers for tests: two versions of a model of cats and dogs."""

import hashlib
import io
from pathlib import Path

from PIL import Image

from podium.shadow.pair_store import Pair, PairStore, Reply, Versions

MODEL = "pets"
DIGESTS = "a" * 64, "b" * 64


def versions(champion: int, challenger: int, classes: tuple[str, ...], model: str = MODEL) -> Versions:
    return Versions(model, champion, challenger, classes, DIGESTS)


VERSIONS = versions(3, 4, ("cat", "dog", "=owl"))


def digest(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def reply(label: str | None, seconds: float = 0.004) -> Reply:
    return Reply(label, {label: 0.75, "other": 0.25} if label else {}, seconds)


def pair(number: int, old: str | None, new: str | None, request: str = "", row: int = 1, count: int = 1) -> Pair:
    """An image that nothing else is, unless `number` is given twice."""
    buffer = io.BytesIO()
    Image.new("L", (4, 4), number % 256).save(buffer, "PNG")
    name = request or f"r{number}"
    image = buffer.getvalue() if old != new else None
    return Pair(name, row, count, digest(number), reply(old), reply(new, 0.008), canary=False, image=image)


def kept(folder: Path, *pairs: Pair, versions: Versions = VERSIONS, now: float | None = None) -> PairStore:
    """The store of `folder` with these pairs in it."""
    store = PairStore(folder, 50, 30)
    store.add(versions, pairs, now=now)
    return store
