"""Everything of people's own code that a search may reach, tried once before the search: minutes are spent, not hours.

It runs in a process of its own, a job as JSON on standard input, the problems as JSON on standard output: code that
ends the process, or imports half of the world, does so there. Where workers are forked from a server that has imported
torch, so is this one; else it is `python -m podium.training.rehearsal`. It ends with the search that asks.
"""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from podium import components, own_code, process
from podium.components import Choice
from podium.config.limits import metrics_of
from podium.config.recipe import Recipe
from podium.config.search_section import SearchParams
from podium.config.space import reachable
from podium.errors import InputError
from podium.models.networks import ImageSpec
from podium.training.try_out import NEED_IMAGES, NO_IMAGES, TRIED, check_fits, try_metric, try_of_search

PATIENCE = 600.0
"""Seconds after which code that is tried once counts as hanging."""
MARK = "podium-rehearsal "


@dataclass(frozen=True)
class Job:
    """What is to be tried."""

    recipe: dict[str, Any]
    search: dict[str, Any]
    """Sampler, pruner, metric and space, as params.yaml has them."""
    images: dict[str, Any] | None
    metrics: list[Any]
    """Other metrics that are not Podium's own: [the parameter that names it, itself] each."""


def foreign(base: Recipe, search: SearchParams) -> list[str]:
    """What `base` and `search` name that is not Podium's own."""
    named = [*reachable(base, search.space), *((kind, choice.name) for kind, choice in search.chosen())]
    return [name for kind, name in named if _is_foreign(kind, name)]


def other_metrics(
    search: SearchParams, metrics: Sequence[Choice] = (), gate: Choice | None = None
) -> list[tuple[str, Choice]]:
    """What is not Podium's own of search.limits, evaluate.metrics and gate.metric, each with its parameter."""
    named = [("search.limits", one) for one in metrics_of(search.limits)]
    named += [("evaluate.metrics", one) for one in metrics]
    named += [("gate.metric", gate)] if gate is not None else []
    return [(parameter, one) for parameter, one in named if _is_foreign("metric", one.name)]


def rehearse(
    base: Recipe,
    search: SearchParams,
    images: ImageSpec | None,
    metrics: Sequence[Choice] = (),
    gate: Choice | None = None,
    *,
    forked: bool = False,
) -> None:
    """Try what `base`, `search`, evaluate.metrics and gate.metric name that is not Podium's own. Raises InputError
    naming every problem.

    Without `images`: what would be called with images is only loaded, and its arguments are checked. `forked`: in a
    process that is forked from multiprocessing's fork server.
    """
    others = other_metrics(search, metrics, gate)
    names = dict.fromkeys([*foreign(base, search), *(one.name for _, one in others)])
    if not names:
        return
    tried = [[parameter, one.model_dump()] for parameter, one in others]
    job = Job(base.nested(), _searched(search), asdict(images) if images else None, tried)
    text = json.dumps(asdict(job))
    try:
        done = _forked(text) if forked else _started(text)
    except subprocess.TimeoutExpired:
        raise InputError(
            f"your own code ({', '.join(names)}), tried once before the search, did not end within {PATIENCE:g} s"
        ) from None
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if not lines:
        last = " ".join(done.stderr.strip().splitlines()[-1:])
        last = last or "it wrote no error; os._exit, or a library that crashed, ends a process so"
        raise InputError(
            f"your own code ({', '.join(names)}) ended the process in which it was tried (exit {done.returncode}):"
            f" {last}"
        )
    problems: list[str] = json.loads(lines[-1].removeprefix(MARK))
    if problems:
        raise InputError("before the search, your own code was tried:\n  " + "\n  ".join(problems))


def _started(job: str) -> "subprocess.CompletedProcess[str]":
    """What a new interpreter made of `job`. Raises TimeoutExpired."""
    command = [sys.executable, "-m", "podium.training.rehearsal", str(os.getpid())]
    return subprocess.run(
        command, input=job, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False
    )


