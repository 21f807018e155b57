"""Disagreements as a table for whoever labels them, which `podium feedback` reads when it is filled."""

from collections.abc import Sequence
from pathlib import Path

from podium.errors import InputError
from podium.shadow.pair_summary import Disagreement
from podium.text import for_table, write_row

HEADER = ("digest", "label", "request", "champion", "probability", "challenger", "probability_of_challenger")


def write(out: Path, rows: Sequence[Disagreement]) -> int:
    """Write each image once, with an empty cell for its label, or the one that it has. Returns how many there are.

    Raises InputError where there is such a file, which may hold labels, or it can't be written.
    """
    once = {one.digest: one for one in reversed(rows)}
    try:
        with out.open("x", newline="", encoding="utf-8") as file:
            write_row(file, HEADER)
            for one in reversed(list(once.values())):
                old, new = _side(one.champion, one.champion_each), _side(one.challenger, one.challenger_each)
                write_row(file, [one.digest, for_table(one.label or ""), one.id, *old, *new])
    except FileExistsError:
        raise InputError(f"--csv: {out} is there already and may hold labels: name another file") from None
    except OSError as error:
        raise InputError(f"--csv: {out} can't be written: {error.strerror}") from None
    return len(once)


def _side(label: str | None, each: dict[str, float]) -> tuple[str, str]:
    if label is None:
        return "", ""
    return for_table(label), f"{each[label]:.6f}" if label in each else ""
