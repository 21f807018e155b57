"""Images a second of Podium's training loop beside the limit, a DataLoader loop and Lightning's Trainer.

The limit is the bare step (forward, loss, backward, fused optimizer) again and again on one batch that is there
already. Every contender trains the same network on the digits; they take turns in one process, a round each.
Also: GFLOP/s that the step achieves, beside the peak of this machine's own matrix product.
"""

import itertools
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from measuring import Project, parser, publish, shown, spread, table
from podium import components
from podium.config.recipe import Recipe
from podium.training.batches import Batches
from podium.training.loop import TrainingRun
from podium.training.optimization import build_optimizer
from podium.training.precision import autocast
from podium.tuning.work import TrialData

Contender = Callable[[int], int]
"""Trains at least so many images, and returns how many."""
SIZES = (16, 128)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=7, help="turns of each contender (default 7)")
    options.add_argument("--seconds", type=float, default=0.4, help="seconds of a turn (default 0.4)")
    options.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: of the process; on a busy machine"
    )
    options.add_argument("--threads", type=int, default=1, help="intra-op threads, as runtime.threads (default 1)")
    arguments = options.parse_args()
    rounds, seconds = (2, 0.1) if arguments.quick else (arguments.rounds, arguments.seconds)
    torch.set_num_threads(arguments.threads)
    clock = time.perf_counter if arguments.clock == "wall" else time.process_time
    with tempfile.TemporaryDirectory() as folder:
        project = Project.make(Path(folder))
        material = TrialData.load(project.prepared, torch.device("cpu"))
        peaks = {name: peak(kind) for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
        cases = [
            measure(material, model, size, precision, rounds, seconds, clock)
            for model, size, precision in itertools.product(own_networks(), SIZES, peaks)
        ]
    rows = [row(case, peaks) for case in cases]
    head = ["network", "batch", "precision", "limit images/s", "Podium / limit", "Lightning / limit",
            "DataLoader / limit", "GFLOP/s", "of peak"]  # fmt: skip
    content = {"threads": arguments.threads, "clock": arguments.clock, "peak_gflops": peaks, "cases": cases}
    publish("train_step", table(head, rows), content, draw(cases), quick=arguments.quick)


def own_networks() -> list[str]:
    """Podium's own networks, without those of libraries."""
    return [name for name in components.declared("network") if not name.endswith(":")]


def measure(
    material: TrialData,
    model: str,
    size: int,
    precision: str,
    rounds: int,
    seconds: float,
    clock: Callable[[], float],
) -> dict[str, Any]:
    """Images a second of each contender, in turn."""
    recipe = Recipe().replace({"model.name": model, "train.batch_size": size, "train.epochs": 10_000})
    fast = torch.bfloat16 if precision == "bf16" else None
    contenders: dict[str, Contender] = {
        "limit": limit(recipe, material, fast),
        "podium": podium(recipe, material, fast),
        "dataloader": dataloader(recipe, material, fast),
    }
    if (trainer := lightning(recipe, material, fast)) is not None:
        contenders["lightning"] = trainer
    found: dict[str, list[float]] = {name: [] for name in contenders}
    counts = {name: share(contender, seconds) for name, contender in contenders.items()}
    for _ in range(rounds):
        for name, contender in contenders.items():
            started = clock()
            images = contender(counts[name])
            found[name].append(images / (clock() - started))
    ratios = {
        name: [ours / best for ours, best in zip(values, found["limit"], strict=True)] for name, values in found.items()
    }
    return {
        "model": model,
        "batch": size,
        "precision": precision,
        "images_per_second": {name: spread(values, 0) for name, values in found.items()},
        "of_limit": {name: spread(values) for name, values in ratios.items()},
        "ratios": ratios,
        "flop_per_image": flop(recipe, material) / size,
    }


def share(contender: Contender, seconds: float) -> int:
    """Images that take about `seconds`; also the warm-up."""
    contender(2000)
    started = time.perf_counter()
    images = contender(4000)
    return int(seconds / (time.perf_counter() - started) * images)


def step(run: TrainingRun, images: torch.Tensor, labels: torch.Tensor) -> None:
    """What no training of this network can do without."""
    with autocast(run.device, run.fast):
        loss = F.cross_entropy(run.model(images), labels, label_smoothing=run.recipe.flat()["train.label_smoothing"])
    loss.backward()  # type: ignore[no-untyped-call]
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)


def open_run(recipe: Recipe, material: TrialData, fast: torch.dtype | None) -> TrainingRun:
    run = TrainingRun(recipe, material.images, 0, material.device)
    run.fast = fast
    return run


