"""The ledger of champions: every move of the alias, an append-only list in the registry itself.

A remote server has it too. Each entry is one tag of the registered model, `podium.ledger.000001` and so on, whose JSON
holds the SHA-256 of the entry before it: an edit is noticed. A last tag, `podium.ledger.head`, names the last entry
whose move is done. This module reads and checks; podium.promotion.moves writes.
"""

import hashlib
import json
import re
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from pydantic import ConfigDict, Field, TypeAdapter

from podium import strict_json
from podium.errors import RefusedError
from podium.registry import versions
from podium.registry.versions import Version
from podium.tracking.store import Tracking

ALIAS = "champion"
PREFIX = "podium.ledger."
HEAD = PREFIX + "head"
CLAIM = "podium.ledger-claim."
"""Tags of the registered model while its champion is moved (podium.promotion.moves)."""
ENTRY = PREFIX + "entry"
"""Tag of a version: the entry by which it last became champion (`entry_tag`)."""
NAMED_ENTRY = re.compile(
    "(?P<entry>[1-9][0-9]{0,8}) (?P<digest>[0-9a-f]{64})( (?P<version>[1-9][0-9]{0,8}) (?P<name>.+))?", re.DOTALL
)
"""What that tag holds; an earlier Podium wrote number and digest alone."""
COPY = re.compile("models:/[^/]+/[0-9]+")
"""Where a version that `copy_model_version` made has its files; MLflow copies every tag, too."""
READS, PAUSE = 10, 0.3
"""Times that a ledger with a problem is read again at most, and seconds before each: a move takes one or two."""
Action = Literal["promote", "rollback", "by hand"]
Number = Annotated[int, Field(ge=1, le=versions.LARGEST)]
"""Of a version."""
ORIGIN = "origin"
"""What a verdict in an entry has of what the version was made from: `versions.origin_digest`."""


@dataclass(frozen=True)
class Entry:
    """One move of the alias."""

    __pydantic_config__: ClassVar = ConfigDict(strict=True, extra="forbid")
    action: Action
    """`by hand`: found, not made by us."""
    source: Number | None
    """The version that was champion; None: none was."""
    target: Number | None
    """The version that is champion from now on; None: none is (by hand only)."""
    why: str
    verdict: dict[str, Any] | None = None
    """The gate's figures in short, and the digest of the whole verdict."""
    forced: bool = False
    broken: str = ""
    """What was wrong with the ledger when this was written: the next entry would hide a cut or edited end."""
    number: int = 0
    """1 for the first."""
    at: str = ""
    """UTC, ISO 8601."""
    who: str = ""
    """user@host."""
    previous: str = ""
    """SHA-256 of the entry before it, empty for the first."""
    model: str = ""
    """Digest of the files of the version that became champion."""

    def text(self) -> str:
        """The entry as it is stored: JSON with `from` and `to`."""
        fields = asdict(self)
        fields = {"from": fields.pop("source"), "to": fields.pop("target"), **fields}
        return json.dumps(fields, sort_keys=True, ensure_ascii=False)

    @staticmethod
    def parse(text: str) -> "Entry":
        """The opposite of `text`. Raises ValueError where it is none: another hand may have written the tag."""
        fields = strict_json.read_object(text)
        fields = {{"from": "source", "to": "target"}.get(name, name): value for name, value in fields.items()}
        entry = STRICT.validate_json(json.dumps(fields))
        if datetime.fromisoformat(entry.at).tzinfo is None:
            raise ValueError(f"at must have a time zone; got {entry.at}")
        return entry


STRICT = TypeAdapter(Entry)


