"""What a new study takes over from earlier ones: every trial that means the same in it.

A trial is the result of its recipe, its seed, the images and the training code. So where images, code and metric are
the same, a trial of any earlier study is a trial of this one as soon as this one's space contains its recipe. A
choice that is added, a range that is moved, a field that becomes or ceases to be a dimension: what is still valid is
not trained again, and the sampler learns from it.
"""

import copy
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from podium.config import limits as rules
from podium.config.recipe import Recipe
from podium.config.search_section import SearchParams
from podium.config.space import reachable
from podium.text import counted
from podium.training.epochs import Epoch
from podium.tuning import feasibility
from podium.tuning.shared_epochs import EPOCHS, dimension_of
from podium.tuning.study import BY_CODE, distribution, point

SOURCE = "inherited_from"
"""Attribute of a trial that was taken over: `study/number` of the one it is a copy of."""
SAME = ("data", "metric", "weights")
"""Parts of a study's identity that must be equal; of its code, what a trial goes through."""


@dataclass
class Inheritance:
    """What was taken over and what was not."""

    reused: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """How many trials were left out, by reason."""

    def sentence(self) -> str:
        """The outcome for a person; empty where there was nothing to take over."""
        if not self.reused and not self.dropped:
            return ""
        reasons = "; ".join(f"{count} because {why}" for why, count in self.dropped.most_common())
        lost = f"; left out: {reasons}" if reasons else ""
        trials = counted(self.reused, "trial")
        return f"the study begins with {trials} of earlier ones, still valid{lost}"


def is_own(trial: FrozenTrial) -> bool:
    """Whether `trial` was run by this study: only those count against its budget."""
    return SOURCE not in trial.user_attrs


def inherit(study: optuna.Study, storage: BaseStorage, params: SearchParams, base: Recipe) -> Inheritance:
    """Add to a new `study` every trial of the storage's other studies that is valid in it; once, and kill-proof.

    Each is judged by the new study's limits; one that lacks what these look at is left out.
    """
    done = Inheritance()
    if "inherited" in study.user_attrs:
        return done
    present = {t.user_attrs.get(SOURCE) for t in study.get_trials(deepcopy=False)}
    facts = study.user_attrs["identity"]
    for summary in optuna.get_all_study_summaries(storage, include_best_trial=False):
        other = summary.user_attrs.get("identity", {})
        if summary.study_name == study.study_name or not _comparable(facts, other):
            continue
        source = optuna.load_study(study_name=summary.study_name, storage=storage)
        for trial in source.get_trials(deepcopy=False):
            _take(study, source, trial, params, base, present, done)
    study.set_user_attr("inherited", {"kept": done.reused, "dropped": dict(done.dropped)})
    return done


def _comparable(facts: dict[str, Any], other: Any) -> bool:
    if not isinstance(other, dict) or not isinstance(other.get("search"), dict):
        return False  # a confirmation, or a study of somebody else's in the same storage
    # Studies from before 2026-11-29 do not name their environment: it is taken to be this one.
    if other.get("environment", facts.get("environment")) != facts.get("environment"):
        return False
    return isinstance(other.get("code"), dict) and all(facts.get(key) == other.get(key) for key in SAME)


def what_changed(study: optuna.Study, storage: BaseStorage) -> str:
    """What makes a new `study` another one than the last of its kind, for a person; empty: it is the first, or not new.

    Values are named where a person can read them; of images and code only that they differ.
    """
    kind = study.study_name.partition("-")[0]
    if study.get_trials(deepcopy=False):
        return ""
    summaries = optuna.get_all_study_summaries(storage, include_best_trial=False)
    others = [s for s in summaries if s.study_name.startswith(f"{kind}-") and s.study_name != study.study_name]
    others = [s for s in others if s.datetime_start is not None and isinstance(s.user_attrs.get("identity"), dict)]
    if not others:
        return ""
    last = max(others, key=lambda s: s.datetime_start.timestamp() if s.datetime_start else 0.0)
    before, now = _flat(last.user_attrs["identity"]), _flat(study.user_attrs["identity"])
    parts = [_difference(key, before.get(key), now.get(key)) for key in sorted({*before, *now})]
    found = [part for part in parts if part]
    return f"a new study, and not {last.study_name}, for {'; '.join(found)}" if found else ""


