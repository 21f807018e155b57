"""`podium preset [NAME]`."""

import argparse

NAME = "preset"
HELP = "write the preset NAME into params.yaml; without NAME, list the presets"
ORDER = 150
EXAMPLE = "podium preset", "list the presets: params.yaml for other images"
EXAMPLES = """\
  podium preset                  list them
  podium preset fashion-mnist    params.yaml for Fashion-MNIST
  podium preset photos           params.yaml for photographs: a head on pretrained features
  podium preset folder           params.yaml for a folder of other images

Everything that the preset does not name stays as it is, comments too; `git diff params.yaml` shows what changed and
`git checkout params.yaml` undoes it. Exit code 2: there is no such preset, or the result would not be valid."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The preset."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="a file of presets/, without .yaml")


def run(arguments: argparse.Namespace) -> None:
    """List the presets, or apply one."""
    from podium import paths
    from podium.config import presets

    if arguments.name is None:
        for name, line in presets.names(paths.PRESETS).items():
            print(f"{name:<16} {line}")
        return
    changed = presets.apply(arguments.name, paths.PRESETS, paths.PARAMS)
    print(f"Preset {arguments.name!r} written. Changed: {', '.join(changed) or 'nothing'}")
