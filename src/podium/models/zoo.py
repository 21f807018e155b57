"""torchvision's classification networks by name, with a head for our classes and, where asked, weights from a file."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from podium.config.recipe import ModelParams
from podium.config.zoo import PREFIX
from podium.errors import InputError

AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""Weights of the side classifiers of googlenet and inception_v3, which are built without them."""
SHOWN = 3
"""Names of weights in an error."""


class Zoo(nn.Module):
    """A network of torchvision's; its last linear layer or convolution is the head, everything else the backbone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.head_name = _head(network)
        self.frozen = False

    @property
    def head(self) -> nn.Module:
        """The layer that gives the logits."""
        return self.network.get_submodule(self.head_name)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, H, W); grey ones (N, 1, H, W) become three equal channels."""
        logits: Tensor = self.network(images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images)
        return logits

    def freeze(self) -> None:
        """Let the head alone learn: the backbone's weights and running statistics stay as they are."""
        self.frozen = True
        self.requires_grad_(False)
        self.head.requires_grad_(True)

    def train(self, mode: bool = True) -> "Zoo":
        """Training mode, which a frozen network does not enter."""
        super().train(mode and not self.frozen)
        return self


def layers(params: ModelParams, shape: tuple[int, int, int], classes: int) -> list[nn.Module]:
    """The network that `params.name` names, for images of `shape` (C, H, W). Raises InputError where it can't be."""
    import torchvision.models  # 1 s, and only this kind of network needs it

    name = params.name.removeprefix(PREFIX)
    channels, height, width = shape
    options: dict[str, object] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": False}
    elif name.startswith("vit_"):
        options = {"image_size": height}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            network = torchvision.models.get_model(name, weights=None, num_classes=classes, **options)
        zoo = Zoo(network).eval()
        with torch.inference_mode():
            zoo(torch.zeros((2, channels, height, width)))
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        raise InputError(
            f"model.name: {params.name} can't take images of {channels}x{height}x{width}"
            f" ({' '.join(str(error).split())[:200]}); most of torchvision's networks need 32 to 224 pixels a side:"
            " prepare larger images, or take cnn or resnet"
        ) from None
    return [zoo.train()]


def load_weights(zoo: Zoo, path: Path) -> None:
    """Put the weights of the state dict in `path` into `zoo`; a head for other classes is left out and starts afresh.

    Raises InputError where the file is missing, no state dict, or one of another network.
    """
    state = _read(path)
    own = zoo.network.state_dict()
    heads = [f"{zoo.head_name}.{key}" for key in zoo.head.state_dict()]
    other_classes = any(key in state and state[key].shape != own[key].shape for key in heads)
    left_out = set(heads) if other_classes else set()
    known = {k: v for k, v in state.items() if k not in left_out and not k.startswith(AUXILIARY)}
    wrong = [f"{k} is missing" for k in own if k not in known and k not in left_out]
    wrong += [f"{k} is unknown" for k in known if k not in own]
    wrong += [
        f"{k} is {tuple(v.shape)} instead of {tuple(own[k].shape)}"
        for k, v in known.items()
        if k in own and v.shape != own[k].shape
    ]
    if wrong:
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise InputError(f"model.weights: {path} is not of this network: {', '.join(wrong[:SHOWN])}{more}")
    zoo.network.load_state_dict(known, strict=False)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"model.weights: {path} is missing: put the file there, or set model.weights to ''")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise whatever a broken file makes of them
        raise InputError(f"model.weights: {path} can't be read: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(
            f"model.weights: {path} must hold a state dict, tensors by name; got {type(state).__name__}"
            " (save a network's with torch.save(network.state_dict(), ...))"
        )
    return state


def _head(network: nn.Module) -> str:
    """The name of the last linear layer or convolution, in the order of registration."""
    names: list[str] = [name for name, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    return names[-1]
