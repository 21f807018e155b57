"""What a configuration costs whatever it learns: its network's size and the time that one image takes."""

from collections.abc import Collection

import torch
from torch import nn

from podium.config.recipe import ModelParams
from podium.models.build import build_model
from podium.models.latency import in_turns
from podium.models.networks import ImageSpec


def costs(params: ModelParams, images: ImageSpec, wanted: Collection[str]) -> dict[str, float]:
    """Those of `wanted`, of `parameters`, `size_mb` and `latency_ms`, of the network that `params` describes.

    size_mb: weights and buffers in 1,000,000 bytes; latency_ms: of the exported graph for one image, as it will be
    registered, on one CPU thread, the shortest of its turns: beside other processes the median of a small network is
    twice as long. No random number of the training's is drawn.
    """
    if not wanted:
        return {}
    with torch.random.fork_rng():
        model = build_model(params, images).eval()
    tensors = model.state_dict().values()
    found = {
        "parameters": float(sum(one.numel() for one in model.parameters())),
        "size_mb": sum(one.numel() * one.element_size() for one in tensors) / 1e6,
    }
    if "latency_ms" in wanted:
        found["latency_ms"] = round(_latency(model, images), 4)
    return {name: found[name] for name in wanted}


def _latency(model: nn.Module, images: ImageSpec) -> float:
    example = torch.zeros((2, *images.shape), dtype=torch.uint8)
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    graph = torch.export.export(model.requires_grad_(False), (example,), dynamic_shapes=shapes).module()
    return in_turns([lambda turn: graph(example[:1])], quantile=0.0)[0].milliseconds
