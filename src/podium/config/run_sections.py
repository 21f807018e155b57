"""The sections of what comes after the search, and of what changes no result (tracking, runtime, serve, drift)."""

import re
from importlib.util import find_spec
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, Field, model_validator

from podium.components import FROZEN, Choice, choice
from podium.config.problems import Fraction, Name, Seed, Text
from podium.config.section import Section, made_of, whole, with_parameters
from podium.errors import InputError
from podium.text import holds_password

FORMAT_PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime")}
"""What writes and runs each of register.formats."""


def _without_password(uri: str) -> str:
    if holds_password(uri):
        raise ValueError(  # the value is not shown: it holds what must not be read by others
            "must hold no password, for this file is committed: put it into the environment"
            " (MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; for PostgreSQL PGPASSWORD or ~/.pgpass)"
        )
    return uri


def _storage(url: str) -> str:
    if url and not re.match(r"postgresql(\+psycopg)?://", url):
        raise ValueError(f"must be empty or begin with postgresql://; got {url.partition('://')[0]!r}")
    return _without_password(url)


def _address(address: str) -> str:
    if address not in ("", "auto") and not re.fullmatch(r"[^\s/@]+:\d{1,5}", address):
        raise ValueError(
            f"must be empty (a cluster of this machine alone), auto or host:port of the cluster's head; got {address!r}"
            " (with ray://, Ray Client, the search would run far from its study: start it on a node of the cluster)"
        )
    return address


def _each_once(formats: list[str]) -> list[str]:
    if len(set(formats)) < len(formats):
        raise ValueError(f"must name each format once; got {', '.join(formats)}")
    return formats


def _once(metrics: list[Choice]) -> list[Choice]:
    labels = [made_of("metric", one, {}).label for one in metrics]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise ValueError(f"must name each metric once; got {', '.join(twice)} twice")
    return metrics


@with_parameters
class TrackingParams(Section):
    """Where runs are recorded; changes no result."""

    KINDS: ClassVar[tuple[str, ...]] = ("tracker",)

    uri: Annotated[Text, AfterValidator(_without_password)] = "sqlite:///mlruns/mlflow.db"
    """An MLflow tracking URI; a relative SQLite path starts at the project's root. Never with a password: MLflow reads
    MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, from the environment."""
    experiment: Name = "podium"
    """MLflow experiment."""
    flush_seconds: Annotated[float, Field(gt=0)] = 5.0
    """Seconds after which a running trial's epochs reach MLflow at the latest. A trial that has ended does so
    within this time, and within five seconds, together with others."""
    also: list[Annotated[Choice, choice("tracker")]] = Field(default=[])
    """Other trackers that get every run too: tensorboard, or your own as module:Class."""

    def chosen(self) -> list[tuple[str, Choice]]:
        """The other trackers."""
        return [("tracker", one) for one in self.also]


