"""params.yaml as frozen, strict `Params`; the only file that reads YAML.

Every problem is reported at once, each with its dotted path, the rule and what was got.
"""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from podium import problems
from podium.dimension import Dimension, space_problems
from podium.errors import InputError
from podium.recipe import FROZEN, ModelParams, Recipe, TrainParams


def _source(text: str) -> str:
    if not re.fullmatch(r"digits|torchvision:[A-Za-z0-9]+", text):
        raise ValueError(f"must be digits or torchvision:<class>, such as torchvision:FashionMNIST; got {text!r}")
    return text


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text):
        raise ValueError(
            f"must be at most 100 letters, digits, `.`, `_` and `-`, a letter or digit first; got {text!r}"
        )
    return text


Fraction = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Source = Annotated[str, AfterValidator(_source)]
Name = Annotated[str, AfterValidator(_name)]
Text = Annotated[str, Field(min_length=1)]


class PrepareParams(BaseModel):
    """Which images, and how they are divided."""

    model_config = FROZEN

    source: Source = "digits"
    """digits (inside scikit-learn) or torchvision:<class name>, such as torchvision:FashionMNIST."""
    root: Text = "data/raw"
    """Folder in which a torchvision set's files lie."""
    download: bool = False
    """Let torchvision fetch the files where they are missing."""
    val_fraction: Fraction = 0.15
    """Share of the images for validation: what the search maximises on."""
    test_fraction: Fraction = 0.15
    """Share sealed until evaluation, where the source has no test split of its own."""
    salt: str = "podium"
    """Another salt gives another split; the same salt keeps every image where it is when images are added."""
    min_per_class: Annotated[int, Field(ge=1)] = 5
    """A class with fewer images than this in the training split, or none in another split, is refused."""

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> "PrepareParams":
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                "val_fraction + test_fraction must be below 1, so that images are left to train on;"
                f" got {self.val_fraction} + {self.test_fraction}"
            )
        return self


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
    trial_timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds of training after which a trial fails; null: no limit."""
    max_failures: Annotated[int, Field(ge=1)] = 10
    """This many failed trials in a row end the search with the first one's reason."""
    space: dict[str, Dimension] = {}
    """A dimension is keyed by the field that it replaces, such as train.learning_rate."""


class SelectParams(BaseModel):
    """The confirmation on fresh seeds."""

    model_config = FROZEN

    top_k: Annotated[int, Field(ge=1, le=100)] = 3
    """Configurations that are run again."""
    seeds: Annotated[int, Field(ge=1, le=100)] = 3
    """Fresh seeds for each of them."""


class RetrainParams(BaseModel):
    """The winner, trained again on train and validation."""

    model_config = FROZEN

    seed: Seed = 0
    """Seed of the final training run."""
    profile_steps: Annotated[int, Field(ge=0, le=1000)] = 6
    """Steps that torch.profiler records (0: no profile)."""


class EvaluateParams(BaseModel):
    """The one look at the sealed test set."""

    model_config = FROZEN

    confidence: Fraction = 0.95
    """Level of the intervals."""
    calibration_bins: Annotated[int, Field(ge=2, le=1000)] = 15
    """Bins of the expected calibration error."""


class RegisterParams(BaseModel):
    """The registered model."""

    model_config = FROZEN

    name: Name = "digits-classifier"
    """Name in the registry."""


class TrackingParams(BaseModel):
    """Where runs are recorded; changes no result."""

    model_config = FROZEN

    uri: Text = "sqlite:///mlruns/mlflow.db"
    """An MLflow tracking URI; a relative SQLite path starts at the project's root."""
    experiment: Name = "podium"
    """MLflow experiment."""
    flush_seconds: Annotated[float, Field(gt=0)] = 5.0
    """A running trial's finished epochs reach MLflow at least this often."""


class RuntimeParams(BaseModel):
    """How the work is carried out; changes no result."""

    model_config = FROZEN

    engine: Literal["processes", "inline"] = "processes"
    """processes: workers of their own; inline: everything in the stage's process (one worker)."""
    workers: Annotated[int, Field(ge=0, le=1024)] = 0
    """Trials at the same time (0: one a core)."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """Intra-op threads of a training on the CPU; more pay for large images on idle cores only."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is one, else the CPU."""
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 5.0
    """A running trial is checkpointed this often."""
    max_restarts: Annotated[int, Field(ge=0)] = 2
    """A trial whose worker died goes on from its checkpoint this often, then fails."""


class Params(BaseModel):
    """params.yaml, whole."""

    model_config = FROZEN

    prepare: PrepareParams = PrepareParams()
    model: ModelParams = ModelParams()
    train: TrainParams = TrainParams()
    search: SearchParams = SearchParams()
    select: SelectParams = SelectParams()
    retrain: RetrainParams = RetrainParams()
    evaluate: EvaluateParams = EvaluateParams()
    register_: RegisterParams = Field(default=RegisterParams(), alias="register")
    tracking: TrackingParams = TrackingParams()
    runtime: RuntimeParams = RuntimeParams()

    def recipe(self) -> Recipe:
        """The training run that `model` and `train` spell out."""
        return Recipe(model=self.model, train=self.train)


def load(path: Path) -> Params:
    """Read `path`. Raises InputError naming every problem in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read: {error}. Run in the project's root.") from None
    return parse(text, str(path))


def parse(text: str, name: str = "params.yaml") -> Params:
    """Read YAML text. Raises InputError naming every problem in it; `name` is what messages call the text."""
    try:
        raw = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise InputError(f"{name} is not YAML: {problems.syntax(error)}") from None
    raw = {} if raw is None else raw
    if not isinstance(raw, dict):
        raise InputError(f"{name} must hold sections such as `search:`; got {type(raw).__name__}")
    found: list[str] = []
    params = None
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        found += problems.sentences(error, known_fields(), list(Dimension.model_fields))
    search = raw.get("search")
    found += [
        f"search.space.{line}" for line in space_problems(search.get("space") if isinstance(search, dict) else {})
    ]
    if found or params is None:
        count = f"{len(found)} problem" + ("s" if len(found) > 1 else "")
        raise InputError(f"{name} has {count}:\n" + "\n".join(f"  {line}" for line in found))
    return params


def known_fields() -> list[str]:
    """Every section, and every parameter by its dotted name, `section.field`."""
    sections = {field.alias or key: field.annotation for key, field in Params.model_fields.items()}
    fields = [
        f"{name}.{field}"
        for name, section in sections.items()
        if isinstance(section, type) and issubclass(section, BaseModel)
        for field in section.model_fields
    ]
    return [*sections, *fields]
