"""`podium predict FILE...`."""

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from podium.errors import InputError, PodiumError
from podium.verbs.arguments import version_number
from podium.verbs.project import opened

if TYPE_CHECKING:
    from podium.served import Served

NAME = "predict"
HELP = "label and probability of image files, by the champion"
EXAMPLES = """\
  podium predict scan.png
  podium predict scans/*.jpg > labels.txt
  podium predict --version 7 scan.png
  podium predict --alias challenger scan.png

Exit code 1: some files are no images that can be used; each is named, the others are answered."""

BATCH = 64
"""Files read at a time, so that memory stays bounded."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The files, and which model."""
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="PNG, JPEG, WebP, TIFF, ...")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--version", type=version_number, metavar="N", help="this version instead of the champion")
    which.add_argument("--alias", metavar="NAME", help="the version with this alias (default: champion)")


def run(arguments: argparse.Namespace) -> None:
    """Print a line for each file. Raises PodiumError at the end where some could not be answered."""
    with opened() as (tracking, name):
        from podium import registry

        version = registry.find(tracking, name, arguments.version or arguments.alias or registry.CHAMPION)
        model = registry.load(tracking, version)
    width = max(len(str(file)) for file in arguments.files)
    print(f"{'file':<{width}}  probability  label")
    files = iter(arguments.files)
    bad = 0
    while batch := list(islice(files, BATCH)):
        for file, result in _answers(model, batch):
            if isinstance(result, InputError):
                bad += 1
                sentence = str(result).removeprefix("image 1 of 1: ")
                print(f"podium: {file}: {sentence}", file=sys.stderr)
            else:
                label, probability = result
                print(f"{file!s:<{width}}  {probability:<11.4f}  {label}")
    if bad:
        raise PodiumError(f"{bad} of {len(arguments.files)} files could not be answered")


def _answers(model: "Served", files: list[Path]) -> Iterator[tuple[Path, tuple[str, float] | InputError]]:
    """The answer for each file in order, or what is wrong with it."""
    contents = [_read(file) for file in files]
    whole = [data for data in contents if isinstance(data, bytes)]
    try:
        results = iter(_ask(model, whole))
    except InputError:  # one of them is bad: each by itself tells which
        results = iter([_ask_one(model, data) for data in whole])
    for file, data in zip(files, contents, strict=True):
        yield file, data if isinstance(data, InputError) else next(results)


def _read(file: Path) -> bytes | InputError:
    try:
        return file.read_bytes()
    except OSError as error:
        return InputError(f"it can't be read: {error.strerror}")


def _ask(model: "Served", images: list[bytes]) -> list[tuple[str, float] | InputError]:
    answers = model.answer(images)
    return list(zip(answers["label"], answers["probability"], strict=True))


def _ask_one(model: "Served", image: bytes) -> tuple[str, float] | InputError:
    try:
        return _ask(model, [image])[0]
    except InputError as error:
        return error
