"""A test set of 1,000 classes over its life: fifty challengers no better than the champion, and some that are better.

Everything that the gate decides by is its own code with its defaults, all rules together; only what the models predict
is drawn: each image falls to one of four cells (both right, only the new one, only the old one, both wrong).

    python benchmarks/gate_classes.py              writes its section of docs/benchmarks/gate.md; about ten minutes
    python benchmarks/gate_classes.py --lives 5    a first look
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import beta
from tqdm import tqdm

from podium.config.params import GateParams
from podium.data.dataset import Split
from podium.promotion.comparison import mcnemar
from podium.promotion.gate import Candidates, judge, judge_predictions
from podium.promotion.model_predictions import Predictions
from podium.promotion.rules import Evidence
from podium.promotion.verdict import Side

OUT = Path(__file__).resolve().parents[1] / "docs/benchmarks/gate.md"
TITLE = "A thousand classes over the life of a test set"
CLASSES, EACH = 1000, 50
TRIES = 50
BETTER_AT = (1, 10, 50)
"""Attempts at which a better challenger is judged."""
ACCURACY, UNEVEN = 0.76, 0.15
"""Of the champion, and the standard deviation of the classes' accuracies about that: they have a beta distribution."""
ANY = Side(1, 0, 0.0, 0.0, 0.0, 0.0, {}, 0.0, 0.0)
"""Of evidence that is asked for the level of an attempt alone."""
LOST, BETTER = 0.06, 0.04
"""Images that only the champion gets right, and by how much more only a better challenger does: shares of the whole.
Each class has its part: the first by p (1 - p) of its accuracy p, the second by 1 - p, so that no class is worse."""


class Known:
    """A model whose predictions are known before it is asked, for one image after another."""

    size = 1_000_000
    abstain: dict[str, float] | None = None

    def __init__(self, found: Predictions) -> None:
        self._found = found
        self._asked = 0

    def predict(self, images: Sequence[bytes], *, probabilities: bool = False) -> pd.DataFrame:
        """Its next answers."""
        rows = (self._asked + np.arange(len(images))) % len(self._found.labels)
        self._asked += len(images)
        return pd.DataFrame({"label": self._found.labels[rows], "probability": self._found.probabilities[rows]})


def drawn_set(side: int = 1) -> Split:
    """A test set whose images show nothing."""
    labels = np.repeat(np.arange(CLASSES), EACH)
    names = tuple(f"class {n:03d}" for n in range(CLASSES))
    return Split("test", np.zeros((len(labels), 1, side, side), np.uint8), labels, names, "drawn")


def champion_of(test: Split, draw: np.random.Generator) -> tuple[Predictions, NDArray[np.float64]]:
    """A champion, and the chance that it has of each image: that of its class."""
    size = ACCURACY * (1 - ACCURACY) / UNEVEN**2 - 1
    chances = draw.beta(ACCURACY * size, (1 - ACCURACY) * size, CLASSES)[test.labels].clip(1e-6, 1 - 1e-6)
    return predictions(test, draw.random(len(test.labels)) < chances), chances


def challenger_of(
    champion: tuple[Predictions, NDArray[np.float64]], better: float, draw: np.random.Generator
) -> NDArray[np.bool_]:
    """Which images a model gets right whose true accuracy is that of the champion in every class, and by `better`
    higher on the whole.
    """
    old, p = champion
    lost = LOST * p * (1 - p) / (ACCURACY * (1 - ACCURACY) - UNEVEN**2)
    gained = lost + better * (1 - p) / (1 - ACCURACY)
    return draw.random(len(p)) < np.where(old.right, 1 - lost / p, gained / (1 - p))


def predictions(test: Split, right: NDArray[np.bool_]) -> Predictions:
    """Those of a model that is calibrated and wrong by one class where it is wrong."""
    names = np.array(test.classes, dtype=object)
    labels = names[np.where(right, test.labels, (test.labels + 1) % CLASSES)]
    return Predictions(labels, np.full(len(right), right.mean()), right)


