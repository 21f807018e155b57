"""How often the error that evaluate.abstain promises is exceeded, and how many images are answered for it.

Predictions are drawn whose chance of being wrong is known for each probability, so the true error of a threshold is
known too. A threshold is chosen as evaluate does; the share of draws in which its true error is above the promised one
may be 5 % at most.

    python benchmarks/abstain.py              writes docs/benchmarks/abstain.md; some minutes
    python benchmarks/abstain.py --draws 200  a first look
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from podium.metrics.abstaining import choose

OUT = Path(__file__).resolve().parents[1] / "docs/benchmarks/abstain.md"
CONFIDENCE = 0.95
GRID = 20_000
Values = NDArray[np.float64]
MODELS: dict[str, Callable[[Values], Values]] = {
    "falling: 0.3 (1 - s)^3": lambda s: 0.3 * (1 - s) ** 3,
    "the same and 1 % wrong labels": lambda s: 0.01 + 0.3 * (1 - s) ** 3,
    "0.05 everywhere": lambda s: np.full_like(s, 0.05),
    "surest twentieth worst: 0.1, then 0.01, below a half 0.3": lambda s: np.select(
        [s > 0.95, s > 0.5], [0.1, 0.01], 0.3
    ),
}
"""The chance to be wrong by s, the share of all predictions that are less probable."""


@dataclass(frozen=True)
class Setting:
    """What is drawn, and promised."""

    model: str
    images: int
    error: float
    tried: int = 1
    """Equally good models, of which the one with fewest errors on these same images is taken."""


SETTINGS = (
    *(
        Setting("falling: 0.3 (1 - s)^3", n, e)
        for n, e in ((70, 0.1), (300, 0.05), (300, 0.02), (1000, 0.02), (10_000, 0.01))
    ),
    *(Setting("the same and 1 % wrong labels", n, e) for n, e in ((300, 0.05), (1000, 0.05), (5000, 0.02))),
    *(Setting("0.05 everywhere", n, 0.0499) for n in (300, 1000, 10_000)),
    *(Setting("surest twentieth worst: 0.1, then 0.01, below a half 0.3", n, 0.05) for n in (1000, 10_000)),
    *(Setting("falling: 0.3 (1 - s)^3", 1000, 0.02, tried) for tried in (10, 100)),
)


def row(setting: Setting, draws: int) -> str:
    """Measured, as a row of the table."""
    wrong_at, random = MODELS[setting.model], np.random.default_rng(0)
    grid = np.linspace(0, 1, GRID + 1)
    risk = np.cumsum(wrong_at(grid)[::-1])[::-1] / np.arange(GRID + 1, 0, -1)  # of what is at least as sure
    exceeded, coverage, none = 0, 0.0, 0
    for _ in tqdm(range(draws), setting.model, leave=False, disable=None):
        tries = [_predictions(setting.images, wrong_at, random) for _ in range(setting.tried)]
        found = choose(*max(tries, key=lambda one: int(one[1].sum())), setting.error, CONFIDENCE)
        none += found is None
        if found is not None:
            coverage += found.chosen_on.coverage / draws
            exceeded += risk[int(found.probability * GRID)] > setting.error
    best = 1 - grid[risk <= setting.error].min() if (risk <= setting.error).any() else 0.0
    cells = [setting.model, f"{setting.images:,}", f"{setting.error:g}", str(setting.tried), f"{exceeded / draws:.1%}"]
    return f"| {' | '.join([*cells, f'{none / draws:.0%}', f'{coverage:.0%}', f'{best:.0%}'])} |"


def _predictions(
    count: int, wrong_at: Callable[[Values], Values], random: np.random.Generator
) -> tuple[Values, NDArray[np.bool_]]:
    sure = random.random(count)
    return sure, random.random(count) >= wrong_at(sure)


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000, help="for each setting")
    arguments = parser.parse_args()
    lines = [
        "# What evaluate.abstain promises, and what comes of it",
        "",
        f"Written by `python benchmarks/abstain.py --draws {arguments.draws}`: thresholds chosen on so many drawn"
        f" validation images at a confidence of {CONFIDENCE:g}. Exceeded: the share of the draws in which the true"
        " error among answered images is above the promised one; 5 % is allowed. None: no threshold was found."
        " Answered: the mean over all draws, 0 where none was found, next to what would be possible if the errors were"
        " known. Tried: the model with fewest errors on these same images is taken of so many that are equally good, in"
        " a tenth of the draws.",
        "",
        "| chance to be wrong, s from 0 to 1 (surest) | images | promised | tried | exceeded | none | answered |"
        " possible |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for setting in SETTINGS:
        draws = max(arguments.draws // setting.tried, arguments.draws // 10)
        lines.append(row(setting, draws))
        print(lines[-1], flush=True)
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
