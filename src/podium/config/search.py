"""The sections `search` and `select`."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from podium.config.dimension import Dimension, Value
from podium.config.fields import Seed
from podium.config.recipe import FROZEN


class SearchParams(BaseModel):
    """The study: how many trials, of what, judged how."""

    model_config = FROZEN

    n_trials: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Trials in all, over every resume; raising it continues the same study."""
    timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds of search in all, over every resume; null: no limit."""
    plateau: Annotated[int, Field(ge=1)] | None = None
    """Stop after this many trials in a row without a better one; null: no limit."""
    metric: Literal["accuracy", "loss"] = "accuracy"
    """What is judged on the validation images: accuracy (maximised) or loss (minimised)."""
    seed: Seed = 0
    """Seed of the study; each trial's own seed follows from it and the trial's number."""
    defaults_first: bool = True
    """The first trial is the configuration that `model` and `train` spell out, where the space contains it."""
    sampler: Literal["tpe", "random"] = "tpe"
    """tpe (multivariate, with a constant liar for parallel workers) or random."""
    startup_trials: Annotated[int, Field(ge=1)] = 10
    """Random trials before tpe begins to learn."""
    pruner: Literal["median", "halving", "hyperband", "none"] = "median"
    """Which trials are stopped early: below the median, by successive halving, by hyperband, or none."""
    pruner_startup: Annotated[int, Field(ge=0)] = 5
    """median: trials that must have completed before any is pruned."""
    pruner_warmup: Annotated[int, Field(ge=0)] = 2
    """Epochs that every trial may run: median prunes after them, halving and hyperband have their first rung there."""
    pruner_factor: Annotated[int, Field(ge=2, le=10)] = 3
    """halving and hyperband: one in this many goes on at each rung."""
    deterministic: bool = False
    """The same trials whatever the number of workers: they are asked for in batches, and pruned by earlier batches."""
    batch: Annotated[int, Field(ge=1, le=10_000)] = 8
    """deterministic: trials of a batch; more workers than that stay idle."""
    trial_timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds of training after which a trial fails; null: no limit. The confirmation's runs have none."""
    max_failures: Annotated[int, Field(ge=1)] = 10
    """This many failed trials in a row end the search with the first one's reason."""
    fraction: dict[str, Value] = {}
    """Fields that every trial has instead of its own, such as train.epochs: 3, so that a search over many images costs
    a fraction; the confirmation and the retraining have `model` and `train`'s again."""
    space: dict[str, Dimension] = {}
    """A dimension is keyed by the field that it replaces, such as train.learning_rate."""

    @model_validator(mode="after")
    def _pruner_fits(self) -> Self:
        if self.deterministic and self.pruner == "hyperband":
            raise ValueError(
                "deterministic goes with the pruners median, halving and none (hyperband looks at running trials);"
                " got hyperband"
            )
        return self


class SelectParams(BaseModel):
    """The confirmation on fresh seeds."""

    model_config = FROZEN

    top_k: Annotated[int, Field(ge=1, le=100)] = 3
    """Configurations that are run again."""
    seeds: Annotated[int, Field(ge=1, le=100)] = 3
    """Fresh seeds for each of them."""
    whole: bool = True
    """Whether they train as the retraining will; false: at `search.fraction`, as the trials did."""
    calibrate: bool = True
    """Whether the model's probabilities are brought in line with how often its confirmed copies were right; only where
    those trained as the retraining will: not with whole: false and a search.fraction."""
