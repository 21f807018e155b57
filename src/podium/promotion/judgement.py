"""The promotion gate: challenger and champion answer the same sealed images now, as they will be served.

Both get the images as PNG bytes through the registered artifact, whole: so decoder, graph and class names are judged
too, models of different shapes compare, and nothing rests on old numbers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podium.config.params import GateParams
from podium.data.dataset import Split
from podium.errors import InputError
from podium.metrics import classification
from podium.promotion import paired
from podium.promotion.asked import Answers, Model, ask, latencies
from podium.promotion.verdict import Change, Check, Comparison, Side, Verdict

ROUNDING = 1e-9
"""1 - 0.96 is a little more than 0.04 in floating point."""
TEST = {"superior": "exact McNemar", "non_inferior": "Tango's score test and the paired bootstrap"}


@dataclass(frozen=True)
class Candidates:
    """Who is judged: version numbers with the loaded models."""

    challenger: tuple[int, Model]
    champion: tuple[int, Model] | None
    """None: there is none, or it can't be asked."""
    unreadable: str = ""
    """Why the champion can't be asked."""
    foreign: str = ""
    """On what other data the challenger was trained."""


def judge(
    params: GateParams,
    sealed: Split,
    candidates: Candidates,
    openings: dict[str, int],
    *,
    bins: int = 15,
    notes: tuple[str, ...] = (),
) -> Verdict:
    """Ask the models for every image of `sealed`, and decide by `params`; `bins` are the calibration error's.

    Raises InputError where the challenger answers with classes that the sealed images do not have.
    """
    models = [candidates.challenger] + ([candidates.champion] if candidates.champion else [])
    answers = ask([model for _, model in models], sealed)
    _check_classes(answers[0], sealed, candidates.challenger[0])
    times = latencies([model for _, model in models], sealed)
    sides = [
        _side(number, model, said, sealed, params.confidence, bins, took)
        for (number, model), said, took in zip(models, answers, times, strict=True)
    ]
    challenger, champion = sides[0], sides[1] if len(sides) == 2 else None
    comparison = compare(params, answers[0].right, answers[1].right) if champion else None
    checks = _checks(params, challenger, champion, comparison, candidates.unreadable)
    if candidates.foreign:
        checks.append(Check("data", "trained on what is prepared now", candidates.foreign, False))
    return Verdict(
        decision="promote" if all(check.passed for check in checks) else "refuse",
        reason=_reason(challenger, champion, comparison, len(sealed.labels), checks, params),
        rule=_rule(params, champion is not None),
        images=len(sealed.labels),
        sealed_digest=sealed.digest,
        openings=openings,
        challenger=challenger,
        champion=champion,
        comparison=comparison,
        checks=tuple(checks),
        changed=_changed(answers, sealed) if champion else (),
        notes=notes,
    )


def compare(params: GateParams, new: NDArray[np.bool_], old: NDArray[np.bool_]) -> Comparison:
    """The two models by which of the same images each gets right, (N,) each."""
    gained, lost = int((new & ~old).sum()), int((old & ~new).sum())
    level = 2 * params.confidence - 1
    low, high = paired.interval(gained, lost, len(new), level)
    if params.rule == "superior":
        p_value = paired.mcnemar(gained, lost)
    else:
        p_value = paired.not_worse(gained, lost, len(new), params.margin)
    return Comparison(gained, lost, (gained - lost) / len(new), low, high, level, p_value)


def accuracy_check(params: GateParams, found: Comparison) -> Check:
    """Whether the difference is evidence by `params.rule`."""
    limit = 1 - params.confidence
    shown = f"{found.difference:+.4f} ({found.low:+.4f} to {found.high:+.4f}), p {found.p_value:.2g}"
    if params.rule == "superior":
        return Check("accuracy", f"above the champion's, p <= {limit:.4g}", shown, found.p_value <= limit)
    good = found.p_value <= limit and found.low > -params.margin
    return Check("accuracy", f"less than {params.margin:g} below the champion's, p <= {limit:.4g}", shown, good)


