"""`podium train [--set KEY=VALUE ...] [--register]`."""

import argparse

NAME = "train"
ORDER = 5
EXAMPLE = "podium train --set train.epochs=5", "one training without a search"
HELP = "one training of `model` and `train`, without a search; validated, logged to MLflow"
EXAMPLES = """\
  podium train                                            params.yaml as it is
  podium train --set train.epochs=5 --set model.width=64  with other settings, for this training alone
  podium train --set model.name=my_net:CNN --seed 3       a network of your own (docs/extend.md)
  podium train --register                                 then retrain it on train and val, evaluate and register it

It needs data/prepared (`dvc repro prepare`). The held-out test set is opened by --register only."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Settings, seed, and whether to go on to a registered version."""
    text = "replace a value of params.yaml, such as train.epochs=5"
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help=text)
    parser.add_argument("--seed", type=int, default=0, help="of this training (default: 0)")
    parser.add_argument("--register", action="store_true", help="retrain, evaluate and register this configuration")


def run(arguments: argparse.Namespace) -> None:
    """Train, print each epoch, and what it came to."""
    from podium import paths
    from podium.api import load_params
    from podium.commands._training import register, train_logged
    from podium.config.params import flat, set_values

    changes = set_values(arguments.set)
    params = load_params(paths.PARAMS, changes)
    before = flat(paths.PARAMS.read_text(encoding="utf-8"))
    for name, value in changes.items():
        print(f"{name}: {value!r} instead of {before.get(name, 'its default')!r}")
    name = train_logged(params, arguments.seed)
    if arguments.register:
        register(params, name, arguments.seed)
