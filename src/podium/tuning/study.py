"""The study: its search space, what makes it this one and no other, and what it asks next.

A study's name is a digest of everything that decides its results. So raising the budget continues it, an edited
space or a changed image starts another one, and undoing the edit finds the first again.
"""

import hashlib
import json
import warnings
from collections.abc import Sequence
from datetime import date
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from podium import components, own_code
from podium.closure import code_of
from podium.components import Choice
from podium.config.limits import metrics_of
from podium.config.params import SearchParams
from podium.config.recipe import Recipe
from podium.config.space import Dimension, Value, fixed, is_whole, reachable, type_of
from podium.errors import InputError
from podium.metrics.scores import carried, of
from podium.tracking.run_names import TITLE
from podium.training.seeds import derive
from podium.tuning.optuna_private import contains, resume
from podium.tuning.samplers import Sampler
from podium.tuning.shared_epochs import EPOCHS, dimension_of, longest

BY_CODE = "measured"
"""Of an identity: what search.limits and evaluate.metrics measure by code or files that may change, as epochs name
it."""


def suggest(trial: optuna.Trial, params: SearchParams, base: Recipe) -> Recipe:
    """Ask `trial` for a value of every dimension that exists, and return `base` with those values in place.

    Where one training serves all values of `train.epochs`, it has the largest, and is not asked for it.
    """
    space = params.space
    values: dict[str, Any] = {}
    known = base.flat()
    last = [EPOCHS] if params.shares_epochs and EPOCHS in space else []  # whether it is asked depends on the others
    for name in [name for name in ordered(space) if name not in last] + last:
        if all((known | values).get(other) in wanted for other, wanted in space[name].when.items()):
            if name in last and (dimension := dimension_of(params, base.replace(values))):
                values[name] = longest(dimension)
            else:
                values[name] = _suggest(trial, name, distribution(name, space[name]))
    return base.replace(values)


def ordered(space: dict[str, Dimension]) -> list[str]:
    """The dimensions' names, those that depend on others last: the order in which values are asked for."""
    return sorted(space, key=lambda name: (bool(space[name].when), name))


def exists(dimension: Dimension, recipe: Recipe) -> bool:
    """Whether `dimension` exists for the fields of `recipe`."""
    fields = recipe.flat()
    return all(fields.get(other) in values for other, values in dimension.when.items())


def distribution(name: str, dimension: Dimension) -> BaseDistribution:
    """The Optuna distribution of `dimension` for the field `name`: whole numbers where the field is one."""
    if dimension.choices is not None:
        return CategoricalDistribution(dimension.choices)
    low, high, step = dimension.low, dimension.high, dimension.step
    if is_whole(name, dimension):
        return IntDistribution(int(low or 0), int(high or 0), log=dimension.log, step=int(step or 1))
    return FloatDistribution(float(low or 0), float(high or 0), log=dimension.log, step=step)


def point(space: dict[str, Dimension], recipe: Recipe, base: Recipe) -> dict[str, Value] | str:
    """The values of `space` at which it gives `recipe`; where it can't, a message that says why.

    Where a dimension does not exist, its field is that of `base`. Fields that the training leaves unread may differ.
    """
    fields = _switched_off(space, recipe) | recipe.flat()
    values: dict[str, Value] = {}
    for name, value in fields.items():
        if name in space and exists(space[name], recipe):
            if not contains(distribution(name, space[name]), value):
                return outside(name, value, space[name])
            values[name] = value
    now = base.replace(values).flat()
    for name, value in fields.items():
        if name not in values and now.get(name) != value and (value or name in now):
            return f"{name} is {now.get(name)!r} now and was {value!r}"
    return values


def _switched_off(space: dict[str, Dimension], recipe: Recipe) -> dict[str, Value]:
    """The augmentations of the space that `recipe` does not mention: they are off."""
    switches = (f"train.{name}" for name in components.declared("augmentation"))
    return {name: type_of(name)() for name in switches if name in space and name not in recipe.flat()}


def outside(name: str, value: Any, dimension: Dimension) -> str:
    """That `value` of the field `name` is not in its dimension."""
    if dimension.choices is not None:
        return f"{value} is not among the choices of {name}"
    return f"{name} {value!r} is outside of {dimension.low} to {dimension.high}"


def _suggest(trial: optuna.Trial, name: str, spread: BaseDistribution) -> Any:
    if isinstance(spread, CategoricalDistribution):
        return trial.suggest_categorical(name, spread.choices)
    if isinstance(spread, IntDistribution):
        return trial.suggest_int(name, spread.low, spread.high, step=spread.step, log=spread.log)
    if isinstance(spread, FloatDistribution):
        return trial.suggest_float(name, spread.low, spread.high, step=spread.step, log=spread.log)
    raise TypeError(f"{name}: {spread} is no distribution of the search")


def _bounds(spread: BaseDistribution) -> str:
    """What values `spread` has, in words."""
    if isinstance(spread, CategoricalDistribution):
        return f"one of {', '.join(map(repr, spread.choices))}"
    if isinstance(spread, IntDistribution | FloatDistribution):
        whole = "a whole number " if isinstance(spread, IntDistribution) else ""
        steps = f" in steps of {spread.step}" if spread.step not in (None, 1) else ""
        return f"{whole}from {spread.low} to {spread.high}{steps}"
    raise TypeError(f"{spread} is no distribution of the search")


