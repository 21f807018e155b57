"""The ledger outside of the registry: each move of the champion as an annotated tag of the project's git repository.

Who can change the registry can rewrite its ledger from end to end, and no digest within it tells. A tag holds the
digest of one entry, and an entry that of the one before it, so the last tag of any clone holds them all. The names are
those of GTO (https://github.com/iterative/gto): `NAME#champion#3`, and `NAME#champion!#4` where nobody is champion.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from podium.errors import InputError, PodiumError, RefusedError
from podium.promotion import git_process
from podium.promotion.git_process import UnansweredError
from podium.promotion.ledger import ALIAS, Entry, Ledger, digest, word
from podium.registry import versions
from podium.text import counted, one_line, reason_of
from podium.tracking.store import Tracking

PARAMETER = "ledger.git_tags"
ENTRY_LINE = re.compile(r"^Podium-Entry: ([1-9][0-9]{0,8}) ([0-9a-f]{64})$", re.MULTILINE)
COMMIT_LINE = re.compile(r"^Podium-Commit: ([0-9a-f]{40,64})$", re.MULTILINE)
SIGNATURE = re.compile(r"^-----BEGIN ", re.MULTILINE)
SHOWN = 5
"""Problems of one kind that are told one by one."""
TRIES = 5
"""Another program may take a tag's name first, or hold git's lock of it."""


@dataclass(frozen=True)
class Tag:
    """A tag that a move wrote, or that says so."""

    name: str
    entry: int
    digest: str
    signed: bool
    moved: str
    """Why the tag is not as a move wrote it; empty: it is."""


@dataclass(frozen=True)
class GitTags:
    """The tags of the repository that `root` is in."""

    root: Path
    signed: bool

    def check_ready(self, name: str) -> None:
        """Raise InputError where the next move of `name` could get no tag, and where git signs none here.

        RefusedError where git does not end, such as one that waits for a passphrase that nobody types.
        """
        try:
            self._check_repository(name)
            if self.signed or self._signs_all():
                self._check_signing()
        except UnansweredError as error:
            raise RefusedError(f"{PARAMETER}: nothing was moved: {error}") from None

    def _check_signing(self) -> None:
        author = ("-c", "author.name=podium", "-c", "author.email=podium")  # unlike a tag a commit needs an author
        try:  # a commit that nothing refers to: `git gc` removes it
            self._git(*author, "commit-tree", "-S", "-m", "podium: does signing work?", "HEAD^{tree}")
        except UnansweredError:
            raise
        except PodiumError as error:
            what, key = "annotated, with git's tag.gpgSign,", PARAMETER.split(".")[1]
            without = f"let git sign no tags here (`git config tag.gpgSign false`), or write {key}: none"
            if self.signed:
                what, without = "signed", f"write {key}: {'none' if self._signs_all() else 'annotated'}"
            raise InputError(
                f"{PARAMETER}: {what} needs a key with which git signs here: {error}. Set git's user.signingKey, and"
                f" gpg.format where it is no OpenPGP key (`git tag -s` must work), or {without}"
            ) from None

    def _signs_all(self) -> bool:
        """Whether git signs every tag here."""
        try:
            return self._git("config", "--type=bool", "--get", "tag.gpgSign").strip() == "true"
        except UnansweredError:
            raise
        except PodiumError:  # it is not set
            return False

    def _check_repository(self, name: str) -> None:
        wrong = []
        try:
            self._git("rev-parse", "--verify", "HEAD")
            self._git("var", "GIT_COMMITTER_IDENT")
        except UnansweredError:
            raise
        except PodiumError as error:
            wrong.append(f"needs a git repository with a commit, and git's user.name and user.email: {error}")
        else:
            if not self._is_part_of_a_tag(name):
                wrong.append(f"needs a register.name that git allows within a tag's name; got {name!r}")
        if wrong:
            raise InputError(f"{PARAMETER}: {'; '.join(wrong)}. Or write {PARAMETER.split('.')[1]}: none")

    def write(self, tracking: Tracking, name: str, entry: Entry, text: str) -> list[str]:
        """Tag `entry` of `name`'s ledger, stored there as `text`, whose move is done; a sentence where it can't be.

        Once: another process may have found the move finished, too. Raises nothing: the champion has moved.
        """
        try:
            if not self._is_tagged(name, entry, text):
                self._write(name, entry, text, self._commit(tracking, name, entry))
        except Exception as error:  # of git or of the registry, which names the commit
            what = f"entry {entry.number} of the ledger"
            if self._is_known_tagged(name, entry, text):
                return [f"warning: {what} has its git tag ({PARAMETER}), but {why(error)}"]
            return [
                f"warning: {what} has no git tag ({PARAMETER}): {why(error)}. `podium history --write-tags` writes it"
            ]
        return []

    def _is_tagged(self, name: str, entry: Entry, text: str) -> bool:
        return any((tag.entry, tag.digest) == (entry.number, digest(text)) for tag in self._tags(name))

    def _is_known_tagged(self, name: str, entry: Entry, text: str) -> bool:
        """The same after a failure: False where git does not say."""
        try:
            return self._is_tagged(name, entry, text)
        except PodiumError:
            return False

    def write_missing(self, tracking: Tracking, book: Ledger) -> int:
        """Tag every entry of `book` that has no tag here; how many. Raises RefusedError where book and tags differ."""
        self._check_repository(book.name)
        tags = self._tags(book.name)
        if wrong := [*book.breaks(), *self._contradictions(tags, book)]:
            raise RefusedError("no tag was written, for tags would make this the truth:\n" + "\n".join(wrong))
        have = {tag.entry for tag in tags}
        missing = [one for one in zip(book.entries, book.texts, strict=True) if one[0].number not in have]
        for entry, text in missing:
            self._write(book.name, entry, text, self._commit(tracking, book.name, entry))
        return len(missing)

    def problems(self, book: Ledger) -> list[str]:
        """A sentence for everything in which the tags of this clone and `book` differ; empty: they agree."""
        try:
            tags = self._tags(book.name)
            contradictions = self._contradictions(tags, book)
        except PodiumError as error:
            return [f"{PARAMETER}: the ledger can't be compared with git's tags here: {error}"]
        unsigned = _unsigned(tags) if self.signed else []
        return contradictions + unsigned + _missing(tags, book)

    def _contradictions(self, tags: list[Tag], book: Ledger) -> list[str]:
        found = [f"git tag {tag.name} {tag.moved}" for tag in tags if tag.moved]
        other = [
            tag.name
            for tag in tags
            if tag.digest not in {digest(text) for text in book.texts[tag.entry - 1 : tag.entry]}
        ]
        if other:
            names = ", ".join(other[:SHOWN]) + (f" and {len(other) - SHOWN} more" if len(other) > SHOWN else "")
            found.append(
                f"{book.name}'s ledger does not have the entries of which git has the digests: {names}. Either the"
                " ledger was edited or cut: restore the registered model's tags from a backup of MLflow's database. Or"
                " this registry is another one than that of the tags (tracking.uri, or a new mlruns/): if it is to"
                f" stay, delete these tags (`git tag -d '{other[0]}'`, and `git push --delete` where they were pushed)"
            )
        return found + (self._unverified(tags) if self.signed else [])

    def _unverified(self, tags: list[Tag]) -> list[str]:
        """A sentence for each tag from the first signed one on that git does not verify."""
        first = min((tag.entry for tag in tags if tag.signed), default=0)
        found = []
        for tag in tags:
            try:
                if first and tag.entry >= first:
                    self._git("verify-tag", f"refs/tags/{tag.name}")
            except UnansweredError:
                raise
            except PodiumError as error:
                found.append(
                    f"git tag {tag.name} has no signature that git verifies here ({PARAMETER}: signed): {error}."
                    + ("" if tag.signed else f" It was never signed, after others were: {_sign_anew(tag)}")
                )
        return found

    def _is_part_of_a_tag(self, name: str) -> bool:
        try:
            self._git("check-ref-format", f"refs/tags/{_named(name, 1, 1)}")
        except UnansweredError:
            raise
        except PodiumError:
            return False
        return not name.startswith("-")  # `git tag` would take it for an option

    def _write(self, name: str, entry: Entry, text: str, commit: str) -> None:
        message = (
            f"{entry.action}: {word(entry.target)} of {name} is champion, after {word(entry.source)}\n\n"
            f"Podium-Commit: {commit}\nPodium-Entry: {entry.number} {digest(text)}\n\n{text}\n"
        )
        kind = "-s" if self.signed else "-a"
        for tried in range(TRIES):
            taken = {number for _, number in self._names(name)}
            number = entry.number if entry.number not in taken else max(taken) + 1  # GTO's own, or another registry's
            tag = _named(name, number, entry.target)
            try:
                self._git("tag", kind, "--cleanup=verbatim", "-F", "-", tag, commit, stdin=message)
            except UnansweredError:  # it may have written the tag: no name was taken by another program
                raise
            except PodiumError as error:
                if self._is_tagged(name, entry, text):  # by another process that finished the move, too
                    return
                is_locked = f"{tag}.lock" in str(error)
                if tried == TRIES - 1 or not (is_locked or number in {one for _, one in self._names(name)}):
                    raise
                time.sleep(0.1 * is_locked)
            else:
                self._refuse_unsigned(tag)
                return

    def _refuse_unsigned(self, tag: str) -> None:
        """Delete `tag`, just written, where it was to be signed and is not: git ends well although its signer died."""
        if self.signed and not any(SIGNATURE.search(content) for _, content in self._contents([tag])):
            self._git("tag", "--delete", tag)
            raise PodiumError("git's signing program ended without a signature (`git tag -s` must work)")

    def _commit(self, tracking: Tracking, name: str, entry: Entry) -> str:
        """The commit that the version was trained from, where this clone has it; else the one that is checked out."""
        if entry.target is not None:
            try:
                said = versions.find(tracking, name, entry.target).tags.get("git_commit", "")
                if re.fullmatch("[0-9a-f]{40,64}", said):
                    return self._git("rev-parse", "--verify", "--quiet", f"{said}^{{commit}}").strip()
            except UnansweredError:
                raise
            except PodiumError:  # the version is gone, or its commit is not here
                pass
        return self._git("rev-parse", "--verify", "HEAD^{commit}").strip()

    def _names(self, name: str) -> list[tuple[str, int]]:
        """Every tag of GTO's form for the champion of `name`, with its number."""
        form = re.compile(rf"{re.escape(name)}#{ALIAS}!?#([0-9]{{1,9}})")
        names = self._git("for-each-ref", "--format=%(refname)", "refs/tags").splitlines()
        found = [(one, form.fullmatch(one)) for one in (line.removeprefix("refs/tags/") for line in names)]
        return [(one, int(match[1])) for one, match in found if match]

    def _tags(self, name: str) -> list[Tag]:
        """The tags that moves of `name` wrote; those of others, such as GTO's, are not among them."""
        names = [one for one, _ in self._names(name)]
        return [tag for one, content in self._contents(names) if (tag := _tag(one, content))]

    def _contents(self, names: list[str]) -> Iterator[tuple[str, str]]:
        """Each annotated tag with its whole text."""
        asked = "".join(f"refs/tags/{name}\n" for name in names)
        rest = git_process.run(self.root, "cat-file", "--batch", stdin=asked) if names else b""
        for name in names:
            head, _, rest = rest.partition(b"\n")
            _, kind, *size = head.split(b" ")
            if not size:  # it has just been deleted
                continue
            content, rest = rest[: int(size[0])], rest[int(size[0]) + 1 :]
            if kind == b"tag":
                yield name, content.decode(errors="replace")

    def _git(self, *arguments: str, stdin: str = "") -> str:
        return git_process.run(self.root, *arguments, stdin=stdin).decode(errors="replace")


