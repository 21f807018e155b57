"""What a person meets before any work begins: Ctrl-C while packages are imported, a folder's name in any locale."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tiny
from podium.config.params import TrackingParams
from podium.tracking.store import connect
from podium.tracking.trial_runs import runs_of
from podium.tuning.upkeep import studies
from stages.running import Project
from starting import with_ctrl_c
from waiting import PATIENCE

pytestmark = pytest.mark.slow
STAGE, COMMAND = ("podium.stages.search",), ("podium.cli", "sync", "--check")
LOCAL = TrackingParams()


@pytest.mark.parametrize(
    ("words", "imported"),
    [
        (STAGE, "pydantic"),
        (STAGE, "podium.config.params"),
        (STAGE, "optuna"),
        (COMMAND, "podium.commands"),
        (COMMAND, "podium.config.params"),
        (COMMAND, "mlflow"),
    ],
)
def test_interrupt_while_importing_is_one_line(
    words: tuple[str, ...], imported: str, tmp_path: Path, mlflow_template: Path
) -> None:
    project = Project(tmp_path / "project", mlflow_template, tiny.params_yaml(LOCAL))
    command = [sys.executable, "-X", "importtime", "-m", *words]  # it says what has been imported
    process = subprocess.Popen(
        command,
        cwd=project.folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=with_ctrl_c,
    )
    assert process.stderr is not None
    said, sent = [], False
    for line in process.stderr:
        if not line.startswith("import time:"):
            said.append(line)
        elif not sent and line.rstrip().endswith(f" {imported}"):
            process.send_signal(signal.SIGINT)
            sent = True
    process.stderr.close()
    process.wait(PATIENCE)

    assert sent
    assert process.returncode in (130, -signal.SIGINT)
    assert said == ["podium: interrupted; run the same command again to continue\n"]


def test_folder_with_any_name_loses_no_trial_in_a_locale_without_utf8(
    tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path / "Größe 図", mlflow_template, tiny.params_yaml(LOCAL))
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    project.run("search")
    checked = subprocess.run(
        [sys.executable, "-m", "podium.cli", "sync", "--check"],
        cwd=project.folder,
        env=os.environ | {"DVC_ROOT": str(project.folder)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
    monkeypatch.setenv("DVC_ROOT", str(project.folder))
    (study,) = studies(project.folder / "mlruns" / "optuna.journal")
    assert len(runs_of(connect(LOCAL), study)) == len(study.trials) == 4