class NamedDraws(BaseSampler):
    """A sampler with a seed of its own for each parameter that is drawn alone.

    A trial that was killed between two of its draws is asked for the missing ones only: they must not follow from
    how many came before.
    """

    def __init__(self, sampler: Sampler, seed: int, number: int) -> None:
        self._build = sampler.build
        self._name = (seed, "ask", number)
        self._is_grid = sampler.from_sequence == "all"
        name = self._name if sampler.from_sequence == "none" else (seed, "ask")
        self._together = sampler.build(derive(*name))

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The dimensions that are drawn together."""
        space: dict[str, BaseDistribution] = self._together.infer_relative_search_space(study, trial)
        return space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Their values."""
        values: dict[str, Any] = self._together.sample_relative(study, trial, search_space)
        return values

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of one that is drawn alone."""
        alone = self._together if self._is_grid else self._build(derive(*self._name, param_name))
        value = alone.sample_independent(study, trial, param_name, param_distribution)
        if not contains(param_distribution, value):
            raise InputError(
                f"search.sampler: {own_code.written_at(alone.sample_independent)}, must give a value of search.space."
                f"{param_name}, {_bounds(param_distribution)}; it gave {value!r}"
            )
        return value

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """What some samplers do before the first draw, such as choosing a point of a grid."""
        self._together.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """What some samplers do when a trial has ended, such as recording constraints."""
        if not self._is_grid or "grid_id" in trial.system_attrs:  # a grid looks for the point of every trial that ends
            self._together.after_trial(study, trial, state, values)


def build_sampler(params: SearchParams, number: int) -> BaseSampler:
    """The sampler for trial `number`: its seed follows from the study's seed and that number alone.

    So a search that was killed asks the same again.
    """
    return NamedDraws(params.component("sampler"), params.seed, number)


def build_pruner(params: SearchParams) -> BasePruner:
    """The pruner that `params` names; one that prunes nothing where there are several metrics: Optuna's know one."""
    if len(params.named) > 1:
        return NopPruner()
    dimension = params.space.get(EPOCHS)
    pruner: BasePruner = params.component("pruner").build(None if dimension is None else longest(dimension))
    return pruner


def identity(params: SearchParams, base: Recipe, data_digest: str, logged: Sequence[Choice] = ()) -> dict[str, Any]:
    """Everything that decides what the trials of a search are; a dimension with a `when` has its field's value too.

    `logged`: evaluate.metrics, whose values are stored with the trials.
    """
    others = [one for one in [*metrics_of(params.limits), *logged] if one not in params.metrics]
    changing = {f"val_{of(one).label}": facts for one in others if (facts := _changing(one))}
    space = sorted(params.space.items())
    own = [(kind, choice.name) for kind, choice in params.chosen() if components.find(kind, choice.name) is None]
    return {
        "data": data_digest,
        "code": code_of(reachable(base, params.space)),
        "metric": _metrics(params),
        "own": code_of(own),
        "search": params.identity(),
        "space": {name: d.model_dump(exclude_defaults=True) for name, d in space},
        "fixed": fixed(base, params.space),
        "first": base.flat() if params.defaults_first else {},
    } | ({BY_CODE: changing} if changing else {})


def _changing(metric: Choice) -> dict[str, Any]:
    """What makes the values of `metric` others under the same name: own code, or what a file holds. Empty: nothing."""
    if own_code.is_name(metric.name):
        return {"code": code_of([("metric", metric.name)])[f"metric {metric.name}"]} | _arguments(metric)
    return _arguments(metric) if carried(metric) != metric else {}


def _metrics(params: SearchParams) -> dict[str, Any]:
    """What makes a trial's values comparable with those of another study."""
    found = code_of([("metric", one.name) for one in params.metrics])
    if len(params.named) == 1:
        return found | _arguments(params.metrics[0])
    return found | {"aims": [carried(one).model_dump() if one in params.metrics else one.name for one in params.named]}


def _arguments(metric: Choice) -> dict[str, Any]:
    """What makes values of one metric no values of another: its arguments, with what their files hold."""
    return {"arguments": carried(metric).arguments} if metric.arguments else {}


def name_of(kind: str, facts: dict[str, Any]) -> str:
    """The study's name: its kind and a digest of its identity."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return f"{kind}-{digest[:12]}"


def open_study(
    storage: BaseStorage, name: str, params: SearchParams, facts: dict[str, Any], subject: str = ""
) -> optuna.Study:
    """The study called `name`, made where it does not exist.

    A new one gets a title for people: its `subject`, such as what is classified, the day, and four characters of the
    digest in its name. Optuna's pages show the metrics by their names.
    """
    aims = params.aims
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        load_if_exists=True,
        directions=[aim.direction for aim in aims],
        sampler=build_sampler(params, 0),
        pruner=build_pruner(params),
    )
    if "identity" not in study.user_attrs:
        if subject:
            study.set_user_attr(TITLE, f"{subject} · {date.today().isoformat()} · {name.rpartition('-')[2][:4]}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([aim.name for aim in aims])
        study.set_user_attr("identity", facts)
    return study


def ask(study: optuna.Study, params: SearchParams) -> optuna.Trial:
    """The next trial of `study`; a waiting (enqueued) one comes first."""
    started = sum(t.state != TrialState.WAITING for t in study.get_trials(deepcopy=False))
    _prepare(study, params, started)
    return study.ask()


def resume_trial(study: optuna.Study, params: SearchParams, frozen: FrozenTrial) -> optuna.Trial:
    """A trial that a lost driver left RUNNING, as an object that suggests and reports again."""
    _prepare(study, params, frozen.number)
    return resume(study, frozen)


def _prepare(study: optuna.Study, params: SearchParams, number: int) -> None:
    """Sampler and pruner for trial `number`, both new: what they remember would not outlive a kill."""
    study.sampler = build_sampler(params, number)
    study.pruner = build_pruner(params)