def _checks(
    params: GateParams, new: Side, old: Side | None, comparison: Comparison | None, unreadable: str
) -> list[Check]:
    limits = [
        _at_most("latency", "p95, one image", new.latency_ms, params.max_latency_ms, "ms"),
        _at_most("size", "all files", new.size_mb, params.max_size_mb, "MB"),
    ]
    if unreadable:
        return [Check("champion", "it can be asked", unreadable, False), *limits]
    if old is None or comparison is None:
        return [*_floors(params, new), *limits]
    worst = min(new.recalls, key=lambda name: new.recalls[name] - old.recalls[name])
    drop = old.recalls[worst] - new.recalls[worst]
    rise = new.calibration_error - old.calibration_error
    return [
        accuracy_check(params, comparison),
        Check(
            "recall",
            f"no class loses more than {params.max_recall_drop:g}",
            f"{worst}: {old.recalls[worst]:.4f} to {new.recalls[worst]:.4f} ({0 - drop:+.4f})",
            drop <= params.max_recall_drop + ROUNDING,
        ),
        Check(
            "calibration",
            f"error rises by {params.max_calibration_rise:g} at most",
            f"{old.calibration_error:.4f} to {new.calibration_error:.4f} ({rise:+.4f})",
            rise <= params.max_calibration_rise + ROUNDING,
        ),
        *limits,
    ]


def _floors(params: GateParams, new: Side) -> list[Check]:
    worst = min(new.recalls, key=lambda name: new.recalls[name])
    recall, error = new.recalls[worst], new.calibration_error
    return [
        Check(
            "accuracy", f"at least {params.min_accuracy:g}", f"{new.accuracy:.4f}", new.accuracy >= params.min_accuracy
        ),
        Check(
            "recall",
            f"of every class at least {params.min_recall:g}",
            f"{worst}: {recall:.4f}",
            recall >= params.min_recall,
        ),
        Check(
            "calibration",
            f"error at most {params.max_calibration_error:g}",
            f"{error:.4f}",
            error <= params.max_calibration_error,
        ),
    ]


def _at_most(name: str, what: str, value: float, limit: float, unit: str) -> Check:
    return Check(name, f"{what}: at most {limit:g} {unit}", f"{value:.1f} {unit}", value <= limit)


def _reason(
    new: Side, old: Side | None, found: Comparison | None, images: int, checks: list[Check], params: GateParams
) -> str:
    failed = [f"{check.name} ({check.rule}): {check.found}" for check in checks if not check.passed]
    reason = f"accuracy {new.accuracy:.4f}"
    if old is None or found is None:
        reason += f" on {images:,} sealed images, and there is no champion to compare with"
    else:
        reason += (
            f" against {old.accuracy:.4f} of the champion, version {old.version}, on the same {images:,} sealed images;"
            f" {found.gained} answers became right, {found.lost} wrong, p {found.p_value:.2g} ({TEST[params.rule]})"
        )
    return "; ".join([reason, *failed])


def _rule(params: GateParams, compared: bool) -> str:
    if not compared:
        return "without a champion to compare with, absolute floors decide"
    words = {
        "superior": "the challenger must be more accurate than the champion",
        "non_inferior": f"a loss of {params.margin:g} of accuracy or more must be excluded",
    }
    return f"{words[params.rule]} at a confidence of {params.confidence:g} ({TEST[params.rule]})"


def _side(
    number: int, model: Model, said: Answers, sealed: Split, confidence: float, bins: int, latency: float
) -> Side:
    counts = np.bincount(sealed.labels, minlength=len(sealed.classes))
    right = np.bincount(sealed.labels[said.right], minlength=len(sealed.classes))
    recalls = {name: float(r / n) for name, r, n in zip(sealed.classes, right, counts, strict=True) if n}
    low, high = classification.interval(int(said.right.sum()), len(said.right), confidence)
    error = classification.calibration_error(said.probabilities, said.right, bins)
    accuracy = float(said.right.mean())
    return Side(number, int(said.right.sum()), accuracy, low, high, error, recalls, latency, model.size / 1e6)


def _check_classes(said: Answers, sealed: Split, number: int) -> None:
    foreign = sorted(set(said.labels) - set(sealed.classes))
    if foreign:
        raise InputError(
            f"version {number} answers with classes that the sealed images do not have: {', '.join(foreign[:5])};"
            f" these are {', '.join(sealed.classes[:20])}. Was it trained on another data set?"
        )


def _changed(answers: list[Answers], sealed: Split) -> tuple[Change, ...]:
    new, old = answers
    return tuple(
        Change(int(n), sealed.classes[sealed.labels[n]], str(new.labels[n]), str(old.labels[n]))
        for n in np.flatnonzero(new.right != old.right)
    )
