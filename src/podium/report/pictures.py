"""The two charts of a search that are worth a picture, as PNG files for MLflow's pages."""

from itertools import accumulate
from pathlib import Path

from matplotlib.figure import Figure

from podium.report.trials import Search

BLUE, ORANGE, GREEN = "#2f6fdb", "#d98e2b", "#12956f"
STYLES = (("PRUNED", "pruned", ORANGE), ("COMPLETE", "complete", BLUE))


def draw(search: Search, folder: Path) -> list[Path]:
    """Write history.png and curves.png to `folder` and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_history(search, folder / "history.png"), _curves(search, folder / "curves.png")]


def _history(search: Search, path: Path) -> Path:
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    for state, name, color in STYLES:
        trials = [t for t in search.of(state) if t.last_value is not None]
        values = [t.last_value or 0.0 for t in trials]
        axes.scatter([t.number for t in trials], values, s=14, color=color, label=name, alpha=0.7)
    complete = [(t.number, t.value) for t in search.of("COMPLETE") if t.value is not None]
    best = list(accumulate((value for _, value in complete), max if search.sign > 0 else min))
    axes.step([number for number, _ in complete], best, where="post", color=GREEN, linewidth=2, label="best so far")
    axes.set(xlabel="trial", ylabel=f"validation {search.metric}", title="What was found when")
    return _save(figure, path)


def _curves(search: Search, path: Path) -> Path:
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    for state, name, color in STYLES:
        for index, trial in enumerate(search.of(state)):
            epochs, values = [e for e, _ in trial.curve], [v for _, v in trial.curve]
            label = name if index == 0 else None
            axes.plot(epochs, values, color=color, alpha=0.35, linewidth=0.8, label=label)
    for trial in search.ranked()[:1]:
        epochs, values = [e for e, _ in trial.curve], [v for _, v in trial.curve]
        axes.plot(epochs, values, color=GREEN, linewidth=2.2, label=f"trial {trial.number}")
    axes.set(xlabel="epoch", ylabel=f"validation {search.metric}", title="Learning curves")
    return _save(figure, path)


def _save(figure: Figure, path: Path) -> Path:
    for axes in figure.axes:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    return path
