"""`podium predict FILE... [--out PREDICTIONS.csv]`."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from podium.commands._arguments import alias_name, version_number
from podium.commands._project import opened
from podium.errors import PodiumError
from podium.text import one_line, write_row

if TYPE_CHECKING:
    from podium.serving.predictions import Prediction

NAME = "predict"
HELP = "label and probability of image files, by the champion"
ORDER = 50
EXAMPLE = "podium predict scan.png", "ask the champion"
EXAMPLES = """\
  podium predict scan.png
  podium predict scans/ --out predictions.csv                   every image below the folder, one row per image
  podium predict scans/ --out predictions.csv --probabilities   with one column per class
  podium predict --version 7 scan.png
  podium predict --alias challenger scan.png

Exit code 1: some files are no images that can be used; each is named, the others are predicted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The files, which model, and where the predictions go."""
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="image files, or folders of them")
    parser.add_argument("--out", type=Path, metavar="CSV", help="write file, label, probability, model and error there")
    parser.add_argument("--probabilities", action="store_true", help="of every class; needs --out")
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
        ledger.check_model(tracking, version)
        model = versions.load(tracking, version)
    found = predict(model, files, probabilities=arguments.probabilities)
    classes = model.classes if arguments.probabilities else []
    width = max(len(one_line(shown(file))) for file in files)
    bad = _write(found, arguments.out, classes) if arguments.out else _print(found, width)
    if arguments.out:
        count = f"{len(files) - bad} prediction" + ("" if len(files) - bad == 1 else "s")
        print(f"{count} of {version} in {arguments.out}")
    if bad:
        raise PodiumError(f"{bad} of {len(files)} files could not be predicted")


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
            print(f"{one_line(shown(one.file)):<{width}}  {one.probability:<11.4f}  {one_line(one.label)}")
    return bad


def _write(found: "Iterable[Prediction]", out: Path, classes: list[str]) -> int:
    """Write each prediction to `out`, which appears when it is complete, with a column for each of `classes`.

    Returns how many files have no prediction.
    """
    from podium.data.sources.item import cell
    from podium.errors import InputError

    temporary = out.with_name(out.name + ".tmp")
    bad = 0
    try:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            columns = [f"probability_{name}" for name in classes]
            write_row(file, ["file", "label", "probability", "model", "error", *columns])
            for one in found:
                bad += bool(one.error)
                probability = "" if one.probability is None else f"{one.probability:.6f}"
                each = [f"{one.probabilities[name]:.6f}" if one.label else "" for name in classes]
                write_row(file, [cell(one.file), one.label, probability, one.model, one.error, *each])
        temporary.replace(out)
    except OSError as error:
        raise InputError(f"--out: {out} can't be written: {error.strerror}") from None
    return bad
