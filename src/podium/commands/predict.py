"""`podium predict FILE... [--out PREDICTIONS.csv]`."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from podium.commands._arguments import alias_name, version_number
from podium.commands._project import opened
from podium.errors import PodiumError
from podium.text import counted, one_line

if TYPE_CHECKING:
    from podium.registry.loading import LoadedModel
    from podium.registry.versions import Version
    from podium.serving.predictions import Prediction

NAME = "predict"
HELP = "predict label and probability of image files with the champion"
ORDER = 50
EXAMPLE = "podium predict scan.png", "what the champion predicts"
EXAMPLES = """\
  podium predict scan.png
  podium predict scans/ --out predictions.csv                   every image below the folder, one row per image
  podium predict scans/ --out predictions.csv --probabilities   with one column per class
  podium predict scans/ --out /dev/stdout | head                the rows as they come
  podium predict --abstain scans/ --out predictions.csv         no label where the model is unsure (evaluate.abstain)
  podium predict --version 7 scan.png
  podium predict --alias challenger scan.png

A run that was stopped continues where it was when the same command is given again.
Exit code 1: some files can't be used as images; each is named, the others are predicted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The files, which model, and where the predictions go."""
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="image files, or folders of them")
    parser.add_argument("--out", type=Path, metavar="CSV", help="write file, label, probability, model and error there")
    parser.add_argument("--probabilities", action="store_true", help="of every class; needs --out")
    parser.add_argument(
        "--abstain", action="store_true", help="no label where the model is not sure enough for evaluate.abstain"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--version", type=version_number, metavar="N", help="this version instead of the champion")
    which.add_argument(
        "--alias", type=alias_name, metavar="NAME", help="the version with this alias (default: champion)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Print or write a line for each file. Raises PodiumError at the end where some could not be predicted."""
    from podium.data.sources.item import shown
    from podium.errors import InputError
    from podium.serving.predictions import expand, predict

    if arguments.probabilities and not arguments.out:
        raise InputError("--probabilities needs --out: they are columns of a CSV file")
    files = expand(arguments.files, _left_out)
    with opened() as (tracking, name):
        from podium.promotion import ledger
        from podium.registry import versions

        version = versions.find(tracking, name, arguments.version or arguments.alias or versions.CHAMPION)
        book = ledger.read(tracking.client, name)
        ledger.check_model(tracking, version, book)
        if arguments.version is None and (said := ledger.by_hand(version, book)):
            print(f"podium: warning: {said}", file=sys.stderr)
        model = versions.load(tracking, version)
    model.check_options(abstain=arguments.abstain)
    if arguments.out:
        bad = _write(arguments.out, files, version, model, arguments)
    else:
        bad = _print(
            predict(model, files, abstain=arguments.abstain), max(len(one_line(shown(file))) for file in files)
        )
    if bad:
        raise PodiumError(f"{bad} of {len(files)} files could not be predicted")


def _write(
    out: Path, files: "Sequence[Path]", version: "Version", model: "LoadedModel", arguments: argparse.Namespace
) -> int:
    """Write the predictions to `out` and say so; returns how many files have none."""
    from podium.registry import versions
    from podium.serving import prediction_table
    from podium.serving.predictions import predict

    said = sys.stderr if prediction_table.is_standard_output(out) else sys.stdout
    every, abstain = arguments.probabilities, arguments.abstain
    source = prediction_table.Source(f"{version.name}/{version.number}", versions.digest_of(version))
    classes = model.classes if every else []
    ask = partial(predict, model, probabilities=every, abstain=abstain)
    bad, kept = prediction_table.write(out, files, source, classes, ask, abstain=abstain)
    if kept:
        print(f"resumed: the first {counted(kept, 'row')} were there, of an earlier run that was stopped", file=said)
    print(f"{counted(len(files) - bad, 'prediction')} of {version} in {out}", file=said)
    return bad


def _left_out(name: str, why: str) -> None:
    """Nothing in a folder vanishes without a word."""
    print(f"podium: {one_line(name)}: {why}; left out", file=sys.stderr)


def _print(found: "Iterable[Prediction]", width: int) -> int:
    """Print each prediction; returns how many files have none."""
    from podium.data.sources.item import shown

    print(f"{'file':<{width}}  probability  label")
    bad = 0
    for one in found:
        if one.error:
            bad += 1
            print(f"podium: {one_line(shown(one.file))}: {one_line(one.error)}", file=sys.stderr)
        else:
            label = f"({one.reason})" if one.reason else one_line(one.label)
            print(f"{one_line(shown(one.file)):<{width}}  {one.probability:<11.4f}  {label}", flush=True)
    return bad
