"""`podium predict FILE... [--out ANSWERS.csv]`."""

import argparse
import csv
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from podium.commands._arguments import version_number
from podium.commands._project import opened
from podium.errors import PodiumError

if TYPE_CHECKING:
    from podium.registry.answering import Answer

NAME = "predict"
HELP = "label and probability of image files, by the champion"
ORDER = 50
EXAMPLE = "podium predict scan.png", "ask the champion"
EXAMPLES = """\
  podium predict scan.png
  podium predict scans/ --out answers.csv                 every image below the folder, a row each
  podium predict scans/ --out answers.csv --probabilities  with a column a class
  podium predict --version 7 scan.png
  podium predict --alias challenger scan.png

Exit code 1: some files are no images that can be used; each is named, the others are answered."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The files, which model, and where the answers go."""
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="image files, or folders of them")
    parser.add_argument("--out", type=Path, metavar="CSV", help="write file, label, probability, model and error there")
    parser.add_argument("--probabilities", action="store_true", help="of every class; needs --out")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--version", type=version_number, metavar="N", help="this version instead of the champion")
    which.add_argument("--alias", metavar="NAME", help="the version with this alias (default: champion)")


def run(arguments: argparse.Namespace) -> None:
    """Print or write a line for each file. Raises PodiumError at the end where some could not be answered."""
    from podium.errors import InputError
    from podium.registry.answering import answers, expand

    if arguments.probabilities and not arguments.out:
        raise InputError("--probabilities needs --out: they are columns of a CSV file")
    files = expand(arguments.files)
    with opened() as (tracking, name):
        from podium.registry import versions

        version = versions.find(tracking, name, arguments.version or arguments.alias or versions.CHAMPION)
        model = versions.load(tracking, version)
    found = answers(model, files, probabilities=arguments.probabilities)
    classes = model.classes if arguments.probabilities else []
    width = max(len(str(file)) for file in files)
    bad = _write(found, arguments.out, classes) if arguments.out else _print(found, width)
    if arguments.out:
        print(f"{len(files) - bad} answers of {version} in {arguments.out}")
    if bad:
        raise PodiumError(f"{bad} of {len(files)} files could not be answered")


def _print(found: "Iterable[Answer]", width: int) -> int:
    """Print each answer; returns how many files have none."""
    print(f"{'file':<{width}}  probability  label")
    bad = 0
    for answer in found:
        if answer.error:
            bad += 1
            print(f"podium: {answer.file}: {answer.error}", file=sys.stderr)
        else:
            print(f"{answer.file!s:<{width}}  {answer.probability:<11.4f}  {answer.label}")
    return bad


def _write(found: "Iterable[Answer]", out: Path, classes: list[str]) -> int:
    """Write each answer to `out`, which appears when it is whole, with a column for each of `classes`.

    Returns how many files have no answer.
    """
    from podium.errors import InputError

    temporary = out.with_name(out.name + ".tmp")
    bad = 0
    try:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            columns = [f"probability_{name}" for name in classes]
            writer.writerow(["file", "label", "probability", "model", "error", *columns])
            for answer in found:
                bad += bool(answer.error)
                chance = "" if answer.probability is None else f"{answer.probability:.6f}"
                each = [f"{answer.probabilities[name]:.6f}" if answer.label else "" for name in classes]
                writer.writerow([answer.file, answer.label, chance, answer.model, answer.error, *each])
        temporary.replace(out)
    except OSError as error:
        raise InputError(f"--out: {out} can't be written: {error.strerror}") from None
    return bad
