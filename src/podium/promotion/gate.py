"""The promotion gate: challenger and champion predict the same held-out test set now, as they will be served.

Both get the images as PNG bytes through the registered model, whole: so decoder, graph and class names are judged too,
models of different shapes compare, and nothing rests on old numbers. The rules (promotion/rules) decide.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from podium.config.params import GateParams
from podium.data.dataset import Split
from podium.errors import InputError, of_parameter
from podium.metrics import classification
from podium.metrics.resampling import Groups, Paired, measured
from podium.metrics.scores import Metric
from podium.models.latency import BUSY
from podium.promotion.comparison import compare
from podium.promotion.first_champion import BOTH
from podium.promotion.model_predictions import ACCURACY, Model, Predictions, latencies, predict
from podium.promotion.rules import Answering, ClassCounts, Evidence, Finding, Promised, find_rules
from podium.promotion.verdict import Check, Disagreement, Side, Verdict
from podium.registry.device_predictions import CPU, all_on
from podium.shadow.pair_summary import Served
from podium.text import counted

BUSY_NOTE = (
    "other programs kept this machine busy (a reference computation took {crowding:.1f} times its own processor time by"
    " the clock): latencies are processor time, set against that reference, which this hardly changes"
)


@dataclass(frozen=True)
class Candidates:
    """Who is judged: version numbers with the loaded models."""

    challenger: tuple[int, Model]
    champion: tuple[int, Model] | None
    """None: there is none, or it can't be loaded."""
    unreadable: str = ""
    """Why the champion can't be loaded."""
    foreign: str = ""
    """On what other data the challenger was trained."""
    served: Callable[[], Served] | None = None
    """What labels of served images say, as `Evidence.served`."""
    keeps_promise: bool = True
    """Whether the champion's promise about answered images binds: not that of one which was replaced already."""
    first: Mapping[str, int] = field(default_factory=lambda: dict(BOTH))
    """How many accesses to this test set, by reader, were the first champion's own, which is compared with nothing."""


def _evidence(
    images: int, params: GateParams, candidates: Candidates, sides: Sequence[Side], metric: Metric
) -> Evidence:
    """What the models themselves say, the challenger's side first."""
    return Evidence(
        images,
        params.confidence,
        sides[0],
        sides[1] if len(sides) == 2 else None,
        unreadable=candidates.unreadable,
        foreign=candidates.foreign,
        metric=metric.label,
        sign=metric.sign,
        promise=_promised(candidates.challenger),
        champion_promise=_promised(candidates.champion if candidates.keeps_promise else None),
        served=candidates.served,
    )


def judge(
    params: GateParams,
    test: Split,
    candidates: Candidates,
    accesses: dict[str, int],
    *,
    bins: int = 15,
    notes: tuple[str, ...] = (),
    metric: Metric = ACCURACY,
    where: torch.device = CPU,
) -> Verdict:
    """Predict every image of `test` with the models, and decide by `params`; `bins` are the calibration error's.

    `metric` compares them; they predict on `where`, their latencies are the CPU's. `accesses` to the test set are part
    of the verdict. Raises RefusedError where device and CPU differ, InputError where the challenger
    predicts classes that `test` does not have, or the metric is undefined.
    """
    models = [candidates.challenger] + ([candidates.champion] if candidates.champion else [])
    check_defined(metric, test.counts())
    with all_on([model for _, model in models], where) as told:
        predicted = predict([model for _, model in models], test, metric)
        notes += told()
    check_classes(predicted[0].labels, test.classes, candidates.challenger[0])
    taken = latencies([model for _, model in models], test)
    if (crowding := max(took.crowding for took in taken)) > BUSY:
        notes += (BUSY_NOTE.format(crowding=crowding),)
    found = predicted, [took.milliseconds for took in taken]
    return judge_predictions(params, test, candidates, accesses, *found, bins=bins, notes=notes, metric=metric)


