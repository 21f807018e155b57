"""What MLflow's page of the search shows of the report: the summary in Markdown, and two pictures."""

import html
from itertools import accumulate
from pathlib import Path

from matplotlib.figure import Figure

from podium.metrics.scores import as_percent
from podium.report.render import Page
from podium.report.trials import Search
from podium.text import one_line
from podium.tracking.study_summary import help_of

LIMIT = 4500
"""Characters of the note: a tag of MLflow holds 5,000."""
MORE = "\n\nThis note is cut here. The full report is the artifact `report/index.html`."
BLUE, ORANGE, GREEN = "#2f6fdb", "#d98e2b", "#12956f"
STYLES = (("PRUNED", "pruned", ORANGE), ("COMPLETE", "complete", BLUE))


def note(page: Page) -> str:
    """The summary of `page`, and how to compare trials."""
    top = page.summary
    lines = [f"## {page.title}: {top.headline} {top.caption}", ""]
    if top.low is not None and top.high is not None:
        lines[0] += f" ({top.interval} {as_percent(top.low)} to {as_percent(top.high)})"
    for card in top.cards:
        lines.append(f"- **{card.question}** {_plain(card.answer)}. {_plain(' '.join(card.lines))}")
    lines += ["", "**What to try next**", "", *(f"1. {_plain(a.do)} ({_plain(a.why)})" for a in page.advice), ""]
    shown = help_of(len(page.facts["aims"]) > 1)
    lines += ["The full report is the artifact `report/index.html`; pictures are in `figures/`.", "", shown]
    text = "\n".join(lines)
    return text if len(text) <= LIMIT else f"{text[: LIMIT - len(MORE)].rpartition(chr(10))[0]}{MORE}"


def _plain(text: str) -> str:
    """A sentence, which may hold names of classes, so that none of them is taken for HTML."""
    return html.escape(one_line(text), quote=False)


def draw(search: Search, folder: Path) -> list[Path]:
    """Write history.png, curves.png, of several metrics front.png and of a freeze-thaw search forecast.png to `folder`.

    Returns their paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [_history(search, folder / "history.png"), _curves(search, folder / "curves.png")]
    if search.others:
        drawn.append(_front(search, folder / "front.png"))
    if search.forecast:
        drawn.append(_forecast(search, folder / "forecast.png"))
    return drawn


def _front(search: Search, path: Path) -> Path:
    """The first metric against each other one."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    for place, other in enumerate(search.others, 1):
        axes = figure.add_subplot(1, len(search.others), place)
        trials = [t for t in search.of("COMPLETE") if t.values]
        for name, color, size, some in (
            ("complete", BLUE, 14, [t for t in trials if not t.front]),
            ("Pareto front", GREEN, 36, [t for t in trials if t.front]),
        ):
            x, y = [t.values[place] for t in some], [t.values[0] for t in some]
            axes.scatter(x, y, s=size, color=color, label=name if place == 1 else None, alpha=0.8)
        axes.set(xlabel=other.name, ylabel=f"validation {search.metric.name}")
    return _save(figure, path)


def _history(search: Search, path: Path) -> Path:
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    for state, name, color in STYLES:
        trials = [t for t in search.of(state) if t.last_value is not None]
        values = [t.last_value or 0.0 for t in trials]
        axes.scatter([t.number for t in trials], values, s=14, color=color, label=name, alpha=0.7)
    complete = [(t.number, t.value) for t in search.of("COMPLETE") if t.value is not None]
    best = list(accumulate((value for _, value in complete), max if search.metric.sign > 0 else min))
    axes.step([number for number, _ in complete], best, where="post", color=GREEN, linewidth=2, label="best so far")
    axes.set(xlabel="trial", ylabel=f"validation {search.metric.name}", title="Optimization history")
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
    axes.set(xlabel="epoch", ylabel=f"validation {search.metric.name}", title="Learning curves")
    return _save(figure, path)


def _forecast(search: Search, path: Path) -> Path:
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    known = {trial.number: trial.curve for trial in search.trials}
    for rank, one in enumerate((search.forecast or {})["trials"]):
        color = GREEN if rank == 0 else BLUE
        curve = known.get(one["trial"], [])
        axes.plot([e for e, _ in curve], [v for _, v in curve], color=color, linewidth=1.4)
        label = f"trial {one['trial']}"
        axes.plot(one["epoch"], one["expected"], color=color, linestyle="--", linewidth=1.2, label=label)
        axes.fill_between(one["epoch"], one["low"], one["high"], color=color, alpha=0.12, linewidth=0)
    title = "Trials at rest: predicted curves, 80% bands"
    axes.set(xlabel="epoch", ylabel=f"validation {search.metric.name}", title=title)
    return _save(figure, path)


def _save(figure: Figure, path: Path) -> Path:
    for axes in figure.axes:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    return path
