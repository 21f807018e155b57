"""Readers of raw images, one file per kind; `read` is the one way in."""

from pathlib import Path

from podium.config.params import PrepareParams
from podium.data.sources.item import Source


def read(params: PrepareParams, *, follow_links: bool = False) -> Source:
    """The images of `params.source`, none of them decoded yet. Raises InputError where it does not exist.

    `follow_links`: links that leave a folder are followed instead of rejected.
    """
    kind, _, name = params.source.partition(":")
    if kind == "folder":
        from podium.data.sources import folder

        return folder.read(Path(name), follow_links=follow_links)
    if kind == "csv":
        from podium.data.sources import csv_table

        return csv_table.read(Path(name), Path(params.root), follow_links=follow_links)
    if kind == "torchvision":
        from podium.data.sources import torchvision

        return torchvision.read(name, params.root, dict(params.arguments), download=params.download)
    from podium.data.sources import digits

    return digits.read()
