from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny
from podium.data.dataset import Split, open_split
from podium.data.shards import Shards
from podium.training import batches as module
from podium.training import streaming
from podium.training.batches import Batches, bounds, fits
from podium.training.streaming import Mapped, Share, Transfer

CPU = torch.device("cpu")


@pytest.fixture
def splits(tmp_path: Path) -> list[Split]:
    folder = tiny.prepare(tmp_path)
    return [open_split(folder / "train"), open_split(folder / "val")]


def _joined(splits: list[Split]) -> Split:
    """One split of all images."""
    images, labels = (np.concatenate([getattr(s, name) for s in splits]) for name in ("images", "labels"))
    return Split("all", images, labels, splits[0].classes, "")


@pytest.fixture
def _no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """No image fits the device."""
    monkeypatch.setattr(module, "fits", lambda size, device, sharers: False)


def test_batches_of_several_splits_are_one_after_the_other(splits: list[Split]) -> None:
    batches = Batches.of(splits, CPU)
    assert len(batches) == 80
    assert np.array_equal(batches.images[60:80].numpy(), splits[1].images)
    assert np.array_equal(batches.labels.numpy(), np.concatenate([split.labels for split in splits]))


def test_batches_of_one_split_share_its_memory(splits: list[Split]) -> None:
    batches = Batches.of(splits[:1], CPU)
    assert isinstance(batches.images, Tensor)
    assert isinstance(splits[0].images, np.ndarray)
    assert batches.images.data_ptr() == splits[0].images.__array_interface__["data"][0]


@pytest.mark.usefixtures("_no_room")
@pytest.mark.parametrize("rows", [slice(0, 80), slice(55, 65), slice(70, 200), [79, 0, 60, 59], [3], []], ids=str)
def test_images_that_do_not_fit_are_read_by_rows_from_their_maps(splits: list[Split], rows: Any) -> None:
    wanted = rows if isinstance(rows, slice) else torch.tensor(rows, dtype=torch.int64)
    for parts in (splits, [_joined(splits)]):
        batches = Batches.of(parts, CPU)
        assert isinstance(batches.images, Mapped)
        assert len(batches.images) == len(batches) == 80
        assert torch.equal(batches.images[wanted], torch.from_numpy(_joined(splits).images)[wanted])


@pytest.mark.parametrize("first", [0, 1, 3])
@pytest.mark.parametrize("mapped", [False, True])
def test_feed_gives_each_step_its_rows_whether_the_images_fit_or_not(
    splits: list[Split], monkeypatch: pytest.MonkeyPatch, mapped: bool, first: int
) -> None:
    monkeypatch.setattr(module, "fits", lambda size, device, sharers: not mapped)
    batches = Batches.of(splits, CPU)
    order = torch.randperm(80)[:70]
    together = torch.from_numpy(np.concatenate([split.images for split in splits]))
    steps = list(batches.feed(order, 20, first))
    assert [len(labels) for _, labels in steps] == [20, 20, 20, 10][first:]
    for (images, labels), rows in zip(steps, torch.split(order, 20)[first:], strict=True):
        assert torch.equal(images, together[rows])
        assert torch.equal(labels, batches.labels[rows])


