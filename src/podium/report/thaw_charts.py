"""Charts of a freeze-thaw search: what rested and went on when, and what is expected of what rests."""

import math

from podium.report.chart import BEST, COMPLETE, MUTED, PRUNED, Chart, lines, points, value_title
from podium.report.trials import Search, Timing
from podium.text import counted

HOW = {
    "enqueued": ("own settings", BEST),
    "portfolio": ("search.starts", BEST),
    "stratum": ("first strata", MUTED),
    "random": ("random", MUTED),
    "new": ("new", PRUNED),
    "thaw": ("goes on", COMPLETE),
}
"""How a decision of a freeze-thaw search was made: its name and colour."""


def thawing(search: Search) -> Chart:
    """Which trial a freeze-thaw search let train until which epoch, decision by decision."""
    data = []
    trained = {trial.number: len(trial.curve) for trial in search.trials}
    for how, (name, color) in HOW.items():
        rows = [row for row in search.decisions if row["how"] == how]
        # One without an epoch was to train to its end, as own settings do where train.epochs is not searched.
        ends = [int(row["until"] or trained.get(int(row["trial"]), 0)) for row in rows]
        text = [
            f"decision {row['decision']}: trial {row['trial']} until epoch {end}, {name}"
            for row, end in zip(rows, ends, strict=True)
        ]
        if rows:
            data.append(points([int(row["decision"]) for row in rows], ends, name, color, text, opacity=0.75))
    expected = [row for row in search.decisions if row["gain"] and row["noise"]]
    note = "A trial rests at a dot until a later dot continues it."
    if expected:
        gain, noise = (float(expected[-1][column]) for column in ("gain", "noise"))
        note += (
            f" At the last decision an error {100 * (1 - math.exp(-gain)):.0f}% lower than the best was expected of the"
            f" most promising one; {100 * (1 - math.exp(-noise)):.0f}% is the noise between epochs."
        )
    layout = {"xaxis": {"title": "decision"}, "yaxis": {"title": "trained until epoch"}}
    return Chart("thawing", "Trials that rest and continue", note, data, layout)


def forecast(search: Search, timing: Timing | None) -> Chart | None:
    """The curves of the most promising trials that rested at the end, and as the model expects them to go on."""
    found = search.forecast
    if not found or not found["trials"]:
        return None
    data = []
    known = {trial.number: trial.curve for trial in search.trials}
    for rank, one in enumerate(found["trials"]):
        color, group = (BEST if rank == 0 else COMPLETE), f"trial {one['trial']}"
        more = {"legendgroup": group, "hovertemplate": f"{group}, epoch %{{x}}: %{{y:.4f}}<extra></extra>"}
        hidden = {"legendgroup": group, "showlegend": False, "hoverinfo": "skip"}
        curve = known.get(one["trial"], [])
        data.append(
            lines([e for e, _ in curve], [v for _, v in curve], group, color, 2.0, **more) | {"mode": "lines+markers"}
        )
        data.append(lines(one["epoch"], one["high"], group, color, 0.0, **hidden))
        data.append(lines(one["epoch"], one["low"], group, color, 0.0, **hidden, fill="tonexty", fillcolor=color))
        dashed = lines(one["epoch"], one["expected"], group, color, 1.6, **more, showlegend=False)
        data.append(dashed | {"line": dashed["line"] | {"dash": "dash"}})
    layout = {"xaxis": {"title": "epoch"}, "yaxis": {"title": value_title(search)}}
    note = (
        f"{counted(len(found['trials']), 'trial')} that might still have become the best: trained (solid),"
        " expected (dashed), and the band in which the model sees 80% of the probability. Click a trial in the legend"
        " to hide it."
        f" {_gain(found, timing)}"
    )
    return Chart("forecast", "Trials at rest: predicted curves", note, data, layout)


def _gain(found: dict[str, object], timing: Timing | None) -> str:
    """What another minute, or as many epochs as are nearest to it, is expected to gain; in epochs where no time is
    known."""
    if isinstance(minute := found.get("minute"), dict):  # not in a file of an earlier Podium
        return f"In another minute: {_of_trial(minute, minute['seconds'])}"
    gains: list[dict[str, float]] = found["gains"]  # type: ignore[assignment]
    pace = None if timing is None else timing.epoch_seconds
    wanted = 10.0 if pace is None else 60 / pace
    nearest = min(gains, key=lambda one: abs(math.log(one["epochs"] / wanted)))
    return _of_trial(nearest, None if pace is None else nearest["epochs"] * pace)


def _of_trial(one: dict[str, float], seconds: float | None) -> str:
    count, trial = int(one["epochs"]), int(one["trial"])
    took = "" if seconds is None else f" (about {max(seconds, 1.0):.0f} s of one worker)"
    verb = "is" if count == 1 else "are"
    what = f"{counted(count, 'more epoch')}{took} of trial {trial} {verb}"
    return f"{what} expected to lower the best error by {_lower(one['gain'])}."


def _lower(gain: float) -> str:
    """A gain in the logarithm of the error, as people read it."""
    lower = 100 * (1 - math.exp(-gain))
    return f"{lower:.0f}%" if lower >= 0.5 else "less than half a percent"
