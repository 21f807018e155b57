"""`train.head_epochs`: the head alone on cached features, then everything, in one training."""

from pathlib import Path
from typing import Any

import pytest
import torch

from podium.config.recipe import Recipe
from podium.models.networks import ImageSpec
from podium.training import checkpoint, features
from podium.training.batches import Batches
from podium.training.loop import TrainingRun
from podium.training.ranks import FollowingRun
from podium.training.saver import size_of, snapshot
from podium.training.trained import digest_of

CPU = torch.device("cpu")
SHAPE = (3, 32, 32)
IMAGES = ImageSpec(SHAPE, 3, (0.5,) * 3, (0.3,) * 3)
SMALL = {
    "model.name": "timm:test_resnet",
    "train.backbone_rate": 0.1,
    "train.head_epochs": 2,
    "train.epochs": 4,
    "train.batch_size": 16,
    "train.flip": True,
    "train.random_resized_crop": 0.5,
    "train.ema": 0.9,
}


class ThroughTheBackbone(TrainingRun):
    ON_FEATURES = False


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    features.forget()


def _data(count: int) -> Batches:
    draw = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8, generator=draw)
    return Batches(images, torch.arange(count) % 3)


def _run(kind: type[TrainingRun] = TrainingRun, **changes: Any) -> TrainingRun:
    recipe = Recipe().replace(SMALL | {name.replace("__", "."): value for name, value in changes.items()})
    return kind(recipe, IMAGES, 0, CPU)


def _trained(run: TrainingRun) -> TrainingRun:
    run.train(_data(48), _data(17))
    return run


def _backbone(run: TrainingRun) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in run.model.state_dict().items() if ".fc." not in name}


def test_backbone_stays_in_the_first_epochs_and_learns_after_them() -> None:
    run, digests = _run(), []
    before = digest_of(_backbone(run))
    run.train(_data(48), _data(16), on_epoch=lambda run: digests.append(digest_of(_backbone(run))))
    assert digests[:2] == [before, before]
    assert len({*digests}) == 3


def test_head_phase_on_features_is_bit_for_bit_that_through_the_backbone() -> None:
    cached, whole = (_trained(_run(kind)) for kind in (TrainingRun, ThroughTheBackbone))
    assert features.held() == 2
    assert digest_of(cached.result.state_dict()) == digest_of(whole.result.state_dict())


@pytest.mark.parametrize("stop", [1, 3, 4, 6, 7, 11], ids="step {}".format)
def test_run_stopped_at_any_step_resumes_bit_for_bit(stop: int) -> None:
    class Stopped(Exception):  # noqa: N818
        pass

    saved: list[bytes] = []

    def count(run: TrainingRun) -> None:
        saved.append(checkpoint.dumps("run", run.state()))
        if len(saved) == stop:
            raise Stopped

    whole, first, second = _trained(_run()), _run(), _run()
    with pytest.raises(Stopped):
        first.train(_data(48), _data(17), count)
    second.restore(checkpoint.loads(saved[-1], "run"))
    _trained(second)
    assert digest_of(second.result.state_dict()) == digest_of(whole.result.state_dict())
    assert [e["val_loss"] for e in second.history] == [e["val_loss"] for e in whole.history]


def test_run_saved_between_head_and_whole_resumes_bit_for_bit() -> None:
    states: list[bytes] = []
    whole, second = _run(), _run()
    whole.train(_data(48), _data(17), on_epoch=lambda run: states.append(checkpoint.dumps("run", run.state())))
    second.restore(checkpoint.loads(states[1], "run"))
    _trained(second)
    assert digest_of(second.result.state_dict()) == digest_of(whole.result.state_dict())


def test_checkpoint_of_a_head_alone_has_no_frozen_weights_and_refuses_others() -> None:
    states: list[dict[str, Any]] = []
    run = _run()
    run.train(_data(48), _data(17), on_epoch=lambda run: states.append(snapshot(run.state())))
    assert size_of(states[0]["model"]) < size_of(run.model.state_dict()) / 2
    assert [set(state["model"]) == set(run.model.state_dict()) for state in states] == [False, False, True, True]
    other = _run()
    first = next(value for name, value in other.model.state_dict().items() if ".fc." not in name and value.dim())
    first += 1
    with pytest.raises(checkpoint.TornCheckpointError, match="the frozen weights that it goes with are no longer"):
        other.restore(states[0])


def test_process_beside_ranks_that_begin_again_follows_them_back_to_the_head_alone() -> None:
    states: list[bytes] = []
    ranks, following = _run(), _run(FollowingRun)
    ranks.train(_data(48), _data(17), on_epoch=lambda run: states.append(checkpoint.dumps("run", run.state())))
    for content in (states[2], states[0], states[3]):  # of everything, of the head after a new beginning, the end
        following.restore(checkpoint.loads(content, "run"))
    assert following.epoch == 4
    assert digest_of(following.result.state_dict()) == digest_of(ranks.result.state_dict())


def test_schedule_begins_again_after_the_head() -> None:
    rates = [epoch["learning_rate"] for epoch in _trained(_run(train__epochs=12, train__head_epochs=6)).history]
    assert rates[:6] == pytest.approx(rates[6:])
    assert rates[5] < rates[2] / 2


def test_head_epochs_of_all_epochs_are_those_of_a_frozen_backbone() -> None:
    head_first = _trained(_run(train__head_epochs=9))
    frozen = _trained(_run(train__backbone_rate=0.0, train__flip=False, train__random_resized_crop=0.0))
    assert digest_of(head_first.result.state_dict()) == digest_of(frozen.result.state_dict())


def test_head_epochs_change_nothing_for_a_network_without_a_backbone() -> None:
    changes: dict[str, Any] = {"model__name": "resnet", "model__width": 4, "train__epochs": 2}
    one, other = (_trained(_run(**changes, train__head_epochs=count)) for count in (0, 1))
    assert digest_of(one.result.state_dict()) == digest_of(other.result.state_dict())
