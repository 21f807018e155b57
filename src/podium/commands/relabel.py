"""`podium relabel [--folds K] [--out NAME]`."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from podium.config.params import Params
    from podium.config.recipe import Recipe

NAME = "relabel"
HELP = "list the training and validation images whose labels are doubtful, for you to correct"
ORDER = 145
EXAMPLE = "podium relabel", "list doubtful labels, for you to correct"
EXAMPLES = """\
  podium relabel                    cross-validate: train on four of five parts, predict the fifth, five times
  podium relabel --folds 10         more parts: more images to train on, and more time
  podium relabel --out second.csv   into another file of data/labels than suspicious.csv

Look at the images of the file, write the right class into new_label (or yes into leave_out) where the label is wrong,
and leave the other rows as they are (or write the label itself into new_label: then the image is not listed again).
Then name the file in params.yaml (prepare.corrections) and run `dvc repro`: the
image files stay untouched. What you have written stays when the command runs again. The configuration is the chosen one
of data/selected, else the search's best, else that of params.yaml. The held-out test set is not read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How many parts, and where to."""
    parser.add_argument("--folds", metavar="K", type=int, default=5, help="parts, 2 to 20 (default: 5)")
    parser.add_argument("--out", metavar="NAME", default="suspicious.csv", help="a file of data/labels")
    parser.add_argument("--seed", type=int, default=0, help="of the parts and the trainings (default: 0)")


def run(arguments: argparse.Namespace) -> None:
    """Train on all parts but one, judge that, and write what is doubtful."""
    from podium import paths
    from podium.config.data_sections import corrections_name
    from podium.config.params import load
    from podium.data.label_corrections import read_rows
    from podium.errors import InputError
    from podium.text import counted
    from podium.tuning import label_check
    from podium.tuning.folds import LearningSet, assign

    if not 2 <= arguments.folds <= 20:
        raise InputError(f"--folds must be 2 to 20; got {arguments.folds}")
    try:
        name = corrections_name(arguments.out)
    except ValueError as error:
        raise InputError(f"--out {error}") from None
    path = paths.LABELS / name
    if path.is_file():
        read_rows(path)  # what it has decided is kept: a file that can't be read is said before the trainings
    params = load(paths.PARAMS)
    images = LearningSet.read(paths.PREPARED)
    recipe, whose = _recipe(params)
    print(f"relabel: {counted(arguments.folds, 'training')} of {whose}")
    fold = assign(images, arguments.folds, arguments.seed % 2**32, "--folds")
    found = label_check.doubts(images, _out_of_fold(params, recipe, fold, arguments.seed))
    new = label_check.write_doubts(path, images, found)
    share = f"{len(found):,} of {counted(len(images.labels), 'label')} {'is' if len(found) == 1 else 'are'} doubtful"
    print(f"{share}; {path} has {new:,} to look at")
    if new:
        print(
            "Write the right class into new_label, or yes into leave_out, where a label is wrong; then set"
            f" `prepare.corrections: {name}` in params.yaml and run `dvc repro`"
        )


def _recipe(params: "Params") -> "tuple[Recipe, str]":
    """The configuration that judges, and whose it is."""
    import json

    from podium import paths
    from podium.config.recipe import Recipe

    for path, what in ((paths.SELECTED / "config.json", "the chosen trial"), (paths.SEARCH / "best.json", "trial")):
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            return Recipe().replace(found["recipe"] | found.get("whole", {})), f"{what} {found['trial']} ({path})"
    return params.recipe(), "the configuration of params.yaml"


def _out_of_fold(params: "Params", recipe: "Recipe", fold: Any, seed: int) -> Any:
    import torch

    from podium import paths
    from podium.errors import InterruptedSearchError, PodiumError
    from podium.process import stop_signals
    from podium.training.device import own_kind, pick
    from podium.training.loop import DivergedError
    from podium.tuning import label_check
    from podium.tuning.work import TrialData

    torch.set_num_threads(params.runtime.threads)
    where = pick(own_kind(params.runtime.device, params.runtime.devices))
    data = TrialData.load(paths.PREPARED, where)
    with stop_signals() as received:

        def on_step(run: Any) -> None:
            if received:
                raise InterruptedSearchError("stopped; nothing was written: run `podium relabel` again", received[0])

        def on_fold(number: int, accuracy: float) -> None:
            print(f"  part {number + 1}: accuracy {accuracy:.4f} on images that it was not trained on", flush=True)

        try:
            return label_check.out_of_fold(recipe, data, fold, seed, on_step, on_fold)
        except DivergedError as error:
            raise PodiumError(f"relabel: a training diverged: {error}") from None