def _flat(facts: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in facts.items():
        found |= _flat(value, f"{prefix}{key} ") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _difference(key: str, before: Any, now: Any) -> str:
    if before == now:
        return ""
    section = key.partition(" ")[0]
    if section not in ("environment", "search", "fixed", "space", "first"):
        return f"another {key}"
    return f"{key.replace(' ', '.', 1)} is {_named(now)} and was {_named(before)}"


def _named(value: Any) -> str:
    return "not named" if value is None else str(value)


def _same_code(recipe: Recipe, facts: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether a training of `recipe` goes through the same code in both studies."""
    names = ["loop", *(f"{kind} {name}" for kind, name in reachable(recipe, {}))]
    return all(facts["code"].get(name) == other["code"].get(name) for name in names)


def _still_true(trial: FrozenTrial, facts: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The attributes of `trial` without what code or files have measured that are others now."""
    then, now = other.get(BY_CODE, {}), facts.get(BY_CODE, {})
    changed = {name for name in {*then, *now} if then.get(name) != now.get(name)}

    def remaining(figures: Epoch) -> Epoch:
        return {name: value for name, value in figures.items() if name not in changed}

    found = trial.user_attrs | {"history": [remaining(epoch) for epoch in trial.user_attrs.get("history", [])]}
    if feasibility.MEASURED in found:
        found[feasibility.MEASURED] = remaining(found[feasibility.MEASURED])
    return found


def _take(
    study: optuna.Study,
    source: optuna.Study,
    trial: FrozenTrial,
    params: SearchParams,
    base: Recipe,
    present: set[str | None],
    done: Inheritance,
) -> None:
    """Add `trial` of the study `source`, or count why not."""
    if not is_own(trial) or trial.state == TrialState.WAITING:
        return  # the study that ran it is looked at too; one that waits is no trial yet
    if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
        done.dropped["it failed" if trial.state == TrialState.FAIL else "it has not ended"] += 1
        return
    recipe = base.replace(trial.user_attrs["recipe"])
    if not _same_code(recipe, study.user_attrs["identity"], source.user_attrs["identity"]):
        done.dropped["the code that it went through has changed"] += 1
        return
    if why := _other_epochs(trial, source, params, recipe):
        done.dropped[why] += 1
        return
    space = params.space
    values = point(space, recipe, base)
    if isinstance(values, str):
        done.dropped[values] += 1
        return
    judged = params.limits if trial.state == TrialState.COMPLETE else rules.of_costs(params.limits)
    still_true = _still_true(trial, study.user_attrs["identity"], source.user_attrs["identity"])
    known = feasibility.figures(still_true)
    if missing := [name for name in judged if name not in rules.excess(judged, known)]:
        done.dropped[f"its {missing[0]} (search.limits) was not measured"] += 1
        return
    origin = f"{source.study_name}/{trial.number}"
    if origin not in present:
        copied = copy.copy(trial)
        asked = [name for name in values if name != EPOCHS or EPOCHS in trial.params or not _was_shared(trial, source)]
        copied.params = {name: values[name] for name in asked}
        copied.distributions = {name: distribution(name, space[name]) for name in asked}
        # What was unread may be read by a confirmation that trains otherwise (search.overrides): as it is now.
        copied.user_attrs = still_true | {SOURCE: origin, "recipe": base.replace(values).flat()}
        copied.user_attrs.pop(feasibility.OVER, None)
        copied.system_attrs = {}
        feasibility.record(copied, judged, known)
        study.add_trial(copied)
    done.reused += 1


def _was_shared(trial: FrozenTrial, source: optuna.Study) -> bool:
    """Whether `trial` of the study `source` serves all values of `train.epochs`: it was not asked for one."""
    searched = source.user_attrs["identity"].get("space", {}).get(EPOCHS)
    return searched is not None and not searched.get("when") and EPOCHS not in trial.params


def _other_epochs(trial: FrozenTrial, source: optuna.Study, params: SearchParams, recipe: Recipe) -> str:
    """Why the value of `trial` is that of other epochs than the new study would choose from; empty: it is not."""
    dimension, shared = dimension_of(params, recipe), _was_shared(trial, source)
    if (dimension is not None) != shared:
        return "one training serves all values of train.epochs in one of the two studies only"
    if dimension is None or source.user_attrs["identity"]["space"][EPOCHS] == dimension.model_dump(
        exclude_defaults=True
    ):
        return ""
    return "one training serves all values of train.epochs, and these have changed"
