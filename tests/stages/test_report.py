"""The report of a real run of the pipeline: its numbers are those of the study, of MLflow and of the registry."""

import json
from pathlib import Path
from typing import Any

import pytest

from finished import Finished
from podium import paths
from podium.config.params import TrackingParams
from podium.errors import PodiumError
from podium.report.report_data import Folders
from podium.stages.report import report
from podium.tracking.store import connect
from podium.tracking.trial_runs import runs_of

pytestmark = pytest.mark.slow


def facts(page: Path) -> dict[str, Any]:
    text = page.read_text(encoding="utf-8")
    start = text.index('id="facts">') + len('id="facts">')
    found: dict[str, Any] = json.loads(text[start : text.index("</script>", start)])
    return found


def test_report_agrees_with_mlflow_and_is_kept_there(finished: Finished) -> None:
    path = report(Folders.of_project(), finished.params.tracking, paths.REPORT)
    shown, tracking = facts(path), connect(finished.params.tracking)
    runs = {int(run.data.tags["podium.trial"]): run for run in runs_of(tracking, shown["study"])}
    ended = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
    assert len(shown["trials"]) == 14
    for number, state, value, last, epochs in shown["trials"]:
        run = runs[number]
        assert run.info.status == ended[state]
        assert run.data.metrics.get("objective") == value
        assert run.data.metrics["epochs"] == epochs
        assert run.data.metrics["val_accuracy"] == last
    parent = tracking.client.get_run(shown["parent_run_id"])
    assert parent.data.metrics["best_objective"] == shown["best"]["value"]
    assert parent.data.metrics["trials_pruned"] == shown["spent"]["pruned"]
    assert parent.data.metrics["confirmed_mean"] == shown["selected"]["mean"]
    version = tracking.client.get_model_version_by_alias(shown["registered"]["name"], "challenger")
    assert float(version.tags["accuracy"]) == pytest.approx(shown["metrics"]["accuracy"], abs=1e-6)
    kept = tracking.client.download_artifacts(shown["parent_run_id"], "report/index.html")
    assert Path(kept).read_bytes() == path.read_bytes()
    assert parent.inputs is not None
    (images,) = parent.inputs.dataset_inputs
    assert (images.dataset.name, images.dataset.digest) == ("tiny", "0" * 32)
    assert "accuracy on 60 held-out test images" in parent.data.tags["mlflow.note.content"]
    pictures = {a.path for a in tracking.client.list_artifacts(parent.info.run_id, "figures")}
    assert pictures == {"figures/curves.png", "figures/history.png"}


def test_report_store_without_that_run_is_reported_and_the_page_is_written(
    finished: Finished, tmp_path: Path, mlflow_template: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.db").write_bytes(mlflow_template.read_bytes())
    path = report(Folders.of_project(), TrackingParams(uri=f"sqlite:///{tmp_path}/other.db"), tmp_path / "out")
    assert path.is_file()
    assert "has no run" in capsys.readouterr().err
    (tmp_path / "blocked").write_text("a file where a folder should be")
    path.unlink()
    with pytest.raises(PodiumError, match="does not work"):
        report(Folders.of_project(), TrackingParams(uri=f"sqlite:///{tmp_path}/blocked/x.db"), tmp_path / "out")
    assert path.is_file()
