"""What transformers learn of places, made to fit images of another size than that which their weights were trained on.

Absolute embeddings are resampled (A. Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021, section 3.2), and so
are tables of relative ones (Swin, BEiT); both with timm's own functions, as timm does it when it loads weights. A file
does not say how many rows and columns its places have: they are taken as a square, where their number can be one.
"""

import math
from collections.abc import Mapping

from torch import Tensor, nn

ABSOLUTE = ("pos_embed", "pos_embedding")
RELATIVE = "relative_position_bias_table"


def fitted(known: Mapping[str, Tensor], network: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    """`known`, the tensors of a file by the names in `network`, with those of places as large as the network has them.

    And what was resampled, in words. What can't be is left as it is.
    """
    own = network.state_dict()
    found, notes, tables = dict(known), [], 0
    for name, value in known.items():
        if name not in own or value.shape == own[name].shape or not value.is_floating_point():
            continue
        if name.endswith(ABSOLUTE) and (grids := _grids(value, own[name], network)) is not None:
            old, new, prefix = grids
            found[name] = _absolute(value, old, new, prefix)
            what = f"{name} was resampled from {old[0]}x{old[1]} to {new[0]}x{new[1]} positions"
            notes.append(f"{what} (its {old[0] * old[1]} positions are taken as square: the file does not say)")
        elif name.endswith(RELATIVE) and (table := _relative(value, name, own[name], network)) is not None:
            found[name] = table
            tables += 1
    if tables:
        notes.append(f"{tables} of its tables of relative positions were resampled (its windows are taken as square)")
    return found, notes


def _grids(value: Tensor, own: Tensor, network: nn.Module) -> tuple[tuple[int, int], tuple[int, int], int] | None:
    """Rows and columns of places in `value` (1, prefix + places, D) and in `own`, and how many come before them."""
    if value.ndim != 3 or own.ndim != 3 or value.shape[2] != own.shape[2] or value.shape[0] != 1:
        return None
    embedding = getattr(network, "patch_embed", None)  # timm
    size, patch = getattr(network, "image_size", 0), getattr(network, "patch_size", 0)  # torchvision
    if (grid := getattr(embedding, "grid_size", None)) is None and isinstance(size, int) and isinstance(patch, int):
        grid = (size // patch,) * 2 if patch else None
    if grid is None:
        return None
    rows, columns = grid
    prefix = own.shape[1] - rows * columns
    side = _side(value.shape[1] - prefix)
    return ((side, side), (rows, columns), prefix) if prefix >= 0 and side else None


def _side(places: int) -> int:
    """The side of a square of so many places; 0: it is none."""
    side = math.isqrt(max(0, places))
    return side if side * side == places else 0


def _absolute(value: Tensor, old: tuple[int, int], new: tuple[int, int], prefix: int) -> Tensor:
    from timm.layers import resample_abs_pos_embed

    resampled: Tensor = resample_abs_pos_embed(
        value, new_size=list(new), old_size=list(old), num_prefix_tokens=prefix, interpolation="bicubic"
    )
    return resampled


def _relative(value: Tensor, name: str, own: Tensor, network: nn.Module) -> Tensor | None:
    """A table (offsets, heads) for the windows that the network has; None: it is of other heads, or not of a square."""
    from timm.layers import resize_rel_pos_bias_table_simple

    window = getattr(network.get_submodule(name[: -len(RELATIVE) - 1]), "window_size", None)
    if window is None or value.ndim != 2 or value.shape[1] != own.shape[1]:
        return None
    height, width = window
    tokens = own.shape[0] - (2 * height - 1) * (2 * width - 1)  # offsets to and from the class token, of BEiT
    if tokens < 0 or _side(value.shape[0] - tokens) % 2 == 0:  # offsets of -n to n, an odd number each way
        return None
    table: Tensor = resize_rel_pos_bias_table_simple(value, new_window_size=window, new_bias_shape=own.shape)
    return table
