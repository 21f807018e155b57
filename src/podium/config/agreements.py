"""What parameters of several sections must agree on, in sentences; each section by itself is whole already."""

from typing import TYPE_CHECKING, Any

from podium import components
from podium.config.limits import COSTS, metrics_of
from podium.config.section import made_of
from podium.config.space import reachable

if TYPE_CHECKING:
    from podium.config.params import Params

BY_SHARE = ("constant", "cosine", "one_cycle")
"""Schedules that go by the share of the training that is done."""
MULTIPLIED = {
    "model.members": 64,
    "train.epochs": 10_000,
    "train.data_fraction_epochs": 10_000,
    "train.batch_size": 65_536,
}
"""What retrain.members multiplies, and how large each may be."""


def disagreements(params: "Params") -> list[str]:
    """Each problem as `section.field: rule; got value`."""
    return _margin(params) + _abstain(params) + _labels(params) + _members(params)


def _labels(params: "Params") -> list[str]:
    """Two metrics of one name would overwrite each other's values in every epoch."""
    named = [("search.metric", one) for one in params.search.metrics]
    named += [("evaluate.metrics", one) for one in params.evaluate.metrics]
    named += [("search.limits", one) for one in metrics_of(params.search.limits)]
    first: dict[str, tuple[str, str, Any]] = {}
    found = []
    for place, one in named:
        metric = made_of("metric", one, {})
        other, name, known = first.setdefault(metric.label, (place, one.name, metric))
        if known != metric:
            found.append(
                f"{place}: {one.name} would be logged as val_{metric.label}, as {name} of {other} is: rename one of"
                " them, or name the same with the same arguments"
            )
    return found


def _abstain(params: "Params") -> list[str]:
    """A threshold can't be chosen on images that the model has learnt: it makes hardly any error on them."""
    if params.evaluate.abstain is None or params.retrain.images == "train":
        return []
    return [
        "evaluate.abstain: its threshold is chosen on the validation images, which the model must not have learnt."
        " Write retrain.images: train, so that they are left to it, or evaluate.abstain: null, so that the model learns"
        f" them too and answers every image; got {params.evaluate.abstain:g} with retrain.images:"
        f" {params.retrain.images}"
    ]


def _members(params: "Params") -> list[str]:
    """Several networks are each trained as the search trained one, and no cost that the search counted is theirs."""
    members = params.retrain.members
    if members == 1:
        return []
    named = reachable(params.recipe(), params.search.space)
    known = [one for one in params.search.limits if one in COSTS]
    known += [one.name for one in params.search.aims if one.name in COSTS]
    problems = [
        *(
            f"only networks with model.members can be several, which {name} can't: set it to 1, or model.name to resnet"
            for kind, name in named
            if kind == "network" and "members" not in getattr(components.find(kind, name), "model_fields", ())
        ),
        *(
            f"there are {members} times as many epochs, by which the schedule {name} may count: set it to 1, or"
            f" train.schedule to one of {', '.join(BY_SHARE)}"
            for kind, name in named
            if kind == "schedule" and name not in BY_SHARE
        ),
        *(f"{name} trains by itself: set it to 1" for kind, name in named if kind == "program"),
        *(
            f"the search counts {cost} for one network, and the model would have {members}: set it to 1, and"
            f" model.members to {members} if the search is to train as many"
            for cost in dict.fromkeys(known)
        ),
        *(
            f"{name} times the members must be at most {most}; got {value} times {members}"
            for name, most in MULTIPLIED.items()
            if (value := _largest(params, name)) * members > most
        ),
    ]
    return [f"retrain.members: {problem}" for problem in problems]


def _largest(params: "Params", name: str) -> int:
    """Of the values that a configuration may have at the field `name`."""
    given = params.recipe().flat().get(name, 0)
    space = params.search.space
    values = [given, *(space[name].values() if name in space else [])]
    return max(int(one) for one in values if isinstance(one, int))


def _margin(params: "Params") -> list[str]:
    """A margin as wide as the metric's range excludes nothing. A metric without bounds takes any."""
    metric = made_of("metric", params.gate.metric or params.search.metrics[0], {})
    low, high = metric.RANGE
    margin: float = params.gate.margin  # type: ignore[attr-defined] # declared by a rule of the gate
    if margin < high - low:
        return []
    return [
        f"gate.margin: must be below {high - low:g}, the width of the range of {metric.label} ({low:g} to {high:g}), or"
        f" every challenger would be no worse; got {margin:g}"
    ]
