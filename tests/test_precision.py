from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, get_args

import pytest
import torch
from torch import nn

import tiny
from podium.errors import InputError
from podium.models.build import build_model
from podium.training import checkpoint
from podium.training import precision as module
from podium.training.batches import Batches
from podium.training.loop import TrainingRun
from podium.training.trained import digest_of

SHAPE = tiny.IMAGES.shape


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.setattr(module, "_measured", {})
    return build_model(tiny.recipe(model__dropout=0.5).model, tiny.IMAGES)


@pytest.mark.parametrize(
    ("wanted", "half", "expected"),
    [
        ("float32", 0.001, False),
        ("auto", 0.001, False),  # on a CPU
        ("bfloat16", 0.001, True),
        ("bfloat16", 0.002, False),
        ("bfloat16", 0.003, False),
    ],
)
def test_bfloat16_on_a_cpu_is_asked_for_and_faster(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch, wanted: Any, half: float, expected: bool
) -> None:
    monkeypatch.setattr(module, "_probe", lambda model, shape, kind: (0.002, half))
    fast, note = module.choose_precision(wanted, model, SHAPE, 1000)
    assert fast is (torch.bfloat16 if expected else None)
    assert note.startswith("train.precision: bfloat16 is not faster") == (wanted == "bfloat16" and not expected)


def test_probe_takes_at_most_so_many_images_and_once_a_network(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, ...]] = []

    def probe(model: nn.Module, shape: tuple[int, ...], half: torch.dtype) -> tuple[float, float]:
        asked.append(shape)
        return 2.0, 1.0

    monkeypatch.setattr(module, "_probe", probe)
    for batch_size in (1000, 1000, 16):
        assert module.choose_precision("bfloat16", model, SHAPE, batch_size) == (torch.bfloat16, "")
    assert asked == [(module.PROBED, *SHAPE), (16, *SHAPE)]


def test_probe_leaves_network_and_random_numbers_as_they_were(model: nn.Module) -> None:
    drawn = torch.get_rng_state()
    before = [p.detach().clone() for p in model.parameters()]
    module.choose_precision("bfloat16", model, SHAPE, 4)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


CUDA = torch.device("cuda")


def _a_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], *, rocm: bool = False) -> None:
    """torch as it is on a machine with a GPU of this compute capability, as far as a precision depends on it."""
    monkeypatch.setattr(torch.version, "hip", "7.0" if rocm else None)
    monkeypatch.setattr(torch.cuda, "device", lambda where: nullcontext())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda where: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda where: "GPU")
    native = rocm or capability >= (8, 0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native or including_emulation)


@pytest.mark.parametrize(
    ("capability", "rocm", "auto", "refused"),
    [
        ((6, 1), False, "float32", {"tf32", "bfloat16"}),
        ((7, 0), False, "float16", {"tf32", "bfloat16"}),
        ((7, 5), False, "float16", {"tf32", "bfloat16"}),
        ((8, 0), False, "bfloat16", set()),
        ((9, 0), False, "bfloat16", set()),
        ((12, 0), False, "bfloat16", set()),
        ((9, 4), True, "bfloat16", {"tf32"}),
    ],
    ids=["Pascal", "Volta", "Turing", "Ampere", "Hopper", "Blackwell", "ROCm"],
)
def test_precision_of_a_gpu_is_one_that_it_has_natively(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], rocm: bool, auto: str, refused: set[str]
) -> None:
    _a_gpu(monkeypatch, capability, rocm=rocm)
    assert module.auto(CUDA) == auto
    for wanted in get_args(module.Wanted):
        if wanted not in refused:
            module.check(wanted, CUDA)
            continue
        with pytest.raises(InputError, match=rf"train\.precision: .* got {wanted}, and .*\. auto takes {auto} here"):
            module.check(wanted, CUDA)


@pytest.mark.parametrize(("macos", "refused"), [(13, {"tf32", "float16", "bfloat16"}), (14, {"tf32", "float16"})])
def test_precision_of_mps_is_float32_and_bfloat16_from_macos_14(
    monkeypatch: pytest.MonkeyPatch, macos: int, refused: set[str]
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: macos >= major)
    mps = torch.device("mps")
    assert module.auto(mps) == "float32"
    for wanted in get_args(module.Wanted):
        with pytest.raises(InputError, match=f"got {wanted}") if wanted in refused else nullcontext():
            module.check(wanted, mps)


