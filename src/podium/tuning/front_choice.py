"""The choice on the Pareto front of a search for several metrics: who is confirmed, who is chosen, what is given up."""

from collections.abc import Mapping, Sequence
from typing import Any

from podium.config.aims import Aim
from podium.config.limits import LATENCY
from podium.config.params import SelectParams
from podium.text import counted, number
from podium.tuning.pareto import Preference, given_up, shown


def by_rule(ranking: list[dict[str, Any]], preference: Preference) -> list[dict[str, Any]]:
    """`ranking`, of several metrics the Pareto front, in the order of `select.rule`; of one metric as it is."""
    if len(preference.aims) == 1:
        return ranking
    order = {entry["trial"]: preference.score(values_of(entry, preference.aims)) for entry in ranking}
    return sorted(ranking, key=lambda entry: order[entry["trial"]], reverse=True)  # equal ones stay as they are


def values_of(entry: Mapping[str, Any], aims: Sequence[Aim]) -> list[float]:
    """The values in the search of each of several `aims`."""
    return [entry["metrics"][aim.name] for aim in aims]


def means_of(entry: Mapping[str, Any], aims: Sequence[Aim]) -> list[float]:
    """The means over the fresh seeds of each of `aims`."""
    return [entry["mean"]] if len(aims) == 1 else [entry["means"][aim.name] for aim in aims]


def preference_of(select: SelectParams, best: dict[str, Any], front: list[dict[str, Any]]) -> Preference:
    """select.rule over what the search has found."""
    aims = Aim.read(best)
    return Preference.of(select.rule, aims, [values_of(entry, aims) for entry in front] if len(aims) > 1 else [])


def about_front(
    select: SelectParams, preference: Preference, front: list[dict[str, Any]], chosen: dict[str, Any]
) -> dict[str, Any]:
    """What config.json has beyond that where there are several metrics.

    What was given up is told of the other candidates, and of the rest of the front as the search saw it; not of its
    latency, which was measured beside other processes than the chosen one's.
    """
    aims, trial = preference.aims, chosen["trial"]
    tried = [c for c in chosen["candidates"] if c["mean"] is not None and not c.get("over_limits")]
    means = next(c["means"] for c in tried if c["trial"] == trial)
    names = [aim.name for aim in aims]
    left = [e for e in front if e["trial"] not in [c["trial"] for c in chosen["candidates"]]]
    others = [c for c in tried if c["trial"] != trial] + [
        {"trial": entry["trial"], "means": {k: v for k, v in entry["metrics"].items() if k != LATENCY}}
        for entry in left
    ]
    lost = given_up({"means": means}, others, aims) if others else []
    confirmed = {c["trial"] for c in tried}
    return {
        "aims": names,
        "rule": select.rule,
        "means": means,
        "front": len(front),
        "search_best": front[0]["trial"],
        "given_up": [one | {"confirmed": one["trial"] in confirmed} for one in lost],
    }


def about_choice(chosen: dict[str, Any], aims: Sequence[Aim]) -> list[str]:
    """What a person should know of a choice among several metrics."""
    count, rule = len(chosen["candidates"]), chosen["rule"]
    rule = rule if isinstance(rule, str) else f"weights {rule['weights']}"
    lines = [f"  by select.rule {rule} among {counted(count, 'candidate')} of {chosen['front']} on the Pareto front:"]
    lines[0] += f" {shown(chosen['means'], aims)}"
    for one in chosen["given_up"]:
        how = "on fresh seeds" if one["confirmed"] else "in the search, not confirmed"
        others = shown(one["means"], aims)
        lines.append(f"  given up: {one['metric']} {number(one['by'])} (trial {one['trial']}: {others} {how})")
    if count < chosen["front"]:
        lines.append(f"  select.top_k: {chosen['front']} confirms the whole front")
    lines.append(f"  retraining, evaluation and the promotion gate use {chosen['metric']}")
    return lines


def confirmed_means(chosen: dict[str, Any]) -> dict[str, float]:
    """Of several metrics the means over the fresh seeds of those beside the first, as metrics of the search's run."""
    return {f"confirmed_mean_{name}": chosen["means"][name] for name in chosen.get("aims", [])[1:]}
