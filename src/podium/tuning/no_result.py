"""Why a search has no trial that can be selected, and what makes it go on."""

import optuna
from optuna.trial import FrozenTrial, TrialState

from podium.config import limits
from podium.config.search_section import SearchParams
from podium.text import counted, given
from podium.tracking.pareto_front import is_feasible
from podium.tuning import feasibility
from podium.tuning.freeze_thaw.decisions import read, spent
from podium.tuning.inherit import is_own


def why_none(study: optuna.Study, search: SearchParams) -> str:
    """The message where no trial is complete and satisfies search.limits."""
    finished = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    over = feasibility.counted(study)
    failed = [t for t in finished if t.state == TrialState.FAIL]
    judged = [t for t in finished if t.state != TrialState.FAIL]
    if judged and not any(is_feasible(t) for t in judged):
        return _none_feasible(study, judged, failed)
    if failed and len(failed) == len(study.get_trials(deepcopy=False)):
        return _all_failed(study, failed)
    reasons = [over, failed[0].user_attrs.get("reason", "") if failed else ""]
    reason = "; ".join(one for one in reasons if one) or ("every trial was pruned" if finished else "none has ended")
    what = "is complete and satisfies search.limits" if over else "was completed"
    *others, last = [*_to_go_on(study, search), "widen search.space"]
    remedy = f"{', '.join(others)} or {last}" if others else last
    return f"no trial of {study.study_name} {what} ({reason}); {remedy}"


def _to_go_on(study: optuna.Study, search: SearchParams) -> list[str]:
    """What makes a search go on that ended before any trial was complete: more of what is spent, or looser limits.

    What rested at the end of a freeze-thaw search is pruned, so it has to be able to begin others.
    """
    trials = study.get_trials(deepcopy=False)
    over = []
    if search.max_epochs is not None and spent(read(study), trials) >= search.max_epochs:
        over.append(f"search.max_epochs ({given(search.max_epochs)})")
    if search.timeout is not None and study.user_attrs.get("seconds", 0.0) >= search.timeout:
        over.append(f"search.timeout ({given(search.timeout)})")
    raised = [" and ".join(over)] if over else []
    if sum(is_own(t) and t.state != TrialState.WAITING for t in trials) >= search.n_trials:
        raised.append(f"search.n_trials ({given(search.n_trials)}, all of which have begun)")
    found = [f"raise {', and '.join(raised)}"] if raised else []
    limits_ = [f"{name}: {given(limit)}" for name, limit in search.limits.items() if name not in limits.COSTS]
    return [*found, f"relax search.limits ({', '.join(limits_)})"] if limits_ else found


def _none_feasible(study: optuna.Study, broken: list[FrozenTrial], failed: list[FrozenTrial]) -> str:
    """The message where none of the trials that did not fail can be selected: the nearest one is the one that breaks
    its limits least."""
    nearest = min(broken, key=lambda t: sum(value for value in t.constraints.values() if value > 0))
    others = f"; {len(failed)} failed, {_reason(failed)}" if failed else ""
    return (
        f"no trial of {study.study_name} satisfies search.limits: {feasibility.counted(study)}{others}. The nearest is"
        f" trial {nearest.number}: {nearest.user_attrs.get(feasibility.OVER, '')}. Relax the limit, or widen"
        " search.space"
    )


def _reason(failed: list[FrozenTrial]) -> str:
    """The first failed trial and its reason."""
    first = min(failed, key=lambda trial: trial.number)
    return f"trial {first.number} because: {first.user_attrs.get('reason', 'no reason was recorded')}"


def _all_failed(study: optuna.Study, failed: list[FrozenTrial]) -> str:
    """The message where no trial did anything but fail: more of them, or a wider space, would help little."""
    return (
        f"no trial of {study.study_name} was completed: {counted(len(failed), 'trial')} failed,"
        f" {_reason(failed)}. Fix that and run `dvc repro`; what failed counts"
        " as a trial, so raise search.n_trials where the fix is not in params.yaml or your code"
    )
