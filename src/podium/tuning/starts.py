"""Configurations that a search begins with: a portfolio that was learnt on other problems (`search.starts`).

benchmarks/portfolio.py makes the file, and tells how much it helps on a problem that it was not learnt on.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from podium.config.recipe import Recipe
from podium.config.search_section import SearchParams
from podium.errors import InputError
from podium.tuning.optuna_private import contains
from podium.tuning.study import distribution, ordered

FILE = Path(__file__).with_name("portfolio.json")
DECISIVE = ("train.optimizer", "train.schedule", "train.learning_rate", "train.momentum")
"""What a start is about: where one of these can't be as it says, it is another configuration, and left out."""
START = "start"
"""User attribute of a trial that is one of them."""


def starts(params: SearchParams, base: Recipe) -> list[dict[str, Any]]:
    """The portfolio's configurations in the space of `params`, by dimension, cheapest first; none where it is off.

    A dimension that a configuration does not have, or whose range lacks its value, is left to the sampler. Raises
    InputError where no configuration can be tried.
    """
    if params.starts == "none":
        return []
    known = json.loads(FILE.read_text(encoding="utf-8"))["starts"]
    found = [values for one in known if (values := _within(one, params, base)) is not None]
    distinct = [one for place, one in enumerate(found) if one not in found[:place]]
    if not distinct:
        raise InputError(
            f"search.starts: none of the portfolio's {len(known)} configurations can be tried: each needs its values of"
            f" {', '.join(DECISIVE)} within search.space, or as in train. Widen search.space, or set starts: none"
        )
    return distinct


def _within(start: Mapping[str, Any], params: SearchParams, base: Recipe) -> dict[str, Any] | None:
    """The values of `start` that the space has; None where one that decides is not to be had."""
    fields, values = base.flat(), dict[str, Any]()
    for name in ordered(params.space):
        dimension = params.space[name]
        there = all((fields | values).get(other) in wanted for other, wanted in dimension.when.items())
        if there and name in start and contains(distribution(name, dimension), start[name]):
            values[name] = start[name]
    now = base.replace(values).flat()
    return values if values and all(now.get(name) == start[name] for name in DECISIVE if name in start) else None
