"""`podium profile [--set NAME=VALUE] [--show]`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from podium.errors import InputError

if TYPE_CHECKING:
    from podium.config.recipe import Recipe

NAME = "profile"
HELP = "show where the time of a training goes: phases, operators, and what to change"
ORDER = 110
EXAMPLE = "podium profile", "where the time of a training goes"
EXAMPLES = """\
  podium profile                                       `model` and `train` of params.yaml, on data/prepared
  podium profile --set train.batch_size=128            with another batch
  podium profile --chosen --set train.shift=2          what the search chose, with one more change
  podium profile --show                                trace and curves of the retraining in TensorBoard
  podium profile --show --trace data/profile/profile   the trace of the last `podium profile`

Nothing is registered or logged: page and trace go to data/profile, which DVC does not track."""

PROFILE = Path("data/profile")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The configuration, and where to."""
    parser.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], help="replace a field; repeatable")
    parser.add_argument("--chosen", action="store_true", help="start from what the search chose (data/selected)")
    parser.add_argument("--steps", type=int, metavar="N", default=20, help="number of steps to measure (default: 20)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", default=PROFILE, help=f"default: {PROFILE}")
    parser.add_argument("--show", action="store_true", help="open TensorBoard on a trace instead of measuring")
    parser.add_argument("--trace", type=Path, metavar="FOLDER", help="with --show: default data/retrained/profile")
    parser.add_argument("--port", type=int, metavar="N", default=6006, help="with --show (default: 6006)")


def run(arguments: argparse.Namespace) -> None:
    """Measure and print the page, or show a trace."""
    from podium import paths

    if arguments.show:
        show(arguments.trace or paths.RETRAINED / "profile", arguments.port)
        return
    if arguments.steps < 1:
        raise InputError(f"--steps: must be at least 1; got {arguments.steps}")
    print(measured(arguments))


def measured(arguments: argparse.Namespace) -> str:
    """The page of a training of the configuration that `arguments` name; page and trace are written."""
    from podium.profiling import silence

    silence()
    import torch

    from podium import paths
    from podium.config.params import load
    from podium.data.dataset import DatasetInfo, open_split
    from podium.models.networks import ImageSpec
    from podium.profiling.diagnosis import markdown
    from podium.profiling.measure import measure
    from podium.training import device
    from podium.training.batches import Batches

    params = load(paths.PARAMS)
    recipe = _recipe(params.recipe(), arguments)
    where = device.pick(device.own_kind(params.runtime.device, params.runtime.devices))
    torch.set_num_threads(params.runtime.threads)
    info = DatasetInfo.read(paths.PREPARED)
    images = ImageSpec.of(info)
    data = Batches.of([open_split(paths.PREPARED / "train")], where)
    trace = arguments.out / "profile"
    profile = measure(recipe, images, data, where, arguments.steps, trace)
    text = markdown(profile, f"Profile of {', '.join(arguments.set) or 'the configuration'}", str(trace))
    (arguments.out / "profile.md").write_text(text, encoding="utf-8")
    return text


def show(trace: Path, port: int) -> None:
    """TensorBoard on `trace`, until Ctrl-C. Raises InputError if there is no trace: its profiler page would wait
    for one permanently."""
    import subprocess
    import sys

    if not any(trace.rglob("*.pt.trace.json*")):
        raise InputError(
            f"{trace} holds no trace (*.pt.trace.json), and torch-tb-profiler would wait for one permanently:"
            " run `dvc repro retrain` with retrain.profile_steps above 0, or `podium profile`"
        )
    with_curves = (trace.parent / "scalars").is_dir()  # of the retraining
    folder = trace.parent if with_curves else trace
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1"]
    print(f"http://127.0.0.1:{port}/#pytorch_profiler (Ctrl-C ends it)", flush=True)
    subprocess.run([*command, "--port", str(port)], check=False)


def _recipe(base: "Recipe", arguments: argparse.Namespace) -> "Recipe":
    import json

    from pydantic import ValidationError
    from ruamel.yaml import YAML

    from podium import paths
    from podium.config import problems

    values: dict[str, Any] = {}
    if arguments.chosen:
        path = paths.SELECTED / "config.json"
        if not path.is_file():
            raise InputError(f"{path} is missing: run `dvc repro select`, or leave --chosen out")
        values |= json.loads(path.read_text(encoding="utf-8"))["recipe"]
    known = list(base.flat())
    for text in arguments.set:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            hint = problems.did_you_mean(name, known)
            raise InputError(f"--set: must be NAME=VALUE with a field of model or train; got {text!r}; {hint}")
        values[name] = YAML(typ="safe", pure=True).load(value)
    try:
        return base.replace(values)
    except ValidationError as error:
        raise InputError("--set: " + "; ".join(problems.sentences(error, known, []))) from None
