"""`podium sync [--check]`."""

import argparse
import json
from typing import TYPE_CHECKING

from podium.errors import PodiumError
from podium.text import counted, one_line

if TYPE_CHECKING:
    from podium.tracking.trial_check import Difference

NAME = "sync"
HELP = "make MLflow show exactly what the studies hold: one run per trial, nothing missing, duplicated or left RUNNING"
ORDER = 120
EXAMPLE = "podium sync --check", "does MLflow show exactly what the studies hold?"
EXAMPLES = """\
  podium sync            fix what differs, and print it
  podium sync --check    only print what differs; exit code 1 if anything does
  podium sync --quick    compare the values that runs show, not each epoch's: few calls of a server

The search does the same automatically when it starts and ends.

Where another session has logged to the runs of this folder's studies, sync and the search refuse, and you decide:
  podium sync --as-copy    another folder goes on with these runs: log the studies of this one as its own
  podium sync --only-copy  there is no other folder, this one was restored or lost lines: go on with these runs"""

SHOWN = 40
"""Differences in the table; the rest are counted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whether to check or to fix, and how closely."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--as-copy",
        action="store_true",
        help="this folder is a copy: give its studies and retrainings ids of their own first, and log them again",
    )
    either.add_argument(
        "--only-copy",
        action="store_true",
        help="this folder was restored from a backup, and there is no other copy: go on with its runs; those of trials"
        " that it lacks are moved aside",
    )
    either.add_argument("--check", action="store_true", help="change nothing; exit code 1 if anything differs")
    parser.add_argument(
        "--quick", action="store_true", help="compare the trials' last values only, not their names and every epoch"
    )


def run(arguments: argparse.Namespace) -> None:
    """Compare every study with MLflow. Raises PodiumError after the table if --check finds a difference, or if a
    study or run could not be compared."""
    from podium import paths
    from podium.config.params import load
    from podium.tuning import as_copy, upkeep

    params = load(paths.PARAMS)
    if arguments.as_copy:
        own = as_copy.separate(params.tracking, params.runtime)
        print(f"{counted(own, 'study')} of this folder: another id; the runs of the original are left to it")
    if arguments.only_copy:
        taken = as_copy.take_over(params.tracking, params.runtime)
        now = "its runs are this folder's from now on" if taken else "nobody else has logged to this folder's runs"
        print(f"{counted(taken, 'study')} taken over: {now}")
    failed: dict[str, PodiumError] = {}
    aside: list[str] = []
    found = upkeep.sync_all(
        params.tracking,
        params.runtime,
        repair=not arguments.check,
        quick=arguments.quick,
        failed=failed.__setitem__,
        aside=aside.append,
    )
    if aside:
        print(
            f"moved aside, since what they hold contradicts their study ({len(aside)}):",
            *map(one_line, aside),
            sep="\n  ",
        )
    differences = [(study, d) for study, all_of_it in found.items() for d in all_of_it]
    if differences:
        _print_table(differences)
    elif not failed:
        same = "MLflow shows the last values that" if arguments.quick else "MLflow shows exactly what"
        what = f"{same} the studies hold ({counted(len(found), 'study')})"
        left = ", names, images and epochs before the last (--quick)" if arguments.quick else ""
        print(f"{what}; not compared: runs of `podium train`{left}")
    if (elsewhere := _searched()) and elsewhere not in found and elsewhere not in failed:
        print(
            f"{paths.SEARCH} is of {one_line(elsewhere)}, whose study is not here: it came from another machine, and"
            " MLflow there has its trials (a server that both share has them here, too)"
        )
    count = counted(len(differences), "difference")
    if differences and not arguments.check:
        print(f"{count} fixed")
    lines = [f"{one_line(name)}: {error}" for name, error in failed.items()]
    if differences and arguments.check:
        lines.append(f"{count}; `podium sync` fixes {'it' if len(differences) == 1 else 'them'}")
    if lines:
        raise PodiumError("\n".join(lines))


def _searched() -> str:
    """The study of which data/search is; empty: there is none, or it can't be read."""
    from podium import paths

    try:
        name = json.loads((paths.SEARCH / "best.json").read_text(encoding="utf-8"))["study"]
    except (OSError, ValueError, KeyError, TypeError):  # nothing was searched yet, or a search is under way
        return ""
    return name if isinstance(name, str) else ""


def _print_table(differences: "list[tuple[str, Difference]]") -> None:
    rows = [("study", "trial", "what", "study says", "MLflow says")]
    rows += [
        (study, "" if d.trial is None else str(d.trial), d.what, d.study, d.mlflow) for study, d in differences[:SHOWN]
    ]
    cells = [list(map(one_line, row)) for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(5)]
    print("\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in cells))
    if len(differences) > SHOWN:
        print(f"and {len(differences) - SHOWN} more")
