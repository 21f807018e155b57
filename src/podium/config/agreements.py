"""What parameters of several sections must agree on, in sentences; each section by itself is whole already."""

from typing import TYPE_CHECKING, Any

from podium import components
from podium.config.limits import COSTS, metrics_of
from podium.config.section import made_of
from podium.config.space import reachable

if TYPE_CHECKING:
    from podium.config.params import Params


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
    """Of several networks only those that know it are made, and no cost that the search counted is theirs."""
    members = params.retrain.members
    if members == 1:
        return []
    networks = [name for kind, name in reachable(params.recipe(), params.search.space) if kind == "network"]
    others = [one for one in networks if "members" not in getattr(components.find("network", one), "model_fields", ())]
    known = [one for one in params.search.limits if one in COSTS]
    known += [one.name for one in params.search.aims if one.name in COSTS]
    found = []
    if others:
        found.append(
            f"retrain.members: only networks with model.members can be several, which {' and '.join(others)} can't:"
            f" write retrain.members: 1, or model.name: resnet; got {members}"
        )
    if known:
        found.append(
            f"retrain.members: the search counts {' and '.join(dict.fromkeys(known))} for one network, and the model"
            f" would have {members}. Write retrain.members: 1, and model.members: {members} if the search is to train"
            " as many"
        )
    found += [
        f"retrain.members: {name} times the members must be at most {most}; got {value} times {members}"
        for name, most, value in (
            ("train.epochs", 10_000, params.train.epochs),
            ("train.batch_size", 65_536, params.train.batch_size),
        )
        if value * members > most
    ]
    return found


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
