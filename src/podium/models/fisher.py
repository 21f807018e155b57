"""Fisher vectors of edges and colours with a linear layer: how pictures were classified before deep networks, from few
images.

J. Sanchez et al., Image Classification with the Fisher Vector: Theory and Practice, IJCV 2013: small parts of an image
are described (podium.models.descriptors), and how the parts differ from those of an average image, in a mixture of
Gaussians, is the image's one long vector. The mixture is fitted to training images before the training, without their
labels; the linear layer alone learns.
"""

import math
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from podium.models.descriptors import cells_of, colours, edges, places

GAUSSIANS = 32
LARGEST = 40
"""Numbers that are left of a descriptor: its principal components."""
SAMPLE = 16_384
"""Descriptors that the mixture is fitted to, at most."""
ROUNDS = 15
"""Of the EM algorithm."""
KINDS = (edges, colours)
"""What is described, each with a mixture of its own."""
LOUD = 8.0
"""By which a vector of norm 1 is multiplied, so that a linear layer learns from it as fast as from a network's: after
20 epochs at one rate 0.60 of 195 images of three splits by 1, 0.64 by 4, 0.67 by 10."""
LEAST = 1e-3
"""Variance of a Gaussian at least."""


class Mixture(nn.Module):
    """Principal components and Gaussians of descriptors of `size` numbers, and the Fisher vector by them."""

    def __init__(self, size: int, kept: int) -> None:
        super().__init__()
        wide = kept + 2  # and where the part is
        self.mean: Tensor
        self.axes: Tensor
        self.centres: Tensor
        self.variances: Tensor
        self.shares: Tensor
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("axes", torch.eye(size)[:, :kept].clone())
        self.register_buffer("centres", torch.randn(GAUSSIANS, wide))
        self.register_buffer("variances", torch.ones(GAUSSIANS, wide))
        self.register_buffer("shares", torch.full((GAUSSIANS,), 1 / GAUSSIANS))

    @property
    def length(self) -> int:
        """Of a Fisher vector."""
        return 2 * self.centres.numel()

    def forward(self, descriptors: Tensor, where: Tensor) -> Tensor:
        """(N, length) of norm 1, of descriptors (N, T, size) of parts at `where` (T, 2)."""
        values = self._reduced(descriptors, where)
        belongs = self._belongs(values)
        total = belongs.sum(1)[..., None]
        first, second = belongs.mT @ values, belongs.mT @ values.square()
        centres, variances = self.centres, self.variances
        scale = self.shares.sqrt()[:, None] * values.shape[1]
        means = (first - total * centres) / variances.sqrt() / scale
        spreads = (second - 2 * centres * first + total * (centres.square() - variances)) / variances / scale
        found = torch.stack([means, spreads / math.sqrt(2)], 1).flatten(1)
        return F.normalize(found.sign() * (found.abs() + 1e-12).sqrt(), dim=1)

    def fit(self, descriptors: Tensor, where: Tensor, draw: torch.Generator) -> None:
        """Find the principal components of descriptors (N, T, size) and the Gaussians."""
        flat = descriptors.flatten(0, 1)
        count = max(GAUSSIANS, min(SAMPLE, len(flat)))
        rows = torch.randint(len(flat), (count,), generator=draw).to(flat.device)
        some, spots = flat[rows], where.repeat(len(descriptors), 1)[rows]
        self.mean.copy_(some.mean(0))
        off = (some - self.mean).double()
        self.axes.copy_(torch.linalg.eigh(off.mT @ off).eigenvectors[:, -self.axes.shape[1] :])
        values = torch.cat([(some - self.mean) @ self.axes, spots], 1)
        self.centres.copy_(values[torch.randperm(count, generator=draw)[:GAUSSIANS].to(flat.device)])
        self.variances.copy_(values.var(0).clamp_min(LEAST).expand_as(self.centres))
        self.shares.fill_(1 / GAUSSIANS)
        for _ in range(ROUNDS):
            belongs = self._belongs(values)
            total = belongs.sum(0)[:, None] + 1e-6
            self.centres.copy_(belongs.mT @ values / total)
            self.variances.copy_((belongs.mT @ values.square() / total - self.centres.square()).clamp_min(LEAST))
            self.shares.copy_(((total + 1) / (total + 1).sum())[:, 0])

    def _reduced(self, descriptors: Tensor, where: Tensor) -> Tensor:
        values = (descriptors - self.mean) @ self.axes
        return torch.cat([values, where.to(values).expand(values.shape[0], -1, -1)], 2)

    def _belongs(self, values: Tensor) -> Tensor:
        """(..., GAUSSIANS) how likely each of `values` (..., size) is of each Gaussian."""
        inverse = 1 / self.variances
        distance = values.square() @ inverse.mT - 2 * values @ (self.centres * inverse).mT
        constant = (self.centres.square() * inverse + self.variances.log()).sum(1)
        return (self.shares.log() - (distance + constant) / 2).softmax(-1)


class FisherVectors(nn.Module):
    """Logits (N, classes) of normalised images (N, C, H, W) by a linear layer on their Fisher vectors."""

    def __init__(self, channels: int, side: int, classes: int) -> None:
        """`side`: pixels of the shorter side of the images."""
        super().__init__()
        self.cells = cells_of(side)
        mixtures = [Mixture(size, min(size, LARGEST)) for size in (128, 32 * channels)]
        self.mixtures = nn.ModuleList(mixtures)
        self.last = nn.Linear(sum(one.length for one in mixtures), classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        kind = images.device.type  # distances of descriptors would be lost in 16 bits
        whole = torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
        with whole, torch.no_grad():
            vectors = self._vectors(images.float())
        logits: Tensor = self.last(vectors)
        return logits

    @torch.no_grad()
    def look_at(self, images: Tensor, draw: torch.Generator) -> None:
        """Fit the mixtures to some training images (N, C, H, W), normalised."""
        where = places(images, self.cells)
        for described, mixture in zip(KINDS, self.mixtures, strict=True):
            mixture.fit(described(images, self.cells), where, draw)  # type: ignore[operator]

    def _vectors(self, images: Tensor) -> Tensor:
        where = places(images, self.cells)
        both = zip(KINDS, self.mixtures, strict=True)
        return LOUD * torch.cat([mixture(described(images, self.cells), where) for described, mixture in both], 1)
