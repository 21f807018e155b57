"""The top of the report: the result, in a figure and a few sentences, and what to try next."""

from dataclasses import dataclass
from typing import Any

from podium.metrics.scores import Objective, as_percent
from podium.report import front
from podium.report.chart import Scale
from podium.report.cost import Outlook, Spent
from podium.report.report_data import Evaluated, ReportData, stale_notice
from podium.report.trials import Search
from podium.text import counted
from podium.tuning.reference_lines import LABELS

TOLERATED = 0.05
"""Expected calibration error up to which the model counts as calibrated."""
EDGE = 0.1
"""A value in the outer tenth of its range is at the edge."""
BEST_FRACTION = 10
"""One in so many completed trials counts among the best; never fewer than FEWEST."""
FEWEST = 5
UNIMPORTANT = 0.01
"""Share of the variance below which a dimension hardly matters."""
MANY_FAILURES = 0.05
"""Fraction of failed trials above which they are worth a look."""


@dataclass(frozen=True)
class Card:
    """A question and its answer."""

    question: str
    answer: str
    lines: list[str]
    alarm: bool = False
    """Whether it is shown in red."""


@dataclass(frozen=True)
class Summary:
    """The result and the answers to the first questions."""

    headline: str
    """The main figure, such as 99.63%."""
    caption: str
    """What the headline is."""
    low: float | None
    """Lower end of its interval, between 0 and 1; None if there is none."""
    high: float | None
    value: float | None
    confidence: float | None
    """Level of the interval, if it is known."""
    cards: list[Card]

    @property
    def interval(self) -> str:
        """The name of the interval."""
        return "interval" if self.confidence is None else f"{100 * self.confidence:.4g}% confidence interval"


@dataclass(frozen=True)
class Advice:
    """One thing to do and why."""

    do: str
    why: str


def summarize(data: ReportData, spent: Spent, outlook: Outlook) -> Summary:
    """What to read first."""
    cards = [_chosen(data), *_limits(data), *_reference(data), _cost(spent), _more_trials(outlook), _trust(data)]
    evaluated, metric = data.evaluated, data.search.metric
    if evaluated is None:
        best = data.search.best
        caption = f"best validation {metric.name} of the search (trial {best['trial']}); not evaluated yet"
        return Summary(metric.format(best["value"]), caption, None, None, None, None, cards)
    m = evaluated.metrics
    if evaluated.metric is not None and evaluated.is_by_metric:
        return _by_metric(evaluated, evaluated.metric, cards)
    return Summary(
        headline=as_percent(m["accuracy"]),
        caption=f"accuracy on {counted(int(m['count']), 'held-out test image')} (used for evaluation only)",
        low=m["accuracy_low"],
        high=m["accuracy_high"],
        value=m["accuracy"],
        confidence=evaluated.confidence,
        cards=cards,
    )


def _by_metric(evaluated: Evaluated, metric: Objective, cards: list[Card]) -> Summary:
    """The top of the page by search.metric; the bar below it is for values between 0 and 1."""
    m, name = evaluated.metrics, metric.name
    value, low, high = m[name], m.get(f"{name}_low"), m.get(f"{name}_high")
    caption = f"{name} on {counted(int(m['count']), 'held-out test image')} (used for evaluation only)"
    if low is not None and high is not None and not 0 <= low <= high <= 1:
        caption += f", {metric.format(low)} to {metric.format(high)}"
        low = high = None
    return Summary(
        headline=metric.format(value),
        caption=f"{caption}; accuracy {as_percent(m['accuracy'])}",
        low=low,
        high=high,
        value=value,
        confidence=evaluated.confidence,
        cards=cards,
    )


def advice(search: Search, spent: Spent, outlook: Outlook) -> list[Advice]:
    """What to change before the next search, the most promising first."""
    found = [a for name in search.space if (a := _edge(search, Scale.of(name, search.space[name])))]
    found += _failures(spent)
    found += _pruner(search, spent)
    found.append(_budget(search, outlook))
    found += _unimportant(search)
    return found


