"""One training run divided among processes (ranks) of torch.distributed: what each does, and what only together.

The batch of a step is the same one that a single process would take: its images, its order, its augmentation, drawn by
every rank alike. Each rank trains on its share of the rows, and the sum of the gradients is that of the whole batch. So
`train.batch_size` is what all ranks take together, the learning rate stays as it is, each image is seen once an epoch
whatever the number of ranks, and a run may resume with another number of them. The parts into which one process divides
a batch that does not fit into its memory are not taken over: a rank's share is one part.

What differs from one process: the order in which floating point numbers are summed; dropout, of which every rank has
its own random numbers; and batch normalisation, whose statistics are those of the whole batch on CUDA (SyncBatchNorm)
and of a rank's share on the CPU, where torch has no synchronised one; the running statistics that are saved
are then those of rank 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from podium.components import find
from podium.config.recipe import Recipe
from podium.models.members import Members
from podium.models.networks import ImageSpec
from podium.training import device as devices
from podium.training.batches import Batches
from podium.training.epochs import Epoch
from podium.training.loop import TrainingRun
from podium.training.losses import for_loss
from podium.training.precision import LossScale, check
from podium.training.seeds import derive
from podium.training.streaming import Share, share_of


class SharedRun(TrainingRun):
    """A rank's side of a training run. `train` and `state` have to be called by every rank."""

    ON_FEATURES: ClassVar[bool] = False

    def __init__(self, recipe: Recipe, images: ImageSpec, seed: int, device: torch.device) -> None:
        super().__init__(recipe, images, seed, device)
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        if device.type == "cuda":
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)  # type: ignore[no-untyped-call]
        self._together = self._wrapped()
        self.fast = _agree_on_type(device, self.fast)  # each rank has timed it on its own
        self.loss_scale = LossScale(device, self.fast, self.model)
        self._own_numbers()

    def train(
        self,
        train: Batches,
        val: Batches | None,
        on_step: Callable[[TrainingRun], None] = lambda run: None,
        on_epoch: Callable[[TrainingRun], None] = lambda run: None,
    ) -> list[Epoch]:
        """As TrainingRun does. Of streamed images this rank reads its own part of each batch, unless somebody's own
        augmentation, which may look at a whole batch, is to have it.
        """
        if self.world > 1 and not self.augmenter.sees_batches:
            train = replace(train, share=Share(self.rank, self.world))
        return super().train(train, val, on_step, on_epoch)

    def state(self) -> dict[str, Any]:
        """The state of the whole run, on every rank: what a run in one process could resume from."""
        total = self.loss_sum.clone()
        dist.all_reduce(total)
        return super().state() | {"loss_sum": total / self.world}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a position of this run, with any number of ranks."""
        super().restore(state)
        self.loss_sum *= self.world if self.rank == 0 else 0
        self._own_numbers()

    def restore_together(self, state: dict[str, Any]) -> str:
        """`restore` on every rank, or on none where any of them refuses `state`; the first that does returns why.

        Every rank has to call it.
        """
        why = self.refusal(state)
        refusing = torch.tensor(self.rank if why else self.world, device=self.device)
        dist.all_reduce(refusing, dist.ReduceOp.MIN)
        if int(refusing) == self.world:
            self.restore(state)
        return why if int(refusing) == self.rank else ""

    def _wrapped(self) -> DistributedDataParallel:
        """What adds up the gradients of those weights that learn now.

        Somebody's own network may have some that take no part in its logits, as an auxiliary head's, or not in each
        step's; so has a member of several where a rank has fewer images than there are members. Other networks have
        none, so looking for them in every step is left out there. Where a first step has used all, torch writes once
        that looking for others costs time.
        """
        is_own = find("network", self.recipe.model.name) is None
        some_rest = is_own or any(isinstance(one, Members) for one in self.model.modules())
        ids = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(self.model, device_ids=ids, find_unused_parameters=some_rest)

    def _thaw(self) -> None:
        super()._thaw()
        self._together = self._wrapped()

    def _loss(self, inputs: Tensor, labels: Tensor, others: Tensor, own: float) -> Tensor:
        """This rank's part of the batch's mean loss, times the number of ranks: their gradients are averaged."""
        count = len(labels)
        share = share_of(self.rank, self.world, count)
        counts = (self.rank + 1) * count // self.world > self.rank * count // self.world  # else it has none of its own
        logits = self._together(inputs[share])
        loss = self._part(for_loss(logits, own), labels, share, counts=counts)
        if own == 1:
            return loss
        return own * loss + (1 - own) * self._part(logits, others, share, counts=counts)

    def _part(self, logits: Tensor, labels: Tensor, share: slice, *, counts: bool) -> Tensor:
        """The loss of the rows `share` of `labels`, by their part of the batch's whole weight."""
        loss: Tensor = self.loss(logits, labels[share])
        return loss * (self._weight(labels, share) * self.world if counts else 0.0)

    def _rows_of_parts(self, labels: Tensor) -> Sequence[Tensor | None]:
        """A batch is whole here: it is divided among the ranks already, whatever one process divided it into."""
        return (None,)

    def _order(self, count: int) -> Tensor:
        if self.step == 0:
            self._own_numbers()
        return super()._order(count)

    def _finish_epoch(self, train: Batches, val: Batches | None) -> None:
        dist.all_reduce(self.loss_sum)
        self.loss_sum /= self.world
        super()._finish_epoch(train, val)

    def _own_numbers(self) -> None:
        """Dropout of this rank's own; rank 0 draws what a single process would draw."""
        if self.rank:
            torch.manual_seed(derive(self.seed, "rank", self.rank, self.epoch, self.step))

    def _seed_others(self) -> None:
        if self.rank:
            devices.seed_others(derive(self.seed, "others", self.rank, self.epoch))
        else:
            super()._seed_others()


class FollowingRun(TrainingRun):
    """The same run in the process that started the ranks: it takes over what they send, and trains nothing itself.

    So its device, which may be another than theirs, is not asked for `train.precision`.
    """

    ON_FEATURES: ClassVar[bool] = False
    TRAINS: ClassVar[bool] = False

    def __init__(self, recipe: Recipe, images: ImageSpec, seed: int, device: torch.device) -> None:
        super().__init__(recipe, images, seed, device)
        self._images = images

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what the ranks sent, also where they have begun again and the head learns alone once more."""
        if state["head_alone"] and not self._head_alone:
            vars(self).update(vars(FollowingRun(self.recipe, self._images, self.seed, self.device)))
        super().restore(state)


def _agree_on_type(device: torch.device, fast: torch.dtype | None) -> torch.dtype | None:
    """Rank 0's type of autocast. Raises InputError where this rank's device does not have it."""
    is_half, is_bfloat16 = agree(device, fast is not None, fast is torch.bfloat16)
    if not is_half:
        return None
    check("bfloat16" if is_bfloat16 else "float16", device)
    return torch.bfloat16 if is_bfloat16 else torch.float16


def agree(device: torch.device, *flags: bool) -> tuple[bool, ...]:
    """Rank 0's `flags`, on every rank; every rank has to call it."""
    answer = torch.tensor(flags, dtype=torch.uint8, device=device)
    dist.broadcast(answer, src=0)
    return tuple(bool(flag) for flag in answer.tolist())
