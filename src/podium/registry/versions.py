"""The model registry: a trained model becomes a version in it, found again by number or alias."""

import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.errors import Pandas4Warning

from podium.errors import InputError, PodiumError, RefusedError
from podium.registry import served
from podium.registry.export import file_digests
from podium.registry.provenance import package_versions
from podium.tracking.store import Tracking

# isort: split
# After podium.tracking, which turns MLflow's telemetry off before mlflow is imported.
import mlflow
from mlflow.entities import LoggedModel, LoggedModelStatus, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType

CHALLENGER = "challenger"
CHAMPION = "champion"
SERVING = Path(__file__).with_name("serving.py")
REQUIREMENTS = ("mlflow", "numpy", "pandas", "pillow", "torch")
"""What serving.py and decode.py import, and nothing else."""
SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(DataType.binary, "image", required=False),
            ColSpec(AnyType(), "array", required=False),  # type: ignore[no-untyped-call]
        ]
    ),
    outputs=Schema(
        [ColSpec(DataType.string, "label"), ColSpec(DataType.double, "probability"), ColSpec(DataType.string, "model")]
    ),
    params=ParamSchema([ParamSpec("probabilities", DataType.boolean, False)]),
)
IDENTITY = "identity"
"""Tag: digest of everything that makes two registrations the same one."""
LINEAGE, LINEAGE_DIGEST = "lineage", "lineage_digest"
"""Tags: where in the run's artifacts lies what makes the version again, and `folder_digest` of it."""
FILES = "files"
"""Tag: SHA-256 of every file of the model, MLflow's own files too."""


class _BothFlavors:
    """What Model.log takes for a flavour: the served model, and the same graph as MLflow's native PyTorch flavour.

    `mlflow.pytorch.load_model` gives the graph without running any code of the model's.
    """

    @staticmethod
    def save_model(path: str, mlflow_model: Model, **served_model: Any) -> None:
        """Write the model to `path`."""
        mlflow.pyfunc.save_model(path, mlflow_model=mlflow_model, **served_model)
        torch_version = package_versions("torch")["torch"]
        mlflow_model.add_flavor("pytorch", model_data="artifacts/model", pytorch_version=torch_version, code=None)
        mlflow_model.save(str(Path(path) / "MLmodel"))


@dataclass(frozen=True)
class Version:
    """One version of a registered model."""

    name: str
    number: int
    run_id: str
    """The run that trained it."""
    model_uri: str
    """Where MLflow keeps its files: models:/m-..."""
    tags: dict[str, str]
    aliases: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} version {self.number}"


def identity(*parts: object) -> str:
    """A digest of `parts` (JSON) and of what else decides how the model answers: the serving code, the packages."""
    code = hashlib.sha256(SERVING.read_bytes()).hexdigest()
    return _digest([*parts, code, package_versions(*REQUIREMENTS)])


def log(tracking: Tracking, run_id: str, bundle: Path, example: bytes, same: str) -> str:
    """Log the files of `bundle` with serving.py as an MLflow model of the run `run_id`; returns its URI.

    `example` is an image file, kept as the input example. A model of the same run with the identity `same` is used
    again if its files are still those; what a killed attempt left of one is removed.
    """
    client = tracking.client
    run = client.get_run(run_id)
    for found in _logged(tracking, run, same):
        if found.status != LoggedModelStatus.READY:
            client.delete_logged_model(found.model_id)
        elif _is_whole(tracking, str(found.model_uri), bundle):
            return str(found.model_uri)
    made = client.create_logged_model(
        run.info.experiment_id, "model", run_id, tags={IDENTITY: same}, params=run.data.params
    )
    versions = package_versions(*REQUIREMENTS)
    with served.process_store(tracking), warnings.catch_warnings():
        warnings.simplefilter("ignore", Pandas4Warning)  # MLflow 3.17 compares an index with a range
        Model.log(  # what log_model calls; log_model itself would need the run to be running again
            artifact_path=None,
            flavor=_BothFlavors,
            run_id=run_id,
            model_id=made.model_id,
            python_model=str(SERVING),
            artifacts={"model": str(bundle)},
            signature=SIGNATURE,
            input_example=pd.DataFrame({"image": [example]}),
            pip_requirements=[f"{name}=={number}" for name, number in versions.items()],
        )
    return str(made.model_uri)


def create_version(
    tracking: Tracking, name: str, run_id: str, model_uri: str, tags: dict[str, str], description: str
) -> Version:
    """Register the logged model `model_uri` as the next version of `name`, with `tags` and its files' digests."""
    client = tracking.client
    with served.process_store(tracking):
        _ensure_registered(tracking, name)
        with served.fetched(tracking, model_uri) as folder:
            files = served.digests(folder)
        tags = tags | {FILES: json.dumps(files), "model_digest": _digest(files)}
        model_id = model_uri.rsplit("/", 1)[1]
        return _version(
            client.create_model_version(name, model_uri, run_id, tags, None, description, model_id=model_id)
        )


