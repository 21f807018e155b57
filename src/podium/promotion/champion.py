"""Who is champion: promotion through the gate, and the way back. Every move is in the ledger."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from podium import paths
from podium.config.params import GateParams
from podium.data import accesses
from podium.data.dataset import DatasetInfo, Split, open_test_set, sealed_facts
from podium.errors import PodiumError, RefusedError
from podium.locks import locked
from podium.metrics import computable
from podium.metrics.scores import Metric
from podium.process import print_if_possible
from podium.promotion import first_champion, first_model, gate, git_tags, ledger, moves, verdict_files
from podium.promotion.git_tags import GitTags
from podium.promotion.ledger import Entry, Ledger, word
from podium.promotion.model_predictions import ACCURACY
from podium.promotion.rules.accuracy_comparison import AccuracyComparison
from podium.promotion.verdict import Verdict
from podium.registry import versions
from podium.registry.loading import LoadedModel
from podium.registry.versions import Version
from podium.shadow import pair_store, pair_summary
from podium.shadow.pair_summary import Served
from podium.text import counted
from podium.tracking.store import Tracking
from podium.training.device import Kind, pick


@dataclass(frozen=True)
class Outcome:
    """What a promotion or a rollback did."""

    version: Version
    """The champion now; of a dry run, the challenger."""
    entry: Entry | None
    """What was written to the ledger; None: nothing had to move, or nothing should."""
    verdict: Verdict | None
    """The gate's, if it judged."""
    notes: tuple[str, ...]
    """What was found and repaired on the way, a sentence each."""


class NotPromotedError(RefusedError):
    """The gate refused; nothing moved."""

    def __init__(self, message: str, verdict: Verdict) -> None:
        super().__init__(message)
        self.verdict = verdict


@dataclass(frozen=True)
class Images:
    """What the gate judges on."""

    sealed: Path
    """data/sealed"""
    prepared: Path
    """data/prepared"""
    bins: int = 15
    """Of the calibration error."""
    device: Kind = "cpu"
    """Where both models predict them."""


def promote(
    tracking: Tracking,
    name: str,
    number: int | None,
    images: Images,
    params: GateParams | None = None,
    *,
    force: str = "",
    dry_run: bool = False,
    metric: Metric = ACCURACY,
    tags: GitTags | None = None,
    break_claims: bool = False,
) -> Outcome:
    """Make version `number` of `name` (None: the challenger) the champion, if the gate lets it; `metric` compares them.

    `force` is the reason to move against the gate's verdict; ledger and version store it permanently. With `dry_run`
    only the access to the held-out test set is recorded. Raises NotPromotedError where the gate refuses, InputError
    for a version that does not exist and, before the test set is opened, for a metric or a challenger that does not fit
    its classes. The verdict is stored with the version either way. `tags` get every move; InputError, too, where they
    could not. `break_claims`: see podium.promotion.claims.
    """
    force = moves.checked_reason(force) if force else ""
    if tags is not None and not dry_run:
        tags.check_ready(name)
    with _alone(name, "promote"):
        version = versions.find(tracking, name, versions.CHALLENGER if number is None else number)
        book, notes = ledger.history(tracking, name) if dry_run else _settled(tracking, name, tags, break_claims)
        if book.champion == version.number:
            return Outcome(version, None, None, tuple(notes))
        params = params or GateParams()
        verdict = _judge(tracking, version, book, images, params, metric)
        forced = bool(force) and verdict.decision == "refuse"
        if dry_run:
            return Outcome(version, None, verdict, tuple(notes))
        where = verdict_files.store(tracking, version, verdict, images.sealed / "test", force if forced else "")
        if verdict.decision == "refuse" and not forced:
            raise NotPromotedError(_refusal(version, verdict, notes), verdict)
        why = f"forced: {force}" if forced else verdict.reason
        shown = verdict.short() | where | {ledger.ORIGIN: versions.origin_digest(version)}
        if _only_not_worse(params) and verdict.champion:
            shown |= {"anchor": verdict.champion.version}
        entry = Entry("promote", book.champion, version.number, why, shown, forced, model=versions.digest_of(version))
        written = moves.move(tracking.client, book, entry, break_claims=break_claims)
        notes += tags.write(tracking, name, written, written.text()) if tags else []
        return Outcome(version, written, verdict, tuple(notes))


def rollback(
    tracking: Tracking,
    name: str,
    reason: str,
    to: int | None = None,
    tags: GitTags | None = None,
    *,
    break_claims: bool = False,
) -> Outcome:
    """Make the nearest champion before the present one that still works, or version `to`, champion again.

    It works where its files are those of the ledger and it passes its check; those that do not are skipped, and a note
    says why. Raises RefusedError where there is none, or `to` never was champion or fails (then the nearest one that
    works is named); nothing has moved then. This is an emergency: where `tags` can't take the move, a note says so, and
    a promotion that is judging is not waited for; that one then moves nothing. `break_claims`: as in `promote`.
    """
    reason = moves.checked_reason(reason)
    with _alone(name, "rollback"):
        before = ledger.read(tracking.client, name).head if tags else 0
        try:
            done = _rolled_back(tracking, name, reason, to, break_claims)
        except Exception:  # a move that it had finished or recorded before is made, and gets its tag only here
            for note in _write_tags(tracking, name, before, tags):
                print_if_possible(f"podium: {note}", sys.stderr)
            raise
        return replace(done, notes=(*done.notes, *_write_tags(tracking, name, before, tags)))


