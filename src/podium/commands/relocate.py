"""`podium relocate`."""

import argparse

NAME = "relocate"
HELP = "make MLflow's stored paths follow a project that was moved or copied"
ORDER = 100
EXAMPLE = "podium relocate", "make MLflow's paths follow a folder that was moved"
EXAMPLES = """\
  mv project elsewhere && cd elsewhere && make install && podium relocate

Every command of podium and every stage does this automatically; run it before a plain `mlflow` command. Exit code 1:
two copies would share one database; nothing was changed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(arguments: argparse.Namespace) -> None:
    """Relocate, and print from where. Raises RefusedError where two copies share the database."""
    from podium import paths
    from podium.config.params import load
    from podium.text import counted
    from podium.tracking.store import database, relocate

    params = load(paths.PARAMS).tracking
    file = database(params.uri)
    done = relocate(file, params.experiment) if file else None
    if file is None:
        print("nothing to do: the store is a server and holds no path of this folder")
    elif done is None:
        print(f"nothing to do: the paths in {file} are right")
    else:
        move, count = done
        print(f"{counted(count, 'stored path')} changed from {move.stored} to {move.here}")
