"""Two versions on the same served images, for people: lines for the terminal, and one self-contained page of HTML.

The page has no script and fetches nothing; every text is escaped.
"""

import base64
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from podium.page_templates import page_templates
from podium.shadow import sequential_test
from podium.shadow.pair_summary import Disagreement, Summary
from podium.shadow.sequential_test import shown as as_text
from podium.text import counted, one_line

TEMPLATE = Path(__file__).with_name("compare_page.html")
STYLE = Path(__file__).with_name("compare_page.css")
NAME = "compare.html"
WIDTH, HEIGHT = 720, 200
"""Of the chart, in its own units."""
POINTS = 500
"""Of a line of the chart."""
CAUTION = (
    "Each image counts once. The test takes images to be independent: frames of one scene are weaker evidence than they"
    " seem."
    " Label all disagreements, or a random part of them, not only those that somebody wondered about."
)


@dataclass(frozen=True)
class Verdict:
    """What comes first."""

    tone: str
    """fine, keep or refuse: the colour."""
    headline: str
    text: str


def verdict(found: Summary, level: float) -> Verdict:
    """What the labels show at `level`, such as 0.05."""
    shown, new = found.labelled.evidence, f"version {found.challenger}"
    better, worse = (one >= sequential_test.limit(level) for one in (shown.better, shown.worse))
    decided = shown.gained + shown.lost
    won = f"Of {counted(decided, 'labelled disagreement')} that one of the two gets right, {new} wins {shown.gained:,}"
    won += f" ({100 * shown.gained / max(decided, 1):.0f}%; {100 * shown.low:.0f} to {100 * shown.high:.0f}% at any"
    won += " time of looking)"
    if better:
        return Verdict("fine", f"Evidence that {new} is more accurate than version {found.champion}", won)
    if worse:
        return Verdict("refuse", f"Evidence that {new} is less accurate than version {found.champion}", won)
    if not found.labelled.images:
        return Verdict("keep", "No labels yet", "Agreement says how much would change, not which one is right")
    if not decided:
        return Verdict(
            "keep", "No evidence yet", "The labelled images are those on which both are right, or both wrong"
        )
    return Verdict("keep", "No evidence yet", f"{won}; {_outlook(found, level)}")


def lines(found: Summary, level: float) -> list[str]:
    """The summary for the terminal."""
    said = verdict(found, level)
    rows = [*_figures(found), *_labels(found, level)]
    width = max(len(name) for name, _ in rows)
    return [
        f"{one_line(found.model)}: version {found.challenger} compared with version {found.champion}, {_times(found)}",
        *(f"  {name:<{width}}  {text}" for name, text in rows),
        f"{said.headline}: {said.text}",
    ]


def render(found: Summary, level: float) -> str:
    """The page as one HTML file."""
    environment = page_templates(TEMPLATE.parent, lambda value: one_line(value) if type(value) is str else value)
    return environment.get_template(TEMPLATE.name).render(
        found=found,
        verdict=verdict(found, level),
        times=_times(found),
        figures=_figures(found),
        labels=_labels(found, level),
        chart=_chart(found.labelled.difference, level),
        changes=found.changes,
        examples=[_example(one) for one in found.examples],
        caution=CAUTION,
        style=Markup(STYLE.read_text(encoding="utf-8")),  # noqa: S704 (our own file)
    )