def _rolled_back(tracking: Tracking, name: str, reason: str, to: int | None, break_claims: bool) -> Outcome:
    """Nothing waits for git here: its tags come after the move."""
    book, notes = moves.settle(tracking.client, name, break_claims=break_claims)
    if to is not None and to == book.champion:
        return Outcome(versions.find(tracking, name, to), None, None, tuple(notes))
    version, skipped = _nearest(tracking, book, _targets(tracking, book, to))
    if version is None:
        offer = _offer(tracking, book, to) if to is not None else "No earlier champion works"
        raise RefusedError(f"rolled nothing back: {'; '.join(skipped)}. {offer}")
    notes += [f"skipped {one}" for one in skipped]
    entry = Entry("rollback", book.champion, version.number, reason, model=versions.digest_of(version))
    written = moves.move(tracking.client, book, entry, break_claims=break_claims)
    return Outcome(version, written, None, tuple(notes))


def _settled(tracking: Tracking, name: str, tags: GitTags | None, break_claims: bool) -> tuple[Ledger, list[str]]:
    """The ledger, and alias and entries agree; a move that is finished or recorded here gets its tag."""
    before = ledger.read(tracking.client, name).head if tags else 0
    book, notes = moves.settle(tracking.client, name, break_claims=break_claims)
    return book, [*notes, *_write_tags(tracking, name, before, tags)]


def _write_tags(tracking: Tracking, name: str, after: int, tags: GitTags | None) -> list[str]:
    """Tag the moves that were made or finished since entry `after`; a sentence for each that can't be.

    Raises nothing: they are made, whatever the registry says now.
    """
    if tags is None:
        return []
    try:
        book = ledger.read(tracking.client, name)
    except Exception as error:
        return [
            f"warning: moves after entry {after} of the ledger may have no git tag ({git_tags.PARAMETER}): it can't be"
            f" read: {git_tags.why(error)}. `podium history --write-tags` writes what is missing"
        ]
    notes = list[str]()
    for entry, text in zip(book.entries[after : book.head], book.texts[after : book.head], strict=True):
        notes += tags.write(tracking, name, entry, text)
    return notes


def _opened(images: Images, data: DatasetInfo, version: Version) -> Split:
    """The test set, whose access is counted. Raises RefusedError where it is not of the preparation of `data`."""
    split = open_test_set(images.sealed / "test", "gate", str(version))
    if data.sealed not in ("", split.digest):
        raise RefusedError(
            f"{images.sealed} and {images.prepared} are not of one preparation: `dvc repro prepare` writes both again"
        )
    return split


def _about_other_accesses(split: Split) -> list[str]:
    """Accesses that the count of `split` leaves out."""
    others = accesses.others(split.access_key)
    if not others:
        return []
    return [
        f"{counted(others, 'access')} to other test sets of this folder before it was split again, or to"
        " those of other images: not counted here"
    ]


def _judge(
    tracking: Tracking, version: Version, book: Ledger, images: Images, params: GateParams, metric: Metric
) -> Verdict:
    where = pick(images.device)  # before anything is counted: it may not be there
    ledger.check_model(tracking, version, book)  # one that was champion before must still be what it was
    verdict_files.check_place(tracking, version)
    challenger = (version.number, versions.load(tracking, version))
    challenger[1].predict_stored()  # before anything is counted: it may fail
    _check_before_opening(images, metric, *challenger)
    notes, baseline = list[str](), _baseline(book, version.number)
    if baseline != book.champion:
        notes.append(f"{word(book.champion)} is champion by hand: compared with version {baseline} instead")
    rivals = [baseline]
    if baseline is not None and _only_not_worse(params) and (anchor := book.anchor(baseline)) != baseline:
        notes.append(
            f"version {baseline} was shown to be no worse than version {anchor}, not to be better: compared with that"
            " too, so that small losses do not add up"
        )
        rivals.append(anchor)
    data = DatasetInfo.read(images.prepared)
    split = _opened(images, data, version)
    notes += _about_other_accesses(split)
    counts = versions.record_accesses(tracking, version.name, split.access_key)
    own = first_champion.own_accesses(tracking, book, split.access_key, data)
    for rival in rivals:
        champion, unreadable, more = _loaded(tracking, version.name, book, rival, data)
        verdict = gate.judge(
            params,
            split,
            gate.Candidates(
                challenger,
                champion,
                unreadable,
                "; ".join(_foreign(version, challenger[1], data)),
                _served(tracking, version, rival) if rival == baseline else None,
                keeps_promise=rival == baseline,
                first=own,
            ),
            counts,
            bins=images.bins,
            notes=(*notes, *more),
            metric=metric,
            where=where,
        )
        if verdict.decision == "refuse":
            break
    return verdict


