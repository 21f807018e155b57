"""How often chance gets through the promotion gate, and how often a real difference does.

Pairs of classifiers are drawn whose true accuracies are known: each sealed image falls to one of four cells (both
right, only the new one, only the old one, both wrong). The gate's own rules decide on each pair, beside the bare `>=`
that most pipelines have. Then the gate judges 10,000 sealed images through two registered models, and is timed.

    python benchmarks/gate.py                writes docs/benchmarks/gate.md; some minutes
    python benchmarks/gate.py --pairs 200    a first look
    python benchmarks/gate.py --only-metrics the section about other metrics than accuracy, into the page that there is
"""

import argparse
import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom
from tqdm import tqdm

import gate_classes
import project
from podium.components import Choice
from podium.config.params import GateParams
from podium.metrics import scores
from podium.metrics.resampling import Groups, Paired
from podium.metrics.scored import Scored
from podium.metrics.scores import Metric
from podium.promotion import champion
from podium.promotion.comparison import compare
from podium.promotion.rules import ClassCounts, Evidence
from podium.promotion.rules.accuracy_comparison import AccuracyComparison
from podium.promotion.rules.max_recall_drop import MaxRecallDrop
from podium.promotion.verdict import Side

OUT = Path(__file__).resolve().parents[1] / "docs/benchmarks/gate.md"
LEVEL = 0.95
ONE_TEST = 1 - 2 * (1 - LEVEL)
"""The confidence at which the first attempt on a test set is judged at LEVEL."""
MARGIN = 0.01
SUPERIOR = AccuracyComparison(rule="superior")
NON_INFERIOR = AccuracyComparison(rule="non_inferior", margin=MARGIN)
ANY = Side(1, 0, 0.0, 0.0, 0.0, 0.0, {}, 0.0, 0.0)
"""The rule looks at the comparison alone."""
TRIES = (1, 5, 10, 20, 50)
RULES = ("bare >=", "superior", "non_inferior")


