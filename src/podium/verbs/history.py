"""`podium history [--json]`."""

import argparse
import json
import sys
from typing import Any

from podium.errors import PodiumError
from podium.verbs.project import opened

NAME = "history"
HELP = "every move of the alias champion: when, from, to, who, why"
EXAMPLES = """\
  podium history
  podium history --json | jq '.[-1]'

Exit code 1: the ledger was edited, or the alias was moved outside of podium; the message says where."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The format."""
    parser.add_argument("--json", action="store_true", help="the whole entries, as a JSON list")


def run(arguments: argparse.Namespace) -> None:
    """Print the moves. Raises PodiumError, after printing, where the ledger is not whole."""
    with opened() as (tracking, name):
        from podium import promotion

        book, problems = promotion.history(tracking, name)
    entries = [json.loads(text) for text in book.texts]
    if arguments.json:
        print(json.dumps(entries, indent=2, ensure_ascii=False))
    elif entries:
        print(_table(entries))
    else:
        print(f"no version of {name} has ever been champion: `podium promote` makes one")
    if problems:
        sys.stdout.flush()
        raise PodiumError("\n".join(problems))


def _table(entries: list[dict[str, Any]]) -> str:
    rows = [("", "when", "what", "from", "to", "who", "why")]
    for entry in entries:
        moved = tuple("-" if entry[end] is None else str(entry[end]) for end in ("from", "to"))
        what = entry["action"] + (" (forced)" if entry["forced"] else "")
        rows.append((str(entry["number"]), entry["at"], what, *moved, entry["who"], entry["why"]))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join([f"{cell:<{w}}" for cell, w in zip(row, widths, strict=False)] + [row[-1]]) for row in rows
    )
