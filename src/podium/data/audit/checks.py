"""The checks of an audit: every finding of a set of images, and which images are left out for it.

Images that are the same, or nearly, form groups: what these are a sign of, and which of them are left out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podium.config.params import DoctorParams
from podium.data.audit import near_duplicates
from podium.data.audit.findings import EXAMPLES, KINDS, Entry, Example, Finding, Subject
from podium.data.audit.findings import policies as policies_of
from podium.data.image_modes import is_grey
from podium.data.lazy_rows import Numbers, room_for
from podium.data.sources.alike import alike
from podium.data.sources.item import Reject, is_meant

FAR = 16
"""Times the median area, or one in so many: an odd size."""
RARE = 0.05
"""A mode of fewer images than this fraction is odd."""
SEVERAL = "(animated)"
"""Of modes with several frames: all but the first are dropped, so they are always odd."""
SMALLEST, CROPS_FROM, CROPS_UP_TO = 16, 64, 20_000
"""Median side below which near-duplicates mean nothing; from which crops can be told from strangers; and images up to
which `auto` looks for crops: 34 times the comparisons, which grow with the square."""
FLAT, DARK, LIGHT = 2, 15, 243
"""Of 255: what the grey values of a thumb differ by at most, or are at most or at least, where nothing can be seen. 12
bits in a container of 16 become 0 to 15."""
LARGE = 10
"""Images that a group holds at least to be called large."""

Group = NDArray[np.int64]
"""Numbers of images of one group, rising by fingerprint, label and split."""


@dataclass(frozen=True)
class Examination:
    """What was found, and what follows from it for each of N images."""

    findings: list[Finding]
    left_out: NDArray[np.bool_]
    """(N,) images that a policy says to skip."""
    groups: Numbers
    """(N,) images with one number are equal or nearly so: they belong in one split."""
    near: str
    """What was looked for: crops, copies or off."""


def examine(
    subject: Subject, rejects: Sequence[Reject], thumbs: near_duplicates.Thumbs, params: DoctorParams
) -> Examination:
    """Look at everything. `thumbs`: from numbers of images to their grey thumbs."""
    policies = policies_of(params)
    left_out = np.zeros(len(subject.labels), np.bool_)
    found = [*_rejected(rejects, policies), *_whole(subject, params, policies)]
    for kind, odd in (_odd(subject, params) | {"blank": _blank(subject)}).items():
        if odd:
            found.append(_single(kind, odd, subject, policies[kind]))
            left_out[list(odd)] |= policies[kind] == "skip"
    found += _set_findings(subject, rejects, params, policies)
    exact = _exact_roots(subject.prints)
    found += _group_findings(_grouped(exact, subject), subject, policies, "", left_out)
    what = looked_for(params, subject.sizes)
    roots = _near(exact, thumbs, subject.shown, crops=what == "crops") if what != "off" else exact
    together = [group for group in _grouped(roots, subject) if len(np.unique(exact[group])) > 1]
    found += _group_findings(together, subject, policies, "near_", left_out)
    return Examination(in_order(found), left_out, roots, what)


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """Findings in the order of reports."""
    order = list(KINDS)
    return sorted(findings, key=lambda one: order.index(one.kind))


def looked_for(params: DoctorParams, sizes: NDArray[np.int32]) -> str:
    """crops, copies or off: as `doctor.near` says, where the images are large enough for it."""
    side = float(np.median(sizes.min(1))) if len(sizes) else 0.0
    if params.near == "off" or side < SMALLEST:
        return "off"
    if params.near != "auto":
        return params.near
    return "crops" if side >= CROPS_FROM and len(sizes) <= CROPS_UP_TO else "copies"


def _near(exact: Numbers, thumbs: near_duplicates.Thumbs, shown: NDArray[np.bool_], *, crops: bool) -> Numbers:
    """The roots of near-duplicates: only one of equal images is compared."""
    first = room_for(int(exact.max(initial=-1)) + 1, len(exact))
    first[exact[::-1]] = np.arange(len(exact) - 1, -1, -1, dtype=exact.dtype)  # of equal ones the last written stays
    seen = shown[first]
    roots = near_duplicates.groups(lambda numbers: thumbs(first[numbers]), len(first), crops=crops, seen=seen)
    return roots[exact]


def _rejected(rejects: Sequence[Reject], policies: dict[str, str]) -> list[Finding]:
    kinds = {kind: [one for one in rejects if one.kind == kind] for kind in KINDS}
    return [
        Finding(
            kind,
            policies[kind],
            sum(one.files for one in ones),
            len(ones),
            [Example([one.origin], [], one.why) for one in ones[:EXAMPLES]],
            _entries(ones),
        )
        for kind, ones in kinds.items()
        if ones
    ]


def _entries(rejects: Sequence[Reject]) -> list[Entry]:
    return [Entry(number, one.origin, "", f"{one.kind}: {one.why}") for number, one in enumerate(rejects, 1)]


def _odd(subject: Subject, params: DoctorParams) -> dict[str, dict[int, str]]:
    """By kind, the numbers of images that are odd by themselves, each with the reason."""
    width, height = subject.sizes[:, 0].astype(np.float64), subject.sizes[:, 1].astype(np.float64)
    least, most = np.minimum(width, height), np.maximum(width, height)
    area = width * height
    median = float(np.median(area)) if len(area) else 0.0
    tiny = least < params.min_side
    odd = ~tiny & ((most > params.max_aspect * least) | (area > FAR * median) | (area * FAR < median))
    counts = subject.modes.counts().items()
    rare = {mode for mode, count in counts if count < RARE * len(subject.modes) or SEVERAL in mode}
    return {
        "tiny": {int(i): _size(subject, int(i)) for i in np.flatnonzero(tiny)},
        "odd_size": {int(i): _size(subject, int(i)) for i in np.flatnonzero(odd)},
        "odd_mode": _modes_of(subject, subject.modes.where(rare.__contains__)),
    }


def _size(subject: Subject, number: int) -> str:
    width, height = subject.sizes[number].tolist()
    return f"{width}x{height}"


def _modes_of(subject: Subject, chosen: NDArray[np.bool_]) -> dict[int, str]:
    return {i: subject.modes[i] for i in np.flatnonzero(chosen).tolist()}


def _blank(subject: Subject) -> dict[int, str]:
    """Images on which nothing can be seen, by their grey thumbs, each with the reason."""
    found: dict[int, str] = {}
    low, high = subject.shades.T
    for i in np.flatnonzero((high - low <= FLAT) | (high <= DARK) | (low >= LIGHT)).tolist():
        found[i] = "nearly black" if high[i] <= DARK else "nearly white" if low[i] >= LIGHT else "of one shade"
    unseen = subject.modes.where(lambda mode: "(transparent)" in mode)
    return found | dict.fromkeys(np.flatnonzero(unseen).tolist(), "fully transparent")


def _set_findings(
    subject: Subject, rejects: Sequence[Reject], params: DoctorParams, policies: dict[str, str]
) -> Iterator[Finding]:
    """What is wrong with the set of files: too much is left out, or some images are grey and some have colours."""
    lost = [one for one in rejects if one.meant and (one.kind != "stray" or is_meant(one.origin))]
    tiny = int((subject.sizes.min(1) < params.min_side).sum()) if policies["tiny"] == "skip" else 0
    files = sum(one.files for one in lost)
    count, whole = files + tiny, files + len(subject.labels)
    if count > params.max_left_out * whole:
        why = f"{count:,} of {whole:,} files are left out, more than doctor.max_left_out, {params.max_left_out:g}"
        shown = [Example([one.origin], [], one.why) for one in lost[: EXAMPLES - 1]]
        yield Finding("left_out", policies["left_out"], count, 1, [Example([], [], why), *shown], _entries(lost))
    grey = subject.modes.where(is_grey)
    if grey.any() and not grey.all():
        fewer = grey if grey.sum() * 2 <= len(grey) else ~grey
        yield _single("mixed_channels", _modes_of(subject, fewer), subject, policies["mixed_channels"])


def large_groups(
    subject: Subject, together: NDArray[np.int64], left_out: NDArray[np.bool_], params: DoctorParams
) -> list[Finding]:
    """Groups (`together` (N,): images that share a number share a split) that hold too much of a class."""
    counts = np.bincount(subject.labels[~left_out], minlength=len(subject.classes))
    examples: list[Example] = []
    large: list[tuple[Group, str]] = []
    for group in _grouped(together, subject):
        used = group[~left_out[group]]
        inside = np.bincount(subject.labels[used], minlength=len(counts))
        label = int(np.argmax(inside / np.maximum(counts, 1)))
        if inside[label] >= LARGE and inside[label] > params.max_group * counts[label]:
            why = f"{inside[label]:,} of the {counts[label]:,} images of {subject.classes[label]!r} share one split"
            examples.append(subject.example(used, why))
            large.append((used, why))
    policy, images = policies_of(params)["large_groups"], sum(len(used) for used, _ in large)
    every = subject.entries(large)
    return [Finding("large_groups", policy, images, len(large), examples[:EXAMPLES], every)] if large else []


def _single(kind: str, odd: dict[int, str], subject: Subject, policy: str) -> Finding:
    numbers = sorted(odd, key=lambda number: subject.origins[number])
    examples = [subject.example(np.array([number]), odd[number]) for number in numbers[:EXAMPLES]]
    every = subject.entries((np.array([number]), odd[number]) for number in numbers)
    return Finding(kind, policy, len(odd), len(odd), examples, every)


def _whole(subject: Subject, params: DoctorParams, policies: dict[str, str]) -> list[Finding]:
    """What is wrong with the classes."""
    found = []
    similar = alike(subject.classes)
    if similar:
        examples = [Example([], names, " and ".join(map(repr, names))) for names in similar[:EXAMPLES]]
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


def _exact_roots(prints: NDArray[np.uint64]) -> Numbers:
    """For each image a number that equal images share: from 0, and none is left out."""
    order = np.lexsort(prints.T[::-1])
    new = np.zeros(len(prints), np.bool_)
    for word in prints.T:
        sorted_word = word[order]
        new[1:] |= sorted_word[1:] != sorted_word[:-1]
    number = room_for(len(prints), len(prints))
    number[order] = np.cumsum(new, dtype=number.dtype)
    return number


def _grouped(roots: Numbers, subject: Subject) -> list[Group]:
    """Images of one root, where there are at least two, in an order that does not depend on the source's."""
    order = np.lexsort((subject.splits, subject.labels, *subject.prints.T[::-1], roots))
    sorted_roots = roots[order]
    same = np.zeros(len(order) + 1, np.bool_)  # as the one before; most images are alone
    same[1:-1] = sorted_roots[1:] == sorted_roots[:-1]
    starts, ends = np.flatnonzero(~same[:-1] & same[1:]), np.flatnonzero(same[:-1] & ~same[1:])
    groups = [order[start : end + 1] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    return sorted(groups, key=lambda group: tuple(subject.prints[group[0]].tolist()))


def _group_findings(
    groups: list[Group], subject: Subject, policies: dict[str, str], prefix: str, left_out: NDArray[np.bool_]
) -> Iterator[Finding]:
    """Duplicates, conflicts and leaks among `groups`; what they say to skip is set in `left_out`.

    `prefix` is empty, or near_ for near-duplicates. A group with conflicting labels, or in several splits of the
    source's own or of the split file, is a finding of that kind; every other group is one of duplicates.
    """
    labels, splits = subject.labels, subject.splits
    conflicts = [group for group in groups if len(np.unique(labels[group])) > 1]
    leaks = [group for group in groups if len(np.unique(splits[group][splits[group] >= 0])) > 1]
    bad = {id(group) for group in (*conflicts, *leaks)}
    plain = [group for group in groups if id(group) not in bad]
    for kind, found in (("duplicates", plain), ("conflicts", conflicts), ("leaks", leaks)):
        policy = policies[prefix + kind]
        if found:
            examples = [subject.example(group, _where(group, subject)) for group in found[:EXAMPLES]]
            every = subject.entries((group, _where(group, subject)) for group in found)
            yield Finding(prefix + kind, policy, sum(map(len, found)), len(found), examples, every)
        for group in found if policy == "skip" else []:
            left_out[_superfluous(kind, group, subject)] = True


def _superfluous(kind: str, group: Group, subject: Subject) -> Group:
    """Which of a group are left out."""
    if kind == "conflicts":
        return group
    if kind == "leaks":  # test is kept as it is given, then val
        lower: Group = group[subject.splits[group] < subject.splits[group].max()]
        return lower
    area = subject.sizes[group].astype(np.int64).prod(1)
    return np.delete(group, int(np.argmax(area)))


def _where(group: Group, subject: Subject) -> str:
    names = ("train", "val", "test")
    present = [split for split in np.unique(subject.splits[group]).tolist() if split >= 0]
    return f"in {' and '.join(names[split] for split in present)}" if len(present) > 1 else ""