def duration(seconds: float) -> str:
    """`seconds` as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _chosen(data: ReportData) -> Card:
    chosen, search = data.selected, data.search
    if chosen is None:
        lines = ["The best trials have not been run on fresh seeds yet: part of this value is chance."]
        return Card("Which configuration won?", f"Trial {search.best['trial']}, not confirmed yet", lines)
    if "aims" in chosen:
        return Card("Which configuration won?", *front.choice(chosen))
    others = [c for c in chosen["candidates"] if c["mean"] is not None and c["trial"] != chosen["trial"]]
    lines = [f"Validation {chosen['metric']} {_mean(chosen)} {_runs(chosen)}."]
    if others:
        runner_up = max(others, key=lambda c: search.metric.sign * c["mean"])
        lines.append(f"Runner-up: trial {runner_up['trial']} with {_mean(runner_up)}.")
    best = f"The best trial of the search, trial {search.best['trial']} with {search.best['value']:.4f},"
    if chosen["optimism"] is not None:
        optimism = search.metric.sign * chosen["optimism"]
        way = "higher" if optimism > 0 else "lower"
        lines.append(f"{best} scored {abs(optimism):.4f} {way} than the same settings on new seeds.")
    elif chosen["trial"] != search.best["trial"]:
        lines.append(f"{best} was not better {_runs(chosen, short=True)}.")
    return Card("Which configuration won?", f"Trial {chosen['trial']}: best mean {_runs(chosen, short=True)}", lines)


def _limits(data: ReportData) -> list[Card]:
    """The trials that break search.limits; none where there is none."""
    over = [t for t in data.search.trials if t.over_limits]
    if not over:
        return []
    untrained = sum(not t.epochs for t in over)
    lines = [f"{untrained} of them were not trained: their configuration alone says so."] if untrained else []
    best = max(over, key=lambda t: data.search.metric.sign * t.value if t.value is not None else float("-inf"))
    if best.value is not None:
        lines.append(f"The best of them, trial {best.number} with {best.value:.4f}: {best.over_limits}.")
    answer = f"{len(over)} of {counted(len(data.search.trials), 'trial')} are over them"
    return [Card("What did the limits rule out?", answer, [*lines, "None of these can be selected."])]


def _runs(chosen: dict[str, Any], *, short: bool = False) -> str:
    """On what the chosen configuration was confirmed."""
    if folds := chosen.get("folds"):
        return f"over {folds} folds" + ("" if short else " of training and validation images, each image judged once")
    return "on fresh seeds" if short else f"on {counted(len(chosen['values']), 'fresh seed')}"


def _reference(data: ReportData) -> list[Card]:
    """The search compared with what the validation images give without one."""
    if (lines := data.lines) is None:
        return []
    metric, strongest = data.search.metric, lines.strongest
    gain = metric.sign * (data.achieved - strongest.value)
    alarm = not lines.beaten_by(data.achieved)
    is_confirmed = data.selected and not data.selected.get("folds")
    what = "the chosen configuration on fresh seeds" if is_confirmed else "the best trial"
    shown = [f"{_upper(what)}: {metric.format(data.achieved)}."]
    shown += [f"{_upper(LABELS[line.name])}: {metric.format(line.value)}." for line in lines.lines]
    shown += [f"{_upper(LABELS[name])}: not computed, {why}." for name, why in lines.skipped.items()]
    answer = f"Yes, by {gain:.4f} ({metric.name})"
    if alarm:
        answer = f"No: {LABELS[strongest.name]} is as good" if gain == 0 else f"No: {LABELS[strongest.name]} is better"
    return [Card("Is it better than without a search?", answer, shown, alarm=alarm)]


def _cost(spent: Spent) -> Card:
    trials = spent.complete + spent.pruned + spent.failed
    states = f"{spent.complete} completed, {spent.pruned} pruned, {spent.failed} failed."
    planned = spent.epochs + spent.epochs_saved
    saved = f"Pruning saved {spent.epochs_saved:,} of {counted(planned, 'epoch')} ({spent.fraction_saved:.0%})"
    time = f", about {_worker_time(spent.seconds_saved)}." if spent.seconds_saved else "."
    lines = [states, saved + time]
    if spent.busy is not None:
        lines.append(f"The workers were training {spent.busy:.0%} of the time.")
    if spent.inherited:
        lines.append(f"{counted(spent.inherited, 'more trial')} inherited from earlier searches.")
    answer = counted(trials, "trial") + (f" in {duration(spent.seconds)}" if spent.seconds else "")
    return Card("What did it cost?", answer, lines)


def _worker_time(seconds: float) -> str:
    for unit, size in (("hour", 3600), ("minute", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} worker-{unit}s"
    return counted(round(seconds), "worker-second")


def _more_trials(outlook: Outlook) -> Card:
    question = "Would more trials help?"
    if outlook.trials < 4:
        return Card(question, "Too few trials to say", [f"Only {counted(outlook.trials, 'trial')} with a value."])
    lines = [f"The second half of the trials improved the best value by {outlook.gain:.4f} on average."]
    if outlook.std is None:
        return Card(question, f"By about {outlook.gain:.4f} at most", lines)
    lines.append(f"Another seed alone changes a result by {outlook.std:.4f} (standard deviation).")
    answer = "Probably: the gain exceeds the noise" if outlook.worth_it else "Hardly: the noise exceeds the gain"
    return Card(question, answer, lines)


def _trust(data: ReportData) -> Card:
    """What supports the figure and what does not."""
    lines = []
    audit, evaluated = data.audit, data.evaluated
    if audit is not None:
        lines += _clean(audit)
    if evaluated is not None:
        ece = evaluated.metrics["ece"]
        if ece <= TOLERATED:
            lines.append(f"Calibrated: calibration error {ece:.3f} (limit {TOLERATED:.2f}).")
        if evaluated.abstain is not None:
            lines.append(_answers(evaluated.abstain))
        width = evaluated.metrics["accuracy_high"] - evaluated.metrics["accuracy_low"]
        lines.append(f"The interval is {100 * width:.1f} percentage points wide; more test images make it narrower.")
    if data.model is not None and data.model["data_digest"] != (data.dataset or data.model).get("digest", ""):
        lines.append("The prepared images are not those that the model was trained on: run `dvc repro`.")
    doubts = _doubts(data)
    answer = doubts[0] if doubts else "No problem found"
    return Card("Can it be trusted?", answer, [f"{doubt}." for doubt in doubts[1:]] + lines)


def _answers(promise: dict[str, Any]) -> str:
    test = promise["test"]
    error = f"{test['wrong'] / test['answered']:.4f}" if test["answered"] else "none"
    return (
        f"Where it may abstain it answers {test['answered'] / test['images']:.1%} of the test images, with an error of"
        f" {error} (promised: {promise['error']:g} at most; {promise['finding']})."
    )


def _clean(audit: dict[str, Any]) -> list[str]:
    found = {finding["kind"] for finding in audit["findings"]}
    kinds = {f"{near}{kind}" for near in ("", "near_") for kind in ("duplicates", "conflicts", "leaks")}
    return [] if found & kinds else ["No duplicate images, no conflicting labels, no leaks between splits."]


def _doubts(data: ReportData) -> list[str]:
    doubts = []
    kept = [finding for finding in (data.audit or {"findings": []})["findings"] if finding["policy"] == "keep"]
    for kind, problem in (("leaks", "in two of the source's splits"), ("conflicts", "with different labels")):
        groups = sum(finding["groups"] for finding in kept if finding["kind"] == kind)
        if groups:
            doubts.append(f"Equal images {problem} ({counted(groups, 'group')})")
    if "evaluate" in data.stale:
        doubts.append(f"The evaluation is {stale_notice(data.stale['evaluate'])}")
    elif data.evaluated is None:
        doubts.append("Not evaluated on the test set yet")
    elif (data.evaluated.abstain or {}).get("finding") == "broken":
        doubts.append("The error among answered images is above what evaluate.abstain promised")
    elif (ece := data.evaluated.metrics["ece"]) > TOLERATED:
        way = "Overconfident" if data.evaluated.overconfidence() > 0 else "Underconfident"
        doubts.append(f"{way}: calibration error {ece:.3f} (limit {TOLERATED:.2f})")
    return doubts


def _mean(candidate: dict[str, Any]) -> str:
    std = f" \N{PLUS-MINUS SIGN} {candidate['std']:.4f}" if candidate["std"] is not None else ""
    return f"{candidate['mean']:.4f}{std}"


def _edge(search: Search, scale: Scale) -> Advice | None:
    """Whether most of the best trials are at one end of a range."""
    if scale.choices:
        return None
    complete = [t for t in search.ranked() if scale.name in t.params]
    best = complete[: max(FEWEST, len(complete) // BEST_FRACTION)]
    if len(best) < FEWEST:
        return None
    positions = [scale.position(t.params[scale.name]) for t in best]
    low, high = sum(p <= EDGE for p in positions), sum(p >= 1 - EDGE for p in positions)
    if 2 * max(low, high) <= len(best):
        return None
    end, bound, direction = ("low", scale.low, "below") if low > high else ("high", scale.high, "above")
    return Advice(
        f"Widen {scale.name}: {direction} {end}: {bound:g}",
        f"{max(low, high)} of the best {len(best)} trials are in the outer tenth of its range at that end",
    )


def _failures(spent: Spent) -> list[Advice]:
    trials = spent.complete + spent.pruned + spent.failed
    if spent.failed <= MANY_FAILURES * trials:
        return []
    return [Advice("Look at the failed trials below", f"{spent.failed} of {counted(trials, 'trial')} failed")]


def _pruner(search: Search, spent: Spent) -> list[Advice]:
    if spent.pruned or search.others or len(search.of("COMPLETE")) < FEWEST:
        return []
    return [Advice("Use a pruner to stop bad trials early (search.pruner)", "no trial was pruned")]


def _budget(search: Search, outlook: Outlook) -> Advice:
    gain = f"the second half of {counted(outlook.trials, 'trial')} gained {outlook.gain:+.4f} on average"
    if outlook.std is None:
        return Advice("See in the optimization history whether more trials pay", gain)
    against = f"{gain}; the standard deviation over seeds is {outlook.std:.4f}"
    if outlook.worth_it:
        return Advice(f"Raise search.n_trials: the search resumes where it ended ({search.study})", against)
    return Advice("Do not add trials to this space: they would mostly find lucky seeds", against)


def _unimportant(search: Search) -> list[Advice]:
    """Dimensions that hardly matter, in one line."""
    if not search.ranked():
        return []
    # A dimension that the best trial does not have can't be fixed at its value.
    known = search.fixed | search.ranked()[0].params
    idle = [n for n, share in search.importances.items() if share < UNIMPORTANT and n in search.space and n in known]
    if not idle:
        return []
    shown = ", ".join(f"{name} at {_value(known[name])}" for name in idle)
    each = "it explains" if len(idle) == 1 else "each explains"
    return [Advice(f"Fix {shown}", f"{each} less than {UNIMPORTANT:.0%} of the variance between trials")]


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _upper(text: str) -> str:
    """`text` with its first letter large; ImageNet stays."""
    return text[:1].upper() + text[1:]
