"""The rules of the promotion gate, one file each. The gate runs every rule that it finds in this folder.

A new rule is a new file here with a class derived from Rule: its docstring is its help, its fields are its parameters
in the section `gate` of params.yaml, and `judge` says what must be, what is, and whether that passes. Nothing else
lists rules. `config/gate.py` reads the fields, so a rule is imported by every command: torch, MLflow and SciPy only
inside functions.
"""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import BaseModel

from podium.components import FROZEN
from podium.promotion.verdict import Comparison, Side

if TYPE_CHECKING:
    from podium.metrics.resampling import Paired
    from podium.shadow.pair_summary import Served

ROUNDING = 1e-9
"""1 - 0.96 is a little more than 0.04 in floating point."""


@dataclass(frozen=True)
class ClassCounts:
    """Test images of one class; near-duplicates of each other count once."""

    images: int
    right: int
    """Of them the challenger predicts rightly."""
    gained: int = 0
    """Only the challenger does."""
    lost: int = 0
    """Only the champion does."""


@dataclass(frozen=True)
class Promised:
    """What a model that may be unsure promises of the images that it answers."""

    error: float
    """At most."""
    confidence: float

    def __str__(self) -> str:
        return f"an error of at most {self.error}, at a confidence of {self.confidence}"  # all digits: they decide


@dataclass(frozen=True)
class Answering:
    """What two models that may be unsure answer; near-duplicates of each other count once."""

    error: float
    """Of the answered images: what the challenger promises at most."""
    images: int
    answered: int
    """By the challenger."""
    wrong: int
    """Of these."""
    champion: int | None = None
    """Images that the champion answers; None: there is none that may be unsure."""
    gained: int = 0
    """Images that only the challenger answers."""
    lost: int = 0
    """Only the champion does."""


@dataclass(frozen=True)
class Evidence:
    """What the gate measured, for the rules."""

    images: int
    """Of the held-out test set."""
    confidence: float
    """gate.confidence."""
    challenger: Side
    champion: Side | None = None
    """None: there is none, or it can't be loaded (then `unreadable` says why)."""
    comparison: Comparison | None = None
    """Both on the same images, without a p-value; None without a champion."""
    unreadable: str = ""
    """Why the champion can't be loaded."""
    foreign: str = ""
    """On what other data the challenger was trained."""
    classes: Mapping[str, ClassCounts] = field(default_factory=dict)
    """Of each class that has test images."""
    metric: str = "accuracy"
    """Label of the metric that compares the two."""
    sign: int = 1
    """Of the metric: 1 if a higher value is better, else -1."""
    paired: "Paired | None" = None
    """Both models' predictions, where the metric is another one than accuracy."""
    answering: Answering | None = None
    """None: the challenger answers every image."""
    promise: Promised | None = None
    """Of the challenger; None: it was registered without evaluate.abstain."""
    champion_promise: Promised | None = None
    """Of the champion; None: it has none, there is no champion, or it is one that was replaced already."""
    attempt: int = 1
    """How many challengers, this one included, have been compared on this test set."""
    served: "Callable[[], Served] | None" = None
    """Of images that both saw while serving. None: this champion is not the one that is served."""

    @property
    def level(self) -> float:
        """The p-value that this attempt needs: over all attempts the levels add up to one minus the confidence.

        Alpha spending (J. Tian and A. Ramdas, Online control of the familywise error rate, 2021, section 2) with the
        sequence 1/(k (k + 1)), whose sum is 1: however often challengers are tried on one test set, the chance that
        any of them is promoted without being better stays below that.
        """
        return (1 - self.confidence) / (self.attempt * (self.attempt + 1))


@dataclass(frozen=True)
class Significance:
    """A significance test behind a finding."""

    p_value: float
    claim: str
    """What the test has to show, as the beginning of a sentence."""
    test: str
    """Name of the test."""


@dataclass(frozen=True)
class Finding:
    """What a rule says of the evidence."""

    rule: str
    """What must be."""
    found: str
    """What is."""
    passed: bool
    significance: Significance | None = None
    name: str = ""
    """What the check is called, where that is not the rule's name."""


def judged(rule: str, found: str, remedy: str, *, passed: bool) -> Finding:
    """The finding, with what would help where it has not passed."""
    return Finding(rule, found if passed else f"{found}. {remedy}", passed)


class Rule(BaseModel, ABC):
    """One condition of the gate with the values of its parameters."""

    model_config = FROZEN

    name: ClassVar[str]
    """In verdicts. A rule for the first model may have the name of one that needs a champion."""
    order: ClassVar[int]
    """Rules run, and stand in verdicts, by this number; equal ones by the name of their files."""

    @abstractmethod
    def judge(self, evidence: Evidence) -> Finding | None:
        """Compare `evidence` with the parameters; None where the rule does not apply."""

    @classmethod
    def of(cls, params: BaseModel) -> Self:
        """The rule with its own fields of `params`, the section `gate`. Raises pydantic's ValidationError."""
        return cls.model_validate({name: getattr(params, name) for name in cls.model_fields})

    @classmethod
    def help(cls) -> str:
        """What the rule asks for, in one line."""
        return " ".join((cls.__doc__ or "").split())


@cache
def find_rules() -> tuple[type[Rule], ...]:
    """Every rule of this folder in its order. Raises TypeError for a file without one, so that none is missed."""
    found: list[type[Rule]] = []
    for file in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        module = importlib.import_module(f"{__name__}.{file}")
        own = [one for one in vars(module).values() if _is_rule(one) and one.__module__ == module.__name__]
        if not own:
            raise TypeError(f"{module.__file__} holds no rule of the gate: a class derived from Rule")
        found += own
    return tuple(sorted(found, key=lambda rule: rule.order))  # stable: equal ones stay by file


def _is_rule(one: object) -> bool:
    return isinstance(one, type) and issubclass(one, Rule) and one is not Rule
