"""Everything that reaches into Optuna's private parts, one function each (Optuna 5.0).

Another version may name them otherwise. So where one of these functions fails, for whatever reason, it takes a public
way that gives the same answer more slowly, or says what is lost, and logs that once.
"""

import copy
from collections.abc import Callable, Collection, Container, Sequence
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from podium.private_names import private_or_public
from podium.tracking.study_storage import storage_of

Value = str | int | float | bool | None

MARK = "completed_rung_"
"""What the names of the system attributes begin with by which successive halving marks a rung as completed."""


def frozen(study: optuna.Study, trial: optuna.Trial) -> FrozenTrial:
    """`trial` as the study has it now, without a look at all the others. The public way does look at them all."""

    def search() -> FrozenTrial:
        return next(t for t in study.get_trials(deepcopy=False) if t.number == trial.number)

    return private_or_public(
        "optuna",
        "a trial is looked up among all trials",
        lambda: storage_of(study).get_trial(trial._trial_id),
        search,
    )


def resume(study: optuna.Study, left: FrozenTrial) -> optuna.Trial:
    """A trial that a lost driver left RUNNING, as an object that suggests and reports again.

    Optuna has no public way to one; the fallback does without its constructor. What is lost then: with hyperband, the
    parameters that the trial had not drawn yet follow from all trials instead of those of its bracket.
    """
    return private_or_public(
        "optuna",
        "a trial that was left running is resumed through the storage",
        lambda: optuna.Trial(study, left._trial_id),
        lambda: cast(optuna.Trial, _Resumed(study, left.number)),
    )


def contains(distribution: BaseDistribution, value: Value) -> bool:
    """Whether `distribution` has `value`. The public way makes a trial of it."""

    def is_accepted() -> bool:
        try:
            create_trial(value=0.0, params={"x": value}, distributions={"x": distribution})
        except (ValueError, TypeError):
            return False
        return True

    try:
        internal = distribution.to_internal_repr(value)
    except (ValueError, TypeError):  # a choice that the distribution does not have
        return False
    return private_or_public(
        "optuna",
        "values are checked against the space one trial each",
        lambda: bool(distribution._contains(internal)),
        is_accepted,
    )


def ends_trial(log: dict[str, Any]) -> bool:
    """Whether a line of the journal is a trial's new state. Else, without a name for that, every line counts as one."""

    def is_state() -> bool:
        from optuna.storages.journal._storage import JournalOperation

        return bool(log["op_code"] == JournalOperation.SET_TRIAL_STATE_VALUES)

    return private_or_public("optuna", "every write of the journal waits for the disk", is_state, lambda: True)


def study_attributes(log: dict[str, Any]) -> Collection[str] | None:
    """The names of the user attributes that a line of the journal gives a study. None: there is no telling."""

    def names() -> Collection[str]:
        from optuna.storages.journal._storage import JournalOperation

        sets = log["op_code"] == JournalOperation.SET_STUDY_USER_ATTR
        return list(log["user_attr"]) if sets else []

    return private_or_public("optuna", "every write of the journal waits for the disk", names, lambda: None)


def line_offsets(backend: object) -> dict[int, int]:
    """Where each line of a journal file begins, by number, as far as it was read; to be added to. Else nothing."""

    def offsets() -> dict[int, int]:
        return cast(dict[int, int], backend._log_number_offset)  # type: ignore[attr-defined]

    return private_or_public("optuna", "the journal is read from the disk each time", offsets, dict)


def unjudged(
    study: optuna.Study, trial: FrozenTrial, judged: Container[int | None]
) -> tuple[optuna.Study, FrozenTrial]:
    """`study` and its `trial` as they were before the study's pruner was asked about the trial's last epoch.

    They are so already where that epoch is not among those `judged` before.

    Successive halving marks a rung as completed, in the storage, before it answers whether the trial continues; asked
    again, it takes a trial that has the mark for one that it let continue (pruners/_successive_halving.py; hyperband is
    made of the same). So a trial would never be pruned whose driver or worker was killed between the two. That is
    what is lost where the marks can't be hidden.
    """
    marks = {key for key in trial.system_attrs if key.startswith(MARK)}
    if not marks or trial.last_step not in judged:
        return study, trial

    def hidden() -> tuple[optuna.Study, FrozenTrial]:
        new = marks - _passed(study, trial)

        def change(other: FrozenTrial) -> FrozenTrial:
            return _without(other, new) if other.number == trial.number else other

        return _seen(study, _View(storage_of(study), change)), _without(trial, new)

    return private_or_public(
        "optuna",
        "a trial that was to be pruned when its driver was killed may continue",
        hidden,
        lambda: (study, trial),
    )