def of(mode: Literal["none", "annotated", "signed"], root: Path) -> GitTags | None:
    """The tags that `ledger.git_tags` asks for; None: none."""
    return None if mode == "none" else GitTags(root, mode == "signed")


def why(error: Exception) -> str:
    """What `error` says, and its kind where it is none of Podium's."""
    return str(error) if isinstance(error, PodiumError) else f"{type(error).__name__}: {reason_of(error)}"


def _named(name: str, number: int, target: int | None) -> str:
    return f"{name}#{ALIAS}{'' if target is not None else '!'}#{number}"


def _tag(name: str, content: str) -> Tag | None:
    """What a tag says of its entry; None: no move wrote it."""
    header, _, message = content.partition("\n\n")
    entry, commit = ENTRY_LINE.search(message), COMMIT_LINE.search(message)
    if not entry:
        return None
    fields = dict(line.split(" ", 1) for line in header.split("\n") if " " in line)
    moved = ""
    if fields.get("tag") != name:
        moved = f"is the tag {one_line(fields.get('tag', ''))} under another name: delete it"
    elif not commit or commit[1] != fields.get("object"):
        moved = (
            f"was moved to the commit {one_line(fields.get('object', ''))[:12]}: `git fetch --tags --force` restores it"
        )
    return Tag(name, int(entry[1]), entry[2], SIGNATURE.search(message) is not None, moved)


