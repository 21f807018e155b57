"""`podium promote [VERSION] [--dry-run] [--force --reason "..."]`."""

import argparse
import sys
from typing import TYPE_CHECKING

from podium.commands._arguments import add_break_claim, version_number
from podium.commands._project import opened
from podium.errors import InputError, RefusedError
from podium.text import one_line

if TYPE_CHECKING:
    from podium.promotion.champion import Outcome

NAME = "promote"
HELP = "make the challenger (or VERSION) the champion, if the gate sees evidence for it on the held-out test set"
ORDER = 20
EXAMPLE = "podium promote", "make what was registered last the champion, if the gate sees evidence"
EXAMPLES = """\
  podium promote              the challenger, that is what `dvc repro` registered last
  podium promote 7            version 7
  podium promote --dry-run    what the gate would decide; moves nothing, and counts as a test set access
  podium promote --force --reason "the champion can't read the new scanner's files"

Champion and challenger predict the same held-out test set now, through the registered models. It is sealed: only
`evaluate` and this gate open it, and every access is counted. `gate` in params.yaml has the rules. The verdict is
stored with the version in MLflow: JSON, a page, and a picture of the disagreements. A forced move is marked in the
ledger permanently. Exit code 1: refused, nothing moved."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The version, and how far to go."""
    parser.add_argument("version", metavar="VERSION", nargs="?", type=version_number, help="default: the challenger")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true", help="judge and move nothing")
    how.add_argument("--force", action="store_true", help="move even if the gate refuses; needs --reason")
    parser.add_argument("--reason", default="", help="why it is forced; stored in the ledger permanently")
    add_break_claim(parser)


def run(arguments: argparse.Namespace) -> None:
    """Promote, and print the verdict."""
    if arguments.force != bool(arguments.reason.strip()):
        raise InputError("--force and --reason must be given together: the ledger stores why a verdict was overruled")
    servers: list[str] = []
    with opened() as (tracking, name):
        from podium import paths
        from podium.config.params import load
        from podium.metrics import scores
        from podium.promotion import champion, git_tags
        from podium.training.device import own_kind

        params = load(paths.PARAMS)
        device = own_kind(params.runtime.device, params.runtime.devices)
        images = champion.Images(paths.SEALED, paths.PREPARED, params.evaluate.calibration_bins, device)
        what = tracking, name, arguments.version, images, params.gate
        metric = scores.of(params.gate.metric or params.search.metrics[0])
        try:
            tags = git_tags.of(params.ledger.git_tags, paths.root())
            done = champion.promote(
                *what,
                force=arguments.reason,
                dry_run=arguments.dry_run,
                metric=metric,
                tags=tags,
                break_claims=arguments.break_claim,
            )
        except champion.NotPromotedError as refusal:
            print(refusal.verdict.table(), flush=True)
            raise
        if done.entry is not None:
            from podium.serving import presence

            servers = presence.sentences(tracking, name)
    _print(done, dry_run=arguments.dry_run)
    print("".join(f"server {one}\n" for one in servers), end="")


def _print(done: "Outcome", *, dry_run: bool) -> None:
    for note in (*done.notes, *(done.verdict.notes if done.verdict else ())):
        print(f"podium: {one_line(note)}", file=sys.stderr)
    if done.verdict is None:
        print(f"{done.version} is the champion already")
        return
    print(done.verdict.table(), flush=True)
    if dry_run and done.verdict.decision == "refuse":
        from podium.promotion.first_model import advice

        text = f"{done.version} would not be promoted: {done.verdict.reason}"
        raise RefusedError("\n".join([text, *advice(done.verdict)]))
    would = "would be" if dry_run else "is"
    forced = " although the gate refused" if done.entry and done.entry.forced else ""
    print(f"{done.version} {would} the champion now{forced}: {one_line(done.verdict.reason)}")
