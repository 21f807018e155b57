"""A study whose trials cost nothing, in memory: what a sampler or a pruner lacks shows only when it has trials."""

import warnings
from typing import Any

import optuna
from optuna.trial import TrialState

from podium import own_code
from podium.config.search_section import SearchParams
from podium.config.space import Dimension
from podium.errors import InputError
from podium.tuning.study import distribution

TRIALS, EPOCHS = 12, 4
"""Most of Optuna's samplers and pruners begin after ten trials."""
STEP = "FloatDistribution.step"
"""Of samplers that walk through all values."""
ANY_SPACE = {"train.learning_rate": Dimension(low=1e-3, high=1e-1, log=True)}
"""What is searched where params.yaml searches nothing."""


def play(parameter: str, name: str, search: SearchParams, **parts: Any) -> None:
    """Run the study with `parts`, a sampler, a pruner or both, over the space of `search`, all its dimensions at once.

    Raises InputError, with `parameter` and `name`, for what fails.
    """
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    stops: list[bool] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            parts = {"sampler": optuna.samplers.RandomSampler(0), "pruner": optuna.pruners.NopPruner()} | parts
            study = optuna.create_study(directions=[aim.direction for aim in search.aims], **parts)
            vars(study)["stop"] = lambda: stops.append(True)  # a grid ends the search when it has been walked
            while len(study.trials) < TRIALS and not stops:
                _play_one(study, search.space or ANY_SPACE)
    except InputError:
        raise
    except own_code.RAISED as error:
        ranges = [key for key, one in search.space.items() if isinstance(one.low, float) and one.step is None]
        remedy = f" In search.space give {', '.join(ranges)} `choices`, or `step` without `log`"
        remedy = remedy if ranges and STEP in str(error) else ""
        raise InputError(f"{parameter}: {name} fails: {own_code.blame(error)}{remedy}") from error
    finally:
        optuna.logging.set_verbosity(before)


def _play_one(study: optuna.Study, space: dict[str, Dimension]) -> None:
    trial = study.ask({name: distribution(name, one) for name, one in space.items()})
    count = len(study.directions)
    for epoch in range(EPOCHS if count == 1 else 0):  # Optuna takes no report where there are several metrics
        trial.report(1 / (1 + trial.number + epoch), epoch)
        if trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return
    study.tell(trial, [1 / (1 + place + trial.number) for place in range(count)])
