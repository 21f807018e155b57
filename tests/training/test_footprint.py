import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tiny
from podium import private_names
from podium.training import device, footprint
from podium.training.batches import Batches
from podium.training.footprint import bytes_of, forget_peak, halved, images_per_pass, parts_of_batch, peak
from podium.training.live_bytes import LiveBytes
from podium.training.loop import TrainingRun
from podium.training.prediction import logits_of
from podium.training.validation import validate

CPU = torch.device("cpu")
SHAPE = (3, 8, 8)


class Wide(nn.Module):
    """A linear layer of `width` units on float images, and a head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Linear(192, width)
        self.head = nn.Linear(width, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(images.float().flatten(1)).relu())
        return logits


def _memory(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    monkeypatch.setattr(device, "room", lambda where: int(size))


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (lambda: torch.zeros(1000), 4000),
        (lambda: [torch.zeros(1000) for _ in range(3)], 12000),
        (lambda: [torch.zeros(1000).sum() for _ in range(3)], 4000 + 4 * 3),  # freed one by one
        (lambda: torch.zeros(1000).view(10, 100)[2:].add_(1), 4000),  # views, and in place
        (lambda: torch.zeros(1000, dtype=torch.float64).float(), 12000),
    ],
)
def test_peak_is_what_was_alive_at_once(work: Any, expected: int) -> None:
    with LiveBytes() as live:
        kept = work()
    assert expected - 8 <= live.peak <= expected + 8
    del kept


def test_bytes_are_told_apart_into_fixed_and_for_each_image() -> None:
    assert bytes_of(lambda count: (torch.zeros(500), torch.zeros(count, 100))) == (2000.0, 400.0)


def test_measuring_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    bytes_of(lambda count: torch.randn(count))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("fast", [None, torch.bfloat16], ids=["float32", "bfloat16"])
def test_step_is_divided_until_it_fits(fast: torch.dtype | None, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Wide(50_000)
    weights = sum(p.nbytes for p in model.parameters())
    parts = []
    for gigabytes in (100, 0.6, 0.3, 0.2, 0.13):
        _memory(monkeypatch, gigabytes * 1e9)
        parts.append(parts_of_batch(model, F.cross_entropy, SHAPE, 512, fast)[0])
    assert weights == pytest.approx(39e6, rel=0.02)
    assert parts[0] == 1
    assert parts == sorted(parts)
    assert 1 < parts[-1] <= 256  # two images at least


def test_parts_are_said_with_what_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    _memory(monkeypatch, 1.0)
    parts, note = parts_of_batch(Wide(10), F.cross_entropy, SHAPE, 8, fast=None)
    assert parts == 4
    assert note.startswith("train.batch_size 8: a step needs about ")
    assert note.endswith("added up over 4 parts; batch normalisation sees 2 images at a time")


def _run(**changes: Any) -> TrainingRun:
    return TrainingRun(tiny.recipe(model__name="cnn", train__epochs=1, **changes), tiny.IMAGES, 0, CPU)


def _data(count: int = 61) -> Batches:
    images, labels = tiny.pixels(count, 1)
    return Batches(torch.from_numpy(images), torch.from_numpy(labels))


@pytest.mark.parametrize("parts", [2, 4, 8, 100])
@pytest.mark.parametrize(
    "changes",
    [{}, {"train__balance": "loss"}, {"train__mixup": 0.4}, {"train__balance": "loss", "train__cutmix": 1.0}],
    ids=["plain", "weighted", "mixed", "weighted and mixed"],
)
def test_batch_in_parts_takes_the_step_of_the_whole_batch(parts: int, changes: dict[str, Any]) -> None:
    whole, divided = (_run(model__dropout=0.0, **changes) for _ in range(2))
    for run in (whole, divided):  # no batch normalisation: that sees each part alone
        torch.manual_seed(0)
        run.model = nn.Sequential(nn.Flatten(), nn.LayerNorm(192), nn.Linear(192, 3))
        run._learning = run.model
        run.optimizer = torch.optim.SGD([{"params": list(run.model.parameters()), "scale": 1.0}])
        run.class_weights = torch.tensor([0.5, 1.0, 2.0]) if "train__balance" in changes else None
        run.loss = run.recipe.train.component("loss").build(run.class_weights)
    divided.parts = parts
    data = _data(16)
    for run in (whole, divided):
        run.train_step(data.images[:].float(), data.labels, 0.1)
    for mine, other in zip(whole.model.parameters(), divided.model.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(whole.loss_sum, divided.loss_sum, rtol=1e-5, atol=0)


def test_forward_pass_takes_as_many_images_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    model, found = Wide(50_000), []
    for gigabytes in (100, 0.3, 0.1, 1e-9):
        _memory(monkeypatch, gigabytes * 1e9)
        found.append(images_per_pass(model, torch.zeros((1, *SHAPE), dtype=torch.uint8), 1024, fast=None))
    assert found[0] == 1024
    assert found[-1] == 1
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == 4


def test_validation_goes_on_with_half_of_the_images_where_the_memory_does_not_suffice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []

    class Small(Wide):
        def forward(self, images: Tensor) -> Tensor:
            sizes.append(len(images))
            if len(images) > 20:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(images)

    model = Small(10)
    before = validate(Wide(10), _data(), fast=None)
    assert validate(model, _data(), fast=None).keys() == before.keys()
    assert sizes[-4:] == [16, 16, 16, 13]
    assert sizes[0] == 61


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("MPS backend out of memory"),
        MemoryError("9 GB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_logits_for_a_temperature_too_go_on_with_half_of_the_images(error: Exception) -> None:
    class Small(Wide):
        def forward(self, images: Tensor) -> Tensor:
            if len(images) > 20:
                raise error
            return super().forward(images)

    logits, labels = logits_of(Small(10), _data(), None)
    expected = logits_of(Wide(10), _data(), None)
    assert logits.shape == expected[0].shape
    assert torch.equal(labels, expected[1])


def test_other_errors_and_a_single_image_that_does_not_fit_are_errors() -> None:
    sizes: list[int] = []

    def work(size: int) -> int:
        sizes.append(size)
        raise torch.OutOfMemoryError("CUDA out of memory") if size < 100 else RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        halved(work, 100, CPU)
    with pytest.raises(torch.OutOfMemoryError):
        halved(work, 8, CPU)
    assert sizes == [100, 8, 4, 2, 1]


@pytest.mark.skipif(not forget_peak(CPU), reason="the kernel does not reset the peak")
def test_peak_of_the_process_begins_again() -> None:
    block = torch.ones(50_000_000)
    high = peak(CPU)
    del block
    forget_peak(CPU)
    assert peak(CPU) < high - 100_000_000
    assert footprint.MARGIN > 1


def test_network_that_learns_whole_is_measured_beside_the_frozen_one(monkeypatch: pytest.MonkeyPatch) -> None:
    _memory(monkeypatch, 0.2e9)
    model = Wide(50_000)
    for parameter in list(model.parameters())[:-1]:
        parameter.requires_grad_(False)
    frozen = parts_of_batch(model, F.cross_entropy, SHAPE, 512, fast=None)[0]
    whole = parts_of_batch(model.requires_grad_(True), F.cross_entropy, SHAPE, 512, fast=None)[0]
    footprint._steps.clear()
    assert whole == parts_of_batch(model, F.cross_entropy, SHAPE, 512, fast=None)[0]
    assert whole != frozen


def test_division_of_a_batch_goes_on_with_the_run() -> None:
    first, second = _run(), _run()
    first.parts = 4
    second.restore(first.state())
    assert second.parts == 4


class Mute(nn.Module):
    """A network whose text does not say how wide it is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Parameter(torch.randn(192, width) / 14)
        self.head = nn.Parameter(torch.randn(width, 3))

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1).float() / 255 @ self.body).relu() @ self.head


def test_own_network_is_measured_anew_for_each_width(monkeypatch: pytest.MonkeyPatch) -> None:
    footprint._steps.clear()
    _memory(monkeypatch, 12e6)
    narrow, wide = (parts_of_batch(Mute(width), F.cross_entropy, SHAPE, 512, fast=None)[0] for width in (8, 2000))
    footprint._steps.clear()
    assert wide == parts_of_batch(Mute(2000), F.cross_entropy, SHAPE, 512, fast=None)[0]
    assert wide > narrow


def test_torch_without_the_private_module_measures_nothing_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(private_names, "_said", set())
    monkeypatch.delitem(sys.modules, "podium.training.live_bytes", raising=False)
    monkeypatch.setitem(sys.modules, "torch.utils._python_dispatch", None)
    found = [bytes_of(lambda count: torch.zeros(count, 1000)) for _ in range(2)]
    assert found == [(0.0, 0.0)] * 2
    assert capsys.readouterr().err.count("the memory of a step is not measured, so no batch is divided") == 1