class RuntimeParams(BaseModel):
    """How the work is carried out; changes no result."""

    model_config = FROZEN

    engine: Literal["processes", "inline", "ray"] = "processes"
    """processes: worker processes; inline: one worker in the stage's process; ray: a Ray cluster. ray needs the
    extra `ray`."""
    workers: Annotated[int, Field(ge=0, le=1024)] = 0
    """Trials at the same time; 0: one per core, on GPUs workers_per_device, on Ray what fits."""
    workers_per_device: Annotated[int, Field(ge=1, le=64)] = 1
    """Trials at the same time on one CUDA device, each with an equal part of its memory. Small networks leave room
    for several. On Ray: what a trial reserves where trial_gpus is null."""
    storage: Annotated[str, AfterValidator(_storage)] = ""
    """Studies: empty for mlruns/optuna.journal, or postgresql://user@host/database. Other machines can read the
    latter too (extra `postgres`). Never with a password: PGPASSWORD or ~/.pgpass has it."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """Intra-op threads of a training on the CPU; more help only with large images and idle cores."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto: CUDA if available, else MPS (a Mac's GPU), else the CPU."""
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 5.0
    """Seconds between the checkpoints of a running trial, at least."""
    checkpoint_share: Annotated[float, Field(gt=0, le=1)] = 0.03
    """The fraction of the time that checkpoints take at most: a large model has fewer. 1: no limit, and each is written
    before the training goes on."""
    max_restarts: Annotated[int, Field(ge=0)] = 2
    """Times that a trial whose worker died resumes from its checkpoint before it fails."""
    hang_timeout: Annotated[float, Field(gt=0)] | None = 600.0
    """Seconds without a step or computing after which a worker is killed; null: never. Its trial resumes on another.
    Not on Ray."""
    address: Annotated[str, AfterValidator(_address)] = ""
    """ray: empty for a cluster of this machine alone, `auto`, or host:port of a cluster's head."""
    shared_folder: bool = False
    """ray: every node sees the project's folder under the same path. Images and checkpoints are then read and
    written there; otherwise both are sent through Ray's object store."""
    trial_cpus: Annotated[float, Field(gt=0)] = 1.0
    """ray: CPUs that a trial reserves; a fraction shares one."""
    trial_gpus: Annotated[float, Field(ge=0)] | None = None
    """ray: GPUs that a trial reserves; null: where there are some, 1 / workers_per_device. A fraction below 1 shares
    one, above 1 it must be whole. 0: trials train on CPUs."""
    queued: Annotated[int, Field(ge=0, le=1024)] = 0
    """ray: trials that wait beyond those that fit, so that an autoscaler sees the demand."""
    devices: Annotated[int, Field(ge=1, le=1024)] = 1
    """Devices of the retraining, each with a part of every batch. 1: in the stage's own process; more: through Ray
    Train at `address`."""
    min_devices: Annotated[int, Field(ge=0, le=1024)] = 0
    """The retraining continues with this many devices if nodes are lost; 0: it waits for all."""

    @model_validator(mode="after")
    def _agree(self) -> "RuntimeParams":
        if self.trial_gpus is not None and self.trial_gpus > 1 and self.trial_gpus != int(self.trial_gpus):
            raise ValueError(f"trial_gpus must be a whole number where it is above 1; got {self.trial_gpus}")
        if self.engine == "ray" and self.device == "cuda" and self.trial_gpus == 0:
            raise ValueError("trial_gpus must be above 0 with engine: ray and device: cuda; got 0")
        if self.device == "mps" and (self.engine == "ray" or self.devices > 1):
            raise ValueError(
                "device: mps goes with engine: processes or inline and with devices: 1, since neither Ray nor"
                f" torch.distributed knows it; got engine: {self.engine}, devices: {self.devices}"
            )
        if self.min_devices > self.devices:
            raise ValueError(f"min_devices must be at most devices; got {self.min_devices} and {self.devices}")
        return self


class RetrainParams(BaseModel):
    """The winner, trained again on train and, unless `images` says otherwise, validation."""

    model_config = FROZEN

    seed: Seed = 0
    """Seed of the final training run."""
    images: Literal["train_and_val", "train"] = "train_and_val"
    """What is trained on: train_and_val, or train, which evaluate.abstain needs. With the latter the model is not
    trained on the validation images."""

    members: Annotated[int, Field(ge=1, le=64)] = 1
    """resnet: Networks that the winner is trained as; their probabilities are averaged. Each is trained as the search
    trained one, from other initial weights, so the retraining and every prediction take `members` times as long. With
    few images the ensemble is better than one network."""

    @property
    def splits(self) -> list[str]:
        """What is trained on."""
        return ["train"] if self.images == "train" else ["train", "val"]

    compile: bool = False
    """torch.compile: a minute once, then faster steps; if it fails, training continues without it. A message says
    so."""
    profile_steps: Annotated[int, Field(ge=0, le=1000)] = 6
    """Steps that torch.profiler records (0: no profile)."""


class EvaluateParams(BaseModel):
    """The evaluation on the held-out test set."""

    model_config = FROZEN

    confidence: Fraction = 0.95
    """Level of the intervals, and of what abstain promises."""
    calibration_bins: Annotated[int, Field(ge=2, le=1000)] = 15
    """Bins of the expected calibration error."""
    metrics: Annotated[list[Annotated[Choice, choice("metric"), whole("metric")]], AfterValidator(_once)] = Field(
        default=[]
    )
    """More metrics of every epoch and of the test set, each as search.metric. Accuracy and log loss are always there,
    and what search.metric and search.limits name."""
    abstain: Fraction | None = None
    """Highest error among answered images; the model is unsure of the others; null: it answers all. The threshold
    of the probability is chosen on validation images, so retrain.images must be train."""