def _forked(job: str) -> "subprocess.CompletedProcess[str]":
    """The same, by a process that the fork server has forked. Raises TimeoutExpired."""
    with tempfile.TemporaryDirectory(prefix="podium-rehearsal-") as folder:
        streams = [str(Path(folder, name)) for name in ("in", "out", "err")]
        for path, content in zip(streams, (job, "", ""), strict=True):
            Path(path).write_text(content, encoding="utf-8")
        child = multiprocessing.get_context("forkserver").Process(target=_answer, args=(streams, str(Path.cwd())))
        try:
            child.start()
        except (EOFError, OSError):  # the server was killed, or no process can be forked from it
            return _started(job)
        try:
            child.join(PATIENCE)
            if child.is_alive():
                raise subprocess.TimeoutExpired("rehearsal", PATIENCE)
        finally:  # also after Ctrl-C, which it does not hear
            child.kill()
            child.join()
        said = [Path(path).read_text(encoding="utf-8", errors="replace") for path in streams[1:]]
        return subprocess.CompletedProcess([], child.exitcode or 0, *said)


def _answer(streams: list[str], folder: str) -> None:
    """Be what `python -m podium.training.rehearsal` is in `folder`, with files in the place of the three streams."""
    os.chdir(folder)
    threading.Thread(target=_end_with_the_search, args=(Path(streams[0]).parent,), daemon=True).start()
    for number, (path, mode) in enumerate(zip(streams, (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY), strict=True)):
        opened = os.open(path, mode)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 (it is open as long as the process is there)
    main()


def _end_with_the_search(files: Path) -> None:
    """End this process once the one that asked is gone, and remove the `files` that it left; code may run for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        shutil.rmtree(files, ignore_errors=True)
        os._exit(1)


def problems_of(base: Recipe, search: SearchParams, images: ImageSpec | None) -> list[str]:
    """What is wrong with what `base` and `search` name that is not Podium's own, each as a sentence."""
    found: list[str] = []
    for kind, name in reachable(base, search.space):
        if _is_foreign(kind, name):
            found += _problems(lambda kind=kind, name=name: _try(kind, _named(base, kind, name), search, images))  # type: ignore[misc]
    for kind, choice in search.chosen():
        if _is_foreign(kind, choice.name):
            found += _problems(lambda kind=kind, choice=choice: try_of_search(kind, choice, search, images))  # type: ignore[misc]
    return list(dict.fromkeys(found))


def _try(kind: str, recipe: Recipe, search: SearchParams, images: ImageSpec | None) -> None:
    """Try the components of `kind` that `recipe` names."""
    if images is not None or kind not in NEED_IMAGES:
        TRIED[kind](recipe, search, images or NO_IMAGES)
        return
    for one, choice in [*recipe.model.chosen(), *recipe.train.chosen()]:
        if one == kind:
            check_fits(kind, choice)


def _is_foreign(kind: str, name: str) -> bool:
    own = components.find(kind, name)
    return own is None or "chosen" in own.model_fields


def _searched(search: SearchParams) -> dict[str, Any]:
    plain = search.plain()
    return {name: plain[name] for name in ("sampler", "pruner", "metric", "space") if name in plain}


def _problems(attempt: Callable[[], None]) -> list[str]:
    try:
        attempt()
    except InputError as error:
        return [line.strip() for line in str(error).splitlines()]
    except SystemExit as error:
        return [own_code.failure(error) or own_code.blame(error)]
    return []


def _named(base: Recipe, kind: str, name: str) -> Recipe:
    """`base` with the component `name` in the place of `kind`."""
    parameter = components.KINDS[kind].parameter
    return base if kind in ("augmentation", "program") else base.replace({parameter: name})


def main() -> None:
    """Read a job, try it, print the problems."""
    job = Job(**json.loads(sys.stdin.read()))
    known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in (job.images or {}).items()}
    images = ImageSpec(**known) if known else None
    found = problems_of(Recipe.model_validate(job.recipe), SearchParams.model_validate(job.search), images)
    for parameter, metric in job.metrics:
        search = SearchParams.model_validate({"metric": metric})
        found += _problems(lambda search=search, at=parameter: try_metric(at, search.metrics[0], images))  # type: ignore[misc]
    print("\n" + MARK + json.dumps(list(dict.fromkeys(found))), flush=True)


if __name__ == "__main__":
    process.end_with(int(sys.argv[1]))
    main()