@dataclass(frozen=True)
class Setting:
    """A pair's true behaviour."""

    images: int
    old: float
    """Accuracy of the champion."""
    difference: float
    """Accuracy of the challenger minus that of the champion."""
    disagree: float
    """Share of images that exactly one of the two gets right."""

    def draw(self, draw: np.random.Generator) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which images the challenger and the champion get right."""
        gained, lost = (self.disagree + self.difference) / 2, (self.disagree - self.difference) / 2
        cells = draw.choice(4, self.images, p=[self.old - lost, gained, lost, 1 - self.old - gained])
        return (cells == 0) | (cells == 1), (cells == 0) | (cells == 2)


NO_DIFFERENCE = (
    Setting(267, 0.985, 0.0, 0.01),
    Setting(267, 0.9, 0.0, 0.08),
    Setting(1000, 0.95, 0.0, 0.03),
    Setting(2000, 0.9, 0.0, 0.05),
)
WORSE_BY_THE_MARGIN = (
    Setting(267, 0.985, -MARGIN, 0.012),
    Setting(1000, 0.95, -MARGIN, 0.03),
    Setting(2000, 0.9, -MARGIN, 0.05),
)
BETTER = (
    Setting(267, 0.95, 0.02, 0.04),
    Setting(267, 0.9, 0.06, 0.08),
    Setting(1000, 0.95, 0.01, 0.03),
    Setting(1000, 0.95, 0.02, 0.04),
    Setting(2000, 0.9, 0.02, 0.05),
    Setting(2000, 0.9, 0.03, 0.05),
)


def passes(rule: AccuracyComparison, evidence: Evidence) -> bool:
    """Whether `rule` promotes."""
    found = rule.judge(evidence)
    return found is not None and found.passed


def shares(setting: Setting, pairs: int) -> dict[str, float]:
    """The share of pairs that each rule promotes."""
    draw = np.random.default_rng(0)
    promoted = dict.fromkeys(RULES, 0)
    name = f"{setting.images} images, {setting.difference:+.3f}"
    for _ in tqdm(range(pairs), name, leave=False, disable=None):
        new, old = setting.draw(draw)
        evidence = Evidence(len(new), ONE_TEST, ANY, replace(ANY, right=int(old.sum())), compare(new, old, LEVEL))
        promoted["bare >="] += int(new.sum() >= old.sum())
        promoted["superior"] += passes(SUPERIOR, evidence)
        promoted["non_inferior"] += passes(NON_INFERIOR, evidence)
    return {rule: count / pairs for rule, count in promoted.items()}


def table(title: str, settings: tuple[Setting, ...], pairs: int) -> list[str]:
    """A section of the page."""
    columns = ["images", "champion", "true difference", "they disagree on", *(f"`{rule}`" for rule in RULES)]
    lines = ["", f"## {title}", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for setting in settings:
        found = shares(setting, pairs)
        cells = [f"{setting.images:,}", f"{setting.old:g}", f"{setting.difference:+g}", f"{setting.disagree:g}"]
        lines.append("| " + " | ".join(cells + [f"{found[rule]:.1%}" for rule in RULES]) + " |")
        print(lines[-1], flush=True)
    return lines


def life(simulations: int) -> list[str]:
    """How often a test set lets through any of many challengers, none of which is better than its champion."""
    draw, images, accuracy, disagree = np.random.default_rng(1), 10_000, 0.9, 0.05
    levels = {"0.05 each time": [1 - LEVEL] * TRIES[-1], "the gate": [spent(n + 1) for n in range(TRIES[-1])]}
    first = {name: np.full(simulations, TRIES[-1] + 1) for name in levels}
    for simulation in tqdm(range(simulations), "life", leave=False, disable=None):
        wrong = draw.binomial(images, 1 - accuracy)  # of the champion, the same for every try
        gained = draw.binomial(wrong, disagree / 2 / (1 - accuracy), TRIES[-1])
        lost = draw.binomial(images - wrong, disagree / 2 / accuracy, TRIES[-1])
        chances = binom.sf(gained - 1, gained + lost, 0.5)  # McNemar's exact test, for all tries at once
        for name, level in levels.items():
            passed = np.flatnonzero(chances <= np.array(level))
            first[name][simulation] = passed[0] + 1 if len(passed) else TRIES[-1] + 1
    lines = [
        "",
        "## Over the life of a test set: challengers exactly as good as the champion",
        "",
        f"The share of {simulations:,} simulated test sets ({images:,} images, accuracy {accuracy:g}, models disagree"
        f" on {disagree:.0%}) that promote at least one of so many challengers. The gate asks of attempt k a p-value of"
        " at most 0.05 / (k (k + 1)).",
        "",
        f"| challengers | {' | '.join(map(str, TRIES))} |",
        "|---" * (len(TRIES) + 1) + "|",
    ]
    for name, tries in first.items():
        lines.append(f"| {name} | " + " | ".join(f"{(tries <= count).mean():.1%}" for count in TRIES) + " |")
        print(lines[-1], flush=True)
    return lines


def spent(attempt: int) -> float:
    """The p-value that the gate asks of this attempt."""
    return Evidence(1, LEVEL, ANY, attempt=attempt).level


def classes(simulations: int) -> list[str]:
    """How often the rule for the classes' recalls lets a better challenger pass, by the number of classes."""
    draw = np.random.default_rng(2)
    lines = [
        "",
        "## Many classes: a challenger that is better in every class (0.80 instead of 0.76)",
        "",
        f"The share of {simulations:,} pairs that pass `max_recall_drop: 0.05` by the measured drop of the worst class"
        " alone, and by the gate, which asks whether chance explains it; then the share that the gate refuses where a"
        " tenth of the classes lost half of their recall.",
        "",
        "| classes | images of each | passes by the measured drop | passes the gate | refused where it should be |",
        "|---|---|---|---|---|",
    ]
    for number, images in ((10, 100), (100, 20), (1000, 10), (1000, 50)):
        passed = dict.fromkeys(("measured", "gate", "bad"), 0)
        for _ in tqdm(range(simulations), f"{number} classes", leave=False, disable=None):
            better = counted(draw, number, images, 0.0)
            passed["measured"] += all(one.lost - one.gained <= 0.05 * images for one in better.values())
            passed["gate"] += keeps_recalls(better)
            passed["bad"] += not keeps_recalls(counted(draw, number, images, 0.1))
        cells = [f"{passed[name] / simulations:.1%}" for name in ("measured", "gate", "bad")]
        lines.append(f"| {number:,} | {images} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def counted(draw: np.random.Generator, number: int, images: int, bad: float) -> dict[str, ClassCounts]:
    """Two models on `number` classes; in a share `bad` of them the challenger lost half of its recall."""
    found = {}
    for n in range(number):
        chances = [0.70, 0.10, 0.06, 0.14] if n >= bad * number else [0.33, 0.05, 0.43, 0.19]
        both, gained, lost, _ = draw.multinomial(images, chances)
        found[f"c{n}"] = ClassCounts(images, int(both + gained), int(gained), int(lost))
    return found


def keeps_recalls(found: dict[str, ClassCounts]) -> bool:
    """What the gate's rule says."""
    new = replace(ANY, recalls={name: one.right / one.images for name, one in found.items()})
    judged = MaxRecallDrop().judge(Evidence(1, LEVEL, new, new, classes=found))
    return judged is not None and judged.passed


@dataclass(frozen=True)
class Skill:
    """Two classifiers of skewed classes; each adds its own noise to what both see."""

    images: int
    new: float
    old: float
    """How far the right class's logit is above the others, in standard deviations of the noise."""
    overconfident: float = 1.0
    """By what the old one's logits are multiplied."""

    def draw(self, draw: np.random.Generator, metric: Metric) -> Paired:
        """Their predictions for the same images."""
        labels = torch.from_numpy(draw.choice(3, self.images, p=SHARES))
        shared = draw.normal(size=(self.images, 3))
        sides = []
        for skill, factor in ((self.new, 2.0), (self.old, 2.0 * self.overconfident)):
            logits = (shared + draw.normal(size=shared.shape)) / 2**0.5
            logits[np.arange(self.images), labels] += skill
            sides.append(Scored(torch.from_numpy(factor * logits), labels))
        return Paired(metric, sides[0], sides[1], Groups.of(self.images, None))


SHARES = [0.7, 0.2, 0.1]
FEWER = 5
"""The power gets a part of the pairs."""
METRICS = (
    *(Choice(name=name) for name in ("balanced_accuracy", "macro_f1", "loss", "auroc", "average_precision", "mcc")),
    *(Choice(name=name) for name in ("kappa", "brier")),
    Choice(name="top_k", arguments={"k": 2}),
    Choice(name="calibration_error"),
)
ALIKE = (Skill(270, 1.5, 1.5),)
APART = (Skill(270, 1.9, 1.5), Skill(1000, 1.7, 1.5))
CALIBRATED = (Skill(270, 1.5, 1.5, 2.0), Skill(1000, 1.5, 1.5, 1.5))
"""Of the calibration error, whose better one is not the more skilled one."""
OTHER = "Other metrics: three classes, of 70, 20 and 10 % of the images"


def other_metrics(pairs: int) -> list[str]:
    """How often the permutation test promotes by other metrics than accuracy: models alike, and a better one."""
    lines = [
        "",
        f"## {OTHER}",
        "",
        "The share of so many pairs that `superior` promotes by a permutation test at p 0.025, as the gate asks of a"
        " first challenger, and at p 0.05. Alike: the same skill, other noise. Skill is how far the right class's logit"
        ' is above the others, in standard deviations; "x 2": the champion\'s logits are multiplied by that, so it is'
        " overconfident. Every metric judges the same pairs; two standard errors of 1,000 pairs at 5 % are 1.4 points.",
        "",
        "| metric | images | skill of both | pairs | promoted at 0.025 | at 0.05 |",
        "|---|---|---|---|---|---|",
    ]
    for choice in METRICS:
        lines += _of_metric(choice, pairs)
    return lines


def _of_metric(choice: Choice, pairs: int) -> list[str]:
    metric, lines = scores.of(choice), []
    name = metric.label
    for setting in (*ALIKE, *(CALIBRATED if name == "calibration_error" else APART)):
        draw = np.random.default_rng(3)
        count = pairs if setting in ALIKE else pairs // FEWER
        found = [setting.draw(draw, metric).better(0.025) for _ in tqdm(range(count), name, leave=False, disable=None)]
        rates = [np.mean([p <= level for p in found]) for level in ((1 - LEVEL) / 2, 1 - LEVEL)]
        skills = f"{setting.new:g}, {setting.old:g}"
        skills += f" x {setting.overconfident:g}" if setting.overconfident != 1 else ""
        cells = [name, f"{setting.images:,}", skills, f"{count:,}"]
        cells += [f"{rate:.1%}" for rate in rates]
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def timed(count: int) -> list[str]:
    """Seconds of a whole judgement of `count` images through two registered models."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.chdir(folder)
        store = project.make(folder, count)
        images = champion.Images(folder / "data/sealed", folder / "data/prepared")
        loose = GateParams(min_accuracy=0, min_recall=0, max_calibration_error=1, max_recall_drop=1, max_latency_ms=1e6)
        champion.promote(store, project.NAME, 1, images, loose)
        started, used = time.perf_counter(), time.process_time()
        done = champion.promote(store, project.NAME, 2, images, loose, dry_run=True)
        seconds, used = time.perf_counter() - started, time.process_time() - used
        os.chdir(OUT.parents[2])
    assert done.verdict is not None
    sentence = (
        f"{count:,} sealed images of 28x28 through two registered models, loading included: {seconds:.1f} s, of which"
        f" this process computed {used:.1f} s (on {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f})."
    )
    return ["", "## Time", "", sentence, "", "```", done.verdict.table(), "```"]


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1000, help="for each setting")
    parser.add_argument("--sealed", type=int, default=10_000, help="images of the timed judgement")
    parser.add_argument("--only-metrics", action="store_true", help="measure other metrics than accuracy alone")
    arguments = parser.parse_args()
    if arguments.only_metrics:
        before, _, rest = OUT.read_text(encoding="utf-8").partition(f"\n## {OTHER}\n")
        after = rest[rest.index("\n## ") :] if "\n## " in rest else ""
        OUT.write_text(before + "\n".join(other_metrics(arguments.pairs)) + "\n" + after, encoding="utf-8")
        return
    lines = [
        "# The promotion gate against chance",
        "",
        f"Written by `python benchmarks/gate.py --pairs {arguments.pairs}`: the share of {arguments.pairs:,} simulated"
        f" pairs that each rule promotes, at a confidence of {LEVEL:g}; the margin of `non_inferior` is {MARGIN:g}.",
    ]
    lines += table("No real difference: `superior` may promote 5 % at most", NO_DIFFERENCE, arguments.pairs)
    title = "Worse by exactly the margin: `non_inferior` may promote about 5% (Tango's test is not exact)"
    lines += table(title, WORSE_BY_THE_MARGIN, arguments.pairs)
    lines += table("Really better: the power", BETTER, arguments.pairs)
    lines += life(10 * arguments.pairs)
    lines += classes(max(arguments.pairs // 10, 10))
    lines += gate_classes.section(max(4 * arguments.pairs // 10, 10))
    lines += other_metrics(arguments.pairs)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")  # the rest takes longer than all of this
    lines += timed(arguments.sealed)
    print(lines[-4], flush=True)
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