def judge_predictions(
    params: GateParams,
    test: Split,
    candidates: Candidates,
    accesses: dict[str, int],
    predicted: Sequence[Predictions],
    taken: Sequence[float],
    *,
    bins: int = 15,
    notes: tuple[str, ...] = (),
    metric: Metric = ACCURACY,
) -> Verdict:
    """What `judge` decides where the models, the challenger first, predict `predicted` and take `taken` ms an image."""
    models = [candidates.challenger] + ([candidates.champion] if candidates.champion else [])
    groups = Groups.of(len(test.labels), test.duplicates)
    sides = [
        replace(
            _side(number, model, found, test, params.confidence, bins, milliseconds),
            value=_value(metric, found, groups, number),
        )
        for (number, model), found, milliseconds in zip(models, predicted, taken, strict=True)
    ]
    evidence = replace(
        _evidence(len(test.labels), params, candidates, sides, metric),
        classes=_class_counts(predicted, test),
        attempt=attempts(accesses, candidates.first),
        answering=_answering([model for _, model in models], predicted, groups),
    )
    if candidates.champion:
        evidence = _compared(evidence, metric, predicted, test, groups)
    return _decide(
        params,
        evidence,
        sealed=(test.digest, test.access_key),
        accesses=accesses,
        disagreements=_disagreements(predicted, test) if candidates.champion else (),
        notes=notes,
    )


def _decide(
    params: GateParams,
    evidence: Evidence,
    *,
    sealed: tuple[str, str],
    accesses: dict[str, int],
    disagreements: tuple[Disagreement, ...],
    notes: tuple[str, ...],
) -> Verdict:
    """Run every rule over `evidence`; `sealed`: digest of the test set, and by what its accesses are counted."""
    every = [(rule.name, rule.of(params).judge(evidence)) for rule in find_rules()]
    found = [(name, finding) for name, finding in every if finding]
    checks = [Check(finding.name or name, finding.rule, finding.found, finding.passed) for name, finding in found]
    tested = next((finding.significance for _, finding in found if finding.significance), None)
    comparison = evidence.comparison
    if comparison and tested:
        comparison = replace(comparison, p_value=tested.p_value)
    rule = "without a champion to compare with, absolute floors decide"
    if tested:
        rule = f"{tested.claim} at a confidence of {params.confidence:g} over all attempts on this test set"
        rule += f", of which this is number {evidence.attempt} ({tested.test})"
    return Verdict(
        decision="promote" if checks and all(check.passed for check in checks) else "refuse",
        reason=_reason(evidence, [finding for _, finding in found], checks),
        rule=rule,
        images=evidence.images,
        sealed_digest=sealed[0],
        accesses=accesses,
        challenger=evidence.challenger,
        champion=evidence.champion,
        comparison=comparison,
        checks=tuple(checks),
        disagreements=disagreements,
        notes=notes,
        metric=evidence.metric,
        test_set=sealed[1],
    )


def _compared(
    evidence: Evidence, metric: Metric, predicted: Sequence[Predictions], test: Split, groups: Groups
) -> Evidence:
    """`evidence` with how the two models differ; where `metric` is not accuracy, with both models' predictions too."""
    found = compare(predicted[0].right, predicted[1].right, 1 - evidence.level, test.duplicates)
    new, old = (one.scored for one in predicted)
    if new is None or old is None:
        return replace(evidence, comparison=found)
    paired = Paired(metric, new, old, groups)
    low, high = paired.interval(found.level)
    if math.isnan(low):
        raise InputError(
            f"gate.metric: {metric.label} is undefined for some random draws of the test images, so its difference has"
            " no interval. Choose another metric for the gate, such as accuracy, or hold out more images of each class"
        )
    found = replace(found, difference=paired.improvement(), low=low, high=high)
    return replace(evidence, paired=paired, comparison=found)


def _value(metric: Metric, found: Predictions, groups: Groups, number: int) -> float | None:
    if found.scored is None:
        return None
    try:
        value = measured(metric, found.scored, groups)
    except InputError as error:
        raise InputError(of_parameter("gate.metric", str(error))) from None
    if math.isnan(value):
        raise InputError(f"gate.metric: {metric.label} is undefined for the predictions of version {number}")
    return value


def check_defined(metric: Metric, counts: Mapping[str, int]) -> None:
    """Raise InputError where `metric` has no value for `counts`, the test images of each class."""
    if why := metric.undefined(counts):
        raise InputError(
            f"gate.metric: {metric.label} is undefined on the held-out test set: {why}. Choose another metric for the"
            " gate, such as accuracy"
        )


def _reason(evidence: Evidence, findings: list[Finding], checks: list[Check]) -> str:
    """The figures in words, then every check that failed."""
    new, old, found = evidence.challenger, evidence.champion, evidence.comparison
    reason = f"accuracy {new.accuracy:.4f}" if new.value is None else f"{evidence.metric} {new.value:.4f}"
    if old is None or found is None:
        reason += f" on {evidence.images:,} held-out test images, and there is no champion to compare with"
    else:
        before = old.accuracy if old.value is None else old.value
        reason += (
            f" against {before:.4f} of the champion, version {old.version}, on the same {evidence.images:,}"
            f" held-out test images{_once(evidence.images, found.groups)}; {counted(found.gained, 'prediction')}"
            f" became right, {found.lost} wrong"
        )
        reason += "".join(f", p {s.p_value:.2g} ({s.test})" for finding in findings if (s := finding.significance))
    return "; ".join([reason, *(f"{c.name} ({c.rule}): {c.found}" for c in checks if not c.passed)])


