"""The operations that TrivialAugment and RandAugment draw from, each on those images of a batch that drew it."""

from typing import TYPE_CHECKING, NamedTuple

from podium.training.augmentations import Draw, pixels

if TYPE_CHECKING:
    from torch import Tensor


class Ranges(NamedTuple):
    """How far the operations go at a strength of 1."""

    shear: float
    """Tangent of the angle."""
    translate: float
    """Fraction of the side."""
    rotate: float
    """Degrees."""
    enhance: float
    """Brightness, colour, contrast and sharpness: their factors are 1 minus or plus this."""
    bits: float
    """That posterize takes away, of 8."""


MOVING = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
COLOURING = ("brightness", "colour", "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize")
NAMES = ("identity", *MOVING, *COLOURING)


def change(images: "Tensor", draw: Draw, kinds: "Tensor", strengths: "Tensor", ranges: Ranges) -> "Tensor":
    """Each of `images` (B, C, H, W) uint8 by its operation; `kinds` (B,) indexes NAMES, `strengths` (B,) is 0 to 1.

    The direction of what has one is drawn.
    """
    signs = (pixels.uniform(draw, len(images), 0, 1) < 0.5).float() * 2 - 1
    changed = images.clone()
    moving = (kinds >= 1) & (kinds <= len(MOVING))
    rows = moving.nonzero().flatten()
    if len(rows):
        changed[rows] = _moved(images[rows], draw, kinds[rows], (signs * strengths)[rows], ranges)
    for kind, name in enumerate(NAMES):
        rows = (kinds == kind).nonzero().flatten()
        if name in COLOURING and len(rows):
            one, strength, sign = images[rows], strengths[rows], signs[rows]
            changed[rows] = _coloured(name, one, strength, 1 + sign * strength * ranges.enhance, ranges)
    return changed


def _moved(images: "Tensor", draw: Draw, kinds: "Tensor", amounts: "Tensor", ranges: Ranges) -> "Tensor":
    """One of MOVING by `amounts` (B,), -1 to 1."""
    import torch

    named = {name: (kinds == NAMES.index(name)).float() * amounts for name in MOVING}
    matrices = pixels.rotations(named["rotate"] * ranges.rotate)
    matrices[:, 0, 1] += named["shear_x"] * ranges.shear
    matrices[:, 1, 0] += named["shear_y"] * ranges.shear
    height, width = images.shape[2:]
    moves = torch.stack([named["translate_x"] * width, named["translate_y"] * height], 1) * ranges.translate
    return pixels.affine(draw, images, matrices, moves)


def _coloured(name: str, images: "Tensor", strengths: "Tensor", factors: "Tensor", ranges: Ranges) -> "Tensor":
    """One of COLOURING; of `factors` (B,) 1 changes nothing."""
    if name == "posterize":
        return _posterized(images, strengths * ranges.bits)
    if name == "solarize":
        limit = (255 * (1 - strengths)).view(-1, 1, 1, 1)
        return images.where(images < limit, 255 - images)
    if name == "autocontrast":
        return _stretched(images)
    if name == "equalize":
        return _equalized(images)
    if name == "brightness":
        others = images.new_zeros(()).float()
    elif name == "contrast":
        others = pixels.grey(images).mean((1, 2, 3), keepdim=True)
    else:
        others = pixels.grey(images) if name == "colour" else _blurred(images)
    return pixels.to_bytes(pixels.blended(images, others, factors))


def _posterized(images: "Tensor", bits: "Tensor") -> "Tensor":
    """Without the lowest `bits` (B,), rounded, of each pixel."""
    step = 2 ** bits.round().view(-1, 1, 1, 1)
    return pixels.to_bytes((images.float() / step).floor() * step)


def _stretched(images: "Tensor") -> "Tensor":
    """Each channel from its darkest pixel to its brightest stretched to 0 to 255."""
    low, high = images.float().amin((2, 3), keepdim=True), images.float().amax((2, 3), keepdim=True)
    flat = high <= low
    scale = (255 / (high - low)).masked_fill(flat, 1.0)
    return pixels.to_bytes((images.float() - low.masked_fill(flat, 0.0)) * scale)


def _equalized(images: "Tensor") -> "Tensor":
    """Each channel's values spread so that they are about equally frequent: the histogram's own ranks."""
    import torch

    flat = images.flatten(2).long()
    ones = torch.ones(flat.shape, device=images.device)
    counts = torch.zeros((*flat.shape[:2], 256), device=images.device).scatter_add_(2, flat, ones)
    below = counts.cumsum(2)
    first = below.gather(2, flat.amin(2, keepdim=True))  # the darkest value stays the darkest
    span = (flat.shape[2] - first).clamp_min(1)
    table = pixels.to_bytes((below - first) / span * 255)
    constant = first == flat.shape[2]
    return table.gather(2, flat).where(~constant, images.flatten(2)).view_as(images)


def _blurred(images: "Tensor") -> "Tensor":
    """Pillow's filter SMOOTH, the edges left as they are; the other end of sharpness. (B, C, H, W) float32."""
    import torch.nn.functional as F

    floats = images.float()
    kernel = floats.new_tensor([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    if min(images.shape[2:]) < len(kernel):
        return floats
    smooth = F.conv2d(floats.flatten(0, 1).unsqueeze(1), kernel.view(1, 1, 3, 3)).squeeze(1)
    result = floats.clone()
    result[:, :, 1:-1, 1:-1] = smooth.view(*images.shape[:2], *smooth.shape[1:])
    return result