@pytest.mark.usefixtures("_no_room")
def test_feed_from_maps_reads_one_batch_ahead_and_no_more(splits: list[Split], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    get = Mapped.gather

    def remember(images: Mapped, rows: Tensor) -> Tensor:
        read.append(int(rows[0]))
        return get(images, rows)

    monkeypatch.setattr(Mapped, "gather", remember)
    feed = Batches.of(splits, CPU).feed(torch.arange(80), 20)
    next(feed)
    feed.close()  # ends the thread, which may not have begun with the next one
    assert read in ([0], [0, 20])


@pytest.mark.usefixtures("_no_room")
def test_feed_from_a_map_that_breaks_raises_where_the_batch_is_needed(
    splits: list[Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(images: Mapped, rows: Tensor) -> Tensor:
        raise OSError("the disk is gone")

    monkeypatch.setattr(Mapped, "gather", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        next(Batches.of(splits, CPU).feed(torch.arange(80), 20))


@pytest.mark.parametrize(
    ("size", "device", "sharers", "expected"),
    [
        (500, "cpu", 1, True),
        (501, "cpu", 1, False),
        (250, "cpu", 2, True),
        (251, "cpu", 2, False),
        (500, "cuda", 8, True),  # each process has a GPU of its own
        (501, "cuda", 8, False),
    ],
)
def test_images_fit_while_all_copies_take_half_of_the_memory(
    monkeypatch: pytest.MonkeyPatch, size: int, device: str, sharers: int, expected: bool
) -> None:
    monkeypatch.setattr(module, "memory", lambda device: 1000)
    assert fits(size, torch.device(device), sharers) == expected


def test_processes_that_share_the_memory_read_from_the_maps_what_one_alone_would_hold(
    splits: list[Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "memory", lambda device: 2 * sum(split.images.nbytes for split in splits))
    alone, shared = Batches.of(splits, CPU), Batches.of(splits, CPU, sharers=2)
    assert isinstance(alone.images, Tensor)
    assert isinstance(shared.images, Mapped)
    assert torch.equal(shared.images[:80], alone.images)
    assert torch.equal(shared.labels, alone.labels)


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [
        (60, 20, [0, 20, 40, 60]),
        (70, 20, [0, 20, 40, 60, 70]),
        (61, 20, [0, 20, 40, 61]),  # no step of one image
        (21, 20, [0, 21]),
        (20, 20, [0, 20]),
        (5, 20, [0, 5]),
        (1, 20, [0, 1]),
        (3, 1, [0, 1, 2, 3]),
        (3, 2, [0, 3]),
    ],
)
def test_steps_of_an_epoch(count: int, size: int, expected: list[int]) -> None:
    assert bounds(count, size) == expected


@pytest.mark.usefixtures("_no_room")
def test_several_batches_are_read_ahead_for_a_gpu_and_none_is_lost(
    splits: list[Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "AHEAD", {"cpu": 3})
    read: list[int] = []
    get = Mapped.gather

    def remember(images: Mapped, rows: Tensor) -> Tensor:
        read.append(int(rows[0]))
        return get(images, rows)

    monkeypatch.setattr(Mapped, "gather", remember)
    feed = Batches.of(splits, CPU).feed(torch.arange(80), 10)
    first = next(feed)
    assert torch.equal(first[0], torch.from_numpy(splits[0].images[:10]))
    rest = list(feed)
    assert [len(labels) for _, labels in rest] == [10] * 7
    assert read == list(range(0, 80, 10))


class _Streams:
    """What torch.cuda is asked for, in order; nothing of it needs a GPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: _Stream("copying", self.log))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: _Stream("computing", self.log))
        monkeypatch.setattr(torch.cuda, "stream", self._within)
        monkeypatch.setattr(Transfer, "_copy", self._copy)

    @contextmanager
    def _within(self, stream: "_Stream") -> Iterator[None]:
        self.log.append(f"within {stream.name}")
        yield
        self.log.append(f"out of {stream.name}")

    def _copy(self, images: Tensor) -> Any:
        self.log.append("copy")
        return SimpleNamespace(device="cuda", record_stream=lambda stream: self.log.append(f"used by {stream.name}"))


class _Stream:
    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def record_event(self) -> str:
        self.log.append(f"event in {self.name}")
        return "event"

    def wait_event(self, event: str) -> None:
        self.log.append(f"{self.name} waits for {event}")


def test_copy_to_a_gpu_has_a_stream_of_its_own_that_only_the_batchs_user_waits_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streams = _Streams(monkeypatch)
    sent = Transfer(torch.device("cuda")).send(torch.zeros(1))
    assert streams.log == ["within copying", "copy", "event in copying", "out of copying"]
    sent.get()
    assert streams.log[4:] == ["computing waits for event", "used by computing"]


@pytest.mark.parametrize(("world", "count"), [(1, 20), (2, 20), (3, 20), (3, 2), (4, 1)])
def test_rank_reads_its_own_rows_of_each_batch_and_the_one_before_each(
    splits: list[Split], monkeypatch: pytest.MonkeyPatch, world: int, count: int
) -> None:
    monkeypatch.setattr(module, "fits", lambda size, device, sharers: False)
    order = torch.randperm(80)
    whole = list(Batches.of(splits, CPU).feed(order, count))
    for rank in range(world):
        own = list(replace(Batches.of(splits, CPU), share=Share(rank, world)).feed(order, count))
        for (images, labels), (mine, all_labels) in zip(whole, own, strict=True):
            here = streaming.share_of(rank, world, len(labels))
            assert torch.equal(mine[here], images[here])
            assert torch.equal(mine.roll(1, 0)[here], images.roll(1, 0)[here])
            assert torch.equal(labels, all_labels)
            assert int(mine.flatten(1).any(1).sum()) <= here.stop - here.start + 1


def _in_files(split: Split, *ends: int) -> Split:
    """The same split, its images in several files."""
    return replace(split, images=Shards(np.split(np.asarray(split.images), ends)))


@pytest.mark.parametrize("fit", [True, False])
@pytest.mark.parametrize("size", [1, 7, 80])
def test_images_in_several_files_are_fed_as_those_in_one(
    splits: list[Split], monkeypatch: pytest.MonkeyPatch, size: int, fit: bool
) -> None:
    monkeypatch.setattr(module, "fits", lambda size, device, sharers: fit)
    several = Batches.of([_in_files(splits[0], 3, 30, 59), _in_files(splits[1], 19)], CPU)
    assert isinstance(several.images, Mapped)
    assert several.images.fits is fit
    one, order = Batches.of([_joined(splits)], CPU), torch.randperm(80)
    for (images, labels), (same, known) in zip(several.feed(order, size), one.feed(order, size), strict=True):
        assert torch.equal(images, same)
        assert torch.equal(labels, known)
    assert torch.equal(several.taken(order).images[:], one.taken(order).images[:])


def test_images_in_several_files_are_one_tensor_on_a_device_that_they_fit(splits: list[Split]) -> None:
    batches = Batches.of([_in_files(splits[0], 3, 30), splits[1]], torch.device("meta"))
    assert isinstance(batches.images, Tensor)
    assert batches.images.shape == (80, *splits[0].shape)