def _once(images: int, groups: int) -> str:
    return f" ({groups:,} different: near-duplicates count once)" if groups < images else ""


def _side(
    number: int, model: Model, found: Predictions, test: Split, confidence: float, bins: int, latency: float
) -> Side:
    weights = test.weights
    counts = np.bincount(test.labels, weights, len(test.classes))
    right = np.bincount(test.labels[found.right], weights[found.right], len(test.classes))
    recalls = {name: float(r / n) for name, r, n in zip(test.classes, right, counts, strict=True) if n}
    low, high = classification.interval(float(right.sum()), float(weights.sum()), confidence)
    error = classification.calibration_error(found.probabilities, found.right, bins, weights)
    accuracy = float(right.sum() / weights.sum())
    return Side(number, int(found.right.sum()), accuracy, low, high, error, recalls, latency, model.size / 1e6)


def attempts(accesses: Mapping[str, int], first: Mapping[str, int] = BOTH) -> int:
    """How many challengers have been compared on a test set with these `accesses`, by reader; at least 1.

    Each of them is evaluated once and judged once. Whatever was looked at more often counts: models that were only
    evaluated, and dry runs, are tries too. The first champion is compared with nothing and is none: `first` are those
    of its accesses that are among these, none on a test set that was held out later, no gate's where a hand made it.
    """
    return max(*(accesses.get(reader, 0) - first.get(reader, 0) for reader in BOTH), 1)


def _class_counts(predicted: Sequence[Predictions], test: Split) -> dict[str, ClassCounts]:
    """Of each class, a group of near-duplicates counted once, by the greater part of it."""
    each = test.pictures
    _, first, group, size = np.unique(each, return_index=True, return_inverse=True, return_counts=True)
    labels, length = test.labels[first], len(test.classes)

    def share(right: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(group, right) / size, np.float64)

    new, old = share(predicted[0].right), share(predicted[-1].right)
    kinds = [np.full(len(labels), True), new >= 0.5, new > old, new < old]
    rows = zip(test.classes, *(np.bincount(labels[kind], minlength=length) for kind in kinds), strict=True)
    return {name: ClassCounts(int(n), *map(int, of_it)) for name, n, *of_it in rows if n}


def _answering(models: list[Model], predicted: Sequence[Predictions], groups: Groups) -> Answering | None:
    """What the models answer where they may be unsure; None where the challenger answers every image.

    Of near-duplicates the first image counts, as when the threshold was chosen.
    """
    promises = [model.abstain for model in models]
    if promises[0] is None:
        return None
    right = predicted[0].right[groups.first]
    sides = [
        found.probabilities[groups.first] >= promise["threshold"]
        for found, promise in zip(predicted, promises, strict=True)
        if promise is not None
    ]
    new, old = sides[0], sides[-1]
    found = Answering(promises[0]["error"], len(right), int(new.sum()), int((new & ~right).sum()))
    if len(sides) == 1:
        return found
    return replace(found, champion=int(old.sum()), gained=int((new & ~old).sum()), lost=int((old & ~new).sum()))


def _promised(candidate: tuple[int, Model] | None) -> Promised | None:
    promise = candidate[1].abstain if candidate else None
    return Promised(promise["error"], promise["confidence"]) if promise else None


def check_classes(predicted: Iterable[str], known: Sequence[str], number: int) -> None:
    """Raise InputError where version `number` predicts classes that are none of `known`, the test set's."""
    foreign = sorted(set(predicted) - set(known))
    if foreign:
        raise InputError(
            f"version {number} predicts classes that the held-out test set does not have: {', '.join(foreign[:5])};"
            f" it has {', '.join(known[:20])}. Was it trained on another data set?"
        )


def _disagreements(predicted: Sequence[Predictions], test: Split) -> tuple[Disagreement, ...]:
    new, old = predicted
    return tuple(
        Disagreement(int(n), test.classes[test.labels[n]], str(new.labels[n]), str(old.labels[n]))
        for n in np.flatnonzero(new.right != old.right)
    )
