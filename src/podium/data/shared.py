"""The prepared images on every node of a cluster: through Ray's object store, or a folder that all of them see."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray

from podium.config.params import RuntimeParams
from podium.data.dataset import DatasetInfo, Split, open_split
from podium.data.shards import Shards


def is_shared(runtime: RuntimeParams) -> bool:
    """Whether the project's folder is the same one on every node: a local cluster has only this one."""
    return runtime.shared_folder or not runtime.address


def share(prepared: Path, runtime: RuntimeParams) -> Any:
    """What to hand to a task so that it gets the images: a path, or a list of a reference to the object store.

    In the store they are held once per node, whatever the number of tasks. A reference in a list is not fetched before
    the task asks for it.
    """
    if is_shared(runtime):
        return str(prepared.resolve())
    splits = (_whole(open_split(prepared / name)) for name in ("train", "val"))
    return [ray.put((DatasetInfo.read(prepared), *splits))]


def received(images: Any) -> tuple[DatasetInfo, Split, Split]:
    """The images as a task gets them: their description, train and validation."""
    if isinstance(images, str):
        prepared = Path(images)
        return DatasetInfo.read(prepared), open_split(prepared / "train"), open_split(prepared / "val")
    found: tuple[DatasetInfo, Split, Split] = ray.get(images[0])
    return found


@contextmanager
def read_only_arrays() -> Iterator[None]:
    """Within the block torch does not warn of read-only arrays: the store's pages belong to every task of the node, and
    no training writes to images."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        yield


def _whole(split: Split) -> Split:
    images = split.images
    return replace(split, images=Shards(images.parts) if isinstance(images, Shards) else np.asarray(images))
