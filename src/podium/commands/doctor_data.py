"""The part of `podium doctor` that examines the images."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from podium.config.params import Params

HELP = "examine the images that params.yaml names: broken files, duplicates, leakage, balance, odd sizes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the report goes."""
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="folder of the report (default: mlruns/doctor)")
    parser.add_argument("--log", action="store_true", help="log the report to MLflow as a run of its own")


def run(arguments: argparse.Namespace) -> None:
    """Write the report and print its summary. Raises InputError where a policy refuses what was found."""
    from podium import paths
    from podium.config.params import load
    from podium.data.audit.data_audit import audited, refuse
    from podium.errors import PodiumError

    params = load(paths.PARAMS)
    out: Path = arguments.out or paths.mlruns() / "doctor"
    with audited(params.prepare, params.doctor, paths.decoded()) as data:
        try:
            out.mkdir(parents=True, exist_ok=True)
            data.report.write(out, data.pixels)
        except OSError as error:
            raise PodiumError(f"{out} can't be written: {error}") from None
    print("\n".join(data.report.summary()))
    print(f"the whole report: {out / 'audit.html'}")
    if arguments.log:
        _log(params, out)
    refuse(data.report)


def _log(params: "Params", out: Path) -> None:
    from podium.registry import versions
    from podium.tracking.record import KIND_TAG
    from podium.tracking.store import connect

    with versions.mlflow_errors("the MLflow store refuses the report"):
        store = connect(params.tracking)
        run = store.client.create_run(store.experiment_id, run_name="doctor", tags={KIND_TAG: "doctor"})
        for path in sorted(out.glob("audit.*")):
            store.client.log_artifact(run.info.run_id, str(path))
        store.client.set_terminated(run.info.run_id)
    print(f"logged to MLflow as run {run.info.run_id}")
