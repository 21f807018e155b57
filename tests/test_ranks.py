"""A training run divided among ranks, as processes of their own that talk by gloo; no Ray here."""

import multiprocessing
import os
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

import tiny
from own import OwnCode
from podium.config.params import TrackingParams
from podium.data.dataset import Split, open_split
from podium.errors import InputError
from podium.retraining import resumable
from podium.training import checkpoint, precision
from podium.training.batches import Batches
from podium.training.loop import TrainingRun
from podium.training.ranks import FollowingRun, SharedRun, agree
from podium.tuning.pools import processes
from starting import free_port

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
TOLERANCE = 2e-4
"""Between the losses of one process and of several: sums in another order, over some dozens of steps."""
CHANGES: dict[str, Any] = {"train__epochs": 4, "train__shift": 1, "train__batch_size": 16}


def _alone(folder: Path, **changes: Any) -> TrainingRun:
    torch.set_num_threads(1)
    run = TrainingRun(tiny.recipe(**CHANGES | changes), tiny.IMAGES, 5, CPU)
    run.train(_data(folder), None)
    return run


def _data(folder: Path) -> Batches:
    return Batches.of(_splits(folder), CPU)


def _splits(folder: Path) -> list[Split]:
    return [open_split(folder / "train"), open_split(folder / "val")]


def _rank(rank: int, world: int, port: int, folder: Path, changes: dict[str, Any], stop_after: int, lacks: int) -> None:
    """Train until `stop_after` steps in all, from the checkpoint where there is one; rank 0 saves at the end.

    The rank `lacks` has no bfloat16.
    """
    torch.set_num_threads(1)
    if rank == lacks:
        precision.missing = lambda wanted, where: "there is none" if wanted == "bfloat16" else ""
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    run = SharedRun(tiny.recipe(**CHANGES | changes), tiny.IMAGES, 5, CPU)
    state = checkpoint.load(folder / "run.ckpt", "run")
    if state is not None:
        why = run.restore_together(state)
        assert why == ("it was trained in bfloat16, and there is none" if rank == lacks else "")
    steps = 0

    class Enough(Exception):  # noqa: N818
        pass

    def on_step(run: TrainingRun) -> None:
        nonlocal steps
        steps += 1
        (over,) = agree(CPU, steps == stop_after)
        if over:
            raise Enough

    # Each rank of three, or of a run that was divided before, streams: it reads its own part of a batch.
    streams = world == 3 or (state is not None and state["parts"] > 1)
    data = Batches.mapped(_splits(folder), CPU) if streams else _data(folder)
    with suppress(Enough):
        run.train(data, None, on_step)
    state = run.state()
    if rank == 0:
        checkpoint.save(folder / "run.ckpt", "run", state)
    dist.barrier()
    dist.destroy_process_group()


def _together(folder: Path, world: int, stop_after: int = 0, lacks: int = -1, **changes: Any) -> TrainingRun:
    port = free_port()
    processes.warm_up()  # ranks are forked from a server that has imported torch: importing it in each takes seconds
    context = multiprocessing.get_context("forkserver")
    ranks = [
        context.Process(target=_rank, args=(r, world, port, folder, changes, stop_after, lacks)) for r in range(world)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0] * world
    state = checkpoint.load(folder / "run.ckpt", "run")
    assert state is not None
    run = TrainingRun(tiny.recipe(**CHANGES | changes), tiny.IMAGES, 5, CPU)
    run.restore(state)
    return run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    return tiny.prepare(tmp_path)


def _weights(run: TrainingRun) -> torch.Tensor:
    return torch.cat([value.flatten() for value in run.model.state_dict().values()])


def _losses(run: TrainingRun) -> list[float]:
    return [epoch["train_loss"] for epoch in run.history]


def test_one_rank_is_the_run_in_process_bit_for_bit(folder: Path) -> None:
    alone, one = _alone(folder, model__dropout=0.2), _together(folder, 1, model__dropout=0.2)
    assert torch.equal(_weights(one), _weights(alone))
    assert _losses(one) == _losses(alone)


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("batch_size", [16, 79])
def test_ranks_train_what_one_process_trains(folder: Path, world: int, batch_size: int) -> None:
    # 80 images: at 16 every batch is whole, at 79 the last one has a single image, which only one rank gets.
    changes: dict[str, Any] = {"train__batch_size": batch_size, "train__mixup": 0.3}
    alone = _alone(folder, **changes)
    together = _together(folder, world, **changes)
    assert _losses(together) == pytest.approx(_losses(alone), abs=TOLERANCE)
    assert torch.allclose(_weights(together), _weights(alone), atol=10 * TOLERANCE)


def test_run_stopped_in_an_epoch_goes_on_with_another_number_of_ranks_and_in_one_process(folder: Path) -> None:
    alone = _alone(folder)
    stopped = _together(folder, 2, stop_after=7)
    assert (stopped.epoch, stopped.step) == (1, 2)
    goes_on = _together(folder, 3, stop_after=4)
    assert (goes_on.epoch, goes_on.step) == (2, 1)
    goes_on.train(_data(folder), None)
    assert _losses(goes_on) == pytest.approx(_losses(alone), abs=TOLERANCE)


