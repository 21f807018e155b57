"""Groups of images that are the same, or nearly: what they are a sign of, and which of them are left out."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from podium.data.audit.findings import EXAMPLES, Finding, Subject

Group = NDArray[np.int64]
"""Numbers of images of one group, rising by fingerprint, label and split."""


def exact_roots(prints: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each image a number that equal images share."""
    _, number = np.unique(prints, axis=0, return_inverse=True)
    return number.reshape(-1).astype(np.int64)


def grouped(roots: NDArray[np.int64], subject: Subject) -> list[Group]:
    """Images of one root, where there are at least two, in an order that does not depend on the source's."""
    order = np.lexsort((subject.splits, subject.labels, *subject.prints.T[::-1], roots))
    bounds = np.concatenate([[0], np.flatnonzero(np.diff(roots[order])) + 1, [len(order)]])
    groups = [order[bounds[i] : bounds[i + 1]] for i in np.flatnonzero(np.diff(bounds) > 1)]
    return sorted(groups, key=lambda group: tuple(subject.prints[group[0]].tolist()))


def findings(
    groups: list[Group], subject: Subject, policies: dict[str, str], prefix: str, left_out: NDArray[np.bool_]
) -> Iterator[Finding]:
    """Duplicates, conflicts and leaks among `groups`; what they say to skip is set in `left_out`.

    `prefix` is empty, or near_ for near-duplicates. A group with conflicting labels, or in several of the source's own
    splits, is a finding of that kind; every other group is one of duplicates.
    """
    labels, splits = subject.labels, subject.splits
    conflicts = [group for group in groups if len(np.unique(labels[group])) > 1]
    leaks = [group for group in groups if len(np.unique(splits[group])) > 1]
    bad = {id(group) for group in (*conflicts, *leaks)}
    plain = [group for group in groups if id(group) not in bad]
    for kind, found in (("duplicates", plain), ("conflicts", conflicts), ("leaks", leaks)):
        policy = policies[prefix + kind]
        if found:
            examples = [subject.example(group, _where(group, subject)) for group in found[:EXAMPLES]]
            yield Finding(prefix + kind, policy, sum(map(len, found)), len(found), examples)
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
    names = ("no split", "train", "val", "test")
    present = np.unique(subject.splits[group])
    return f"in {' and '.join(names[split + 1] for split in present)}" if len(present) > 1 else ""
