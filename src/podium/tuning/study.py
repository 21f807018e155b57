"""The study: what makes it this one and no other, and what it asks next.

A study's name is a digest of everything that decides its results. So raising the budget continues it, an edited
space or a changed image starts another one, and undoing the edit finds the first again.
"""

import hashlib
import json
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from podium import components
from podium.closure import code_of
from podium.config.params import SearchParams
from podium.config.recipe import Recipe
from podium.config.space import fixed, reachable
from podium.tuning.optuna_private import resume
from podium.tuning.sampling import build_pruner, build_sampler


def identity(params: SearchParams, base: Recipe, data_digest: str) -> dict[str, Any]:
    """Everything that decides what the trials of a search are; a dimension with a `when` has its field's value too."""
    space = sorted(params.space.items())
    own = [(kind, choice.name) for kind, choice in params.chosen() if components.find(kind, choice.name) is None]
    return {
        "data": data_digest,
        "code": code_of(reachable(base, params.space)),
        "metric": code_of([("metric", params.metric.name)]),
        "own": code_of(own),
        "search": params.identity(),
        "space": {name: d.model_dump(exclude_defaults=True) for name, d in space},
        "fixed": fixed(base, params.space),
        "first": base.flat() if params.defaults_first else {},
    }


def name_of(kind: str, facts: dict[str, Any]) -> str:
    """The study's name: its kind and a digest of its identity."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return f"{kind}-{digest[:12]}"


def open_study(storage: BaseStorage, name: str, params: SearchParams, facts: dict[str, Any]) -> optuna.Study:
    """The study called `name`, made where it does not exist."""
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        load_if_exists=True,
        direction=params.component("metric").direction,
        sampler=build_sampler(params, 0),
        pruner=build_pruner(params),
    )
    if "identity" not in study.user_attrs:
        study.set_user_attr("identity", facts)
    return study


def ask(study: optuna.Study, params: SearchParams) -> optuna.Trial:
    """The next trial of `study`; a waiting (enqueued) one comes first."""
    started = sum(t.state != TrialState.WAITING for t in study.get_trials(deepcopy=False))
    _prepare(study, params, started)
    return study.ask()


def take_up(study: optuna.Study, params: SearchParams, frozen: FrozenTrial) -> optuna.Trial:
    """A trial that a lost driver left RUNNING, as an object that can be asked and told again."""
    _prepare(study, params, frozen.number)
    return resume(study, frozen)


def _prepare(study: optuna.Study, params: SearchParams, number: int) -> None:
    """Sampler and pruner for trial `number`, both new: what they remember would not outlive a kill."""
    study.sampler = build_sampler(params, number)
    study.pruner = build_pruner(params)