def test_batch_that_one_process_divided_is_divided_among_the_ranks_instead(folder: Path) -> None:
    alone = _alone(folder)
    divided = TrainingRun(tiny.recipe(**CHANGES), tiny.IMAGES, 5, CPU)
    divided.parts = 2
    checkpoint.save(folder / "run.ckpt", "run", divided.state())
    together = _together(folder, 2)
    assert together.parts == 2  # of one process, should it go on in one again
    assert _losses(together) == pytest.approx(_losses(alone), abs=TOLERANCE)
    assert torch.allclose(_weights(together), _weights(alone), atol=10 * TOLERANCE)


def test_where_one_rank_does_not_have_the_type_of_the_checkpoint_all_begin_again(folder: Path) -> None:
    alone = _alone(folder)
    checkpoint.save(folder / "run.ckpt", "run", alone.state() | {"fast": torch.bfloat16})  # of a run that has ended
    together = _together(folder, 2, lacks=1)
    assert _losses(together) == pytest.approx(_losses(alone), abs=TOLERANCE)
    assert (together.fast, len(together.history)) == (None, alone.epoch)


def test_epochs_of_ranks_that_begin_again_are_logged_and_saved_anew(
    folder: Path, store: TrackingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, states = TrainingRun(tiny.recipe(**CHANGES), tiny.IMAGES, 5, CPU), list[bytes]()
    alone.train(_data(folder), None, on_epoch=lambda run: states.append(checkpoint.dumps("run", run.state())))
    path, told = folder / "retrain.ckpt", list[int]()
    checkpoint.write(path, states[2])

    def ranks(run: TrainingRun, *rest: Any) -> None:
        for content in (states[0], states[1], states[3]):  # they refused the checkpoint of three epochs
            run.restore(checkpoint.loads(content, "run"))
            rest[4](run)

    tracked: Any = SimpleNamespace(update=lambda history: told.append(len(history)))
    monkeypatch.setattr("podium.cluster.prepare", lambda runtime: None)
    monkeypatch.setattr("podium.retraining.distributed.train", ranks)
    run = FollowingRun(tiny.recipe(**CHANGES), tiny.IMAGES, 5, CPU)
    params = tiny.params(store, runtime="devices: 2")
    resumable.train(run, _data(folder), folder, path, "run", params, tracked)
    assert told == [1, 2, 4]
    assert _losses(run) == _losses(alone)
    saved = checkpoint.load(path, "run")
    assert saved is not None
    assert saved["epoch"] == 4


def test_process_beside_the_ranks_asks_its_own_device_for_no_precision() -> None:
    recipe = tiny.recipe(train__precision="tf32")  # which a CPU does not have
    with pytest.raises(InputError, match=r"train\.precision: .* got tf32"):
        TrainingRun(recipe, tiny.IMAGES, 5, CPU)
    assert FollowingRun(recipe, tiny.IMAGES, 5, CPU).fast is None


AUXILIARY = """
    from collections import namedtuple
    from torch import nn

    class Net(nn.Module):
        def __init__(self, num_classes):
            super().__init__()
            self.trunk = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(48, 8), nn.ReLU())
            self.head, self.aux = nn.Linear(8, num_classes), nn.Linear(8, num_classes)

        def forward(self, images):
            maps = self.trunk(images)
            if not self.training:
                return self.head(maps)
            return namedtuple("Out", "logits aux_logits")(self.head(maps), self.aux(maps))
"""


def test_ranks_train_an_own_network_whose_auxiliary_head_takes_no_part(own: OwnCode) -> None:
    folder = tiny.prepare(own.folder)
    changes: dict[str, Any] = {"model__name": f"{own.write(AUXILIARY)}:Net", "train__epochs": 2}
    alone, together = _alone(folder, **changes), _together(folder, 2, **changes)
    assert _losses(together) == pytest.approx(_losses(alone), abs=TOLERANCE)
    assert torch.allclose(_weights(together), _weights(alone), atol=10 * TOLERANCE)


def test_ranks_draw_their_own_dropout(folder: Path) -> None:
    alone, together = _alone(folder, model__dropout=0.5), _together(folder, 2, model__dropout=0.5)
    assert _losses(together) != pytest.approx(_losses(alone), abs=TOLERANCE)
    assert _losses(together)[-1] < _losses(together)[0]


def test_ranks_find_the_head_first_and_then_train_everything(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    changes: dict[str, Any] = {"model__name": "timm:test_resnet", "train__head_epochs": 2, "train__backbone_rate": 0.1}
    alone, one = _alone(folder, **changes), _together(folder, 1, **changes)
    assert torch.equal(_weights(one), _weights(alone))
    assert _losses(one) == _losses(alone)
    (folder / "run.ckpt").unlink()
    stopped = _together(folder, 2, stop_after=13, **changes)
    assert (stopped.epoch, stopped.step) == (2, 3)  # of everything, after two epochs of the head
    stopped.train(_data(folder), None)
    assert len(_losses(stopped)) == 4


def test_ranks_train_members_also_where_a_rank_has_fewer_images_than_there_are(folder: Path) -> None:
    changes: dict[str, Any] = {"model__name": "resnet", "model__members": 2, "model__descriptors": True}
    changes |= {"train__batch_size": 4, "train__epochs": 1}
    run = _together(folder, 2, **changes)
    assert run.epoch == 1
    looked_at = [value for name, value in run.model.state_dict().items() if name.endswith("centres")]
    alone = _alone(folder, **changes)
    fitted = [value for name, value in alone.model.state_dict().items() if name.endswith("centres")]
    assert all(torch.equal(one, other) for one, other in zip(looked_at, fitted, strict=True))
