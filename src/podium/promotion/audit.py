"""Is the ledger of champions whole, does it give the alias, and is its evidence what it has the digests of?"""

from datetime import datetime

from podium.errors import PodiumError
from podium.promotion import kept, ledger
from podium.promotion.entries import Entry, Ledger, digest, word
from podium.registry import versions
from podium.tracking.store import Tracking


def history(tracking: Tracking, name: str) -> tuple[Ledger, list[str]]:
    """The ledger of `name`, and a sentence for everything in it that is not as it should be. Changes nothing."""
    book = ledger.read(tracking.client, name)
    problems = book.problems() + _cut(tracking, book)
    state = book.state()
    if state == "by hand":
        problems.append(
            f"champion is {word(book.champion)}, and the ledger says {word(book.recorded)}: moved outside of podium"
        )
    elif state != "whole":
        problems.append("the last move was interrupted; the next `podium promote` or `podium rollback` finishes it")
    return book, problems


def champion_at(book: Ledger, moment: datetime) -> Entry | None:
    """The last move of `book` at or before `moment` (with a time zone); None: nobody was champion yet."""
    before = [entry for entry in book.entries if datetime.fromisoformat(entry.at) <= moment]
    return before[-1] if before else None


def evidence(tracking: Tracking, book: Ledger) -> list[str]:
    """A sentence for each stored verdict and each champion that is not what the ledger has the digest of."""
    found = [
        problem for entry in book.entries if entry.verdict and (problem := kept.problem(tracking, book.name, entry))
    ]
    for number, model in {entry.target: entry.model for entry in book.entries if entry.model}.items():
        try:
            same = versions.digest_of(versions.find(tracking, book.name, int(number or 0))) == model
        except PodiumError as error:  # gone, or without digests
            found.append(str(error))
            continue
        if not same:
            found.append(f"{book.name} version {number} is not the model that became champion: its files were replaced")
    return found


def _cut(tracking: Tracking, book: Ledger) -> list[str]:
    """A sentence for each version that was made champion by an entry that is not in `book` any more."""
    found = []
    for version in versions.every(tracking, book.name):
        number, _, written = version.tags.get(ledger.ENTRY, "0 ").partition(" ")
        place = int(number) if number.isdigit() else 0
        if place and (place > len(book.texts) or digest(book.texts[place - 1]) != written):
            found.append(
                f"entry {place} of {book.name}'s ledger, by which version {version.number} became champion, was edited"
                " or cut away"
            )
    return found
