"""A trained model as MLflow logs it: the served model and the bare graph in one, once for each identity."""

import hashlib
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.errors import Pandas4Warning

from podium.registry import loading
from podium.registry.exported import content_digest, file_digests
from podium.registry.provenance import UNKNOWN, package_versions
from podium.tracking.store import Tracking

# isort: split
# After podium.tracking, which turns MLflow's telemetry off before mlflow is imported.
import mlflow
from mlflow.entities import LoggedModel, LoggedModelStatus, Run
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType

SERVED_MODEL = Path(__file__).with_name("served_model.py")
REQUIREMENTS = ("mlflow", "numpy", "pandas", "pillow", "torch")
OPTIONAL = ("pillow-heif",)
"""Required where it is installed: what images it was trained on can then be sent to it, too."""
"""What served_model.py and decode.py import, and nothing else."""
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
    params=ParamSchema(
        [ParamSpec("probabilities", DataType.boolean, False), ParamSpec("abstain", DataType.boolean, False)]
    ),
)
IDENTITY = "identity"
"""Tag: digest of everything that makes two registrations the same one."""


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


def identity(*parts: object) -> str:
    """A digest of `parts` (JSON) and of what else decides what the model predicts: the served code, the packages."""
    code = hashlib.sha256(SERVED_MODEL.read_bytes()).hexdigest()
    return content_digest([*parts, code, _required()])


def log(tracking: Tracking, run_id: str, bundle: Path, example: bytes, same: str) -> str:
    """Log the files of `bundle` with served_model.py as an MLflow model of the run `run_id`; returns its URI.

    `example` is an image file, stored as the input example. A model of the same run with the identity `same` is used
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
    versions = _required()
    with loading.process_store(tracking), warnings.catch_warnings():
        warnings.simplefilter("ignore", Pandas4Warning)  # MLflow 3.17 compares an index with a range
        Model.log(  # what log_model calls; log_model itself would need the run to be running again
            artifact_path=None,
            flavor=_BothFlavors,
            run_id=run_id,
            model_id=made.model_id,
            python_model=str(SERVED_MODEL),
            artifacts={"model": str(bundle)},
            signature=SIGNATURE,
            input_example=pd.DataFrame({"image": [example]}),
            pip_requirements=[f"{name}=={number}" for name, number in versions.items()],
        )
    return str(made.model_uri)


def _required() -> dict[str, str]:
    """The packages that a server of the model needs, with their versions."""
    optional = package_versions(*OPTIONAL)
    return package_versions(*REQUIREMENTS) | {name: found for name, found in optional.items() if found != UNKNOWN}


def _logged(tracking: Tracking, run: Run, same: str) -> list[LoggedModel]:
    found = tracking.client.search_logged_models([run.info.experiment_id], f"tags.{IDENTITY} = '{same}'")
    return [model for model in found if model.source_run_id == run.info.run_id]


def _is_whole(tracking: Tracking, uri: str, bundle: Path) -> bool:
    """Whether the logged model at `uri` still has the files of `bundle` and our served_model.py."""
    with loading.fetched(tracking, uri) as folder:
        code, files = folder / SERVED_MODEL.name, folder / "artifacts/model"
        same_code = code.is_file() and code.read_bytes() == SERVED_MODEL.read_bytes()
        return same_code and file_digests(files) == file_digests(bundle)
