"""The confirmation: the best configurations again on fresh seeds, chosen by mean.

The best of a hundred single runs is the best partly by luck; how much of its lead was luck is measured here. It is a
study like the search's, of given trials, so that it survives the same kills and is mirrored in the same way.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, geometric_mean, stdev
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from podium.closure import code_digest, code_of, versions_of
from podium.components import Choice
from podium.config.aims import Aim
from podium.config.limits import LATENCY, described
from podium.config.params import Params, RuntimeParams, SearchParams, SelectParams
from podium.config.recipe import Recipe
from podium.config.space import reachable
from podium.data.dataset import DatasetInfo, write_json
from podium.errors import InputError, PodiumError
from podium.models.weight_files import digests
from podium.text import number
from podium.tracking.mirror import Parent
from podium.training.seeds import derive
from podium.tuning import feasibility, session
from podium.tuning.folds import LearningSet, assign, warning
from podium.tuning.fresh_latency import beyond, on_fresh_scale, pooled
from podium.tuning.front_choice import about_choice, about_front, by_rule, confirmed_means, means_of, preference_of
from podium.tuning.pareto import Preference
from podium.tuning.pools.placement import environment
from podium.tuning.study import name_of

UNCALIBRATED = (
    "select.calibrate: the probabilities stay as they are, since the confirmation trained at search.overrides and the"
    " retraining will not; `full_fidelity: true` calibrates them"
)


def confirm(params: Params, prepared: Path, searched: Path, out: Path) -> dict[str, Any]:
    """Run the best configurations of `searched` again and write the chosen one to out/config.json."""
    best = _read(searched / "best.json")
    found = distinct(_read(searched / "ranking.json"))
    preference = preference_of(params.select, best, found)
    ranking = by_rule(found, preference)[: params.select.top_k]
    whole = [entry | {"recipe": entry["recipe"] | best["whole"]} for entry in ranking]
    candidates = whole if params.select.full_fidelity else ranking
    images, folds = LearningSet.read(prepared), params.select.folds
    if text := warning(images, folds):
        print(text)
    held_out = _held_out(images, folds, best["seed"]) if folds else []
    plan = _plan(params.select, params.search, best, candidates, DatasetInfo.read(prepared), held_out, params.runtime)
    study, _ = session.run(plan, prepared, params.runtime, params.tracking)
    chosen = choose(study, candidates, best, params.search.limits, preference, found) | {"folds": folds}
    if len(preference.aims) > 1:
        chosen |= about_front(params.select, preference, found, chosen)
    if folds:  # other images judged: by how much the best value was lucky does not follow from that
        chosen["optimism"] = None
    alike = chosen["recipe"] == candidates[chosen["rank"]]["recipe"]
    if not params.select.calibrate or not alike:
        chosen["temperature"] = 1.0  # fitted to networks that are trained otherwise, it would mean nothing
    out.mkdir(parents=True, exist_ok=True)
    _log(params, study, best["study"], chosen)
    write_json(out / "metrics.json", _figures(chosen, best))
    write_json(out / "config.json", chosen)
    print(sentence(chosen))
    if len(preference.aims) > 1:
        print("\n".join(about_choice(chosen, preference.aims) + beyond(chosen, params.search.limits)))
    if params.select.calibrate and not alike:
        print(UNCALIBRATED)
    return chosen


def distinct(ranking: list[dict[str, Any]], count: int | None = None) -> list[dict[str, Any]]:
    """The first `count` entries of `ranking` whose recipes differ; without a number all."""
    found: list[dict[str, Any]] = []
    for entry in ranking:
        if all(entry["recipe"] != other["recipe"] for other in found):
            found.append(entry)
    return found[:count]


def choose(
    study: optuna.Study,
    candidates: list[dict[str, Any]],
    best: dict[str, Any],
    limits: Mapping[str, float] | None = None,
    preference: Preference | None = None,
    front: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """The candidate with the best mean over the fresh seeds that keeps `limits`; equal means go to the better rank.

    With several metrics the best is the first by `preference`, over the search's `front` as the fresh runs measure it.
    Of a limit on a metric the mean over the fresh seeds has to keep it. That on the latency was judged by the search: a
    longer time beside other processes is nothing against a network.

    `optimism` is by how much the search's best value was above the mean of its own configuration's fresh runs (for a
    loss: below); None where those trained otherwise than the trial did. The chosen recipe is the retraining's.
    `temperature` is the geometric mean of what its fresh runs found on the validation images, which the retrained
    network, having learnt them, can't be asked.
    """
    sign = -1 if best["direction"] == "minimize" else 1
    wanted = preference or Preference.of("first", Aim.read(best), [])
    judged = {name: limit for name, limit in (limits or {}).items() if name != LATENCY}
    runs = [_fresh(study, rank, judged, wanted.aims) for rank in range(len(candidates))]
    pooled(runs, candidates)
    tried = [entry | {"rank": rank} | fresh for rank, (entry, fresh) in enumerate(zip(candidates, runs, strict=True))]
    confirmed = [entry for entry in tried if entry["values"] and not entry.get("over_limits")]
    if not confirmed:
        raise PodiumError(_why_none(study, tried))
    wanted = on_fresh_scale(wanted, front, tried)
    first = tried[0]
    alike = first["recipe"] == best["recipe"]
    chosen = max(confirmed, key=lambda entry: wanted.score(means_of(entry, wanted.aims)))
    return {
        "study": best["study"],
        "metric": best["metric"],
        **{key: chosen[key] for key in ("trial", "rank", "value", "mean", "std", "values", "seeds", "temperature")},
        "recipe": chosen["recipe"] | best["whole"],
        "optimism": sign * (first["value"] - first["mean"]) if first["values"] and alike else None,
        "candidates": [{k: v for k, v in entry.items() if k != "recipe"} for entry in tried],
    }


def _newest(study: optuna.Study) -> list[FrozenTrial]:
    """One run of each candidate and seed, in the order of the plan: the last, where one was tried again."""
    trials = sorted(study.get_trials(deepcopy=False), key=lambda t: t.number)
    return list({(t.user_attrs["rank"], t.user_attrs["seed"]): t for t in trials}.values())


def _why_none(study: optuna.Study, tried: list[dict[str, Any]]) -> str:
    """The message if no run completed, or none keeps the limits."""
    if over := [f"trial {entry['trial']}: {entry['over_limits']}" for entry in tried if entry.get("over_limits")]:
        return (
            f"no candidate satisfies search.limits on fresh seeds: {'; '.join(over)}. Raise select.top_k for other"
            " candidates, or relax the limit"
        )
    runs = _newest(study)
    reasons = "; ".join(sorted({t.user_attrs.get("reason", "no reason was recorded") for t in runs}))
    remedy = "Fix that and run `dvc repro`: what failed is then tried again"
    if all(t.user_attrs.get("diverged") for t in runs):
        remedy = "Every try ends so: raise select.top_k for other candidates, or narrow search.space"
    return f"no candidate could be run again on a fresh seed: {reasons}. {remedy}"


def _fresh(study: optuna.Study, rank: int, limits: Mapping[str, float], aims: Sequence[Aim]) -> dict[str, Any]:
    """The fresh runs of the candidate of `rank`, as far as they completed."""
    runs = [t for t in _newest(study) if t.user_attrs["rank"] == rank]
    done = [t for t in runs if t.state == TrialState.COMPLETE and t.values]
    columns = [[float(t.values[place]) for t in done] for place in range(len(aims))]
    values = columns[0]
    temperatures = [t.user_attrs["temperature"] for t in done if "temperature" in t.user_attrs]
    every = [feasibility.figures(t.user_attrs) for t in done or runs]
    means = {name: fmean(one[name] for one in every) for name in every[0] if all(name in one for one in every)}
    over = described(limits, means) if limits else ""
    return (
        ({"over_limits": over} if over else {})
        | {
            "values": values,
            "temperature": geometric_mean(temperatures) if temperatures else 1.0,
            "seeds": [int(t.user_attrs["seed"]) for t in done],
            "mean": fmean(values) if values else None,
            "std": stdev(values) if len(values) > 1 else None,
            "failed": len(runs) - len(done),
        }
        | ({"means": {a.name: fmean(c) for a, c in zip(aims, columns, strict=True)}} if done and len(aims) > 1 else {})
    )


def _plan(
    select: SelectParams,
    search: SearchParams,
    best: dict[str, Any],
    candidates: list[dict[str, Any]],
    info: DatasetInfo,
    held_out: list[list[int]],
    runtime: RuntimeParams,
) -> session.Plan:
    reached = [pair for entry in candidates for pair in reachable(_recipe(entry), {})]
    facts: dict[str, Any] = {
        "search": best["study"],
        "candidates": [entry["recipe"] for entry in candidates],
        "seeds": select.seeds,
        "data": info.digest,
        "code": code_of(reached),
        "environment": environment(runtime, versions_of(reached)),
        "temperature": code_digest("podium.training.prediction"),
        "weights": {name: sha for entry in candidates for name, sha in digests(_recipe(entry), {}).items()},
    }
    if held_out:
        facts |= {"seeds": 0, "folds": held_out}
    trials: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for rank, entry in enumerate(candidates):
        for index in range(len(held_out) or select.seeds):
            fold = {"held_out": held_out[index]} if held_out else {}
            trials.append(({}, _attributes(rank, index, entry, best["seed"], fold)))
    params = search.model_copy(
        update={
            "n_trials": len(trials),
            "space": {},
            "limits": {name: limit for name, limit in search.limits.items() if name != LATENCY},
            "pruner": Choice(name="none"),
            "method": "optuna",  # these trials run to their ends
            "max_epochs": None,
            "until": "budget",
            "shared_epochs": False,  # and their number of epochs is chosen
            "deterministic": False,  # nothing is proposed or pruned: it is the same with any number of workers
            "sampler": Choice(name="random"),
            "timeout": None,
            "plateau": None,
            "trial_timeout": None,  # it is a trial's; and the clock is not to decide what is chosen
            "max_failures": len(trials) + 1,  # never: the runs are few, and `choose` reports why none completed
        }
    )
    parent = Parent(best["study"], {}, owned=False)
    return session.Plan(name_of("confirm", facts), facts, params, Recipe(), parent, "select", trials, tries_again=True)


def _recipe(entry: dict[str, Any]) -> Recipe:
    return Recipe().replace(entry["recipe"])


def _held_out(images: LearningSet, folds: int, seed: int) -> list[list[int]]:
    """The rows of each fold, which judge what the others have trained."""
    fold = assign(images, folds, seed % 2**32)
    return [np.flatnonzero(fold == number).tolist() for number in range(folds)]


def _attributes(
    rank: int, index: int, entry: dict[str, Any], search_seed: int, fold: dict[str, list[int]]
) -> dict[str, Any]:
    seed = derive(search_seed, "confirm", entry["trial"], index)
    name = f"confirm-{entry['trial']:03d}-{'fold' if fold else 'seed'}-{index + 1}"
    about = {"recipe": entry["recipe"], "seed": seed, "rank": rank, "candidate": entry["trial"], "name": name}
    return about | {"calibrate": True, feasibility.ANEW: True} | fold


def _log(params: Params, study: optuna.Study, search: str, chosen: dict[str, Any]) -> None:
    """What the confirmation found, on the search's parent run."""
    from podium.tracking.search_run import log_to_search  # here: the driver does without MLflow until it has run

    values = {"confirmed_mean": chosen["mean"], "confirmed_std": chosen["std"], "optimism": chosen["optimism"]}
    values |= confirmed_means(chosen)
    known = {key: value for key, value in values.items() if value is not None}
    log_to_search(params.tracking, study, search, known, {"podium.selected_trial": str(chosen["trial"])})


def _figures(chosen: dict[str, Any], best: dict[str, Any]) -> dict[str, float]:
    """What `dvc metrics` compares of the search and the confirmation."""
    values = {"search_best": best["value"], "confirmed_mean": chosen["mean"]}
    values |= {"confirmed_std": chosen["std"], "optimism": chosen["optimism"]} | confirmed_means(chosen)
    return {name: value for name, value in values.items() if value is not None}


def sentence(chosen: dict[str, Any]) -> str:
    """Who is chosen, and how much better or worse the search had the same settings."""
    spread = f" ± {number(chosen['std'])}" if chosen["std"] is not None else ""
    how = f"over {chosen['folds']} folds of train and val" if chosen["folds"] else "on fresh seeds"
    text = f"trial {chosen['trial']} chosen: {chosen['metric']} {number(chosen['mean'])}{spread} {how}"
    if chosen["optimism"] is not None:
        how = "better" if chosen["optimism"] >= 0 else "worse"
        text += f"; in the search it scored {number(abs(chosen['optimism']))} {how} than the same settings on new seeds"
    return text


def _read(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path} is missing: run `dvc repro search`")
    return json.loads(path.read_text(encoding="utf-8"))
