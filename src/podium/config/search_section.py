"""The sections `search` and `select`."""

from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from podium.components import FROZEN, Choice, choice
from podium.config.limits import checked
from podium.config.problems import Seed
from podium.config.section import Section, with_parameters
from podium.config.space import Dimension, Value

NEUTRAL = {"n_trials", "timeout", "plateau", "trial_timeout", "max_failures"}
"""Fields that say how long to search, not what a trial's result is."""


@with_parameters
class SearchParams(Section):
    """The study: how many trials, of what, judged how."""

    KINDS: ClassVar[tuple[str, ...]] = ("sampler", "pruner")
    NOT_FLAT: ClassVar[tuple[str, ...]] = ("space", "overrides", "limits")

    n_trials: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Trials in total, over every resume; raising it continues the same study."""
    timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds of search in total, over every resume; null: no limit."""
    plateau: Annotated[int, Field(ge=1)] | None = None
    """Stop after this many trials in a row without a better one; null: no limit."""
    metric: Annotated[Choice, choice("metric")] = Choice(name="accuracy")
    """Optimised on the validation images: accuracy, balanced_accuracy, loss, another, or your own function. Also
    average_precision, auroc, brier, calibration_error, cost, kappa, macro_f1, mcc, min_recall, recall_at_precision,
    top_k, weighted_f1, and torchmetrics' classes by name, such as MulticlassJaccardIndex. Arguments are given as in
    {name: top_k, arguments: {k: 3}}."""
    limits: Annotated[dict[str, float | int], AfterValidator(checked)] = Field(default={})
    """What a configuration must keep to be selected, such as {latency_ms: 5, min_recall: 0.6}. At most so much of
    parameters, size_mb (of its weights), latency_ms (one image, one CPU thread) and of metrics that are minimised; at
    least so much of those that are maximised. What costs too much is not trained, and counts as a trial."""
    seed: Seed = 0
    """Seed of the study; each trial's own seed follows from it and the trial's number."""
    defaults_first: bool = True
    """Trial 0 has the settings of model and train, which must lie within the space."""
    sampler: Annotated[Choice, choice("sampler")] = Choice(name="tpe")
    """tpe, random, a class of optuna.samplers, or your own."""
    pruner: Annotated[Choice, choice("pruner")] = Choice(name="median")
    """Stops trials early: median, halving, hyperband, none, a class of optuna.pruners, or your own."""
    deterministic: bool = False
    """The same trials for any number of workers: proposed in batches, pruned by earlier batches."""
    batch: Annotated[int, Field(ge=1, le=10_000)] = 8
    """deterministic: trials per batch; more workers than that stay idle."""
    trial_timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds of training after which a trial fails; null: no limit. The confirmation's runs have none."""
    max_failures: Annotated[int, Field(ge=1)] = 10
    """This many failed trials in a row end the search with the first one's reason."""
    overrides: dict[str, Value] = Field(default={})
    """Values that every trial has instead: cheaper trials. Such as {train.epochs: 3}; the confirmation and the
    retraining use `model` and `train`'s again."""
    space: dict[str, Dimension] = Field(default={})
    """Dimensions by the field that they replace: a range, or choices. Such as train.learning_rate."""

    def chosen(self) -> list[tuple[str, Choice]]:
        """The sampler, the pruner and the metric."""
        return [("sampler", self.sampler), ("pruner", self.pruner), ("metric", self.metric)]

    def component(self, kind: str) -> Any:
        """The sampler, pruner or metric, with its parameters."""
        return self.made(kind, dict(self.chosen())[kind])

    def identity(self) -> dict[str, Any]:
        """What of this section decides the trials' results; inactive parameters are left out."""
        neutral = NEUTRAL | (set() if self.deterministic else {"batch"})
        limited = {f"limits.{name}": value for name, value in self.limits.items()}
        return limited | {name: value for name, value in self.flat("").items() if name.split(".")[0] not in neutral}

    @model_validator(mode="after")
    def _limits_are_repeatable(self) -> Self:
        if self.deterministic and "latency_ms" in self.limits:
            raise ValueError("deterministic does not go with limits.latency_ms, which is measured: limit parameters")
        return self

    @model_validator(mode="after")
    def _pruner_fits(self) -> Self:
        if self.deterministic and getattr(self.component("pruner"), "LOOKS_AT_RUNNING", False):
            raise ValueError(
                f"deterministic does not go with a pruner that looks at running trials; got {self.pruner.name}"
            )
        return self


def _folds(count: int) -> int:
    if count != 0 and not 2 <= count <= 20:
        raise ValueError(f"must be 0 (off) or 2 to 20; got {count}")
    return count


class SelectParams(BaseModel):
    """The confirmation on fresh seeds."""

    model_config = FROZEN

    top_k: Annotated[int, Field(ge=1, le=100)] = 3
    """Configurations that are trained again."""
    seeds: Annotated[int, Field(ge=1, le=100)] = 3
    """Fresh seeds for each of them."""
    folds: Annotated[int, AfterValidator(_folds)] = 0
    """Folds of train and val, each judged once, in place of fresh seeds; 0: off. For sets of up to about 1,000 images,
    whose few validation images would decide by chance; near-duplicates and groups stay together. One training per
    fold and configuration; `seeds` is then inactive."""
    full_fidelity: bool = True
    """Train with the settings of the retraining; false: with search.overrides, as the trials did."""
    calibrate: bool = True
    """Fit a temperature to the confirmed runs' predictions, so that the model is calibrated. Only if those trained
    as the retraining will: not with full_fidelity: false and some search.overrides."""
