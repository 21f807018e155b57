"""A set of images from its source to its report: decoded, examined and divided, with nothing written but the store."""

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from podium.config.params import DoctorParams, PrepareParams
from podium.data import reading, sources
from podium.data.audit import earlier
from podium.data.audit.examine import Examination, examine, looked_for
from podium.data.audit.findings import Finding, Subject
from podium.data.audit.report import Report, most_common
from podium.data.dataset import Rows
from podium.data.decode import Preprocess
from podium.data.rows import Gathered
from podium.data.sources.items import Reject, Source
from podium.data.spec import check_sizes, preprocess_of
from podium.data.splitting import NAMES, Division, divide, fingerprints
from podium.data.store import Store, kept, passing
from podium.errors import InputError

REASONS = 5
"""Examples of unusable files that an error names."""


@dataclass(frozen=True)
class Patient:
    """The images, divided as far as they are used, and all that was found."""

    report: Report
    spec: Preprocess
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    """(N,) of all images."""
    division: Division
    """Numbers of images by part, without those that are left out."""
    store: Store
    rows: NDArray[np.int64]
    """(N,) where their pixels are in the store."""

    def images(self, numbers: NDArray[np.int64]) -> Rows:
        """The pixels of some of the images, read when they are asked for."""
        return Gathered(self.store.pixels, self.rows[numbers])

    def pixels(self, row: int) -> NDArray[np.uint8]:
        """One image (C, H, W) by its row in the store."""
        image: NDArray[np.uint8] = self.store.pixels.take(np.array([row]))[0]
        return image


@contextmanager
def examined(params: PrepareParams, doctor: DoctorParams, decoded: Path) -> Iterator[Patient]:
    """Read, decode and examine the source of `params`. Files that were decoded are kept below the folder `decoded`.

    Raises InputError where there is no usable image or only one class, or where `doctor.near` is auto and would look
    for less than it did when the same images were divided before.
    """
    source = sources.read(params, follow_links=doctor.outside == "keep")
    if len(source.classes) < 2:
        raise InputError(
            f"prepare.source: needs images of at least 2 classes; {source.name} has {len(source.classes)}"
            + (f": {source.classes[0]!r}" if source.classes else "")
        )
    spec = preprocess_of(source, params, doctor)
    with _store(source, spec, decoded) as store:
        images = reading.read(source, spec, store)
        rejects = [*source.rejects, *images.rejects]
        if not len(images.rows):
            raise InputError(_nothing(source, rejects))
        check_sizes(spec, Counter((w, h) for w, h in images.sizes.tolist()), params, source.name)
        memory = earlier.memory(decoded, params, spec)
        earlier.check(memory, doctor, images.sizes, looked_for(doctor, images.sizes))
        prints = fingerprints(Gathered(store.pixels, images.rows), params.salt)
        subject = _subject(source, images, prints)
        seen = examine(subject, rejects, lambda numbers: store.thumbs.take(images.rows[numbers]), doctor)
        yield _patient(source, subject, seen, params, spec, store)


def _store(source: Source, spec: Preprocess, decoded: Path) -> AbstractContextManager[Store]:
    """The kept store for files; one for the time being for what is not a file and so has no digest."""
    files = any(isinstance(item.content, Path) for item in source.items)
    return kept(decoded, spec) if files else passing(decoded, spec)


def _subject(source: Source, images: reading.Images, prints: NDArray[np.uint64]) -> Subject:
    items = [source.items[number] for number in images.numbers.tolist()]
    return Subject(
        origins=[item.origin for item in items],
        labels=np.array([item.label for item in items], np.int64),
        classes=source.classes,
        splits=np.array([NAMES.index(item.split) if item.split else -1 for item in items], np.int8),
        rows=images.rows,
        sizes=images.sizes,
        modes=images.modes,
        prints=prints,
    )


def _patient(
    source: Source, subject: Subject, seen: Examination, params: PrepareParams, spec: Preprocess, store: Store
) -> Patient:
    labels = subject.labels
    fractions = params.val_fraction, params.test_fraction
    division = divide(subject.prints, labels, *fractions, subject.splits, seen.groups, ~seen.left_out)
    table = {name: np.bincount(labels[rows], minlength=len(source.classes)) for name, rows in division.parts().items()}
    report = Report(
        source=source.name,
        files=len(source.items) + len(source.rejects),
        usable=len(labels),
        used=int((~seen.left_out).sum()),
        shape=[spec.channels, spec.height, spec.width],
        counts={name: {part: int(table[part][k]) for part in table} for k, name in enumerate(source.classes)},
        sizes=most_common([f"{width}x{height}" for width, height in subject.sizes.tolist()]),
        modes=most_common(list(subject.modes)),
        near=seen.near,
        findings=seen.findings,
    )
    return Patient(report, spec, source.classes, labels, division, store, subject.rows)


def _nothing(source: Source, rejects: list[Reject]) -> str:
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in Counter(one.kind for one in rejects).most_common())
    lines = [f"  {one.origin!r}: {one.why}" for one in rejects[:REASONS]]
    lines += [f"  and {len(rejects) - REASONS:,} more"] if len(rejects) > REASONS else []
    return f"prepare.source: {source.name} holds no image that can be used ({kinds or 'it is empty'}):\n" + "\n".join(
        lines
    )


def refuse(report: Report) -> None:
    """Raise InputError naming every finding whose policy is to refuse."""
    wrong = report.refusals()
    if wrong:
        lines = [f"  doctor.{one.kind}: {_said(one)}" for one in wrong]
        raise InputError(
            f"{report.source} has what params.yaml says to refuse:\n" + "\n".join(lines) + "\nMend it, or write another"
            " policy (skip or keep) for it; `podium doctor data` shows all of it. Nothing was written."
        )


def _said(finding: Finding) -> str:
    shown = [", ".join(one.files or one.classes) + (f" ({one.why})" if one.why else "") for one in finding.examples]
    more = f" and {finding.groups - REASONS:,} more" if finding.groups > REASONS else ""
    return f"{finding.sentence()}: {'; '.join(map(repr, shown[:REASONS]))}{more}"
