"""How often the sequential test of `podium compare` errs when somebody looks after each label, and how much it finds.

Pairs of models are simulated whose true accuracies are known: on each image only the challenger is right, only the
champion, or both the same. Somebody looks after each label and stops at the first sign of evidence (optional stopping).
Both questions are looked at: "is it better?" alone, as the gate asks, and "is either?", as `podium compare` does.
Beside it: McNemar's exact test looked at in the same way, and asked once, after the last label, as it is meant.

    python benchmarks/sequential.py                 writes docs/benchmarks/sequential.md; about a minute
    python benchmarks/sequential.py --pairs 1000    a first look
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import binom

from podium.shadow.sequential_test import BETS, limit, path

OUT = Path(__file__).resolve().parents[1] / "docs/benchmarks/sequential.md"
LEVEL = 0.05
EQUAL = ((0.02, 300), (0.02, 1000), (0.1, 1000), (0.5, 1000), (0.1, 10_000), (1.0, 1000))
"""Part of the images that they disagree on, half of it for each; and images."""
DIFFERENT = ((0.02, 0.01), (0.03, 0.01), (0.04, 0.02), (0.05, 0.04), (0.08, 0.04))
"""Part of the images that only the challenger gets right, and only the champion."""
IMAGES = 5000
CHECKED = 200
"""Pairs on which the table of limits is compared with the test itself."""


def limits(most: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """For 0 to `most` decided disagreements, how many of them one side has to win: by the sequential test of one
    question, by McNemar's, and by the sequential test of both questions.
    """
    numbers = np.arange(most + 1)
    mcnemar = np.asarray(binom.isf(LEVEL, numbers, 0.5), np.int64) + 1
    mcnemar = np.where(binom.sf(mcnemar - 1, numbers, 0.5) <= LEVEL, mcnemar, numbers + 1)
    return _sequential(most, 1 / LEVEL), mcnemar, _sequential(most, limit(LEVEL))


def _sequential(most: int, wanted: float) -> NDArray[np.int64]:
    sizes = (np.arange(BETS) + 0.5) / BETS
    up, down = np.log1p(sizes), np.log1p(-sizes)
    numbers = np.arange(most + 1)
    low, high = np.zeros(most + 1, np.int64), numbers + 1  # the first that suffices lies in (low - 1, high]
    while (low < high).any():
        middle = (low + high) // 2
        shown = logsumexp(middle[:, None] * up + (numbers - middle)[:, None] * down, axis=1) - np.log(BETS)
        enough = (shown >= np.log(wanted)) | (middle > numbers)
        low, high = np.where(enough, low, np.minimum(middle + 1, high)), np.where(enough, middle, high)
    return low


def looked_at(
    pairs: int, images: int, gained: float, lost: float, table: tuple[NDArray[np.int64], ...], seed: int
) -> tuple[float, float, float, float, float, float]:
    """Parts of simulated pairs with evidence: sequential, McNemar's each time, McNemar's once; median images needed;
    and the parts with evidence in either direction, of the test of both questions, and of that of one asked twice.
    """
    draw = np.random.default_rng(seed)
    sequential, each, once, either, twice, needed = 0, 0, 0, 0, 0, list[float]()
    for number in range(pairs):
        difference = draw.choice(np.array([-1, 0, 1], np.int8), images, p=[lost, 1 - gained - lost, gained])
        places = np.flatnonzero(difference)
        won, count = np.cumsum(difference[places] > 0), np.arange(1, len(places) + 1)
        over = won >= table[0][count]
        if number < CHECKED and bool(over.any()) != bool((path(difference[places]) >= 1 / LEVEL).any()):
            raise AssertionError("the table of limits is not that of the test")
        sequential += bool(over.any())
        most = np.maximum(won, count - won)
        either += bool((most >= table[2][count]).any())
        twice += bool((most >= table[0][count]).any())
        needed.append(float(places[over.argmax()]) + 1 if over.any() else np.inf)
        each += bool((won >= table[1][count]).any())
        once += bool(len(won) and won[-1] >= table[1][len(won)])
    median = float(np.median(needed))
    return sequential / pairs, each / pairs, once / pairs, median, either / pairs, twice / pairs


def report(pairs: int) -> str:
    """The page."""
    table = limits(max(IMAGES, *(images for _, images in EQUAL)))
    lines = [
        "# The sequential test of `podium compare` against chance",
        "",
        f"Written by `python benchmarks/sequential.py --pairs {pairs}`: the part of {pairs:,} simulated pairs of models"
        f" for which a test says, at a level of {LEVEL:g}, that the challenger is better (the gate's question; evidence"
        f" of {1 / LEVEL:g}), or that either of the two is (`podium compare`'s; evidence of {limit(LEVEL):g})."
        " Looked at after each label means that somebody stops at the first sign of it.",
        "",
        "## Equally good models: 5 % at most may seem different",
        "",
        "| images | they disagree on | sequential test, after each label | either direction, after each label |"
        f" either direction, at evidence of {1 / LEVEL:g} | McNemar's exact test, after each label |"
        " McNemar's, once at the end |",
        "|---|---|---|---|---|---|---|",
    ]
    for seed, (rate, images) in enumerate(EQUAL):
        mine, each, once, _, either, twice = looked_at(pairs, images, rate / 2, rate / 2, table, seed)
        shown = " | ".join(f"{part:.1%}" for part in (mine, either, twice, each, once))
        lines.append(f"| {images:,} | {rate:g} | {shown} |")
    lines += [
        "",
        "## Better challengers: the power",
        "",
        f"Within {IMAGES:,} labelled images; labels of the disagreements suffice, so that they are far fewer.",
        "",
        "| only the challenger right | only the champion right | sequential test, after each label |"
        " McNemar's, once at the end | images until the evidence (median) | disagreements among them |",
        "|---|---|---|---|---|---|",
    ]
    for seed, (gained, lost) in enumerate(DIFFERENT, 100):
        mine, _, once, median, _, _ = looked_at(pairs, IMAGES, gained, lost, table, seed)
        when = f"{median:,.0f} | {median * (gained + lost):,.0f}" if np.isfinite(median) else f"more than {IMAGES:,} |"
        lines.append(f"| {gained:g} | {lost:g} | {mine:.1%} | {once:.1%} | {when} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=10_000)
    arguments = parser.parse_args()
    text = report(arguments.pairs)
    print(text)
    OUT.write_text(text, encoding="utf-8")
