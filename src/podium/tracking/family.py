"""What a TrialLogger knows of one study."""

from dataclasses import dataclass, field
from typing import Literal

import optuna
from optuna.trial import FrozenTrial

Ending = Literal["FINISHED", "KILLED", "FAILED"]
"""How the run above the trials of a study ends."""


@dataclass
class Family:
    """One study, its run above its trials, and the trials that are yet to be logged."""

    study: optuna.Study
    open: bool = False
    """Whether its parent run is RUNNING because of this logger, which then has to end it."""
    opened_by: int = 0
    """The process that opened it: a fork of it has the same logger, and does not end the run of the other."""
    missed: dict[int, FrozenTrial] = field(default_factory=dict)
    """Trials that MLflow did not take yet."""
    ending: Ending | None = None
    """How its block ended, where MLflow did not take that yet."""
    copied: bool = False
    """Whether trials that it was copied with are among those `missed`: other processes may log them, too."""
    broken_off: bool = False
    """Whether Ctrl-C or the like ended a call that was logging: some of those `missed` may be logged."""
    failed: set[int] = field(default_factory=set)
    """Those with the state FAIL that were there before, or that were logged: Optuna calls back for some only."""
    at_work: set[int] = field(default_factory=set)
    """Trials that Optuna was at work on when an error ended the study: they may have ended, and nobody was called."""
