"""The promotion gate: challenger and champion answer the same sealed images now, as they will be served.

Both get the images as PNG bytes through the registered artifact, whole: so decoder, graph and class names are judged
too, models of different shapes compare, and nothing rests on old numbers.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from podium.dataset import Split
from podium.decode import encode_png

BATCH = 256
"""Images encoded at a time, so that a sealed set larger than memory can be judged."""
RULE = "the challenger's accuracy must be at least the champion's"


class Answers(Protocol):
    """A model that is asked through image files, as `served.Served` is."""

    def answer(self, images: Sequence[bytes]) -> pd.DataFrame:
        """A row with `label` for each image file."""


@dataclass(frozen=True)
class Side:
    """One of the two models."""

    version: int
    right: int
    """Images answered rightly."""
    accuracy: float


@dataclass(frozen=True)
class Verdict:
    """What the gate saw and decided."""

    decision: Literal["promote", "refuse"]
    reason: str
    """The figures in words."""
    rule: str
    images: int
    sealed_digest: str
    """Of the images that both answered."""
    challenger: Side
    champion: Side | None
    """None: there was none."""
    only_challenger_right: int
    """Images that the challenger gets right and the champion wrong."""
    only_champion_right: int
    """The other way round."""
    notes: tuple[str, ...] = ()
    """What a person should know before relying on the figures."""

    def to_dict(self) -> dict[str, Any]:
        """The verdict, for JSON."""
        return asdict(self)

    def short(self) -> dict[str, Any]:
        """The figures that the ledger keeps."""
        return {
            "decision": self.decision,
            "images": self.images,
            "challenger": self.challenger.accuracy,
            "champion": self.champion.accuracy if self.champion else None,
            "only_challenger_right": self.only_challenger_right,
            "only_champion_right": self.only_champion_right,
        }

    def markdown(self) -> str:
        """The verdict for a person."""
        sides = [("challenger", self.challenger)] + ([("champion", self.champion)] if self.champion else [])
        lines = [
            f"# Version {self.challenger.version}: {self.decision}",
            "",
            f"{self.reason[0].upper()}{self.reason[1:]}.",
            "",
            "| | version | right | accuracy |",
            "|---|---|---|---|",
            *(f"| {name} | {s.version} | {s.right:,} of {self.images:,} | {s.accuracy:.4f} |" for name, s in sides),
            "",
            f"Rule: {self.rule}. Images: {self.images:,} sealed ones, `{self.sealed_digest[:12]}`, answered now.",
        ]
        if self.champion:
            lines.append(
                f"Changed sides: {self.only_challenger_right} that only the challenger gets right,"
                f" {self.only_champion_right} that only the champion does."
            )
        return "\n".join([*lines, *(f"\n- {note}" for note in self.notes)]) + "\n"


def judge(
    sealed: Split,
    challenger: tuple[int, Answers],
    champion: tuple[int, Answers] | None,
    notes: tuple[str, ...] = (),
) -> Verdict:
    """Ask both models (version number, loaded model) for every image of `sealed`, and decide by RULE."""
    number, model = challenger
    new = right_answers(model, sealed)
    if champion is None:
        side = _side(number, new)
        reason = f"accuracy {side.accuracy:.4f} on {len(new):,} sealed images, and there is no champion yet"
        return Verdict("promote", reason, RULE, len(new), sealed.digest, side, None, 0, 0, notes)
    old = right_answers(champion[1], sealed)
    one, other = _side(number, new), _side(champion[0], old)
    gained, lost = int((new & ~old).sum()), int((old & ~new).sum())
    good = one.right >= other.right
    reason = (
        f"accuracy {one.accuracy:.4f} against {other.accuracy:.4f} of the champion, version {other.version},"
        f" on the same {len(new):,} sealed images; {gained} answers became right, {lost} wrong"
    )
    decision: Literal["promote", "refuse"] = "promote" if good else "refuse"
    return Verdict(decision, reason, RULE, len(new), sealed.digest, one, other, gained, lost, notes)


def right_answers(model: Answers, sealed: Split) -> NDArray[np.bool_]:
    """(N,): whether `model`, given each image as PNG bytes, answers its class."""
    names = np.array(sealed.classes, dtype=object)[sealed.labels]
    right = np.zeros(len(names), dtype=bool)
    for start in range(0, len(names), BATCH):
        files = [encode_png(np.asarray(image)) for image in sealed.images[start : start + BATCH]]
        labels = model.answer(files)["label"].to_numpy()
        right[start : start + BATCH] = labels == names[start : start + BATCH]
    return right


def _side(number: int, right: NDArray[np.bool_]) -> Side:
    return Side(number, int(right.sum()), float(right.mean()))
