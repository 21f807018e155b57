"""The audit of a set of images, from source to report: decoded, checked and split, with nothing written but the store.

Images keep the splits that the split file remembers (podium.data.split_file). It also remembers which near-duplicates
were looked for: `doctor.near: auto` would search for less once a set has grown beyond what it looks through, or small
images have joined it, and then near-duplicates of test images that are added might be trained on.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from podium.config.params import DoctorParams, PrepareParams
from podium.data import image_shape, reading, sources, split_file, splitting
from podium.data.audit.about_set import (
    about_fractions,
    about_frames,
    about_links,
    about_profiles,
    about_range,
    about_split,
    check_given,
    check_range,
)
from podium.data.audit.audit_page import PER_CLASS
from podium.data.audit.audit_report import Report, most_common
from podium.data.audit.checks import Examination, examine, in_order, large_groups, looked_for
from podium.data.audit.companions import without_companions
from podium.data.audit.findings import Finding, Origins, Subject
from podium.data.audit.item_columns import Files, ItemColumns
from podium.data.audit.replaced import WAYS, Gone, gone, is_there, taken_over
from podium.data.audit.sizes import about_resizing, histogram, size_counts
from podium.data.dataset import Rows
from podium.data.decode import Preprocess
from podium.data.image_facts import looks
from podium.data.image_files import names_of
from podium.data.image_store import Gathered, Store, persistent_store, temporary_store
from podium.data.lazy_rows import Numbers
from podium.data.sources.file_items import FileItems
from podium.data.sources.item import Reject
from podium.data.sources.source import Source
from podium.data.split_file import NOWHERE, SEARCHES, SplitFile
from podium.data.splitting import NAMES, Division, Placed, SourceGroups, division, may_take, place
from podium.errors import InputError
from podium.text import counted

BATCH = 1024
"""Thumbs that are turned at once."""
REASONS = 5
"""Examples of unusable files that an error names."""


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
    rows: Numbers
    """(N,) where their pixels are in the store."""
    near: Numbers
    """(N,) images with one number are equal, or nearly so."""
    groups: dict[str, int]
    """Groups of each class among the images that splits are drawn from; images of a group share a split."""
    known: SplitFile
    """What the split file remembers."""
    split: SplitFile
    """The same with the images that are new."""
    files: Files
    """Where each of all images came from, and which belong together."""
    sizes: NDArray[np.int32]
    """(N, 2) width and height of all images before resizing."""

    def images(self, numbers: NDArray[np.int64]) -> Rows:
        """The pixels of some of the images, read when they are asked for."""
        return Gathered(self.store.pixels, self.rows[numbers])

    def pixels(self, row: int) -> NDArray[np.uint8]:
        """One image (C, H, W) by its row in the store."""
        image: NDArray[np.uint8] = self.store.pixels.take(np.array([row]))[0]
        return image


@contextmanager
def audited(
    params: PrepareParams, audit: DoctorParams, decoded: Path, split: Path | None = None
) -> Iterator[AuditedData]:
    """Read, decode and check the source of `params`. Files that were decoded are stored below the folder `decoded`.

    `split`: the file that remembers splits, which is not written; None: nothing is remembered.

    Raises InputError where there is no usable image or only one class, where the split file is damaged or the source
    gives other splits than it remembers, where images of a group are in several splits, or where `doctor.near` is auto
    and would look for less than it did when images were placed before.
    """
    known = SplitFile.empty(params.salt) if split is None else split_file.read(split, params.salt)
    source = sources.read(params, follow_links=audit.outside == "keep", similar_groups=audit.similar_groups)
    source = replace(source, notes=(*source.notes, *about_links(source, params)))
    if len(source.classes) < 2:
        raise InputError(
            f"prepare.source: needs images of at least 2 classes; {source.name} has {len(source.classes)}"
            + (f": {source.classes[0]!r}" if source.classes else "")
            + _left_out(source.rejects)
        )
    with ExitStack() as stack:
        yield _examined(source, known, params, audit, split, _decoded(source, params, audit, decoded, stack))


def _examined(
    source: Source,
    known: SplitFile,
    params: PrepareParams,
    audit: DoctorParams,
    split: Path | None,
    decoded: tuple[Preprocess, Store, reading.Images],
) -> AuditedData:
    """The rest of `audited`. Half of what it holds of each image is gone when it returns: digests, modes, groups."""
    spec, store, images = decoded
    rejects = [*source.rejects, *images.rejects]
    if source.name.startswith("folder:"):  # who names files one by one means each
        rejects = without_companions(Origins(source.items, images.numbers), rejects)
    image_shape.check_sizes(spec, size_counts(images.sizes), params, source.name)
    _check_search(known.near, audit, images.sizes)
    places = known.place_of(images.contents, images.formers)
    items = ItemColumns.of(source.items, images.numbers)
    subject = _subject(source, images, items, places)
    thumbs = _Thumbs(store, images.rows)
    seen = examine(subject, rejects, thumbs, audit)
    seen = replace(seen, left_out=seen.left_out | items.left_out)
    check_given(source, images, items, seen.left_out, rejects)
    check_range(params, images)
    groups = items.groups
    goes_on = bool((places >= 0).any())
    places, again, lost = _with_taken_over(known, images, items, seen, places, subject.origins, thumbs)
    placed = _placed(source, images, items, groups, seen, places, params, split)
    notes = [*about_range(spec, images), *about_frames(images), *about_profiles(images), *lost.notes]
    notes += about_fractions(params, known.places, items.given)
    source = replace(source, notes=(*source.notes, *notes))
    whole = _remembering(known, images, placed, seen.near, goes_on=goes_on or again)
    files = Files(source.items, images.numbers, names_of(placed.groups, subject.prints))
    return _audited(source, subject, groups, seen, placed, (known, whole), audit, spec, store, files)


class _Thumbs:
    """The thumbs of images by their numbers, from the store."""

    def __init__(self, store: Store, rows: Numbers) -> None:
        self._store, self._rows = store, rows

    def __call__(self, numbers: Numbers) -> NDArray[np.uint8]:
        return self._store.thumbs.take(self._rows[numbers])

    def looks(self, numbers: NDArray[np.int64], way: int) -> NDArray[np.uint64]:
        """What images look like when they are turned by `way` quarters, and from the fourth on mirrored before."""
        found = np.empty(len(numbers), np.uint64)
        for start in range(0, len(numbers), BATCH):
            grey = self(numbers[start : start + BATCH])
            grey = np.rot90(grey[:, :, ::-1] if way >= WAYS // 2 else grey, way, axes=(1, 2))
            found[start : start + BATCH] = looks(np.ascontiguousarray(grey))
        return found


def _with_taken_over(
    known: SplitFile,
    images: reading.Images,
    items: ItemColumns,
    seen: Examination,
    places: NDArray[np.int8],
    origins: Sequence[str],
    thumbs: _Thumbs,
) -> tuple[NDArray[np.int8], bool, Gone]:
    """`places`, and for images in re-encoded files those of the files that are gone, where the source lets them.

    Also whether most files were re-encoded, and what is gone. What the source says counts, unless a match is sure: then
    `place` refuses it, as it does for images that are remembered by their digest.
    """
    if is_there(known, images.contents, images.formers).all():
        return places, False, gone(known, images.contents, images.formers)
    taken = taken_over(known, images.contents, images.formers, images.looks, seen.groups, thumbs.looks)
    usable = (places < 0) & (taken.places >= 0)
    unlike = usable & ~(taken.sure | may_take(items.given, ~seen.left_out, taken.places))
    usable &= ~unlike
    whole = np.where(usable, taken.places, places).astype(np.int8)
    otherwise = np.flatnonzero(unlike & (taken.places == NAMES.index("test")) & ~seen.left_out)
    replaced = int((usable & (taken.places < NOWHERE)).sum())
    named = [origins[row] for row in otherwise.tolist()]
    turned = taken.turned
    return whole, taken.again, gone(known, images.contents, images.formers, replaced, named, turned)


def _remembering(
    known: SplitFile,
    images: reading.Images,
    placed: Placed,
    near: str,
    *,
    goes_on: bool,
) -> SplitFile:
    """`known` with the images that are new, and the looks of all of them."""
    known = known.with_looks(images.formers, images.looks).with_looks(images.contents, images.looks)
    return known.with_images(images.contents, placed.places, near, images.looks, goes_on=goes_on)


def _decoded(
    source: Source, params: PrepareParams, audit: DoctorParams, decoded: Path, stack: ExitStack
) -> tuple[Preprocess, Store, reading.Images]:
    """The images, decoded as the whole set asks for, which may be known only once all have been decoded."""
    spec = image_shape.preprocess_of(source, params, audit)
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


def _store(source: Source, spec: Preprocess, decoded: Path) -> AbstractContextManager[Store]:
    """The persistent store for image files; a temporary one for pixels, which have no digest of a file."""
    files = isinstance(source.items, FileItems) or any(isinstance(one.content, Path | bytes) for one in source.items)
    return persistent_store(decoded, spec) if files else temporary_store(decoded, spec)


def _subject(source: Source, images: reading.Images, items: ItemColumns, places: NDArray[np.int8]) -> Subject:
    """`places`: those that are remembered."""
    return Subject(
        origins=Origins(source.items, images.numbers),
        labels=items.labels,
        classes=source.classes,
        splits=np.where((items.given < 0) & (places < NOWHERE), places, items.given).astype(np.int8),
        rows=images.rows,
        sizes=images.sizes,
        modes=images.modes,
        prints=images.prints,
        shades=images.shades,
        shown=images.shown,
    )


def _placed(
    source: Source,
    images: reading.Images,
    items: ItemColumns,
    groups: SourceGroups,
    seen: Examination,
    places: NDArray[np.int8],
    params: PrepareParams,
    split: Path | None,
) -> Placed:
    used, origins = ~seen.left_out, Origins(source.items, images.numbers)
    what = splitting.Images(
        images.contents, items.labels, items.given, seen.groups, groups, used, places, origins, images.formers
    )
    fractions = params.val_fraction, params.test_fraction
    return place(what, source.classes, *fractions, params.salt, str(split or "the split file"))


def _audited(
    source: Source,
    subject: Subject,
    groups: SourceGroups,
    seen: Examination,
    placed: Placed,
    splits: tuple[SplitFile, SplitFile],
    audit: DoctorParams,
    spec: Preprocess,
    store: Store,
    files: Files,
) -> AuditedData:
    labels, together = subject.labels, placed.groups
    used = ~seen.left_out & (placed.places != NOWHERE)
    divided = division(placed.places, used, subject.prints, labels)
    table = {name: np.bincount(labels[rows], minlength=len(source.classes)) for name, rows in divided.parts().items()}
    report = Report(
        source=source.name,
        files=len(source.items) + sum(one.files for one in source.rejects),
        usable=len(labels),
        used=int(used.sum()),
        shape=[spec.channels, spec.height, spec.width],
        counts={name: {part: int(table[part][k]) for part in table} for k, name in enumerate(source.classes)},
        sizes=most_common({f"{width}x{height}": n for (width, height), n in size_counts(subject.sizes).items()}),
        modes=most_common(subject.modes.counts()),
        near=seen.near,
        findings=in_order([*seen.findings, *large_groups(subject, together, seen.left_out, audit)]),
        groups=len(groups.names),
        joined_groups=len(np.unique(together[groups.numbers >= 0])),
        notes=(*source.notes, *about_split(placed, seen.left_out)),
        sides=histogram(subject.sizes),
        resizing=about_resizing(subject.sizes, spec),
        samples={name: _samples(divided.train, labels, k, subject.rows) for k, name in enumerate(source.classes)},
    )
    per_class = dict(zip(source.classes, placed.groups_per_class.tolist(), strict=True))
    return AuditedData(
        *(report, spec, source.classes, labels, divided, store, subject.rows, seen.groups, per_class),
        *(*splits, files, subject.sizes),
    )


def _samples(train: NDArray[np.int64], labels: NDArray[np.int64], label: int, rows: Numbers) -> list[int]:
    """Rows of some training images of a class, spread over all of them; those held out stay unseen."""
    numbers = train[labels[train] == label]
    chosen = np.linspace(0, len(numbers) - 1, min(PER_CLASS, len(numbers))).astype(np.int64)
    return [int(row) for row in rows[numbers[chosen]]]


def _left_out(rejects: list[Reject]) -> str:
    if not rejects:
        return ""
    files = counted(sum(one.files for one in rejects), "file")
    return f"; {files} left out, such as {rejects[0].origin!r}: {rejects[0].why}"


def _nothing(source: Source, rejects: list[Reject]) -> str:
    files = Counter[str]()
    for one in rejects:
        files[one.kind] += one.files
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in files.most_common())
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
    named = [(", ".join(map(repr, one.files or one.classes)), one.why) for one in finding.examples[:REASONS]]
    shown = [f"{names} ({why})" if names and why else names or why for names, why in named]
    more = f" and {finding.groups - REASONS:,} more" if finding.groups > REASONS else ""
    return f"{finding.sentence()}: {'; '.join(shown)}{more}"


def _check_search(before: str, audit: DoctorParams, sizes: NDArray[np.int32]) -> None:
    """Raise InputError where `auto` would look for less among images of `sizes` (N, 2) than was looked for `before`.

    Where params.yaml itself asks for less, a warning is printed.
    """
    now = looked_for(audit, sizes)
    if SEARCHES.index(now) >= SEARCHES.index(before):
        return
    if audit.near != "auto":
        print(
            f"doctor.near: {before} were looked for when images were split before, {now} are now: a near-duplicate of a"
            " test image that is added may be trained on"
        )
        return
    side = float(np.median(sizes.min(1)))
    remedy = "take the small images out again" if now == "off" else f"write `near: {before}`, which looks as before"
    raise InputError(
        f"doctor.near: auto looked for {before} when images were split before, and for {len(sizes):,} images of"
        f" {side:g} pixels (the median of the shorter sides) it would be {now}: near-duplicates of test images that are"
        f" added might be trained on. Either {remedy}, or write `near: {now}` if that does not matter"
    )