@dataclass(frozen=True)
class Ledger:
    """What the registry holds of `name` at one moment."""

    name: str
    entries: tuple[Entry, ...]
    texts: tuple[str, ...]
    """The same as they are stored."""
    head: int
    """Number of the last entry whose move is done."""
    head_digest: str
    champion: int | None
    """The version that has the alias now, whatever the entries say."""
    claimed: bool = False
    """Whether somebody moves it, or crashed while they did."""

    @property
    def recorded(self) -> int | None:
        """The champion by the entries."""
        return self.entries[-1].target if self.entries else None

    def approved(self) -> int | None:
        """The last champion that was not made by hand."""
        return next((entry.target for entry in reversed(self.entries) if entry.action != "by hand"), None)

    def anchor(self, version: int) -> int:
        """The version that one which has to be no worse than `version` is compared with.

        Where `version` itself was only shown to be no worse than another one, that other one: small losses would add up
        along a chain of champions.
        """
        for entry in reversed(self.entries):
            if entry.action == "promote" and entry.target == version:
                anchor = (entry.verdict or {}).get("anchor")
                return anchor if isinstance(anchor, int) and not isinstance(anchor, bool) else version
        return version

    def problems(self) -> list[str]:
        """Where the chain is broken or once was, each as a sentence; empty: it is whole."""
        once = [entry for entry in self.entries if entry.broken]
        return self.breaks() + [f"found when entry {entry.number} was written: {entry.broken}" for entry in once]

    def breaks(self) -> list[str]:
        """Where the chain is broken now, each as a sentence."""
        found = []
        for place, (entry, before) in enumerate(zip(self.entries, ("", *self.texts), strict=False), start=1):
            if entry.number != place:
                found.append(f"entry {place} of {self.name}'s ledger is missing or renumbered")
                break
            if entry.previous != (digest(before) if before else ""):
                found.append(f"entry {place} of {self.name}'s ledger does not follow from the one before it: edited")
        if self.head > len(self.entries):
            found.append(f"{self.name}'s ledger ends at entry {len(self.entries)}; entry {self.head} was written")
        elif self.head and digest(self.texts[self.head - 1]) != self.head_digest:
            found.append(f"entry {self.head} of {self.name}'s ledger is not what was written: edited")
        return found

    def state(self) -> Literal["whole", "before alias", "before head", "by hand"]:
        """The row of the table in podium.promotion.moves."""
        if len(self.entries) <= self.head:
            return "whole" if self.champion == self.recorded else "by hand"
        if self.champion == self.recorded:
            return "before head"
        return "before alias" if self.champion == self.entries[-1].source else "by hand"

    def previous_champions(self) -> list[int]:
        """Versions that a rollback may return to, the nearest first: those before the present one.

        A rollback takes back what it leaves, so two in a row go two champions back.
        """
        stack: list[int | None] = []
        for entry in self.entries:
            if entry.action == "by hand":
                continue
            if entry.action == "rollback" and entry.target in stack:
                while stack[-1] != entry.target:
                    stack.pop()
            else:
                stack.append(entry.target)
        earlier = stack[:-1] if self.champion == self.approved() else stack
        return [number for number in reversed(earlier) if number is not None and number != self.champion]


def digest(text: str) -> str:
    """SHA-256 of an entry as it is stored."""
    return hashlib.sha256(text.encode()).hexdigest()


def entry_tag(entry: Entry, text: str, name: str) -> str:
    """What the version that `entry` made champion of `name` records of it; `text`: the entry as it is stored.

    Version and name too: MLflow's copy of a version has its tags, and no entry in the ledger of its own model.
    """
    return f"{entry.number} {digest(text)} {entry.target} {name}"


def word(number: int | None) -> str:
    """A champion as sentences call it."""
    return "none" if number is None else f"version {number}"


def read(client: MlflowClient, name: str) -> Ledger:
    """The ledger of `name`; empty where nothing is registered under it. Raises RefusedError for an unreadable entry."""
    try:
        model = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return Ledger(name, (), (), 0, "", None)
    texts = tuple(model.tags[key] for key in sorted(model.tags) if key.startswith(PREFIX) and key != HEAD)
    try:
        entries = tuple(Entry.parse(text) for text in texts)
        number, _, head_digest = model.tags.get(HEAD, "0 ").partition(" ")
        head = int(number)
        if head < 0 or (head and not versions.SHA256.fullmatch(head_digest)):
            raise ValueError(f"{HEAD} must be a number and a SHA-256; got {model.tags[HEAD]!r}")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        what = " ".join(str(error).split())[:300]
        raise RefusedError(
            f"the ledger of {name} (tags {PREFIX}...) holds what nobody here wrote: {what}; restore the tag"
        ) from None
    champion = model.aliases.get(ALIAS)
    claimed = any(key.startswith(CLAIM) for key in model.tags)
    return Ledger(name, entries, texts, head, head_digest, int(champion) if champion else None, claimed)


def history(tracking: Tracking, name: str) -> tuple[Ledger, list[str]]:
    """The ledger of `name`, and a sentence for everything that is wrong with it. Changes nothing.

    A move is several writes: what is wrong while one is under way is read again.
    """
    book, problems = _history(tracking, name)
    for _ in range(READS):
        if not problems:
            break
        time.sleep(PAUSE)
        before = book
        book, problems = _history(tracking, name)
        if book == before and not book.claimed:
            break
    return book, problems


def _history(tracking: Tracking, name: str) -> tuple[Ledger, list[str]]:
    book = read(tracking.client, name)
    problems = book.problems() + _cut(tracking, book)
    state = book.state()
    if state == "by hand":
        problems.append(
            f"champion is {word(book.champion)}, and the ledger says {word(book.recorded)}: moved outside of podium"
        )
    elif state != "whole":
        problems.append("the last move was interrupted; the next `podium promote` or `podium rollback` finishes it")
    return book, problems


