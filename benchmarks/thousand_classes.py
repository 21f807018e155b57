"""A thousand classes through every stage: seconds of each, and bytes of all that is written for people.

1,000 characters x 20 images (glyph_set.py, from Debian's fonts), a tiny budget. The pages are opened in headless
Chromium where there is one; what they look like is for a person to see.
"""

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from glyph_set import glyphs
from measuring import ROOT, Project, parser, publish, table

STAGES = ("code", "prepare", "search", "select", "retrain", "evaluate", "register", "report")
SETTINGS = {
    "prepare__source": "folder:data/raw/glyphs",
    "prepare__size": 32,
    "model__width": 16,
    "model__hidden": 256,
    "train__epochs": 4,
    "train__batch_size": 128,
    "search__n_trials": 2,
    "search__pruner": "none",
    "search__space": {"train.learning_rate": {"low": 1e-3, "high": 1e-2, "log": True}},
    "select__top_k": 1,
    "select__seeds": 1,
}
PAGES = ("data/prepared/audit.html", "data/report/index.html")
FILES = (
    *PAGES,
    "data/prepared/audit.json",
    "data/evaluated/confusion.png",
    "data/evaluated/confusion.csv",
    "data/evaluated/per_class.csv",
    "data/evaluated/predictions.csv",
    "data/evaluated/probabilities.npy",
    "data/evaluated/gallery.json",
    "mlruns/mlflow.db",
)


def main() -> None:
    """Make the set, run the stages, print and write the table."""
    made = parser(__doc__)
    made.add_argument("--classes", type=int, default=1000)
    options = made.parse_args()
    classes = 12 if options.quick else options.classes
    with tempfile.TemporaryDirectory() as name:
        project = Project(Path(name))
        for copied in ("params.yaml", "dvc.yaml"):
            shutil.copy(ROOT / copied, project.folder / copied)
        glyphs(project.folder / "data/raw/glyphs", classes)
        project.set(**SETTINGS)
        rows = [[f"stage {stage}", f"{project.run(['-m', f'podium.stages.{stage}']):.1f} s", _lines(project)]
                for stage in STAGES]  # fmt: skip
        rows += [[file, f"{(project.folder / file).stat().st_size:,} bytes", ""] for file in FILES]
        rows += [[f"{page} in Chromium", f"{seconds:.1f} s", ""] for page in PAGES
                 if (seconds := _opened(project.folder / page)) is not None]  # fmt: skip
    publish("thousand_classes", table(["what", "", "terminal"], rows), {"classes": classes}, quick=options.quick)


def _lines(project: Project) -> str:
    """How much a stage has printed."""
    text = project.output()
    return f"{len(text.splitlines()):,} lines, {len(text):,} characters"


def _opened(page: Path) -> float | None:
    """Seconds until a page has been laid out and drawn; None where there is no Chromium."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        return None
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,6000"]
    started = time.perf_counter()
    subprocess.run([*command, f"--screenshot={page}.png", f"file://{page}"], check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
