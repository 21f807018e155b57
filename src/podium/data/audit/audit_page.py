"""The audit as one self-contained page of HTML: no script, nothing fetched, every text escaped."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from podium.data.audit.findings import KINDS, Example, Finding
from podium.page_templates import page_templates
from podium.text import counted, one_line

if TYPE_CHECKING:
    from podium.data.audit.audit_report import Report

TEMPLATE = Path(__file__).with_name("audit_page.html")
STYLE = Path(__file__).with_name("audit_page.css")
PARTS = ("train", "val", "test")
PER_CLASS = 10
"""Prepared images of each class."""
CLASSES = 200
"""Classes whose bars and images are shown; beyond, the page would have tens of megabytes."""
OPENED = 24
"""Classes whose images are shown before a click."""
BARRED = 60
"""Classes whose bars are shown before a click: of 200 they would be most of the page, and on a phone eight screens."""
SHOWN = 3
"""Examples of a finding that are shown before a click."""
NAMED = 6
"""Classes that an example names."""
SIDE, MANY, SMALL_SIDE = 96, 40, 64
"""Pixels of a thumbnail's longer side at most, and with more than so many classes."""
TONES = ("refuse", "skip", "keep")
"""Policies in the order of the page."""
TINY = 48
"""An image of this side or less is shown with its own pixels: neither smoothed nor compressed with a loss."""

Pixels = Callable[[int], NDArray[np.uint8]]
"""From a row of the store to the image (C, H, W)."""


class Picture(NamedTuple):
    """A thumbnail."""

    address: str
    """data:..."""
    tiny: bool


class Verdict(NamedTuple):
    """What the page says first."""

    tone: str
    """fine, keep, skip or refuse: the colour."""
    headline: str
    text: str
    reasons: str


@dataclass(frozen=True)
class _Page:
    """What the template is filled with; every text may hold anything."""

    source: str
    verdict: Verdict
    tiles: list[tuple[str, str, str]]
    """Value, label, and the split that it is the count of."""
    numbers: list[tuple[str, str]]
    notes: list[str]
    findings: list[dict[str, object]]
    class_hint: str
    classes: list[dict[str, object]]
    name_width: int
    """Characters of the longest class name, within limits."""
    counts_width: int
    """Characters of the longest counts."""
    more_classes: str
    shape: str
    resizing: str
    samples: list[dict[str, object]]
    size_hint: str
    bars: list[dict[str, object]]
    tables: list[tuple[str, list[tuple[str, str]]]]


def render(report: "Report", pixels: Pixels, refused: Sequence[str] = ()) -> str:
    """The page of `report`. `refused`: why prepare would refuse the images, beyond the findings' own policies."""
    environment = page_templates(
        TEMPLATE.parent, lambda value: one_line(value) if type(value) is str and "\n" not in value else value
    )
    return environment.get_template(TEMPLATE.name).render(
        page=_page(report, pixels, refused),
        style=Markup(STYLE.read_text(encoding="utf-8")),  # noqa: S704 (our own file)
        per_class=PER_CLASS,
        opened=OPENED,
        barred=BARRED,
        shown=SHOWN,
    )


def _page(report: "Report", pixels: Pixels, refused: Sequence[str]) -> _Page:
    names, classes = _shown(report), _classes(report)
    side = SIDE if len(names) <= MANY else SMALL_SIDE
    least = min(report.shape[1:])
    count = len(report.counts)
    more = f"the {CLASSES} smallest; and {count - CLASSES:,} more classes, in audit.json" if count > CLASSES else ""
    return _Page(
        source=one_line(report.source),
        verdict=_verdict(report, refused),
        tiles=_tiles(report),
        numbers=[(name, one_line(text)) for name, text in report.numbers() if name in ("groups", "near-duplicates")],
        notes=[one_line(note[:1].upper() + note[1:]) for note in report.notes],
        findings=[_finding(one, pixels) for one in sorted(report.findings, key=lambda one: TONES.index(one.policy))],
        class_hint="Images of each class: train / validation / held-out test; red where one of them has none.",
        classes=classes,
        name_width=min(max((len(name) for name in names), default=1), 26) + 1,
        counts_width=max((len(str(one["counts"])) for one in classes), default=1),
        more_classes=more,
        shape=f"{'x'.join(map(str, report.shape))} (channels x height x width)",
        resizing=report.resizing,
        samples=[
            {"name": one_line(name), "images": [_picture(pixels(row), side) for row in report.samples[name]]}
            for name in names
        ],
        size_hint="Images by their shorter side in pixels, before resizing; they become"
        f" {report.shape[2]}x{report.shape[1]}. Those below {least} are enlarged (the other colour).",
        bars=_bars(report.sides, least),
        tables=[
            ("Sizes", [(one_line(name), f"{count:,}") for name, count in list(report.sizes.items())[:12]]),
            ("Modes", [(one_line(name), f"{count:,}") for name, count in report.modes.items()]),
        ],
    )


