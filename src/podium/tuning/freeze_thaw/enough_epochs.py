"""Whether a freeze-thaw search has enough epochs in total for one whole training: else it can only end with nothing."""

import optuna
from optuna.trial import TrialState

from podium.config.recipe import Recipe
from podium.config.search_section import SearchParams
from podium.errors import InputError
from podium.tuning.shared_epochs import EPOCHS, dimension_of


def check(study: optuna.Study, params: SearchParams, base: Recipe) -> None:
    """Raise InputError where a new search has fewer epochs in total than any training, or than its first one, needs.

    Not of a search that has trials, whose budget may be lowered to end it, nor of an own training loop, which may end
    before its last epoch.
    """
    most = params.max_epochs
    begun = any(trial.state != TrialState.WAITING for trial in study.get_trials(deepcopy=False))
    if params.method != "thaw" or most is None or begun or base.train.program is not None:
        return
    dimension, own = params.space.get(EPOCHS), base.train.epochs
    shortest = own if dimension is None else min(int(value) for value in dimension.values())
    if dimension is not None and dimension.when:
        shortest = min(shortest, own)
    rule = f"search.max_epochs must be at least {{}}, or no trial would be complete; got {most}: raise it, or"
    if most < shortest:
        raise InputError(f"{rule.format(f'{shortest}, the epochs of the shortest training (train.epochs)')} lower that")
    if params.defaults_first and dimension_of(params, base) is None and most < own:
        what = f"{own}, the epochs of your own settings (train.epochs), which train first"
        raise InputError(f"{rule.format(what)} set search.defaults_first: false")