def _check_before_opening(images: Images, metric: Metric, number: int, challenger: LoadedModel) -> None:
    """Raise InputError where `metric` or the challenger's classes do not fit those of the test set: no access yet."""
    counts = sealed_facts(images.sealed / "test").counts
    gate.check_classes(challenger.classes, list(counts), number)
    computable.check([("gate.metric", metric)], counts)
    gate.check_defined(metric, counts)


def _loaded(
    tracking: Tracking, name: str, book: Ledger, number: int | None, data: DatasetInfo
) -> tuple[tuple[int, LoadedModel] | None, str, list[str]]:
    """The version to compare with, loaded, or why it can't be; and notes about it."""
    if number is None:
        return None, "", []
    try:
        version = versions.find(tracking, name, number)
        ledger.check_model(tracking, version, book)
        model = versions.load(tracking, version)
        model.predict_stored()
        return (version.number, model), "", list(_foreign(version, model, data))
    except PodiumError as error:
        return None, str(error), []


def _served(tracking: Tracking, version: Version, champion: int | None) -> Callable[[], Served] | None:
    """What labels of served images say of the two; read only where a rule asks."""
    if champion is None:
        return None

    def read() -> Served:
        sides = versions.find(tracking, version.name, champion), version
        champion_files, own_files = ((side.number, versions.digest_of(side)) for side in sides)
        return pair_summary.served(pair_store.folder(), version.name, champion_files, own_files)

    return read


def _only_not_worse(params: GateParams) -> bool:
    """Whether a challenger has to be no worse, instead of better."""
    return AccuracyComparison.of(params).rule == "non_inferior"


def _baseline(book: Ledger, challenger: int) -> int | None:
    """The version to compare with: the champion; where that was made by hand, the last that was not."""
    approved = book.approved()
    return book.champion if approved in (None, challenger) else approved


def _foreign(side: Version, model: LoadedModel, data: DatasetInfo) -> list[str]:
    """A sentence where `side` was trained on other data than what is prepared, by its tag or by the files of `model`.

    The registry and the ledger have digests of the files; the tag by itself can be changed.
    """
    known = side.tags.get("data_digest", "unknown"), model.data or data.digest
    own = next((one for one in known if one != data.digest), None)
    if own is None:
        return []
    return [
        f"version {side.number} was trained on other data (digest {own[:12]}) than what is prepared now"
        f" ({data.digest[:12]}): some of these images may have been among its training images"
    ]


def _targets(tracking: Tracking, book: Ledger, to: int | None) -> list[int]:
    """The versions that a rollback may go to, the nearest first."""
    if to is not None:
        if to not in {entry.target for entry in book.entries if entry.action != "by hand"}:
            raise RefusedError(
                f"{book.name} version {to} was never made champion by the gate: `podium promote {to}` does it"
            )
        return [to]
    earlier = book.previous_champions()
    if not earlier and not book.entries and (renamed := ledger.renamed_to(tracking, book.name)):
        raise RefusedError(renamed)
    if not earlier:
        raise RefusedError(f"{book.name} has no earlier champion to go back to; look at `podium history`")
    return earlier


def _nearest(tracking: Tracking, book: Ledger, numbers: list[int]) -> tuple[Version | None, list[str]]:
    """The first version of `numbers` that works, and why those before it do not."""
    failed = []
    for number in dict.fromkeys(numbers):
        try:
            version = versions.find(tracking, book.name, number)
            ledger.check_model(tracking, version, book)
            versions.load(tracking, version).check_predictions()
        except PodiumError as error:
            failed.append(str(error))
        else:
            return version, failed
    return None, failed


def _offer(tracking: Tracking, book: Ledger, failed: int) -> str:
    """The nearest earlier champion that works, as a sentence."""
    found, _ = _nearest(tracking, book, [number for number in book.previous_champions() if number != failed])
    if found is None:
        return "No other earlier champion loads and passes its check"
    number = found.number
    return f'Version {number} was champion too and passes its check: `podium rollback --to {number} --reason "..."`'


def _refusal(version: Version, verdict: Verdict, notes: list[str]) -> str:
    return "\n".join(
        [*notes, f"{version} was not promoted: {verdict.reason}", *verdict.notes, *first_model.advice(verdict)]
    )


@contextmanager
def _alone(name: str, what: Literal["promote", "rollback"]) -> Iterator[None]:
    """No other one from this project meanwhile: the test set is opened once. The move itself has a claim."""
    purpose = f"a {'promotion to' if what == 'promote' else 'rollback of'} {name}'s champion"
    with locked(paths.mlruns() / f"{what}-{name}.lock", purpose=purpose):
        yield
