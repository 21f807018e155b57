"""report: one page about the results of all stages, in data/report and on the search's MLflow run."""

from pathlib import Path

from podium import paths, process
from podium.config.params import TrackingParams, load
from podium.report import mlflow_summary
from podium.report.render import page_of, write
from podium.report.report_data import Folders, gather
from podium.tracking import search_run


def report(folders: Folders, tracking: TrackingParams, out: Path) -> Path:
    """Write the page to `out`, log it with a summary to the search's parent run, and return its path.

    Raises PodiumError if the store is not reachable, after the page is written.
    """
    data = gather(folders)
    page = page_of(data)
    path = write(page, out)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB; `podium report --open` shows it")
    drawn = mlflow_summary.draw(data.search, out / search_run.FIGURES)  # kept: `podium sync` may log them again
    note, beaten = mlflow_summary.note(page), data.lines.beaten_by(data.achieved) if data.lines else None
    search_run.log_report(tracking, data.search.parent_run_id, path, drawn, note, beaten)
    return path


def main() -> None:
    """The stage, as dvc.yaml runs it."""
    report(Folders.of_project(), load(paths.PARAMS).tracking, paths.REPORT)


if __name__ == "__main__":
    process.run_stage(main)