def promotes(test: Split, right: NDArray[np.bool_], old: Predictions, attempt: int) -> bool:
    """What the gate says of a challenger that gets `right` right, as attempt number `attempt` on this test set.

    All of it is asked only where McNemar's test lets the challenger through: otherwise the rule for the accuracy
    refuses it.
    """
    gained, lost = (int((one & ~other).sum()) for one, other in ((right, old.right), (old.right, right)))
    if mcnemar(gained, lost) > Evidence(1, GateParams().confidence, ANY, attempt=attempt).level:
        return False
    new, accesses = predictions(test, right), {"evaluate": attempt + 1, "gate": attempt + 1}
    who = Candidates((2, Known(new)), (1, Known(old)))
    return judge_predictions(GateParams(), test, who, accesses, (new, old), (1.0, 1.0)).decision == "promote"


def interval(hits: int, count: int) -> str:
    """A share with the interval of Clopper and Pearson at 95%."""
    low = beta.ppf(0.025, hits, count - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, count - hits) if hits < count else 1.0
    return f"{hits} of {count} ({low:.1%} to {high:.1%})"


def section(lives: int) -> list[str]:
    """The section of the page."""
    draw, test = np.random.default_rng(4), drawn_set()
    false, first, better = 0, 0, dict.fromkeys(BETTER_AT, 0)
    for _ in tqdm(range(lives), "lives", leave=False, disable=None):
        champion = champion_of(test, draw)
        promoted = [
            promotes(test, challenger_of(champion, 0.0, draw), champion[0], attempt) for attempt in range(1, TRIES + 1)
        ]
        false, first = false + any(promoted), first + promoted[0]
        for attempt in BETTER_AT:
            better[attempt] += promotes(test, challenger_of(champion, BETTER, draw), champion[0], attempt)
    lines = [
        "",
        f"## {TITLE}",
        "",
        f"{CLASSES:,} classes of {EACH} sealed images, whose accuracies differ (standard deviation {UNEVEN:g});"
        f" champion {ACCURACY:g}; {lives} simulated sets. The whole gate with its defaults decides"
        f" (`python benchmarks/gate_classes.py --lives {lives}`); beside each share the interval of Clopper and Pearson"
        " at 95%.",
        "",
        "| challengers | promoted |",
        "|---|---|",
        f"| exactly as good: the first | {interval(first, lives)} |",
        f"| exactly as good: any of {TRIES} (the promise is 5 % at most) | {interval(false, lives)} |",
    ]
    lines += [f"| truly at 0.80, as attempt {n} | {interval(hits, lives)} |" for n, hits in better.items()]
    lines += ["", timed()]
    print("\n".join(lines), flush=True)
    return lines


def timed() -> str:
    """What a gate over 28x28 images costs besides the models."""
    draw, test = np.random.default_rng(5), drawn_set(28)
    champion = champion_of(test, draw)
    new, old = predictions(test, challenger_of(champion, BETTER, draw)), champion[0]
    who, accesses = Candidates((2, Known(new)), (1, Known(old))), {"evaluate": 2, "gate": 2}
    used = time.process_time()
    judge_predictions(GateParams(), test, who, accesses, (new, old), (1.0, 1.0))
    known = time.process_time() - used
    started, used = time.perf_counter(), time.process_time()
    verdict = judge(GateParams(), test, who, accesses)
    seconds, used = time.perf_counter() - started, time.process_time() - used
    wall = f"{seconds:.0f} s by the clock at a load of {os.getloadavg()[0]:.0f}"
    return (
        f"A judgement of {verdict.images:,} known predictions takes {1000 * known:.0f} ms of processor time. A whole"
        " gate over as many images of 28x28, PNG bytes and latencies included, but models that answer at once, takes"
        f" {used:.1f} s of processor time ({wall}); its page of Markdown has"
        f" {len(verdict.markdown().splitlines())} lines."
    )


def main() -> None:
    """Measure and write the section into the page that there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lives", type=int, default=400, help="simulated test sets")
    lines = section(parser.parse_args().lives)
    page = OUT.read_text(encoding="utf-8")
    before, _, rest = page.partition(f"\n## {TITLE}\n")
    after = rest[rest.index("\n## ") :] if "\n## " in rest else ""
    if not rest:  # before the next section of other metrics
        at = page.index("\n## Other metrics")
        before, after = page[:at], page[at:]
    OUT.write_text(before + "\n".join(lines) + "\n" + after, encoding="utf-8")


if __name__ == "__main__":
    main()
