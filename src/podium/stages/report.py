"""report: one page about everything that the stages before found out, in data/report and on the search's MLflow run."""

import tempfile
from pathlib import Path

from podium import entry, paths
from podium.config.params import TrackingParams, load
from podium.report import pictures
from podium.report.build import page_of, write
from podium.report.gather import Folders, gather
from podium.report.note import note
from podium.tracking import search_run


def report(folders: Folders, tracking: TrackingParams, out: Path) -> Path:
    """Write the page to `out` and tell the search's parent run what it says; returns the page's path.

    Raises PodiumError where the store is away: the page is written by then.
    """
    story = gather(folders)
    page = page_of(story)
    path = write(page, out)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB; `podium report --open` shows it")
    with tempfile.TemporaryDirectory(prefix="podium-") as folder:
        drawn = pictures.draw(story.search, Path(folder))
        search_run.log_report(tracking, story.search.parent_run_id, path, drawn, note(page))
    return path


def main() -> None:
    """The stage, as dvc.yaml runs it."""
    report(Folders.of_project(), load(paths.PARAMS).tracking, paths.REPORT)


if __name__ == "__main__":
    entry.run_stage(main)
