"""The examination: every finding of a set of images, and which images are left out for it."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podium.config.params import DoctorParams
from podium.data.audit import copies, near
from podium.data.audit.findings import EXAMPLES, KINDS, Example, Finding, Subject
from podium.data.audit.findings import policies as policies_of
from podium.data.sources.items import Reject

FAR = 16
"""Times the median area, or one in so many: an odd size."""
RARE = 0.05
"""A mode of fewer images than this share is odd."""
SMALLEST, CROPS_FROM, CROPS_UP_TO = 16, 64, 20_000
"""Median side below which near-duplicates mean nothing; from which crops can be told from strangers; and images up to
which `auto` looks for crops: 34 times the comparisons, which grow with the square."""


@dataclass(frozen=True)
class Examination:
    """What was found, and what follows from it for each of N images."""

    findings: list[Finding]
    left_out: NDArray[np.bool_]
    """(N,) images that a policy says to skip."""
    groups: NDArray[np.int64]
    """(N,) images with one number are equal or nearly so: they belong into one split."""
    near: str
    """What was looked for: crops, copies or off."""


def examine(subject: Subject, rejects: Sequence[Reject], thumbs: near.Thumbs, params: DoctorParams) -> Examination:
    """Look at everything. `thumbs`: from numbers of images to their grey thumbs."""
    policies = policies_of(params)
    left_out = np.zeros(len(subject.labels), np.bool_)
    found = [*_rejected(rejects, policies), *_whole(subject, params, policies)]
    for kind, odd in _odd(subject, params).items():
        if odd:
            found.append(_single(kind, odd, subject, policies[kind]))
            left_out[list(odd)] |= policies[kind] == "skip"
    exact = copies.exact_roots(subject.prints)
    found += copies.findings(copies.grouped(exact, subject), subject, policies, "", left_out)
    what = looked_for(params, subject.sizes)
    roots = _near(exact, thumbs, crops=what == "crops") if what != "off" else exact
    together = [group for group in copies.grouped(roots, subject) if len(np.unique(exact[group])) > 1]
    found += copies.findings(together, subject, policies, "near_", left_out)
    order = list(KINDS)
    return Examination(sorted(found, key=lambda one: order.index(one.kind)), left_out, roots, what)


def looked_for(params: DoctorParams, sizes: NDArray[np.int32]) -> str:
    """crops, copies or off: as `doctor.near` says, where the images are large enough for it."""
    side = float(np.median(sizes.min(1))) if len(sizes) else 0.0
    if params.near == "off" or side < SMALLEST:
        return "off"
    if params.near != "auto":
        return params.near
    return "crops" if side >= CROPS_FROM and len(sizes) <= CROPS_UP_TO else "copies"


def _near(exact: NDArray[np.int64], thumbs: near.Thumbs, *, crops: bool) -> NDArray[np.int64]:
    """The roots of near-duplicates: only one of equal images is compared."""
    _, first = np.unique(exact, return_index=True)
    roots = near.groups(lambda numbers: thumbs(first[numbers]), len(first), crops=crops)
    return roots[exact]


def _rejected(rejects: Sequence[Reject], policies: dict[str, str]) -> list[Finding]:
    kinds = {kind: [one for one in rejects if one.kind == kind] for kind in KINDS}
    return [
        Finding(kind, policies[kind], len(ones), len(ones), [Example([o.origin], [], o.why) for o in ones[:EXAMPLES]])
        for kind, ones in kinds.items()
        if ones
    ]


def _odd(subject: Subject, params: DoctorParams) -> dict[str, dict[int, str]]:
    """By kind, the numbers of images that are odd by themselves, each with the reason."""
    width, height = subject.sizes[:, 0].astype(np.float64), subject.sizes[:, 1].astype(np.float64)
    least, most = np.minimum(width, height), np.maximum(width, height)
    area = width * height
    median = float(np.median(area)) if len(area) else 0.0
    tiny = least < params.min_side
    odd = ~tiny & ((most > params.max_aspect * least) | (area > FAR * median) | (area * FAR < median))
    sizes = [f"{w}x{h}" for w, h in subject.sizes.tolist()]
    common = Counter(subject.modes)
    rare = {mode for mode, count in common.items() if count < RARE * len(subject.modes)}
    return {
        "tiny": {int(i): sizes[i] for i in np.flatnonzero(tiny)},
        "odd_size": {int(i): sizes[i] for i in np.flatnonzero(odd)},
        "odd_mode": {i: mode for i, mode in enumerate(subject.modes) if mode in rare},
    }


def _single(kind: str, odd: dict[int, str], subject: Subject, policy: str) -> Finding:
    numbers = sorted(odd, key=lambda number: subject.origins[number])
    examples = [subject.example(np.array([number]), odd[number]) for number in numbers[:EXAMPLES]]
    return Finding(kind, policy, len(odd), len(odd), examples)


def _whole(subject: Subject, params: DoctorParams, policies: dict[str, str]) -> list[Finding]:
    """What is wrong with the classes."""
    found = []
    alike: dict[str, list[str]] = {}
    for name in subject.classes:
        alike.setdefault(unicodedata.normalize("NFC", name).casefold().strip(), []).append(name)
    similar = [names for names in alike.values() if len(names) > 1]
    if similar:
        examples = [Example([], names, "") for names in similar[:EXAMPLES]]
        found.append(
            Finding("similar_classes", policies["similar_classes"], sum(map(len, similar)), len(similar), examples)
        )
    counts = np.bincount(subject.labels, minlength=len(subject.classes))
    if counts.max() > params.max_ratio * counts.min():
        ends = [int(counts.argmin()), int(counts.argmax())]
        why = " and ".join(f"{subject.classes[k]!r} has {counts[k]:,} images" for k in ends)
        one = Example([], [subject.classes[k] for k in ends], why)
        found.append(Finding("imbalance", policies["imbalance"], len(counts), len(counts), [one]))
    return found
