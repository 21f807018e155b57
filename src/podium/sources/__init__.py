"""Readers of raw images, one file a kind; `read` is the one way in."""

from podium.errors import InputError
from podium.params import PrepareParams
from podium.sources.images import RawImages


def read(params: PrepareParams) -> RawImages:
    """Every image of `params.source`. Raises InputError where it does not exist or can't be read."""
    kind, _, name = params.source.partition(":")
    if kind == "digits":
        from podium.sources import digits

        return digits.read()
    if kind == "torchvision":
        from podium.sources import torchvision

        return torchvision.read(name, params.root, download=params.download)
    raise InputError(f"prepare.source: must be digits or torchvision:<class>; got {params.source!r}")
