"""The parts of a torch module that its public methods show only in part, or more slowly."""

from typing import Any

from torch import nn

from podium.private_names import private_or_public

SLOWER = "the parts of a network are looked up among all of its modules"


def parts_of(module: nn.Module) -> dict[str, Any]:
    """The parameters, buffers and modules that `module` itself has, by name, also what it has under two names.

    The public way leaves out those that are None.
    """

    def by_methods() -> dict[str, Any]:
        every = {name: one for name, one in module.named_modules(remove_duplicate=False) if name and "." not in name}
        return {
            **dict(module.named_parameters(recurse=False, remove_duplicate=False)),
            **dict(module.named_buffers(recurse=False, remove_duplicate=False)),
            **every,
        }

    return private_or_public(
        "torch", SLOWER, lambda: {**module._parameters, **module._buffers, **module._modules}, by_methods
    )


def has_buffer(holder: Any, name: str) -> bool:
    """Whether `name` is a buffer of `holder` itself, also one that is None."""
    if not isinstance(holder, nn.Module):
        return False

    def by_methods() -> bool:
        there = dict(holder.named_buffers(recurse=False, remove_duplicate=False))
        return name in there or (name not in vars(holder) and getattr(holder, name, holder) is None)

    return private_or_public("torch", SLOWER, lambda: name in holder._buffers, by_methods)


def unsaved_buffers(module: nn.Module) -> set[str]:
    """The names of those buffers of `module` itself that its state dict does not have (`persistent=False`)."""

    def by_state() -> set[str]:
        own = dict(module.named_buffers(recurse=False, remove_duplicate=False))
        return own.keys() - module.state_dict(keep_vars=True).keys()

    return private_or_public("torch", SLOWER, lambda: set(module._non_persistent_buffers_set), by_state)