def write(found: Summary, level: float, out: Path) -> Path:
    """Write the page to `out` atomically and return its path. Raises OSError."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(out.name + ".tmp")
    temporary.unlink(missing_ok=True)
    temporary.touch(0o600)  # images of other people: for this user alone
    temporary.write_text(render(found, level), encoding="utf-8")
    temporary.replace(out)
    return out


def _figures(found: Summary) -> list[tuple[str, str]]:
    rows = [
        ("images that both predicted", f"{found.images:,}"),
        ("agreement", _share(found.agreed, found.images)),
        ("disagreements", _share(found.images - found.agreed - found.failed, found.images)),
        ("challenger failed or refused", f"{found.failed:,}"),
        ("dropped, the queue was full", f"{found.dropped:,}"),
    ]
    rows += [("served by the challenger", _share(found.canary, found.images))] if found.canary else []
    for side in ("champion", "challenger"):
        time = found.latencies[side]
        if time.images:
            text = f"median {_milliseconds(time.median)}, 95% within {_milliseconds(time.p95)}"
            rows.append((f"time of the {side}", text))
    return rows


def _labels(found: Summary, level: float) -> list[tuple[str, str]]:
    labelled = found.labelled
    if not labelled.images:
        return [("images with a label", "0")]
    shown, enough = labelled.evidence, as_text(sequential_test.limit(level))
    return [
        ("images with a label", f"{labelled.images:,}"),
        (f"right: version {found.champion}", f"{labelled.champion_right:,}"),
        (f"right: version {found.challenger}", f"{labelled.challenger_right:,}"),
        ("only the challenger right", f"{shown.gained:,}"),
        ("only the champion right", f"{shown.lost:,}"),
        ("evidence that it is better", f"{as_text(shown.better)} of {enough}"),
        ("evidence that it is worse", f"{as_text(shown.worse)} of {enough}"),
    ]


def _outlook(found: Summary, level: float) -> str:
    shown = found.labelled.evidence
    wanted = sequential_test.needed(shown.gained, shown.lost, 1 / sequential_test.limit(level))
    if wanted is None:
        return "that is close to even: more labels of such images will not decide soon"
    return f"at this rate, about {max(wanted - shown.gained - shown.lost, 1):,} more labels decide it"


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({100 * part / whole:.2f}%)" if whole else "0"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"


def _times(found: Summary) -> str:
    first, last = (datetime.fromtimestamp(at, UTC) for at in (found.first_at, found.last_at))
    return f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"


def _chart(difference: NDArray[np.int8], level: float) -> dict[str, object] | None:
    """The two capitals over the decided disagreements, in the order of their labels (within one table: of a hash), on a
    logarithmic scale.
    """
    decided = difference[difference != 0]
    if not len(decided):
        return None
    limit = sequential_test.limit(level)
    floor, top = 1e-3, 2 * limit
    both = [sequential_test.path(sign * decided) for sign in (1, -1)]
    top = max(top, min(max(float(one.max()) for one in both) * 2, 1e6))

    def height(value: float) -> float:
        part = (math.log(max(value, floor)) - math.log(floor)) / (math.log(top) - math.log(floor))
        return round(HEIGHT * (1 - min(part, 1.0)), 1)

    def path(values: NDArray[np.float64]) -> str:
        places = np.unique(np.linspace(0, len(values), min(len(values) + 1, POINTS)).astype(int))
        every = np.concatenate([[1.0], values])
        return " ".join(f"{WIDTH * place / len(values):.1f},{height(float(every[place]))}" for place in places)

    ticks = [(10.0**power, height(10.0**power)) for power in range(-3, 7) if 10.0**power <= top]
    return {
        "better": path(both[0]),
        "worse": path(both[1]),
        "limit": height(limit),
        "threshold": f"{limit:g}",
        "ticks": [(f"{value:g}", at) for value, at in ticks],
        "count": f"{len(decided):,}",
        "width": WIDTH,
        "height": HEIGHT,
    }


def _example(one: Disagreement) -> dict[str, object]:
    sides = []
    for name, label, each in (
        ("champion", one.champion, one.champion_each),
        ("challenger", one.challenger, one.challenger_each),
    ):
        top = f" {100 * each[label]:.0f}%" if label in each else ""
        right = one.label is not None and label == one.label
        sides.append({"name": name, "label": "failed" if label is None else f"{label}{top}", "right": right})
    address = f"data:image/png;base64,{base64.b64encode(one.image).decode()}" if one.image else ""
    at = f"{datetime.fromtimestamp(one.at, UTC):%Y-%m-%d %H:%M:%S}"
    return {"id": one.id, "digest": one.digest, "at": at, "sides": sides, "label": one.label, "image": address}
