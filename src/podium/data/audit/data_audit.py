"""The audit of a set of images, from source to report: decoded, checked and split, with nothing written but the store.

It also remembers which near-duplicates were looked for when the same images were split before. A weaker search
dissolves groups, and then an image of the held-out test set may be trained on (see podium.data.splitting).
`doctor.near: auto` would search for less once a set has grown beyond what it looks through, or small images have joined
it. DVC deletes data/prepared before it is rebuilt, so this is remembered next to the decoded images. It never decides
how images are split, only whether they are: the same images and parameters give the same split everywhere.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from podium.config.params import DoctorParams, PrepareParams
from podium.data import reading, sources
from podium.data.audit.audit_report import Report, most_common
from podium.data.audit.checks import Examination, examine, in_order, large_groups, looked_for
from podium.data.audit.findings import Finding, Subject
from podium.data.dataset import Rows
from podium.data.decode import Preprocess
from podium.data.image_files import ImageFile, names_of, path_of
from podium.data.image_store import Gathered, Store, persistent_store, temporary_store
from podium.data.sources.item import Reject, Source
from podium.data.splitting import NAMES, Division, SourceGroups, divide, fingerprints
from podium.errors import InputError

REASONS = 5
"""Examples of unusable files that an error names."""
SEARCHES = ("off", "copies", "crops")
"""Each finds all that those before it find."""


@dataclass(frozen=True)
class AuditedData:
    """The images, split as far as they are used, and all that was found."""

    report: Report
    spec: Preprocess
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    """(N,) of all images."""
    division: Division
    """Numbers of images by split, without those that are left out."""
    store: Store
    rows: NDArray[np.int64]
    """(N,) where their pixels are in the store."""
    files: Sequence[ImageFile] = ()
    """Where each of all images came from, and which show the same."""

    def images(self, numbers: NDArray[np.int64]) -> Rows:
        """The pixels of some of the images, read when they are asked for."""
        return Gathered(self.store.pixels, self.rows[numbers])

    def pixels(self, row: int) -> NDArray[np.uint8]:
        """One image (C, H, W) by its row in the store."""
        image: NDArray[np.uint8] = self.store.pixels.take(np.array([row]))[0]
        return image


@contextmanager
def audited(params: PrepareParams, audit: DoctorParams, decoded: Path) -> Iterator[AuditedData]:
    """Read, decode and check the source of `params`. Files that were decoded are stored below the folder `decoded`.

    Raises InputError where there is no usable image or only one class, where a group of the source is in several given
    splits, or where `doctor.near` is auto and would look for less than it did when the same images were split before.
    """
    source = sources.read(params, follow_links=audit.outside == "keep")
    if len(source.classes) < 2:
        raise InputError(
            f"prepare.source: needs images of at least 2 classes; {source.name} has {len(source.classes)}"
            + (f": {source.classes[0]!r}" if source.classes else "")
        )
    with ExitStack() as stack:
        spec, store, images = _decoded(source, params, audit, decoded, stack)
        rejects = [*source.rejects, *images.rejects]
        reading.check_sizes(spec, Counter((w, h) for w, h in images.sizes.tolist()), params, source.name)
        _check_search(search_record(decoded, params, spec), audit, images.sizes)
        prints = fingerprints(Gathered(store.pixels, images.rows), params.salt)
        subject = _subject(source, images, prints)
        seen = examine(subject, rejects, lambda numbers: store.thumbs.take(images.rows[numbers]), audit)
        out = np.array([source.items[number].left_out for number in images.numbers.tolist()], np.bool_)
        seen = replace(seen, left_out=seen.left_out | out)
        groups = SourceGroups.of([source.items[number].group for number in images.numbers.tolist()])
        source = replace(source, notes=(*source.notes, *_about_range(spec, images)))
        found = _audited(source, subject, groups, seen, params, audit, spec, store)
        yield replace(found, files=_files(source, images, subject, seen, groups))


def _decoded(
    source: Source, params: PrepareParams, audit: DoctorParams, decoded: Path, stack: ExitStack
) -> tuple[Preprocess, Store, reading.Images]:
    """The images, decoded as the whole set asks for, which may be known only once all have been decoded."""
    spec = reading.preprocess_of(source, params, audit)
    while True:
        store = stack.enter_context(_store(source, spec, decoded))
        images = reading.read(source, spec, store)
        if not len(images.rows):
            raise InputError(_nothing(source, [*source.rejects, *images.rejects]))
        better = reading.settled(spec, images, params)
        if better == spec:
            return spec, store, images
        stack.close()
        spec = better


def _about_range(spec: Preprocess, images: reading.Images) -> list[str]:
    """What became of images deeper than 8 bits."""
    if not images.values:
        return []
    found = ", ".join(f"{kind} from {low:g} to {high:g}" for kind, (low, high) in images.values.items())
    taken = "0 to 65535" if spec.range is None else "{:g} to {:g}".format(*spec.range)
    return [f"images deeper than 8 bits hold {found}: {taken} became black to white (prepare.range)"]


def _store(source: Source, spec: Preprocess, decoded: Path) -> AbstractContextManager[Store]:
    """The persistent store for image files; a temporary one for pixels, which have no digest of a file."""
    files = any(isinstance(item.content, Path | bytes) for item in source.items)
    return persistent_store(decoded, spec) if files else temporary_store(decoded, spec)


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


def _files(
    source: Source, images: reading.Images, subject: Subject, seen: Examination, groups: SourceGroups
) -> list[ImageFile]:
    """Where each image came from, and which show the same or belong together."""
    pictures = names_of(seen.groups, subject.prints)
    together = names_of(groups.joined(seen.groups), subject.prints)
    paths = [path_of(source.items[number].content) for number in images.numbers.tolist()]
    return [ImageFile(*row) for row in zip(subject.origins, paths, pictures, together, strict=True)]


def _audited(
    source: Source,
    subject: Subject,
    groups: SourceGroups,
    seen: Examination,
    params: PrepareParams,
    audit: DoctorParams,
    spec: Preprocess,
    store: Store,
) -> AuditedData:
    labels = subject.labels
    given, together = groups.given(subject.splits), groups.joined(seen.groups)
    buckets = groups.buckets(subject.prints, params.salt)
    fractions = params.val_fraction, params.test_fraction
    division = divide(subject.prints, labels, *fractions, given, together, ~seen.left_out, buckets)
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
        findings=in_order([*seen.findings, *large_groups(subject, together, seen.left_out, audit)]),
        groups=len(groups.names),
        joined_groups=len(np.unique(together[groups.numbers >= 0])),
        notes=source.notes,
    )
    return AuditedData(report, spec, source.classes, labels, division, store, subject.rows)


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
        lines = [f"  doctor.{one.kind}: {_with_examples(one)}" for one in wrong]
        raise InputError(
            f"{report.source} has what params.yaml says to refuse:\n" + "\n".join(lines) + "\nFix it, or write another"
            " policy (skip or keep) for it; `podium doctor data` shows all of it. Nothing was written."
        )


def _with_examples(finding: Finding) -> str:
    shown = [", ".join(one.files or one.classes) + (f" ({one.why})" if one.why else "") for one in finding.examples]
    more = f" and {finding.groups - REASONS:,} more" if finding.groups > REASONS else ""
    return f"{finding.sentence()}: {'; '.join(map(repr, shown[:REASONS]))}{more}"


def search_record(decoded: Path, params: PrepareParams, spec: Preprocess) -> Path:
    """The file below the folder `decoded` that says which near-duplicates were looked for.

    There is one for each source, salt and shape of the pixels, since hash buckets follow from these.
    """
    pixels = [spec.channels, spec.height, spec.width, spec.resize, spec.background]
    pixels += [spec.range] if spec.range else []
    facts = json.dumps([params.source, params.arguments, params.salt, *pixels], sort_keys=True)
    return decoded / f"near-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"


def remember_search(record: Path, near: str) -> None:
    """Note in `record` that the near-duplicates `near` were looked for; a stronger search stays noted."""
    if SEARCHES.index(near) > SEARCHES.index(_searched(record)):
        record.write_text(f"{near}\n", encoding="utf-8")


def _searched(record: Path) -> str:
    """What `record` says; off if it says nothing."""
    text = record.read_text(encoding="utf-8", errors="replace").strip() if record.is_file() else ""
    return text if text in SEARCHES else "off"


def _check_search(record: Path, audit: DoctorParams, sizes: NDArray[np.int32]) -> None:
    """Raise InputError where `auto` would look for less among images of `sizes` (N, 2) than `record` says.

    Where params.yaml itself asks for less, a warning is printed.
    """
    before, now = _searched(record), looked_for(audit, sizes)
    if SEARCHES.index(now) >= SEARCHES.index(before):
        return
    if audit.near != "auto":
        print(
            f"doctor.near: {before} were looked for when these images were split before, {now} are now: an image"
            " of the held-out test set may be trained on"
        )
        return
    side = float(np.median(sizes.min(1)))
    remedy = "take the small images out again" if now == "off" else f"write `near: {before}`, which looks as before"
    raise InputError(
        f"doctor.near: auto looked for {before} when these images were split before, and for {len(sizes):,} images of"
        f" {side:g} pixels (the median of the shorter sides) it would be {now}: groups of near-duplicates would fall"
        f" apart, and an image of the held-out test set might be trained on. Either {remedy}, or write `near: {now}` if"
        " that does not matter"
    )
