"""Readers of raw images, one file a kind; `read` is the one way in."""

from pathlib import Path

from podium.params import PrepareParams
from podium.sources.items import Source


def read(params: PrepareParams, *, follow_links: bool = False) -> Source:
    """The images of `params.source`, none of them decoded yet. Raises InputError where it does not exist.

    `follow_links`: links that leave a folder are followed instead of rejected.
    """
    kind, _, name = params.source.partition(":")
    if kind == "folder":
        from podium.sources import folder

        return folder.read(Path(name), follow_links=follow_links)
    if kind == "csv":
        from podium.sources import table

        return table.read(Path(name), Path(params.root), follow_links=follow_links)
    if kind == "torchvision":
        from podium.sources import torchvision

        return torchvision.read(name, params.root, dict(params.arguments), download=params.download)
    from podium.sources import digits

    return digits.read()
