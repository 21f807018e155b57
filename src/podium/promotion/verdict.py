"""What the promotion gate saw and decided: for JSON, for a page of Markdown, for the console and for the ledger."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from podium.text import for_markdown, one_line

PICTURE = "![images on which challenger and champion disagree]"
CLASSES = 30
"""Rows of the table of classes in Markdown, those that lose most first; the JSON has them all."""
STORED = {"accesses": "openings", "disagreements": "changed"}
"""Fields whose keys in JSON are those of earlier verdicts."""


@dataclass(frozen=True)
class Side:
    """One of the two models on the held-out test set."""

    version: int
    right: int
    """Images predicted rightly."""
    accuracy: float
    low: float
    high: float
    """Wilson's interval of the accuracy, at the gate's confidence."""
    calibration_error: float
    """Expected calibration error."""
    recalls: dict[str, float]
    """Of each class that has test images."""
    latency_ms: float
    """95th percentile for one image file, in the gate's process."""
    size_mb: float
    """All files of the registered model."""
    value: float | None = None
    """By the gate's metric, where that is not accuracy; near-duplicates count once."""


@dataclass(frozen=True)
class Check:
    """One condition of the gate."""

    name: str
    rule: str
    """What must be."""
    found: str
    """What is."""
    passed: bool


@dataclass(frozen=True)
class Disagreement:
    """A test image that exactly one of the two predicts rightly."""

    index: int
    """Row of the test split."""
    label: str
    challenger: str
    champion: str
    """What each predicts."""


@dataclass(frozen=True)
class Comparison:
    """Both models on the same images."""

    gained: int
    """Images that only the challenger gets right; of near-duplicates, groups of which it gets more right."""
    lost: int
    """The same for the champion."""
    difference: float
    """By how much the challenger is better, by the metric."""
    low: float
    high: float
    """Paired bootstrap interval of the difference."""
    level: float
    """Of that interval: each end by itself holds at the gate's confidence."""
    groups: int
    """Groups of near-duplicates, each of which counts once; as many as images where there are no duplicates."""
    gain: float
    """As `gained`, but a group counts by the part of its images that make the difference."""
    loss: float
    p_value: float | None = None
    """One-sided, of the test of the rule that compares accuracies; None before it has judged."""