def limit(recipe: Recipe, material: TrialData, fast: torch.dtype | None) -> Contender:
    """The bare step on one batch."""
    run, size = open_run(recipe, material, fast), recipe.train.batch_size
    images, labels = material.train.images[:size].clone(), material.train.labels[:size].clone()
    run.model.train()

    def train(count: int) -> int:
        steps = max(1, count // size)
        for _ in range(steps):
            step(run, images, labels)
        return steps * size

    return train


class EnoughError(Exception):
    """The turn is over."""


def podium(recipe: Recipe, material: TrialData, fast: torch.dtype | None) -> Contender:
    """Podium's own loop over whole batches of the data set, with the search's own hook after each step."""
    run, size = open_run(recipe, material, fast), recipe.train.batch_size
    whole = len(material.train) // size * size
    train_on = Batches(material.train.images[:whole], material.train.labels[:whole])

    def train(count: int) -> int:
        left = max(1, count // size)
        done = 0

        def on_step(run: TrainingRun) -> None:
            nonlocal done
            done += 1
            if done >= left:
                raise EnoughError

        try:
            run.train(train_on, None, on_step)
        except EnoughError:
            return done * size
        raise AssertionError("the recipe has too few epochs")

    return train


def dataloader(recipe: Recipe, material: TrialData, fast: torch.dtype | None) -> Contender:
    """The loop of the tutorials: float images in a TensorDataset, a DataLoader that shuffles."""
    run, size = open_run(recipe, material, fast), recipe.train.batch_size
    loader = DataLoader(dataset(material), batch_size=size, shuffle=True, drop_last=True)
    run.model.train()

    def train(count: int) -> int:
        done = 0
        while True:
            for images, labels in loader:
                step(run, images, labels)
                done += size
                if done >= count:
                    return done

    return train


def lightning(recipe: Recipe, material: TrialData, fast: torch.dtype | None) -> Contender | None:
    """Lightning's Trainer over the same DataLoader, with all that it logs and shows switched off."""
    try:
        import pytorch_lightning as pl
    except ImportError:
        return None
    from peers.module import Module

    loader = DataLoader(dataset(material), batch_size=recipe.train.batch_size, shuffle=True, drop_last=True)
    run = open_run(recipe, material, fast)
    optimizer = build_optimizer(run.model, recipe.train)
    assert isinstance(optimizer, torch.optim.Optimizer)
    module = Module(run.model, optimizer, recipe.flat()["train.label_smoothing"])

    def train(count: int) -> int:
        steps = max(1, count // recipe.train.batch_size)
        trainer = pl.Trainer(
            max_steps=steps, accelerator="cpu", precision="bf16-mixed" if fast else "32-true", logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(module, loader)
        return steps * recipe.train.batch_size

    return train


def dataset(material: TrialData) -> TensorDataset:
    return TensorDataset(material.train.images[:].float(), material.train.labels)


def flop(recipe: Recipe, material: TrialData) -> float:
    """Floating-point operations of a step."""
    run, size = open_run(recipe, material, None), recipe.train.batch_size
    with FlopCounterMode(display=False) as counter:
        step(run, material.train.images[:size], material.train.labels[:size])
    return float(counter.get_total_flops())


def peak(kind: torch.dtype, side: int = 1536) -> float:
    """GFLOP/s of the best of several square matrix products."""
    a, b = torch.randn(side, side).to(kind), torch.randn(side, side).to(kind)
    best = float("inf")
    for _ in range(6):
        started = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - started)
    return round(2 * side**3 / best / 1e9, 1)


def row(case: dict[str, Any], peaks: dict[str, float]) -> list[object]:
    ratios = case["ratios"]
    gflops = case["images_per_second"]["podium"]["median"] * case["flop_per_image"] / 1e9
    return [
        case["model"], case["batch"], case["precision"], f"{case['images_per_second']['limit']['median']:.0f}",
        shown(ratios["podium"]), shown(ratios.get("lightning", [])), shown(ratios["dataloader"]),
        f"{gflops:.1f}", f"{gflops / peaks[case['precision']]:.0%}",
    ]  # fmt: skip


def draw(cases: list[dict[str, Any]]) -> Any:
    from measuring import axes

    figure, drawn = axes()
    some = [case for case in cases if case["precision"] == "fp32"]
    places = range(len(some))
    for offset, (name, label) in enumerate(
        (("podium", "Podium"), ("lightning", "Lightning"), ("dataloader", "DataLoader loop"))
    ):
        heights = [case["of_limit"].get(name, {"median": 0})["median"] for case in some]
        drawn.bar([place + 0.27 * (offset - 1) for place in places], heights, width=0.25, label=label)
    drawn.axhline(1, color="black", linewidth=0.8)
    drawn.set_xticks(list(places), [f"{case['model']}\nbatch {case['batch']}" for case in some])
    drawn.set(ylabel="images/s, the bare step is 1 (fp32)")
    drawn.legend(loc="lower right")
    return figure


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    main()
