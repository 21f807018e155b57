"""`podium feedback LABELS.csv [--correct]`."""

import argparse
from pathlib import Path

NAME = "feedback"
HELP = "add labels of served images, for `podium compare` and the gate"
ORDER = 64
EXAMPLE = "podium feedback labels.csv", "which of the two was right"
EXAMPLES = """\
  podium feedback labels.csv             a table with the columns label and id, or label and digest
  podium feedback labels.csv --correct   labels that differ from earlier ones replace them

  id       the response's header X-Request-Id (or what was sent in it); with several images per request
           id/1, id/2 and so on
  digest   SHA-256 of the image file as it was sent: sha256sum photo.jpg

Rows without a label are left out. All labels are taken or, if one row can't be used, none. Only images that both
versions predicted count (`podium serve --shadow`), each once. Exit code 2: a row is wrong, or no row is about such an
image."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The table."""
    parser.add_argument("labels", metavar="LABELS.csv", type=Path, help="columns: label, and id or digest")
    parser.add_argument("--correct", action="store_true", help="replace labels that were given before")


def run(arguments: argparse.Namespace) -> None:
    """Take the labels, and say how far the evidence is."""
    from podium import paths
    from podium.config.params import load
    from podium.shadow import compare_page, feedback_labels, pair_store, pair_summary
    from podium.text import counted

    params = load(paths.PARAMS)
    folder, model = pair_store.folder(), params.register_.name
    labels = feedback_labels.read(arguments.labels)  # before it needs the file, which may be busy
    pair_store.delete_old(folder, params.serve.keep_mb, params.serve.keep_days)
    taken = feedback_labels.remember(folder, model, labels, correct=arguments.correct)
    print(f"{counted(taken.images, 'image')} labelled, {taken.known:,} had this label, {taken.corrected:,} corrected")
    if labels.empty:
        print(f"{counted(labels.empty, 'row')} without a label left out")
    if taken.unknown:
        print(f"{counted(len(taken.unknown), 'row')} about images that are not stored, such as {taken.unknown[0]}")
    level = 1 - params.gate.confidence
    for champion, challenger in pair_summary.every(folder, model)[:1]:
        said = compare_page.verdict(pair_summary.summary(folder, model, champion, challenger, level), level)
        print(f"version {challenger} compared with version {champion}: {said.headline}: {said.text}")
