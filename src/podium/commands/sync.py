"""`podium sync [--check]`."""

import argparse

from podium.errors import PodiumError

NAME = "sync"
HELP = "make MLflow show exactly what the studies hold: one run a trial, nothing missing, doubled or left RUNNING"
EXAMPLES = """\
  podium sync            mend what differs, and say what it was
  podium sync --check    only say what differs; exit code 1 where anything does

The search does the same by itself when it starts and ends."""

SHOWN = 40
"""Differences in the table; the rest are counted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whether to look or to mend."""
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 where anything differs")


def run(arguments: argparse.Namespace) -> None:
    """Compare every study with MLflow. Raises PodiumError with the table where --check finds a difference."""
    from podium import paths
    from podium.config.params import load
    from podium.tuning import upkeep

    params = load(paths.PARAMS)
    found = upkeep.sync_all(params.tracking, params.runtime, repair=not arguments.check)
    if aside := list(upkeep.moved_aside(params.tracking, params.runtime)):
        print(f"moved aside, since what they hold contradicts their study ({len(aside)}):", *aside, sep="\n  ")
    differences = [(study, d) for study, all_of_it in found.items() for d in all_of_it]
    if not differences:
        print(f"MLflow shows exactly what the studies hold ({len(found)} studies)")
        return
    rows = [("study", "trial", "what", "study says", "MLflow says")]
    rows += [
        (study, "" if d.trial is None else str(d.trial), d.what, d.study, d.mlflow) for study, d in differences[:SHOWN]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    print("\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows))
    if len(differences) > SHOWN:
        print(f"and {len(differences) - SHOWN} more")
    if arguments.check:
        raise PodiumError(f"{len(differences)} differences; `podium sync` mends them")
    print(f"{len(differences)} differences mended")