def latest(tracking: Tracking, name: str) -> Version | None:
    """The version of `name` with the highest number; None where there is none."""
    numbers = version_numbers(tracking, name)
    return find(tracking, name, numbers[-1]) if numbers else None


def find(tracking: Tracking, name: str, which: int | str) -> Version:
    """A version by its number or alias. Raises InputError naming what there is."""
    try:
        if isinstance(which, int):
            return _version(tracking.client.get_model_version(name, str(which)))
        return _version(tracking.client.get_model_version_by_alias(name, which))
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
    raise InputError(_what_there_is(tracking, name, which))


def load(tracking: Tracking, version: Version) -> served.Served:
    """The model as a server has it. Raises RefusedError where its files are not those that were registered.

    Raises PodiumError where it can't be fetched or loaded.
    """
    return served.load(tracking, _uri(version), str(version), _files(version))


def checked(tracking: Tracking, version: Version) -> AbstractContextManager[Path]:
    """A copy of the model's files for the time of a block. Raises as `load` does."""
    return served.checked(tracking, _uri(version), str(version), _files(version))


def _uri(version: Version) -> str:
    return f"models:/{version.name}/{version.number}"


def _files(version: Version) -> dict[str, str]:
    """The digests of the version's files. Raises RefusedError where it has none: nobody could say what is loaded."""
    try:
        files: dict[str, str] = json.loads(version.tags[FILES])
    except (KeyError, ValueError):
        raise RefusedError(
            f"{version} has no digests of its files (tag {FILES!r}): it was not registered by `dvc repro`, or the tag"
            " was taken away; register the model again"
        ) from None
    return files


def folder_digest(folder: Path) -> str:
    """SHA-256 over the digests of the files of `folder`."""
    return _digest(file_digests(folder))


def digest_of(version: Version) -> str:
    """SHA-256 over the digests of the version's files. Raises RefusedError where it has none."""
    return _digest(_files(version))


def version_numbers(tracking: Tracking, name: str) -> list[int]:
    """The numbers of every version of `name`, rising."""
    numbers: list[int] = []
    token = None
    while True:
        page = tracking.client.search_model_versions(f"name='{name}'", max_results=1000, page_token=token)
        numbers += [int(version.version) for version in page]
        token = page.token
        if not token:
            return sorted(numbers)


def aliases(tracking: Tracking, name: str) -> dict[str, int]:
    """Every alias of `name` with its version; empty where nothing is registered under it."""
    try:
        held = tracking.client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}
    return {alias: int(number) for alias, number in held.items()}


@contextmanager
def mlflow_errors(what: str) -> Iterator[None]:
    """MLflow's errors within the block become a PodiumError that begins with `what`."""
    try:
        yield
    except MlflowException as error:
        raise PodiumError(f"{what}: {error.message}") from error


def _ensure_registered(tracking: Tracking, name: str) -> None:
    try:
        tracking.client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _logged(tracking: Tracking, run: Run, same: str) -> list[LoggedModel]:
    found = tracking.client.search_logged_models([run.info.experiment_id], f"tags.{IDENTITY} = '{same}'")
    return [model for model in found if model.source_run_id == run.info.run_id]


def _is_whole(tracking: Tracking, uri: str, bundle: Path) -> bool:
    """Whether the logged model at `uri` still has the files of `bundle` and our serving.py."""
    with served.fetched(tracking, uri) as folder:
        code, files = folder / "serving.py", folder / "artifacts/model"
        same_code = code.is_file() and code.read_bytes() == SERVING.read_bytes()
        return same_code and file_digests(files) == file_digests(bundle)


def _version(made: ModelVersion) -> Version:
    held = tuple(made.aliases or ())
    return Version(made.name, int(made.version), str(made.run_id), str(made.source), dict(made.tags), held)


def _what_there_is(tracking: Tracking, name: str, which: int | str) -> str:
    numbers = version_numbers(tracking, name)
    if not numbers:
        return f"nothing is registered as {name}: run `dvc repro`"
    held = ", ".join(f"{alias} is {number}" for alias, number in sorted(aliases(tracking, name).items()))
    wanted = f"version {which}" if isinstance(which, int) else f"version with the alias {which!r}"
    hint = "; `podium promote` makes a champion" if which == CHAMPION else ""
    return f"{name} has no {wanted}, only {', '.join(map(str, numbers))} ({held or 'no alias'}){hint}"


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
