"""What a network has to give before it can be trained or registered: logits of the right form, which depend on
the image and on weights that torch knows of alone, and a graph that torch.export takes.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from podium import own_code
from podium.errors import InputError


def check_logits(logits: Any, count: int, classes: int, parameter: str, name: str) -> None:
    """Raise InputError where `logits` of `count` images are not (count, classes) finite floats."""
    at, when = own_code.at(name), ", before any training" if parameter == "model.name" else ""
    if not isinstance(logits, Tensor) or tuple(logits.shape) != (count, classes) or not logits.is_floating_point():
        raise InputError(
            f"{parameter}: {name} must give logits, floats of shape (images, classes), here ({count}, {classes});"
            f" it gave {own_code.described(logits)}{_logits_remedy(logits, count, classes)}{at}"
        )
    if not bool(torch.isfinite(logits).all()):
        raise InputError(f"{parameter}: {name} gives logits that are not finite numbers{when}{at}")
    if classes > 1 and bool((logits >= 0).all()) and bool(((logits.sum(1) - 1).abs() < 1e-3).all()):
        raise InputError(
            f"{parameter}: {name} gives probabilities (they add up to 1), not logits; loss and registered model apply"
            f" the softmax themselves: return what goes into yours{at}"
        )


def _logits_remedy(given: Any, count: int, classes: int) -> str:
    """What to return in the place of `given`, where that is clear."""
    if isinstance(given, tuple | list):
        fits = [k for k, one in enumerate(given) if isinstance(one, Tensor) and tuple(one.shape) == (count, classes)]
        which = f", its element {fits[0]}" if len(fits) == 1 else ""
        return f": return the logits alone{which}; what else a loss needs, as of auxiliary heads, takes train.program"
    if isinstance(given, Tensor) and given.dim() > 2 and tuple(given.shape[:2]) == (count, classes):
        return ": average over its other dimensions, or flatten before the last layer"
    return ""


def check_predictions(model: nn.Module, images: Tensor, classes: int, parameter: str, name: str) -> None:
    """Raise InputError where `model`, in eval mode, gives other logits for `images` (N, C, H, W) uint8 when it is
    called again, or for the first of them alone.

    The tolerances are of rounding, which differs between sizes of batches.
    """
    model.eval()
    with torch.inference_mode():
        first, again, single = model(images), model(images), model(images[:1])
    check_logits(first, len(images), classes, parameter, name)
    check_logits(single, 1, classes, parameter, name)
    at = own_code.at(name)
    if not _alike(first, again):
        raise InputError(
            f"{parameter}: {name} gives other logits for the same images when it is called again in eval mode: it keeps"
            f" state between calls, or draws random numbers; a registered model must not{at}"
        )
    if not torch.allclose(first[:1], single, rtol=1e-2, atol=1e-3 * max(1.0, float(first.abs().max()))):
        raise InputError(
            f"{parameter}: {name} gives other logits for an image alone than for the same image among {len(images)}, in"
            f" eval mode: it looks at the other images of the batch; a registered model must not{at}"
        )


def check_weights(model: nn.Module, logits: Tensor, parameter: str, name: str) -> None:
    """Raise InputError where `logits`, which `model` gave in train mode, come from weights that are none of its
    parameters: no optimizer would get them, and no checkpoint."""
    if not logits.requires_grad:
        raise InputError(
            f"{parameter}: {name} gives logits without a gradient in train mode: nothing can be learned. It has no"
            f" parameters that take part in them, or leaves torch (detach, numpy, no_grad){own_code.at(name)}"
        )
    known, held = {id(one) for one in model.parameters()}, _held(model)
    others = [one for one in _leaves(logits) if id(one) not in known]
    # A first state that forward makes with requires_grad_() is new each time, and no weight.
    if foreign := [own_code.described(one) for one in others if isinstance(one, nn.Parameter) or id(one) in held]:
        raise InputError(
            f"{parameter}: {name} computes with weights that are no parameters of it, {foreign[0]} among them: they"
            " would be neither trained nor saved. Hold layers as attributes, in nn.ModuleList or in nn.ModuleDict, and"
            f" tensors in nn.Parameter{own_code.at(name)}"
        )
    if strange := [key for key, one in model.named_parameters() if one.is_complex()]:
        raise InputError(
            f"{parameter}: {name} has complex weights ({strange[0]}), which Podium neither averages nor optimizes: hold"
            f" them as real numbers, and use torch.view_as_complex in forward{own_code.at(name)}"
        )


def check_rebuilt(model: nn.Module, build: Callable[[], nn.Module], images: Tensor, parameter: str, name: str) -> None:
    """Raise InputError where `build`, which gave `model`, does not give a new network each time, or one that with the
    weights of `model` has other logits for `images` (N, C, H, W) uint8: each trial begins with a new network, and a
    saved one is its weights in a new one."""
    again, at = build(), own_code.at(name)
    known = {id(one) for one in model.parameters() if one.requires_grad}
    if shared := [key for key, one in again.named_parameters() if id(one) in known]:
        raise InputError(
            f"{parameter}: {name} gives a network that shares weights with the one before ({shared[0]}): a trial"
            f" would go on with those of another: create every layer in the constructor{at}"
        )
    try:
        again.load_state_dict(model.state_dict())
    except RuntimeError as error:
        raise InputError(
            f"{parameter}: {name} gives another network each time, which can't take the weights of the first"
            f" ({own_code.blame(error)}): create the same layers in each constructor and none in forward; nn.LazyLinear"
            f" finds its size by itself{at}"
        ) from error
    with torch.inference_mode():
        first, second = model.eval()(images), again.eval()(images)
    if not torch.allclose(first, second, rtol=1e-3, atol=1e-4 * max(1.0, float(first.abs().max()))):
        raise InputError(
            f"{parameter}: {name} gives other logits once its weights were saved and loaded: it computes with numbers"
            " that are not in its state_dict and differ from network to network. Register tensors (a"
            f" persistent register_buffer, nn.Parameter), and draw none elsewhere{at}"
        )


def _held(model: nn.Module) -> set[int]:
    """The ids of the tensors that are plain attributes of `model` or of a module in it."""
    return {id(one) for module in model.modules() for one in vars(module).values() if isinstance(one, Tensor)}


def _leaves(value: Tensor) -> Iterator[Tensor]:
    """The tensors with a gradient that `value` was computed from."""
    seen, waiting = set(), [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(leaf := getattr(node, "variable", None), Tensor):
            yield leaf
        waiting += [before for before, _ in node.next_functions]


def check_export(model: nn.Module, shape: tuple[int, ...], parameter: str, name: str) -> None:
    """Raise InputError where torch can't export `model`, of uint8 images of `shape` (C, H, W)."""
    exported(model, shape, f"{parameter}: {name}", own_code.at(name))


