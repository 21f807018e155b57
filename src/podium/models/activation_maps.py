"""Where a network looked: class activation maps, or occlusion where its last layers have no space.

Grad-CAM: R. Selvaraju et al., Visual Explanations from Deep Networks via Gradient-based Localization, ICCV 2017; for a
mean over space and a linear head it is CAM (B. Zhou et al., CVPR 2016). Occlusion: M. Zeiler and R. Fergus, Visualizing
and Understanding Convolutional Networks, ECCV 2014: by how much the probability falls where a grey square lies.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Kind = Literal["activation", "occlusion"]
GRID = 7
"""Squares across and down that are covered one after the other."""
ASPECT = 1.5
"""By which factor a layer's ratio of sides may differ from the images'; beyond, its dimensions are others."""
GREY = 128


def maps(model: nn.Module, images: Tensor, classes: Tensor) -> tuple[Tensor, Kind]:
    """What speaks for the class `classes` (N,) in each of `images` (N, C, H, W) uint8: (N, H, W), 0 to 1, and how.

    `model`: raw images in, logits out, normalisation first, as it is evaluated; it is left in eval mode.
    """
    model.eval()
    found = _gradient_maps(model, images, classes)
    kind: Kind = "activation" if found is not None else "occlusion"
    whole = found if found is not None else _occlusion(model, images, classes)
    large = F.interpolate(whole[:, None], images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    highest = large.flatten(1).amax(1).clamp(min=1e-12)[:, None, None]
    return (large / highest).clamp(0, 1), kind


def _gradient_maps(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor | None:
    """(N, h, w) of the last layer with space; None: none in the later half of the network."""
    normalize, *layers = list(model) if isinstance(model, nn.Sequential) else [nn.Identity(), model]
    outputs: list[tuple[Tensor | None, bool]] = []
    hooks = [
        module.register_forward_hook(
            lambda module, _, output: outputs.append(
                (_with_space(output, images), any(True for _ in module.parameters()))
            )
        )
        for layer in layers
        for module in layer.modules()
        if not list(module.children())
    ]
    try:
        with torch.enable_grad():
            view = normalize(images)
            view = view.detach().requires_grad_() if view.is_floating_point() else view
            for layer in layers:  # one after the other: an average over mirrored images is left out
                view = layer(view)
            layer_output = _last_with_space(outputs)
            if layer_output is None or not layer_output.requires_grad:
                return None
            score = view.gather(1, classes[:, None]).sum()
            (gradient,) = torch.autograd.grad(score, layer_output, allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    if gradient is None:
        return None
    weights = gradient.mean((2, 3), keepdim=True)
    return (weights * layer_output).sum(1).clamp(min=0).detach().float()


def _last_with_space(outputs: Sequence[tuple[Tensor | None, bool]]) -> Tensor | None:
    """The last output with space, unless more than half of the layers that have weights (True) come after it."""
    last = max((n for n, (output, _) in enumerate(outputs) if output is not None), default=-1)
    later = sum(has_weights for _, has_weights in outputs[last + 1 :])
    return outputs[last][0] if last >= 0 and 2 * later <= sum(has_weights for _, has_weights in outputs) else None


def _with_space(output: object, images: Tensor) -> Tensor | None:
    """`output` if it is (N, K, h, w) with the images' ratio of sides and more than one place."""
    if not isinstance(output, Tensor) or output.ndim != 4 or min(output.shape[2:]) < 2:
        return None
    ratio = (output.shape[2] / output.shape[3]) / (images.shape[2] / images.shape[3])
    return output if 1 / ASPECT < ratio < ASPECT else None


def _occlusion(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """(N, GRID, GRID): by how much the probability of each image's class falls where a square is grey."""
    edges = [_edges(side) for side in images.shape[2:]]
    found = torch.zeros((len(images), len(edges[0]) - 1, len(edges[1]) - 1))

    def probabilities(some: Tensor) -> Tensor:
        answer: Tensor = model(some).float().softmax(1).gather(1, classes[:, None])[:, 0]
        return answer.cpu()

    with torch.inference_mode():
        whole = probabilities(images)
        for row in range(found.shape[1]):
            for column in range(found.shape[2]):
                covered = images.clone()
                (top, bottom), (left, right) = (
                    edge[at : at + 2] for edge, at in zip(edges, (row, column), strict=True)
                )
                covered[:, :, top:bottom, left:right] = GREY
                found[:, row, column] = (whole - probabilities(covered)).clamp(min=0)
    return found.to(images.device)


def _edges(side: int) -> Sequence[int]:
    steps = min(GRID, side)
    return [round(side * step / steps) for step in range(steps + 1)]
