"""Latencies of the confirmation's runs: not on the scale of the search's, as other processes ran beside them.

A latency is a ratio to a reference computation, and load lengthens that of a small network more than that of a large
one (docs/decisions/2026-11-30-fresh-latency.md). So fresh latencies are compared with each other only.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean, geometric_mean
from typing import Any

from podium.config.limits import LATENCY
from podium.text import against, given
from podium.tuning.feasibility import network_of
from podium.tuning.front_choice import means_of, values_of
from podium.tuning.pareto import Preference


def pooled(runs: Sequence[dict[str, Any]], candidates: Sequence[Mapping[str, Any]]) -> None:
    """Give each of `runs`, what was found of the candidate at its place, the mean latency of its network's.

    Candidates of one network differ in their training, which has no part in it.
    """
    found: dict[str, list[float]] = {}
    named = [(network_of(one["recipe"]), run) for one, run in zip(candidates, runs, strict=True)]
    named = [(network, run) for network, run in named if LATENCY in run.get("means", {})]
    for network, run in named:
        found.setdefault(network, []).extend([run["means"][LATENCY]] * len(run["values"]))
    for network, run in named:
        run["means"][LATENCY] = fmean(found[network])


def on_fresh_scale(
    preference: Preference, front: Sequence[Mapping[str, Any]], tried: Sequence[Mapping[str, Any]]
) -> Preference:
    """`preference` over the search's `front`, with the means of the fresh runs where there are some.

    The latency of the others, which only the search has measured, is taken to be as many times longer as those of
    `tried` are.
    """
    aims = preference.aims
    if len(aims) == 1:
        return preference
    fresh = {entry["trial"]: means_of(entry, aims) for entry in tried if entry["values"]}
    both = [(entry["means"].get(LATENCY, 0), entry["metrics"].get(LATENCY, 0)) for entry in tried if entry["values"]]
    times = [after / before for after, before in both if after > 0 and before > 0]
    longer = geometric_mean(times) if times else 1.0
    values = [
        fresh.get(entry["trial"])
        or [
            value * longer if aim.name == LATENCY else value
            for aim, value in zip(aims, values_of(entry, aims), strict=True)
        ]
        for entry in (front or tried)
    ]
    return Preference.of(preference.rule, aims, values)


def beyond(chosen: Mapping[str, Any], limits: Mapping[str, float]) -> list[str]:
    """What a person should know where the fresh runs' latency is longer than search.limits allows."""
    took = chosen.get("means", {}).get(LATENCY, 0.0)
    if LATENCY not in limits or took <= limits[LATENCY]:
        return []
    return [
        f"  latency_ms {against(took, limits[LATENCY])} in the fresh runs: other processes lengthen it; in the search"
        f" it satisfied search.limits ({given(limits[LATENCY])})"
    ]
