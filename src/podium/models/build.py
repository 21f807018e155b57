"""A network as it is trained, evaluated and served: raw uint8 images in, logits out.

Normalisation is its first layer, so training and serving can't differ.
"""

import copy

import torch
from torch import nn

from podium import own_code
from podium.config.recipe import PACKAGED, ModelParams
from podium.models.backbone import Backbone, load_weights
from podium.models.layers import Normalize, whole_of
from podium.models.networks import ImageSpec, OwnNetwork
from podium.models.weight_files import IMAGENET_STATISTICS, Statistics, located, packaged

BODY = 1
"""Where the network begins, after the normalisation."""
KEPT = 256_000_000
"""Bytes of weights up to which a process keeps a network as its file gives it: building it again costs a tenth of a
second and more, an epoch of a head ten milliseconds."""
_kept: dict[tuple[object, ...], nn.Sequential] = {}
"""The last such network, by all that it depends on."""


def build_model(params: ModelParams, images: ImageSpec) -> nn.Sequential:
    """The network that `params` names for `images`: uint8 (N, C, H, W) in, logits (N, classes) out.

    Its weights are random: `params.weights` is read where a training begins. Raises InputError where the network can't
    take such images.
    """
    body = params.network().build(images)
    layers = list(body) if type(body) is nn.Sequential else [body]
    every = [Normalize(*normalisation(params, images)), *layers]
    return whole_of(every, mirrored=params.flip_average, side=params.crop_average)


def normalisation(params: ModelParams, images: ImageSpec) -> Statistics:
    """Mean and standard deviation of each channel that `model.normalize` stands for, on a scale of 0 to 1."""
    found: Statistics | None = None
    if params.normalize == "imagenet":
        found = IMAGENET_STATISTICS
    elif params.normalize == "none":
        found = ((0.0,) * images.shape[0], (1.0,) * images.shape[0])
    elif params.normalize == "weights" and params.weights and (network := params.network()).TAKES_WEIGHTS:
        found = packaged(params.name).statistics if params.weights == PACKAGED else network.pretrained_statistics()
    mean, std = found or (images.mean, images.std)
    return mean[: images.shape[0]], std[: images.shape[0]]


def initial_model(params: ModelParams, images: ImageSpec, *, frozen: bool = False) -> nn.Module:
    """The network with its first weights: random ones, or those of a file. `frozen`: only its head is to learn."""
    network = params.network()
    if not (params.weights and network.TAKES_WEIGHTS):
        model = build_model(params, images)
    elif isinstance(network, OwnNetwork):
        model = _with_weights(params, images)
    else:
        model = _as_its_file_gives_it(params, images)
    backbone = backbone_of(model)
    if backbone is not None and frozen:
        backbone.freeze()
    return model


def _with_weights(params: ModelParams, images: ImageSpec) -> nn.Sequential:
    """The network once it has read `params.weights`."""
    model = build_model(params, images)
    in_order = params.weights == PACKAGED
    # An own network may be several layers in a row: its file has the names of all of them.
    body = backbone_of(model) or (model[1] if len(model) == BODY + 1 else nn.Sequential(*list(model)[BODY:]))
    notes = load_weights(body, located(params.name, params.weights), in_order=in_order)
    if not in_order:
        vars(model)["notes"] = notes
    return model


def _as_its_file_gives_it(params: ModelParams, images: ImageSpec) -> nn.Sequential:
    """The library's network that `params` names with its weights; what they leave to chance is drawn for each anew.

    Whether the process has it already changes no number: it is built from random numbers of its own.
    """
    file = located(params.name, params.weights)
    state = file.stat() if file.is_file() else None
    key = (params.model_dump_json(), images, file.absolute(), state and (state.st_mtime_ns, state.st_size))
    model = _kept.get(key)
    if model is None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            model = _with_weights(params, images)
        _kept.clear()
        if sum(tensor.nbytes for tensor in model.state_dict().values()) <= KEPT:
            _kept[key] = model
    try:
        model = copy.deepcopy(model)
    except (RuntimeError, TypeError):  # a network may hold what can't be copied, such as results of a pass
        return _with_weights(params, images)
    backbone = backbone_of(model)
    return model if backbone is None or backbone.start_heads() else _with_weights(params, images)


def model_on(device: torch.device, params: ModelParams, images: ImageSpec, *, frozen: bool = False) -> nn.Module:
    """The same on `device`, in the layout of memory that is fast there, where the network works in it."""
    model = initial_model(params, images, frozen=frozen).to(device)
    network = params.network()
    fast = device.type == "cuda" or network.CHANNELS_LAST
    if fast and (not isinstance(network, OwnNetwork) or _takes_channels_last(model, images, device)):
        model = model.to(memory_format=torch.channels_last)
    return model


def _takes_channels_last(model: nn.Module, images: ImageSpec, device: torch.device) -> bool:
    """Whether `model`, with somebody's own network, can be called in that layout, in both modes.

    `x.view(len(x), -1)` after a convolution can't: torch raises an error. A copy is tried, and draws no random number
    of the training's. A network that fails for another reason fails again where that is reported.
    """
    batch = torch.zeros((2, *images.shape), dtype=torch.uint8, device=device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        try:
            tried = copy.deepcopy(model).to(memory_format=torch.channels_last)
            for mode in (False, True):
                tried.train(mode)(batch)
        except own_code.RAISED:
            return False
    return True


def notes_of(model: nn.Module) -> list[str]:
    """What of a file of weights was taken or left out for `model`."""
    return list(vars(model).get("notes", []))


def backbone_of(model: nn.Module) -> Backbone | None:
    """The network of a library's inside `model`; None where it is one of our own."""
    return next((module for module in model.modules() if isinstance(module, Backbone)), None)
