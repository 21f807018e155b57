"""The top of the report: what came out, in numbers and in a few sentences."""

from dataclasses import dataclass
from typing import Any

from podium.report import earlier
from podium.report.budget import Outlook, Spent
from podium.report.gather import Story

TOLERATED = 0.05
"""Expected calibration error up to which a confidence can be read as a probability."""


@dataclass(frozen=True)
class Card:
    """One of the answers on top."""

    question: str
    answer: str
    lines: list[str]


@dataclass(frozen=True)
class Verdict:
    """The answers."""

    headline: str
    """The figure that counts, such as 99.63 %."""
    of_what: str
    low: float | None
    """Ends of its interval, between 0 and 1; None where there is none."""
    high: float | None
    value: float | None
    confidence: float | None
    """Level of the interval, where it is known."""
    cards: list[Card]

    @property
    def interval(self) -> str:
        """What the interval is called."""
        return "interval" if self.confidence is None else f"{100 * self.confidence:.4g} % interval"


def verdict(story: Story, spent: Spent, outlook: Outlook) -> Verdict:
    """What to read first."""
    cards = [_chosen(story), _cost(story, spent), _more(outlook, spent), _trust(story)]
    evaluated = story.evaluated
    if evaluated is None:
        best = story.search.best
        what = f"best validation {story.search.metric} of the search (trial {best['trial']}); not evaluated yet"
        return Verdict(_figure(story.search.metric, best["value"]), what, None, None, None, None, cards)
    m = evaluated.metrics
    return Verdict(
        headline=percent(m["accuracy"]),
        of_what=f"accuracy on {m['count']:,.0f} sealed images that nothing was chosen on",
        low=m["accuracy_low"],
        high=m["accuracy_high"],
        value=m["accuracy"],
        confidence=evaluated.confidence,
        cards=cards,
    )


def percent(share: float) -> str:
    """`share` as 99.63 %."""
    return f"{100 * share:.2f} %"


def duration(seconds: float) -> str:
    """`seconds` for a person."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _chosen(story: Story) -> Card:
    chosen, search = story.selected, story.search
    if chosen is None:
        lines = ["The best have not been run again on fresh seeds yet: part of this value is luck."]
        return Card("What won", f"Trial {search.best['trial']}, for now", lines)
    others = [c for c in chosen["candidates"] if c["mean"] is not None and c["trial"] != chosen["trial"]]
    lines = [f"Validation {chosen['metric']} {_mean(chosen)} on {len(chosen['values'])} fresh seeds."]
    if others:
        runner = max(others, key=lambda c: search.sign * c["mean"])
        lines.append(f"Next: trial {runner['trial']} with {_mean(runner)}.")
    if chosen["trial"] != search.best["trial"]:
        lines.append(f"The search's own best was trial {search.best['trial']} with {search.best['value']:.4f}.")
    if chosen["optimism"] is not None:
        how = "higher" if chosen["optimism"] >= 0 else "lower"
        lines.append(f"That best value was {abs(chosen['optimism']):.3f} {how} than the same settings on new seeds.")
    return Card("What won, and why", f"Trial {chosen['trial']}: best mean on fresh seeds", lines)


def _cost(story: Story, spent: Spent) -> Card:
    trials = spent.complete + spent.pruned + spent.failed
    states = f"{spent.complete} ran to their end, {spent.pruned} were pruned, {spent.failed} failed."
    whole = spent.epochs + spent.epochs_saved
    saved = f"Pruning saved {spent.epochs_saved:,} of {whole:,} epochs ({spent.share_saved:.0%})"
    lines = [states, saved + (f", about {duration(spent.seconds_saved)} of a worker." if spent.seconds_saved else ".")]
    if spent.busy is not None:
        lines.append(f"Workers were training {spent.busy:.0%} of the time.")
    if spent.inherited:
        lines.append(f"{spent.inherited} more trials were taken over from earlier searches.")
    answer = f"{trials:,} trials" + (f" in {duration(spent.seconds)}" if spent.seconds else "")
    return Card("What it cost", answer, lines)


def _more(outlook: Outlook, spent: Spent) -> Card:
    if outlook.trials < 4:
        return Card("Would more trials help?", "Too few to say", [f"{outlook.trials} trials have a value."])
    lines = [f"The second half of the trials improved the best value by {outlook.gain:.4f} on average."]
    if outlook.spread is None:
        return Card("Would more trials help?", f"By about {outlook.gain:.4f} at most", lines)
    lines.append(f"Another seed alone changes a result by {outlook.spread:.4f} (standard deviation).")
    answer = "Probably: the gain stands out" if outlook.worth_it else "Hardly: seeds matter more by now"
    return Card("Would more trials help?", answer, lines)


def _trust(story: Story) -> Card:
    """What speaks for and against the figure."""
    lines = []
    audit, evaluated = story.audit, story.evaluated
    if audit is not None:
        lines += _data(audit)
    if evaluated is not None:
        ece = evaluated.metrics["ece"]
        if ece <= TOLERATED:
            lines.append(f"Its confidence is off by {100 * ece:.1f} points on average (ECE {ece:.4f}).")
        width = evaluated.metrics["accuracy_high"] - evaluated.metrics["accuracy_low"]
        lines.append(f"The interval is {100 * width:.1f} points wide; only more sealed images narrow it.")
    if story.model is not None and story.model["data_digest"] != (story.dataset or story.model).get("digest", ""):
        lines.append("The prepared images are not those that the model was trained on: run `dvc repro`.")
    doubts = _doubts(story)
    return Card("Can it be trusted?", "Nothing speaks against it" if not doubts else doubts[0], doubts[1:] + lines)


def _data(audit: dict[str, Any]) -> list[str]:
    found = {finding["kind"] for finding in audit["findings"]}
    kinds = {f"{near}{kind}" for near in ("", "near_") for kind in ("duplicates", "conflicts", "leaks")}
    return [] if found & kinds else ["No image occurs twice, in no two splits, under no two labels."]


def _doubts(story: Story) -> list[str]:
    doubts = []
    kept = [finding for finding in (story.audit or {"findings": []})["findings"] if finding["policy"] == "keep"]
    for kind, said in (("leaks", "are in two of the source's splits"), ("conflicts", "have different labels")):
        groups = sum(finding["groups"] for finding in kept if finding["kind"] == kind)
        if groups:
            doubts.append(f"Equal images {said} ({groups:,} groups)")
    if "evaluate" in story.earlier:
        doubts.append(f"The evaluation is {earlier.said(story.earlier['evaluate'])}")
    elif story.evaluated is None:
        doubts.append("Not evaluated on sealed images yet")
    elif story.evaluated.metrics["ece"] > TOLERATED:
        points = 100 * story.evaluated.overconfidence()
        way = "surer than it is right" if points > 0 else "less sure than it is right"
        doubts.append(f"Its confidence can't be taken at its word: {way}, by {abs(points):.1f} points on average")
    return doubts


def _mean(candidate: dict[str, Any]) -> str:
    spread = f" \N{PLUS-MINUS SIGN} {candidate['std']:.4f}" if candidate["std"] is not None else ""
    return f"{candidate['mean']:.4f}{spread}"


def _figure(metric: str, value: float) -> str:
    return percent(value) if metric == "accuracy" else f"{value:.4f}"