def test_tf32_on_a_cpu_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(InputError, match=r"got tf32, and tf32 is of NVIDIA's CUDA devices; this is cpu\. auto takes"):
        TrainingRun(tiny.recipe(train__precision="tf32"), tiny.IMAGES, 0, torch.device("cpu"))


@pytest.fixture
def _float16_pays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two on a busy machine take ten times as long
    monkeypatch.setattr(module, "_measured", {})
    monkeypatch.setattr(module, "_probe", lambda model, shape, half: (0.002, 0.001))
    yield
    torch.set_num_threads(threads)


def _half(**changes: Any) -> TrainingRun:
    recipe = tiny.recipe(train__precision="float16", train__epochs=2, **changes)
    return TrainingRun(recipe, tiny.IMAGES, 0, torch.device("cpu"))


def _data() -> Batches:
    images, labels = tiny.pixels(60, 1)
    return Batches(torch.from_numpy(images), torch.from_numpy(labels))


@pytest.mark.usefixtures("_float16_pays")
@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_float16_trains_as_float32_does_with_every_optimizer(optimizer: str) -> None:
    half = _half(train__optimizer=optimizer)
    single = TrainingRun(tiny.recipe(train__epochs=2, train__optimizer=optimizer), tiny.IMAGES, 0, torch.device("cpu"))
    losses = [[epoch["train_loss"] for epoch in run.train(_data(), None)] for run in (half, single)]
    assert half.fast is torch.float16
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


@pytest.mark.usefixtures("_float16_pays")
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_step_whose_gradients_overflow_is_skipped_counted_and_halves_the_scale(optimizer: str) -> None:
    run, data = _half(train__optimizer=optimizer), _data()
    before = digest_of({n: p.detach() for n, p in run.model.named_parameters()})
    weight = next(p for p in run.model.parameters() if p.dim() == 4)
    hook = weight.register_hook(lambda gradient: gradient + float("inf"))  # type: ignore[no-untyped-call]
    run.model.train()
    run.train_step(data.images[:16], data.labels[:16], 1e-2)
    assert digest_of({n: p.detach() for n, p in run.model.named_parameters()}) == before
    assert (run.loss_scale.skipped, run.loss_scale.state()["scaler"]["scale"]) == (1, 2.0**15)
    hook.remove()
    run.train_step(data.images[:16], data.labels[:16], 1e-2)
    assert digest_of({n: p.detach() for n, p in run.model.named_parameters()}) != before
    assert run.loss_scale.skipped == 1


@pytest.mark.usefixtures("_float16_pays")
def test_float16_resumes_bit_for_bit_with_its_scale_and_says_what_was_skipped() -> None:
    class Enough(Exception):  # noqa: N818
        pass

    saved: list[bytes] = []

    def save(run: TrainingRun) -> None:
        if (run.epoch, run.step) == (1, 2):
            saved.append(checkpoint.dumps("x", run.state()))
            raise Enough

    def begun() -> TrainingRun:
        run = _half()
        run.loss_scale.restore({"scaler": _scale(2.0**30), "skipped": 0})  # overflows until it is low enough
        return run

    whole, part, rest = begun(), begun(), _half()
    whole.train(_data(), None)
    with pytest.raises(Enough):
        part.train(_data(), None, save)
    rest.restore(checkpoint.loads(saved[0], "x"))
    rest.train(_data(), None)
    assert digest_of(rest.model.state_dict()) == digest_of(whole.model.state_dict())
    assert rest.loss_scale.state() == whole.loss_scale.state()
    skipped = [epoch["skipped_steps"] for epoch in whole.history]
    assert skipped == [epoch["skipped_steps"] for epoch in rest.history]
    assert sum(skipped) == whole.loss_scale.skipped > 0


def _scale(value: float) -> dict[str, Any]:
    scaler = torch.amp.GradScaler("cpu", init_scale=value)
    return scaler.state_dict()
