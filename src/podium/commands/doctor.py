"""`podium doctor` and `podium doctor data`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from podium.errors import InputError, PodiumError
from podium.text import counted, one_line

if TYPE_CHECKING:
    from podium.config.params import Params
    from podium.data.audit.data_audit import AuditedData

NAME = "doctor"
HELP = "check this machine and this project: what would fail, and how to fix it"
ORDER = 140
EXAMPLE = "podium doctor", "what would fail on this machine and in this project"
EXAMPLES = """\
  podium doctor                      versions, CUDA, disk, ports, params.yaml, mlruns/, tracking, locks, git, DVC
  podium doctor data                 audit the images of params.yaml, write a report with thumbnails
  podium doctor data --out report    to another folder than mlruns/doctor
  podium doctor data --log           to MLflow too, as a run of its own

Exit code 1: something would fail; for `doctor data`: prepare would refuse the images, or DVC their folder. A `note` is
worth knowing and fails nothing. Nothing in data/ is changed."""

AUDIT = "audit the images that params.yaml names: broken files, duplicates, leakage, balance, odd sizes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to check; without a subject the machine and the project."""
    parser.set_defaults(check=_check_environment)
    subjects = parser.add_subparsers(metavar="SUBJECT")
    data = subjects.add_parser("data", help=AUDIT, description=AUDIT)
    data.add_argument("--out", metavar="FOLDER", type=Path, help="folder of the report (default: mlruns/doctor)")
    data.add_argument("--log", action="store_true", help="log the report to MLflow as a run of its own")
    data.set_defaults(check=_audit_data)


def run(arguments: argparse.Namespace) -> None:
    """Check it and print what was found. Raises PodiumError where something would fail."""
    arguments.check(arguments)


def _check_environment(arguments: argparse.Namespace) -> None:
    from podium.doctor.machine import table
    from podium.doctor.project import check_environment

    findings = check_environment()
    print(table(findings))
    failing = [f.subject for f in findings if f.level == "fail"]
    if failing:
        raise PodiumError(f"{counted(len(failing), 'check')} failed: {', '.join(failing)}")


def _audit_data(arguments: argparse.Namespace) -> None:
    """Write the report of the images and print its summary. Raises PodiumError where prepare or DVC would refuse."""
    from podium import paths
    from podium.config.params import load
    from podium.data.audit.dvc_tree import refusals

    params = load(paths.PARAMS)
    wrong, notes = refusals(Path(params.prepare.root))
    print("".join(f"note: {one_line(note)}\n" for note in notes), end="")
    refused = [f"dvc repro would fail: {one_line(one)}" for one in wrong]
    try:
        refused = _audit(params, arguments.out or paths.mlruns() / "doctor", refused, log=arguments.log)
    except InputError as error:
        refused.append(str(error))
    if refused:
        raise PodiumError("\n".join(refused))


def _audit(params: "Params", out: Path, refused: list[str], *, log: bool) -> list[str]:
    """Write the report, and log it; returns what is `refused`, with what prepare would refuse."""
    from podium import paths
    from podium.data.audit.data_audit import audited, refuse
    from podium.data.audit.writable import unwritable
    from podium.data.linked_files import dvc_links
    from podium.doctor.preset_choice import preset
    from podium.stages.prepare import short_classes

    try:
        with audited(params.prepare, params.doctor, paths.decoded(), paths.SPLIT) as data:
            short = short_classes(data.report.counts, params.prepare, data.groups)
            wrong = unwritable(data, paths.PREPARED, paths.SEALED, paths.SPLIT, links=dvc_links(paths.root()))
            refused = [*refused, *([short] if short else []), *(f"prepare would fail: {why}" for why in wrong)]
            _write(data, out, refused)
    except OSError as error:
        raise PodiumError("\n".join([*refused, f"prepare would fail: {error}"])) from None
    print("\n".join(data.report.summary(refused=bool(refused))))
    advised = preset(params, paths.PRESETS)
    print(f"preset: {advised.found}" + (f"; {advised.remedy}" if advised.remedy else ""))
    print(f"full report: {out / 'audit.html'}; every finding with every file: {out / 'audit.csv'}")
    if log:
        _log_audit(params, out)
    try:
        refuse(data.report)
    except InputError as error:
        refused.insert(0, str(error))
    return refused


def _write(data: "AuditedData", out: Path, refused: list[str]) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        data.report.write(out, data.pixels, refused)
    except OSError as error:
        raise PodiumError(f"{out} can't be written: {error}") from None


def _log_audit(params: "Params", out: Path) -> None:
    from podium.registry import versions
    from podium.tracking.run_names import KIND_TAG
    from podium.tracking.store import connect

    with versions.mlflow_errors("the MLflow store refuses the report"):
        store = connect(params.tracking)
        run = store.client.create_run(store.experiment_id, run_name="doctor", tags={KIND_TAG: "doctor"})
        for path in sorted(out.glob("audit.*")):
            store.client.log_artifact(run.info.run_id, str(path))
        store.client.set_terminated(run.info.run_id)
    print(f"logged to MLflow as run {run.info.run_id}")