@dataclass(frozen=True)
class Verdict:
    """What the gate saw and decided."""

    decision: Literal["promote", "refuse"]
    reason: str
    """The figures in words, then the checks that failed."""
    rule: str
    images: int
    sealed_digest: str
    """Of the images that both predicted."""
    accesses: dict[str, int]
    """Test set accesses so far, this one included, by reader."""
    challenger: Side
    champion: Side | None
    """None: there was none, or it could not be loaded (then a check says so)."""
    comparison: Comparison | None
    checks: tuple[Check, ...]
    disagreements: tuple[Disagreement, ...]
    notes: tuple[str, ...] = ()
    """What a person should know before relying on the figures."""
    metric: str = "accuracy"
    """What compares the two models."""
    test_set: str = ""
    """By what accesses to the test set are counted: it stays while the set grows."""

    @property
    def failed(self) -> list[Check]:
        """The checks that were not passed."""
        return [check for check in self.checks if not check.passed]

    def to_dict(self) -> dict[str, Any]:
        """The verdict, for JSON."""
        return {STORED.get(name, name): value for name, value in asdict(self).items()}

    def short(self) -> dict[str, Any]:
        """The figures for the ledger."""
        figures: dict[str, Any] = {
            "decision": self.decision,
            "images": self.images,
            "openings": sum(self.accesses.values()),
            "challenger": self.challenger.accuracy,
            "champion": self.champion.accuracy if self.champion else None,
            "failed": [check.name for check in self.failed],
        }
        figures |= {"test_set": self.test_set} if self.test_set else {}
        if self.metric != "accuracy":
            figures |= {"metric": self.metric, "challenger_value": self.challenger.value}
            figures |= {"champion_value": self.champion.value if self.champion else None}
        if self.comparison:
            figures |= {name: getattr(self.comparison, name) for name in ("gained", "lost", "p_value")}
        return figures

    def accessed(self) -> str:
        """How often the test set was used so far, for a sentence."""
        by = ", ".join(f"{reader} {count}" for reader, count in sorted(self.accesses.items()))
        return f"test set accesses so far: {sum(self.accesses.values())} ({by})"

    def table(self) -> str:
        """The checks for the console."""
        rows = [("", "check", "must be", "is")]
        rows += [("ok" if c.passed else "NO", c.name, c.rule, c.found) for c in self.checks]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = ["  ".join([*(f"{c:<{w}}" for c, w in zip(row, widths, strict=False)), row[3]]) for row in rows]
        return "\n".join([*map(one_line, lines), f"{self.images:,} images; {self.accessed()}"])

    def markdown(self, picture: str = "") -> str:
        """The verdict for a person; `picture` is the file that shows the disagreements, if there is one."""
        reason = for_markdown(_capital(self.reason))
        lines = [f"# Version {self.challenger.version}: {self.decision}", "", f"{reason}.", ""]
        lines += _sides([("challenger", self.challenger), ("champion", self.champion)], self.images, self.metric)
        lines += ["", f"Rule: {for_markdown(self.rule)}.", "", "| check | must be | is | |", "|---|---|---|---|"]
        lines += [
            f"| {for_markdown(c.name)} | {for_markdown(c.rule)} | {for_markdown(c.found)} |"
            f" {'passed' if c.passed else '**failed**'} |"
            for c in self.checks
        ]
        if self.champion:
            lines += _classes(self.challenger.recalls, self.champion.recalls)
        if self.disagreements:
            lines += _disagreements(self.disagreements, picture)
        lines += [
            "",
            f"{self.images:,} held-out test images, `{self.sealed_digest[:12]}`, predicted now; {self.accessed()}.",
        ]
        lines += [f"\n- {for_markdown(note)}" for note in self.notes]
        return "\n".join(lines) + "\n"


def _sides(sides: list[tuple[str, Side | None]], images: int, metric: str) -> list[str]:
    is_other = metric != "accuracy"
    lines = [
        f"| | version |{f' {metric} |' if is_other else ''} right | accuracy | interval | calibration error |"
        " p95, one image | size |",
        "|---|---|---|---|---|---|---|---|" + ("---|" if is_other else ""),
    ]
    for name, side in sides:
        if side:
            value = f" {side.value:.4f} |" if is_other else ""
            lines.append(
                f"| {name} | {side.version} |{value} {side.right:,} of {images:,} | {side.accuracy:.4f} |"
                f" {side.low:.4f} to {side.high:.4f} | {side.calibration_error:.4f} | {side.latency_ms:.1f} ms |"
                f" {side.size_mb:.1f} MB |"
            )
    return lines


def _classes(new: dict[str, float], old: dict[str, float]) -> list[str]:
    drops = sorted(new, key=lambda name: new[name] - old[name])
    lines = ["", "| class | recall of the challenger | of the champion | change |", "|---|---|---|---|"]
    lines += [f"| {for_markdown(n)} | {new[n]:.4f} | {old[n]:.4f} | {new[n] - old[n]:+.4f} |" for n in drops[:CLASSES]]
    return lines + ([f"\nand {len(drops) - CLASSES} more classes"] if len(drops) > CLASSES else [])


def _disagreements(found: tuple[Disagreement, ...], picture: str) -> list[str]:
    gained = sum(one.challenger == one.label for one in found)
    line = f"Disagreements: {gained} that only the challenger gets right, {len(found) - gained} that only the champion"
    return ["", f"{line} does.", *(["", f"{PICTURE}({picture})"] if picture else [])]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
