"""`podium compare [CHALLENGER] [--champion VERSION] [--csv FILE] [--open]`."""

import argparse
from pathlib import Path

from podium.commands._arguments import version_number
from podium.errors import InputError

NAME = "compare"
HELP = "compare champion and challenger on served images: agreement, time, and what labels show"
ORDER = 62
EXAMPLE = "podium compare --open", "what the challenger would have predicted"
EXAMPLES = """\
  podium serve --shadow challenger     collects: the champion serves, the challenger predicts too
  podium compare                       the two versions that were compared last
  podium compare 7 --champion 5        these two
  podium compare --csv to_label.csv    the disagreements, with an empty column label for you to fill
  podium feedback to_label.csv         the labels; then compare again, as often as you like

With labels a test says when there is evidence that one of the two is more accurate, at the level 1 - gate.confidence.
You may look after each label: that does not raise the chance of a false result. Agreement alone says how much
would change, not which one is right. The page is one self-contained file, mlruns/shadow/compare.html."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which versions, and what to write."""
    parser.add_argument(
        "challenger", metavar="CHALLENGER", nargs="?", type=version_number, help="default: the last one compared"
    )
    parser.add_argument(
        "--champion", type=version_number, metavar="VERSION", help="which it is compared with; default: the last one"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the disagreements there, for labels")
    parser.add_argument("--open", action="store_true", help="show the page in the browser")


def run(arguments: argparse.Namespace) -> None:
    """Print the summary, and write the page."""
    from podium import paths
    from podium.config.params import load
    from podium.shadow import compare_page, pair_store, pair_summary

    params = load(paths.PARAMS)
    folder, model = pair_store.folder(), params.register_.name
    pair_store.delete_old(folder, params.serve.keep_mb, params.serve.keep_days, wait=False)
    champion, challenger = _versions(arguments, pair_summary.every(folder, model), model)
    level = 1 - params.gate.confidence
    found = pair_summary.summary(folder, model, champion, challenger, level)
    print("\n".join(compare_page.lines(found, level)))
    path = compare_page.write(found, level, folder / compare_page.NAME)
    print(path.relative_to(paths.root()))
    if arguments.csv is not None:
        from podium.shadow import label_table
        from podium.text import counted

        rows = label_table.write(arguments.csv, pair_summary.disagreements(folder, model, champion, challenger))
        print(f"{arguments.csv}: {counted(rows, 'disagreement')}; fill the column label, then `podium feedback` it")
    if arguments.open:
        import webbrowser

        if not webbrowser.open(path.resolve().as_uri()):
            print("no browser was found: open that file in one")


def _versions(arguments: argparse.Namespace, known: list[tuple[int, int]], model: str) -> tuple[int, int]:
    """Champion and challenger. Raises InputError where those that are asked for were not compared."""
    fits = [pair for pair in known if arguments.challenger in (None, pair[1]) and arguments.champion in (None, pair[0])]
    if fits:
        return fits[0]
    if not known:
        raise InputError(
            f"no versions of {model} were compared on served images yet: `podium serve --shadow challenger` does it"
        )
    there = ", ".join(f"{new} compared with {old}" for old, new in known[:10])
    raise InputError(f"CHALLENGER and --champion must be versions that were compared; there are {there}")
