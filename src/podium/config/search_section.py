"""The sections `search` and `select`."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from podium import components
from podium.components import FROZEN, Choice, choice
from podium.config import aims
from podium.config.limits import COSTS, checked, of_costs
from podium.config.problems import Seed
from podium.config.section import Section, with_parameters
from podium.config.space import Dimension, Value

NEUTRAL = {"n_trials", "timeout", "max_epochs", "until", "plateau", "trial_timeout", "max_failures"}
"""Fields that say how long to search, not what a trial's result is."""
OF_OPTUNA = {"sampler": "tpe", "pruner": "median"}
"""Components that `method: optuna` names, and their defaults: no other method reads them."""


@with_parameters
class SearchParams(Section):
    """The study: its trials, their space, and the metric that decides."""

    KINDS: ClassVar[tuple[str, ...]] = ("sampler", "pruner")
    NOT_FLAT: ClassVar[tuple[str, ...]] = ("space", "overrides", "limits")

    n_trials: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Trials in total, over every resume; raising it continues the same study."""
    method: Literal["optuna", "thaw"] = "optuna"
    """optuna: search.sampler proposes, search.pruner stops trials for good. thaw: trials rest and may continue later.
    thaw needs no good starting point. It needs an end: max_epochs, timeout or until."""
    timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds of search in total, over every resume; null: no limit. They count from each session's start, that of its
    workers included. A worker that is still busy 5 s and one and a half of its epochs later is killed; with engine
    inline it ends at its next step."""
    max_epochs: Annotated[int, Field(ge=1)] | None = None
    """thaw: Epochs in total, of all trials and over every resume; null: no limit."""
    until: Literal["budget", "no_gain"] = "budget"
    """thaw: When to end: budget, or no_gain, also as soon as no gain above the noise is expected.
    That ends it only once a complete trial satisfies search.limits."""
    plateau: Annotated[int, Field(ge=1)] | None = None
    """Stop after this many trials in a row without a better one; null: no limit."""
    metric: Annotated[Choice | list[Choice], BeforeValidator(aims.metrics)] = Choice(name="accuracy")
    """Optimised on the validation images: accuracy, balanced_accuracy, loss, another, your own function, or several.
    Also average_precision, auroc, brier, calibration_error, cost, kappa, macro_f1, mcc, min_recall,
    recall_at_precision, top_k, weighted_f1, and torchmetrics' classes by name, such as MulticlassJaccardIndex.
    Arguments are given as in {name: top_k, arguments: {k: 3}}. A list of 2 to 4, such as [balanced_accuracy,
    latency_ms], searches for their Pareto front (select.rule); after the first metric there may be latency_ms,
    parameters and size_mb. Evaluation and gate use the first metric; no trial is pruned by its metrics."""
    limits: Annotated[dict[str, float | int], AfterValidator(checked)] = Field(default={})
    """Constraints that the selected model satisfies, such as {latency_ms: 5, min_recall: 0.6}. Upper bounds of
    parameters, size_mb (of its weights), latency_ms (one image, one CPU thread) and of metrics that are minimised;
    lower bounds of metrics that are maximised. What costs too much is not trained, but counts as a trial."""
    seed: Seed = 0
    """Seed of the study; each trial's own seed follows from it and the trial's number."""
    defaults_first: bool = True
    """Trial 0 has the settings of model and train, which must lie within the space."""
    starts: Literal["none", "portfolio"] = "none"
    """portfolio: begin with configurations that were good on other problems, cheapest first.
    They come after defaults_first, as far as the space has their values, and count as trials."""
    sampler: Annotated[Choice, choice("sampler")] = Choice(name="tpe")
    """tpe, random, a class of optuna.samplers, or your own."""
    pruner: Annotated[Choice, choice("pruner")] = Choice(name="median")
    """Stops trials early: median, halving, hyperband, none, a class of optuna.pruners, or your own."""
    max_resting: Annotated[int, Field(ge=1, le=100_000)] = 50
    """thaw: Trials that may rest at a time, each with a checkpoint. The least promising above that are pruned."""
    shared_epochs: bool | None = None
    """One training serves all values of train.epochs, if nothing depends on them; null: with thaw.
    That is so with a constant schedule and no own training loop. Such a trial trains for the largest value; the number
    of epochs with the best moving average over five epochs is its result, and the confirmation trains for that many."""
    deterministic: bool = False
    """The same trials for any number of workers: proposed in batches, pruned by earlier batches."""
    batch: Annotated[int, Field(ge=1, le=10_000)] = 8
    """deterministic: trials per batch; more workers than that stay idle."""
    compile: bool = False
    """torch.compile for a trial's network, where measured steps say that it pays. Useful on GPUs, for long trainings of
    few networks: each width is a network of its own. Not with deterministic, since measured times decide."""
    trial_timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds of training after which a trial fails; null: no limit. The confirmation's runs have none. If a
    trial takes no step for twice this time and 5 s, its worker is killed (engine processes)."""
    max_failures: Annotated[int, Field(ge=1)] = 10
    """This many failed trials in a row end the search with the first one's reason."""
    overrides: dict[str, Value] = Field(default={})
    """Values that every trial has instead: cheaper trials. Such as {train.epochs: 3}; the confirmation and the
    retraining use the values of `model` and `train` again."""
    space: dict[str, Dimension] = Field(default={})
    """Dimensions by the field that they replace: a range, or choices. Such as train.learning_rate."""

    def chosen(self) -> list[tuple[str, Choice]]:
        """The sampler, the pruner and the metrics."""
        return [("sampler", self.sampler), ("pruner", self.pruner), *(("metric", one) for one in self.metrics)]

    @property
    def named(self) -> list[Choice]:
        """Everything that `metric` names, costs too."""
        return self.metric if isinstance(self.metric, list) else [self.metric]

    @property
    def metrics(self) -> list[Choice]:
        """What `metric` names and every epoch is measured by; the first decides where one has to."""
        return [one for one in self.named if one.name not in COSTS]

    @property
    def aims(self) -> list[aims.Aim]:
        """What the search is after. Raises InputError where an own metric does not say which way is better."""
        return [aims.Aim.of(one) for one in self.named]

    @property
    def costs(self) -> list[str]:
        """What `metric` and `limits` name that follows from the configuration."""
        return list(dict.fromkeys([*of_costs(self.limits), *(c.name for c in self.named if c.name in COSTS)]))

    @property
    def shares_epochs(self) -> bool:
        """Whether one training may serve all values of train.epochs."""
        return self.method == "thaw" if self.shared_epochs is None else self.shared_epochs

    def component(self, kind: str) -> Any:
        """The sampler, pruner or (first) metric, with its parameters."""
        return self.made(kind, next(chosen for place, chosen in self.chosen() if place == kind))

    def identity(self) -> dict[str, Any]:
        """What of this section decides the trials' results; inactive parameters are left out."""
        neutral = NEUTRAL | (set() if self.deterministic else {"batch"})
        if self.starts == "none":
            neutral |= {"starts"}
        if self.method == "optuna":  # which reads neither of these
            neutral |= {"method", "max_resting"}
        else:
            neutral |= {name for kind in OF_OPTUNA for name in (kind, *components.parameters(kind))}
        if len(self.named) > 1:  # nothing is pruned
            neutral |= {"pruner", *components.parameters("pruner")}
        limited = {f"limits.{name}": value for name, value in self.limits.items()}
        return limited | {name: value for name, value in self.flat("").items() if name.split(".")[0] not in neutral}

    @model_validator(mode="after")
    def _limits_are_repeatable(self) -> Self:
        if self.deterministic and "latency_ms" in self.limits:
            raise ValueError("deterministic does not go with limits.latency_ms, which is measured: limit parameters")
        if self.deterministic and "latency_ms" in self.costs:
            raise ValueError(
                "deterministic does not go with latency_ms in metric, which is measured: name parameters instead"
            )
        return self

    @model_validator(mode="after")
    def _several_metrics_go_with_it(self) -> Self:
        wrong = self._wrong_for_several() if len(self.named) > 1 else []
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    @model_validator(mode="after")
    def _pruner_fits(self) -> Self:
        if self.deterministic and self.compile:
            raise ValueError("deterministic does not go with compile, which follows from measured times; got both")
        if self.deterministic and getattr(self.component("pruner"), "LOOKS_AT_RUNNING", False):
            raise ValueError(
                f"deterministic does not go with a pruner that looks at running trials; got {self.pruner.name}"
            )
        return self

    @model_validator(mode="after")
    def _method_is_whole(self) -> Self:
        wrong = self._wrong_for_thaw() if self.method == "thaw" else self._only_for_thaw()
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def _wrong_for_thaw(self) -> list[str]:
        chosen = dict(self.chosen())
        wrong = [
            f"{kind} must be left out with method: thaw, which does without one; got {chosen[kind].name}:"
            f" remove it, or set method: optuna"
            for kind, default in OF_OPTUNA.items()
            if chosen[kind].name != default
        ]
        if self.plateau is not None:
            wrong.append(
                "plateau must be null with method: thaw: it counts trials that ended, and there most rest; got"
                f" {self.plateau}: set until: no_gain instead"
            )
        if self.max_epochs is None and self.timeout is None and self.until == "budget":
            wrong.append(
                "method: thaw must be told when to end, since n_trials counts trials that began and most of them rest:"
                " set max_epochs (such as 12 for each of n_trials), timeout, or until: no_gain"
            )
        return wrong

    def _wrong_for_several(self) -> list[str]:
        named, wrong = ", ".join(aims.label(one) for one in self.named), []
        if self.method == "thaw":
            wrong.append(
                "metric must be one with method: thaw, which expects the gain of one curve; got"
                f" {named}: set method: optuna, or name one"
            )
        if self.pruner.name not in (OF_OPTUNA["pruner"], "none"):
            wrong.append(
                f"pruner must be left out with several metrics ({named}): by an epoch no trial is known to be off the"
                f" Pareto front, so none is pruned; got {self.pruner.name}: remove it, or set pruner: none"
            )
        if self.shares_epochs and self.method != "thaw":
            wrong.append(
                f"shared_epochs must be false with several metrics ({named}), of which each may have its best value at"
                " another epoch; got true"
            )
        return wrong

    def _only_for_thaw(self) -> list[str]:
        wrong = []
        if self.max_epochs is not None:
            wrong.append(f"max_epochs must be null with method: optuna; got {self.max_epochs}: set n_trials or timeout")
        if self.until != "budget":
            wrong.append(f"until must be budget with method: optuna; got {self.until}: set plateau, or method: thaw")
        return wrong


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
    """Cross-validation over this many folds of train and val, in place of fresh seeds; 0: off. For sets of up to about
    1,000 images, whose few validation images would decide by chance; near-duplicates and groups stay together. One
    training per fold and configuration; `seeds` is then inactive."""
    rule: Annotated[str | dict[str, dict[str, float]], BeforeValidator(aims.rule)] = "first"
    """Which one is chosen where search.metric names several: first, knee, or {weights: {accuracy: 2, latency_ms: 1}}.
    first: the best by the first metric. knee: where a gain in one costs most in the others: the smallest sum
    of distances from the best, each as a fraction of its range on the Pareto front. weights: the same with a weight for
    each. Of the front, the `top_k` that this rule puts first are confirmed."""
    full_fidelity: bool = True
    """Train with the settings of the retraining; false: with search.overrides, as the trials did."""
    calibrate: bool = True
    """Fit a temperature to the confirmed runs' predictions, so that the model is calibrated. Only if these were
    trained as the retraining will be: not with full_fidelity: false and search.overrides that are not empty."""