def check_model(tracking: Tracking, version: Version, book: Ledger | None = None) -> None:
    """Raise RefusedError where the digests of `version` are not those by which the ledger has it as champion.

    The tag with the digests and the files could be changed together; the ledger is the second record. A version whose
    own tag names an entry that is not there any more is refused, too. `book`: the ledger, if it has been read.
    """
    book = book or read(tracking.client, version.name)
    named = NAMED_ENTRY.fullmatch(version.tags.get(ENTRY, ""))
    # What an earlier Podium wrote does not say of which model's ledger it is: `history` says what is wrong with it.
    if (not named or named["name"]) and (problem := _cut_away(version, book)):
        raise RefusedError(
            f"{version} can't be compared with the ledger: {problem}. Restore the registered model's tags {PREFIX}*"
            " from a backup of MLflow's database (`podium history --check` lists all). If the registered model"
            f" was deleted and restored from a copy, delete the version's tag {ENTRY!r}"
        )
    entry = next((one for one in reversed(book.entries) if one.target == version.number and one.model), None)
    if entry is not None and entry.model != versions.digest_of(version):
        raise RefusedError(
            f"{version} is not the model that became champion: its digests are not those of entry {entry.number} of the"
            f" ledger ({entry.action} at {entry.at}). Restore its files and its tag {versions.FILES!r}, or go back:"
            ' `podium rollback --reason "..."`'
        )


def by_hand(version: Version, book: Ledger) -> str:
    """That `version` is champion by a move outside of podium, and what to do; empty: it is not champion, or by podium.

    It is no error: somebody may have had to. But no gate has judged it, and no entry has the digest of its files.
    """
    is_moving = book.state() in ("before alias", "before head")
    if version.number != book.champion or is_moving or book.champion == book.approved():
        return ""
    back = '`podium rollback --reason "..."` goes back'
    if book.approved() is None:
        back = f"take the alias {ALIAS} away in MLflow"
    return (
        f"{version} is champion by a move outside of podium, and the ledger's is {word(book.approved())}: the gate has"
        f" not judged it. {back}; `podium promote {version.number}` has the gate judge it then"
    )


def check_origin(tracking: Tracking, version: Version) -> None:
    """As `check_model`, and the same of the tags that say what `version` was made from.

    Those are what is reproduced and compared with, and could be changed together with the files that they name.
    """
    book = read(tracking.client, version.name)
    check_model(tracking, version, book)
    if problem := origin_problem(version, book):
        raise RefusedError(problem)


def origin_problem(version: Version, book: Ledger) -> str:
    """That the tags of `version` that say what it was made from were changed after it was promoted; empty: they were
    not, or the ledger does not say (of an earlier Podium, or it was never promoted).
    """
    known = [one for one in book.entries if one.target == version.number and one.verdict and ORIGIN in one.verdict]
    if not known or (known[-1].verdict or {})[ORIGIN] == versions.origin_digest(version):
        return ""
    return (
        f"what {version} was made from is not what it was when it became champion: its tags"
        f" {', '.join(versions.ORIGIN)} are not those of entry {known[-1].number} of the ledger ({known[-1].action} at"
        f" {known[-1].at}). Restore them from a backup of MLflow's database"
    )


def renamed_to(tracking: Tracking, name: str) -> str:
    """That the ledger of `name`, which is not registered any more, is another registered model's now; empty: none's."""
    others = {} if versions.is_registered(tracking, name) else versions.ours(tracking)
    for other, held in others.items():
        known = {digest(text) for key, text in held.items() if key.startswith(PREFIX) and key != HEAD}
        tags = [NAMED_ENTRY.fullmatch(one.tags.get(ENTRY, "")) for one in versions.every(tracking, other)]
        if any(tag and tag["name"] == name and tag["digest"] in known for tag in tags):
            return (
                f"{name} was renamed {other}, which has its versions and its ledger: write register.name: {other} in"
                " params.yaml"
            )
    return ""


def champion_at(book: Ledger, moment: datetime) -> Entry | None:
    """The last move of `book` at or before `moment` (with a time zone); None: nobody was champion yet."""
    before = [entry for entry in book.entries if datetime.fromisoformat(entry.at) <= moment]
    return before[-1] if before else None


def _cut(tracking: Tracking, book: Ledger) -> list[str]:
    """A sentence for each version that was made champion by an entry that is not in `book` any more."""
    return [text for version in versions.every(tracking, book.name) if (text := _cut_away(version, book))]


def _cut_away(version: Version, book: Ledger) -> str:
    """That the entry by which `version` became champion is not in `book` any more; empty: it is, or there is none."""
    if ENTRY not in version.tags:
        return ""
    named = NAMED_ENTRY.fullmatch(version.tags[ENTRY])
    if named is None:
        return f"the tag {ENTRY!r} of {version} is not what a move wrote: edited"
    if _of_another(version, named) or named["digest"] in map(digest, book.texts):
        return ""
    return (
        f"entry {named['entry']} of {book.name}'s ledger, by which version {version.number} became champion, was edited"
        " or cut away"
    )


def _of_another(version: Version, named: re.Match[str]) -> bool:
    """Whether the tag is of the version that `version` is a copy of, or of the model before it was renamed."""
    if named["name"] is None:
        return COPY.fullmatch(version.model_uri) is not None
    return (named["name"], int(named["version"])) != (version.name, version.number)