def exported(model: nn.Module, shape: tuple[int, ...], named: str, at: str = "") -> Any:
    """The graph of a copy of `model`, on the CPU and in eval mode, for batches of any size.

    Raises InputError where torch can't export it, beginning with `named` and ending with `at`.
    """
    example, whole = torch.zeros((2, *shape), dtype=torch.uint8), copied(model, named, at)
    try:
        whole.cpu().eval().requires_grad_(False)
        return torch.export.export(whole, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    except own_code.RAISED as error:  # its own errors, the compiler's, those of the network
        remedy = (
            "torch.export takes no branch that depends on the values of a tensor (`if x.sum() > 0`): write torch.where"
        )
        if ".numpy()" in str(error).partition("\n")[0]:  # below, torch quotes paths and lines of code
            remedy = "torch.export takes what torch computes alone: write it with torch's functions instead of NumPy's"
        if any(isinstance(one, torch.jit.ScriptModule) for one in model.modules()):
            remedy = "It has a scripted module (torch.jit): torch.export takes the one that was scripted"
        raise InputError(
            f"{named} can't be exported, so it could not be registered: {own_code.blame(error)}. {remedy}{at}"
        ) from error


def copied(model: nn.Module, named: str, at: str = "") -> nn.Module:
    """A copy of `model`. Raises InputError where there is none, as in `exported`."""
    try:
        return copy.deepcopy(model)
    except own_code.RAISED as error:
        if named.startswith("train.program"):  # nothing but its export needs the copy, which a lock beside it may share
            return own_code.fresh(model)  # type: ignore[no-any-return]
        raise InputError(
            f"{named} can't be copied, so it could not be averaged, exported or registered: {own_code.blame(error)}."
            " Keep open files, locks, generators and tensors that forward computed out of its attributes; norms of"
            f" weights are in torch.nn.utils.parametrizations{at}"
        ) from error


def _alike(first: Tensor, again: Tensor) -> bool:
    """Whether two calls gave the same: to the bit on the CPU, where a GPU may add in another order."""
    return torch.equal(first, again) if first.device.type == "cpu" else torch.allclose(first, again, 1e-3, 1e-4)
