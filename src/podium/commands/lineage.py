"""`podium lineage VERSION | --data DIGEST`."""

import argparse
import json

from podium.commands._arguments import version_number
from podium.commands._project import opened
from podium.errors import InputError
from podium.text import one_line, shown_json

NAME = "lineage"
HELP = "where a version comes from: retraining, selection, trial, study, data, code, parameters, environment"
ORDER = 70
EXAMPLE = "podium lineage 7", "where version 7 comes from"
EXAMPLES = """\
  podium lineage 7
  podium lineage 7 --json
  podium lineage                  the champion's
  podium lineage --data 3f1c92    the versions that were made from these images"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which version, or which data."""
    parser.add_argument("version", metavar="VERSION", nargs="?", type=version_number, help="default: the champion")
    parser.add_argument("--data", metavar="DIGEST", help="the first characters of a data digest")
    parser.add_argument("--json", action="store_true", help="the same as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Print the tree, or the versions."""
    if arguments.data is not None and arguments.version is not None:
        raise InputError("VERSION and --data can't be given together")
    with opened() as (tracking, name):
        from podium.promotion import ledger
        from podium.registry import ancestry, versions

        if arguments.data is not None:
            found = ancestry.made_from(tracking, name, arguments.data)
            lines = [f"{v}, accuracy {v.tags.get('accuracy', '?')}, {' '.join(v.aliases) or 'no alias'}" for v in found]
            print(json.dumps([v.number for v in found]) if arguments.json else "\n".join(map(one_line, lines)))
            return
        version = versions.find(tracking, name, arguments.version or versions.CHAMPION)
        ledger.check_origin(tracking, version)
        tree = ancestry.tree(tracking, version)
    print(shown_json(tree.to_dict()) if arguments.json else "\n".join(map(one_line, tree.lines())))