class _Resumed:
    """A RUNNING trial by the public methods of its storage and sampler: as much of optuna.Trial as a driver uses."""

    def __init__(self, study: optuna.Study, number: int) -> None:
        self.number = number
        self._study = study
        self._storage = storage_of(study)
        study_id = self._storage.get_study_id_from_name(study.study_name)
        self._trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, number)
        study.sampler.before_trial(study, self._frozen())
        self._relative: dict[str, Any] | None = None
        """The parameters that are drawn together; None before the first is asked for."""

    @property
    def user_attrs(self) -> dict[str, Any]:
        return self._frozen().user_attrs

    def set_user_attr(self, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(self._trial_id, key, value)

    @property
    def constraints(self) -> dict[str, float]:
        return self._frozen().constraints

    def set_constraint(self, key: str, value: float) -> None:
        frozen = copy.deepcopy(self._frozen())
        frozen.set_constraint(key, value)  # it knows how constraints are named among the attributes
        for name in frozen.system_attrs.keys() - self._frozen().system_attrs.keys():
            self._storage.set_trial_system_attr(self._trial_id, name, frozen.system_attrs[name])

    def report(self, value: float, step: int) -> None:
        self._storage.set_trial_intermediate_value(self._trial_id, step, float(value))

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Any:
        return self._suggest(name, CategoricalDistribution(choices))

    def suggest_int(self, name: str, low: int, high: int, **options: Any) -> int:
        return int(self._suggest(name, IntDistribution(low, high, **options)))

    def suggest_float(self, name: str, low: float, high: float, **options: Any) -> float:
        return float(self._suggest(name, FloatDistribution(low, high, **options)))

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        trial = self._frozen()
        if name in trial.params:
            return trial.params[name]
        value = self._draw(trial, name, distribution)
        self._storage.set_trial_param(self._trial_id, name, distribution.to_internal_repr(value), distribution)
        return value

    def _draw(self, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        """The value of one parameter, in Optuna's order: enqueued, the only one, drawn together, drawn alone."""
        sampler, study = self._study.sampler, self._study
        enqueued = trial.system_attrs.get("fixed_params", {})
        if name in enqueued:
            return enqueued[name]
        if distribution.single():
            values: Any = distribution
            return values.choices[0] if isinstance(distribution, CategoricalDistribution) else values.low
        if self._relative is None:
            space = sampler.infer_relative_search_space(study, trial)
            self._relative = sampler.sample_relative(study, trial, space)
        if name in self._relative and contains(distribution, self._relative[name]):
            return self._relative[name]
        return sampler.sample_independent(study, trial, name, distribution)

    def _frozen(self) -> FrozenTrial:
        return self._storage.get_trial(self._trial_id)


def _passed(study: optuna.Study, trial: FrozenTrial) -> set[str]:
    """The marks that `trial` had before its last epoch: the pruner sets them all for a trial without competitors."""
    earlier = _without(trial, trial.system_attrs)
    earlier.intermediate_values = {k: v for k, v in trial.intermediate_values.items() if k != trial.last_step}
    listening = _Listening(storage_of(study), lambda other: _without(other, other.system_attrs))
    study.pruner.prune(_seen(study, listening), earlier)
    return listening.marks


class _View:
    """A storage in which every trial is what `change` makes of it."""

    def __init__(self, storage: BaseStorage, change: Callable[[FrozenTrial], FrozenTrial]) -> None:
        self._storage = storage
        self._change = change

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [self._change(trial) for trial in self._storage.get_all_trials(study_id, deepcopy, states)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


class _Listening(_View):
    """A view that records which marks are to be set, and sets none."""

    def __init__(self, storage: BaseStorage, change: Callable[[FrozenTrial], FrozenTrial]) -> None:
        super().__init__(storage, change)
        self.marks: set[str] = set()

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.marks.add(key)


def _seen(study: optuna.Study, storage: Any) -> optuna.Study:
    """`study`, whose trials are those of the view `storage`."""
    seen, own = copy.copy(study), storage_of(study)
    vars(seen).update({name: storage for name, value in vars(study).items() if value is own})
    return seen


def _without(trial: FrozenTrial, names: Container[str]) -> FrozenTrial:
    """A copy of `trial` without the system attributes called `names`."""
    changed = copy.copy(trial)
    changed.system_attrs = {name: value for name, value in trial.system_attrs.items() if name not in names}
    return changed