def _unsigned(tags: list[Tag]) -> list[str]:
    """A sentence where no tag is signed: then signed ones may have been replaced by others."""
    if not tags or any(tag.signed for tag in tags):
        return []
    last = max(tags, key=lambda tag: tag.entry)
    return [
        f"git tag {last.name} has no signature, and none before it has one ({PARAMETER}: signed). Were they written"
        f" before that was set, then the next move ends this, for its tag is signed; or now: {_sign_anew(last)}"
    ]


def _sign_anew(tag: Tag) -> str:
    return (
        f"delete it here and where it was pushed (`git tag -d '{tag.name}'`, `git push --delete REMOTE"
        f" 'refs/tags/{tag.name}'`), and `podium history --write-tags` writes it signed"
    )


def _missing(tags: list[Tag], book: Ledger) -> list[str]:
    """Entries from the first one with a tag on, that have none: the tags begin where the parameter was set."""
    have = {tag.entry for tag in tags}
    missing = [
        entry.number for entry in book.entries if entry.number >= min(have, default=0) and entry.number not in have
    ]
    if not missing:
        return []
    return [
        f"{PARAMETER}: {counted(len(missing), 'entry')} of {book.name}'s ledger without a git tag in this clone:"
        f" {', '.join(map(str, missing[:SHOWN]))}{', ...' if len(missing) > SHOWN else ''}. If another clone made the"
        " move: `git fetch --tags`, after it has pushed its tags. If you know that the ledger is right: `podium history"
        " --write-tags`"
    ]
