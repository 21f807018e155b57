"""`podium history [--at DATE] [--check] [--json] [--write-tags]`."""

import argparse
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from podium.commands._project import opened
from podium.errors import InputError, PodiumError
from podium.text import counted, one_line, shown_json

if TYPE_CHECKING:
    from podium.promotion.git_tags import GitTags
    from podium.promotion.ledger import Ledger
    from podium.tracking.store import Tracking

NAME = "history"
HELP = "every move of the alias champion: when, from, to, who, why"
ORDER = 40
EXAMPLE = "podium history", "who was champion when, and why"
EXAMPLES = """\
  podium history
  podium history --at 2026-11-17          who was champion at the end of that day
  podium history --at 2026-11-17T09:30    and at that minute; local time, or with an offset such as +00:00
  podium history --check                  is the ledger complete, does it match the alias, are the verdicts unchanged?
                                          and, with ledger.git_tags, do the git tags of this clone say the same?
  podium history --write-tags             tag the moves that have no git tag here (ledger.git_tags)
  podium history --json | jq '.[-1]'

Exit code 1: the ledger or a tag was edited, or the alias was moved outside of podium; the message says where."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is shown, and the format."""
    parser.add_argument("--at", metavar="DATE", type=moment, help="who was champion then")
    parser.add_argument("--check", action="store_true", help="check the stored verdicts too; say if nothing is wrong")
    parser.add_argument("--write-tags", action="store_true", help="write the git tags of moves that have none here")
    parser.add_argument("--json", action="store_true", help="the whole entries, as a JSON list")


def moment(text: str) -> datetime:
    """A moment with a time zone; of a day alone, its last one."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be such as 2026-11-17 or 2026-11-17T09:30; got {text!r}") from None
    if len(text) <= len("2026-11-17"):
        found += timedelta(days=1, microseconds=-1)
    try:
        return found.astimezone()
    except (ValueError, OverflowError):  # the first or last day of the calendar, which local time would leave
        return found if found.tzinfo else found.replace(tzinfo=UTC)


def run(arguments: argparse.Namespace) -> None:
    """Print the moves. Raises PodiumError, after printing, where the ledger has a problem."""
    with opened() as (tracking, name):
        from podium.promotion import ledger

        book, problems = ledger.history(tracking, name)
        if not book.entries and (renamed := ledger.renamed_to(tracking, name)):
            problems.append(renamed)
        tags = _git_tags()
        if arguments.write_tags:
            _write_tags(tracking, book, tags)
        if arguments.check:
            from podium.promotion import verdict_files

            problems += verdict_files.check(tracking, book)
            problems += tags.problems(book) if tags else []
        last = ledger.champion_at(book, arguments.at) if arguments.at else None
    entries = [json.loads(text) for text in book.texts]
    if arguments.at:
        entries = [entries[last.number - 1]] if last else []
        if not arguments.json:
            print(_sentence(name, entries, arguments.at))
    if arguments.json:
        print(shown_json(entries))
    elif entries:
        print(_table(entries))
    elif not arguments.at:
        print(f"no version of {name} has ever been champion: `podium promote` makes one")
    if problems:
        sys.stdout.flush()
        raise PodiumError("\n".join(problems))
    if arguments.check and not arguments.json:
        count = f"{len(book.entries)} move" + ("" if len(book.entries) == 1 else "s")
        also = "; this clone's git tags say the same" if tags else ""
        print(f"the ledger is complete: {count}, matching the alias; no verdict was changed{also}")


def _git_tags() -> "GitTags | None":
    from podium import paths
    from podium.config.params import load
    from podium.promotion import git_tags

    return git_tags.of(load(paths.PARAMS).ledger.git_tags, paths.root())


def _write_tags(tracking: "Tracking", book: "Ledger", tags: "GitTags | None") -> None:
    if tags is None:
        raise InputError("--write-tags: ledger.git_tags in params.yaml is none; write annotated or signed")
    written = tags.write_missing(tracking, book)
    print(f"podium: {counted(written, 'tag')} written; push them with `git push --tags`", file=sys.stderr)


def _sentence(name: str, entries: list[dict[str, Any]], at: datetime) -> str:
    champion = entries[0]["to"] if entries else None
    who = "nobody" if champion is None else f"version {champion}"
    return f"champion of {name} at {at.isoformat(timespec='seconds')}: {who}"


def _table(entries: list[dict[str, Any]]) -> str:
    rows = [("", "when", "what", "from", "to", "who", "why")]
    for entry in entries:
        moved = tuple("-" if entry[end] is None else str(entry[end]) for end in ("from", "to"))
        what = entry["action"] + (" (forced)" if entry["forced"] else "")
        at, who, why = (one_line(entry[name]) for name in ("at", "who", "why"))
        rows.append((str(entry["number"]), at, what, *moved, who, why))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join([f"{cell:<{w}}" for cell, w in zip(row, widths, strict=False)] + [row[-1]]) for row in rows
    )
