"""Reference lines: what the validation images give without any search, and what is said of a search beside them.

The study does not know of them. `reference_measuring` has how they are measured.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from podium.text import number

LABELS = {
    "majority": "majority class",
    "simple": "logistic regression on small pictures and colours",
    "pretrained": "logistic regression on ImageNet features",
}
"""Every line, in the order in which they are shown."""


@dataclass(frozen=True)
class Line:
    """One reference line."""

    name: str
    """A key of LABELS."""
    value: float
    """By the search's metric, on the validation images."""
    accuracy: float
    """On the same images."""
    images: int
    """Training images that it learnt from."""


@dataclass(frozen=True)
class Lines:
    """The reference lines of a set of images."""

    metric: str
    direction: str
    """maximize or minimize."""
    validation_images: int
    lines: tuple[Line, ...]
    skipped: dict[str, str]
    """Why a line is missing, by its name."""

    @property
    def strongest(self) -> Line:
        """The best of them; of equal ones the simplest. There must be one."""
        return max(self.lines, key=lambda line: self.sign * line.value)

    @property
    def sign(self) -> int:
        """1 if a higher value is better, else -1."""
        return -1 if self.direction == "minimize" else 1

    def beaten_by(self, value: float) -> bool:
        """Whether `value` is better than every line; an equal one is not."""
        return all(self.sign * value > self.sign * line.value for line in self.lines)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(found: dict[str, Any]) -> "Lines":
        """What `to_dict` gave."""
        return Lines(**found | {"lines": tuple(Line(**line) for line in found["lines"])})


def lines_of(found: dict[str, Any] | None) -> Lines | None:
    """What `to_dict` gave, as far as there is a line; None: nothing was measured."""
    return Lines.from_dict(found) if found and found["lines"] else None


def described(lines: Lines, value: float, what: str) -> list[str]:
    """The lines for the console, each with its value, below `what` with its own `value`."""
    shown = [(LABELS[line.name], line.value, line.images) for line in lines.lines]
    width = max(len(text) for text in (what, *(label for label, _, _ in shown)))
    rows = [f"baselines, {lines.metric} on the same {lines.validation_images:,} validation images:"]
    rows += [f"  {what:<{width}}  {number(value)}"]
    rows += [f"  {label:<{width}}  {number(one)}" + _of(count, lines) for label, one, count in shown]
    rows += [f"  {LABELS[name]:<{width}}  not computed: {why}" for name, why in lines.skipped.items()]
    return rows


def _of(count: int, lines: Lines) -> str:
    whole = max(line.images for line in lines.lines)
    return f"  (trained on {count:,} of {whole:,} images)" if count < whole else ""


def verdict(lines: Lines, value: float, model: dict[str, Any]) -> str:
    """The sentence for a search whose best `value` does not beat the lines, with what to try; empty where it does.

    `model`: the best trial's settings by dotted name.
    """
    if lines.beaten_by(value):
        return ""
    line = lines.strongest
    return (
        f"No better than {LABELS[line.name]}: {number(value)} against {number(line.value)}."
        f" Try: {'; '.join(remedies(line.name, model))}"
    )


def remedies(strongest: str, model: dict[str, Any]) -> Sequence[str]:
    """What to try where the line `strongest` is not beaten by a search around the settings `model`."""
    pretrained = bool(model.get("model.weights"))
    if strongest == "pretrained" and not pretrained:
        return ("start from pretrained weights (`podium preset photos`)",)
    if strongest == "pretrained" and model.get("train.backbone_rate") == 0:
        return (
            "more epochs or a lower train.learning_rate for the head (search.space)",
            "let the backbone learn too: train.backbone_rate 0.05, with augmentation",
        )
    if strongest == "pretrained":
        return ("a lower train.backbone_rate, or 0, which trains the head alone", "more epochs")
    if strongest == "simple":
        return (
            "a lower train.learning_rate, or more epochs (search.space)",
            "images as large as their details need (prepare.size)",
        )
    return (
        "`podium train --set train.epochs=50`: does train_loss fall at all?",
        "`podium doctor data`: labels that do not fit the images",
    )