class RegisterParams(BaseModel):
    """The registered model."""

    model_config = FROZEN

    name: Name = "digits-classifier"
    """Name in the registry."""
    formats: Annotated[list[Literal["onnx"]], AfterValidator(_each_once)] = []
    """Further formats of the network in each version: [onnx]. Its probabilities are compared with the network's first;
    it needs the extra `onnx`."""

    def check_installed(self) -> None:
        """Raise InputError where a package that `formats` needs is missing."""
        missing = [name for one in self.formats for name in FORMAT_PACKAGES[one] if find_spec(name) is None]
        if missing:
            raise InputError(
                f"register.formats: {', '.join(self.formats)} needs {', '.join(missing)}, not installed here:"
                f" `pip install {' '.join(missing)}`, or write formats: []"
            )


class ServeParams(BaseModel):
    """How `podium serve` works. The limits of an image file are fixed in the model."""

    model_config = FROZEN

    host: Text = "127.0.0.1"
    """Address to listen on; there is no login: others than 127.0.0.1 need a proxy that has one."""
    port: Annotated[int, Field(ge=1, le=65535)] = 5001
    """Port to listen on."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes, each with the model in memory."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Intra-op threads of a worker."""
    max_request_mb: Annotated[float, Field(gt=0)] = 64.0
    """Larger requests are refused before they are read to their end."""
    max_images: Annotated[int, Field(ge=1)] = 1024
    """Largest number of images in a request."""
    max_decoded_mb: Annotated[float, Field(gt=0)] = 512.0
    """Memory that decoding an image may take, known from its header; 512 are 12 megapixels of 16 bits, 36 of 8 bits."""
    memory_mb: Annotated[float, Field(gt=0)] = 1024.0
    """Memory that all requests of a worker may take, beyond the model; further ones wait."""
    max_concurrent: Annotated[int, Field(ge=1)] = 64
    """Requests in progress per worker; a further one gets the status 503. Health checks do not count."""
    timeout_seconds: Annotated[int, Field(ge=1)] = 30
    """A request that has not arrived after this time gets 408, one whose response is not ready after it 504."""
    idle_seconds: Annotated[int, Field(ge=1)] = 30
    """A connection that has not sent complete headers after this time is closed."""
    drain_seconds: Annotated[int, Field(ge=0)] = 30
    """After Ctrl-C or SIGTERM: time for the requests in progress."""
    follow_seconds: Annotated[float, Field(ge=0.1)] = 2.0
    """Time between two checks whether the champion has changed."""
    queue_mb: Annotated[float, Field(gt=0)] = 64.0
    """Memory of each worker for images that wait: so much for the shadow, and so much for drift.
    Further images are dropped, and counted."""
    keep: Literal["none", "disagreements"] = "none"
    """Images that --shadow stores: none, or disagreements, as the network saw them. Digests and predictions are stored
    either way."""
    keep_mb: Annotated[float, Field(ge=1)] = 200.0
    """Disk space for what is stored of images; the oldest is deleted first. Totals stay."""
    keep_days: Annotated[float, Field(gt=0)] = 30.0
    """Time after which what is stored of an image is deleted."""
    access_log: bool = True
    """A line on standard error for each request except health checks."""

    @model_validator(mode="after")
    def _one_request_fits(self) -> "ServeParams":
        least = self.max_decoded_mb + 6 * self.max_request_mb
        if self.memory_mb < least:
            raise ValueError(
                f"memory_mb must be at least max_decoded_mb and six times max_request_mb together ({least:g}), so that"
                f" one request fits; got {self.memory_mb:g}"
            )
        return self


class LedgerParams(BaseModel):
    """Where the moves of the champion are recorded besides MLflow."""

    model_config = FROZEN

    git_tags: Literal["none", "annotated", "signed"] = "none"
    """Each move is a git tag too, which `podium history --check` compares: annotated, or signed with the key that git's
    user.signingKey names."""


class DriftParams(BaseModel):
    """Which statistics `podium serve` stores of the images that it serves, and how `podium drift` compares them."""

    model_config = FROZEN

    window: Annotated[int, Field(ge=100)] | None = 1000
    """Images per window, over all workers and servers; null: no statistics are stored."""
    hours: Annotated[float, Field(gt=0)] = 24.0
    """A window whose first image is older is complete too, if it has 50 images."""
    keep: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Windows of each version that are stored, about 70 kB each."""
    folder: str = ""
    """Where they are stored; empty: mlruns/drift. Servers of several machines share windows in a folder that all
    see."""
    false_alarm: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """Chance that any of all windows of a version is called drifted although nothing changed."""
    min_effect: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """A smaller change is no drift, however significant: the distance of two distributions, 0 to 1."""