def _verdict(report: "Report", refused: Sequence[str]) -> Verdict:
    wrong = [f"doctor.{one.kind}: {one.sentence()}" for one in report.refusals()]
    reasons = "\n".join(one_line(line) for text in [*wrong, *refused] for line in text.split("\n"))
    if reasons:
        return Verdict(
            "refuse",
            "Refused: prepare does not use these images",
            "Nothing is prepared until this is settled:",
            reasons,
        )
    notes = f" {counted(len(report.notes), 'note')} below." if report.notes else ""
    if not report.findings:
        return Verdict("fine", "Nothing wrong was found", f"The images can be used as they are.{notes}", "")
    left = report.files - report.used
    out = f"{counted(left, 'file')} left out" if left else "nothing is left out"
    kinds = counted(len(report.findings), "finding")
    tone = "skip" if left else "keep"
    return Verdict(tone, f"Usable, with {kinds} to look at", f"{out}; the rest is used.{notes}".capitalize(), "")


def _tiles(report: "Report") -> list[tuple[str, str, str]]:
    sums = {part: sum(row[part] for row in report.counts.values()) for part in PARTS}
    labels = {"train": "train", "val": "validation", "test": "held-out test"}
    return [
        (f"{report.files:,}", "files", ""),
        (f"{report.used:,}", "images used", ""),
        (f"{report.files - report.used:,}", "left out", ""),
        (f"{len(report.counts):,}", "classes", ""),
        *((f"{sums[part]:,}", labels[part], part) for part in PARTS),
    ]


def _finding(finding: Finding, pixels: Pixels) -> dict[str, object]:
    examples = [_example(one, pixels) for one in finding.examples]
    done = {"refuse": "refused", "skip": "left out", "keep": "kept"}[finding.policy]
    rest = finding.groups - len(finding.examples)
    return {
        "kind": finding.kind,
        "policy": finding.policy,
        "title": KINDS[finding.kind][0].upper() + KINDS[finding.kind][1:],
        "count": f"{finding.images:,}",
        "sentence": f"{finding.counts}, {done}",
        "examples": examples,
        "single": all(len(one.rows) == 1 for one in finding.examples),
        "rest": f"{rest:,}" if rest > 0 else "",
    }


def _example(example: Example, pixels: Pixels) -> dict[str, object]:
    rows: list[int | None] = [*example.rows] or [None] * len(example.files)
    figures = [
        (one_line(file), None if row is None else _picture(pixels(row), SIDE))
        for file, row in zip(example.files, rows, strict=True)
    ]
    rest = len(example.classes) - NAMED
    names = [*example.classes[:NAMED], *([f"and {counted(rest, 'more class')}"] if rest > 0 else [])]
    text = ": ".join(part for part in (", ".join(names), example.why) if part)
    return {"figures": figures, "text": one_line(text)}


def _classes(report: "Report") -> list[dict[str, object]]:
    """Bars on one scale, the largest class full."""
    most = max((sum(row.values()) for row in report.counts.values()), default=0) or 1
    return [
        {
            "name": one_line(name),
            "widths": [(part, f"{100 * row[part] / most:.2f}") for part in PARTS if row[part]],
            "counts": " / ".join(f"{row[part]:,}" for part in PARTS),
            "none": not all(row[part] for part in PARTS),
        }
        for name, row in ((name, report.counts[name]) for name in _shown(report))
    ]


def _shown(report: "Report") -> list[str]:
    """The classes that the page has room for; of many the smallest, in their own order where they are alike."""
    names = list(report.counts)
    if len(names) <= CLASSES:
        return names
    return sorted(names, key=lambda name: sum(report.counts[name].values()))[:CLASSES]


def _bars(sides: Sequence[Sequence[int]], least: int) -> list[dict[str, object]]:
    most = max((count for _, _, count in sides), default=0) or 1
    return [
        {
            "count": f"{count:,}" if count else "",
            "height": f"{75 * count / most:.1f}",
            "label": f"{low}+" if not below else f"{low}-{below - 1}" if below - low > 1 else str(low),
            "small": bool(below) and below <= least,
        }
        for low, below, count in sides
    ]


def _picture(image: NDArray[np.uint8], side: int) -> Picture:
    picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
    tiny = max(picture.size) <= TINY
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    kind, options = ("PNG", {}) if tiny else ("JPEG", {"quality": 82})
    picture.save(buffer, kind, **options)
    return Picture(f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}", tiny)
