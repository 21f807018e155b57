"""What a configuration is worth on seeds that no search had: its mean validation accuracy over fresh trainings.

Choices whose epochs are those of one longer training (a constant learning rate) are read from that training's epochs:
bit for bit what shorter ones give (podium/tuning/shared_epochs.py).
"""

import json
import multiprocessing
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

FRESH = 3
"""Seeds on which a choice is trained again, if no other number is given."""
Choice = tuple[str, int]
"""A configuration (its fields as JSON, with its epochs) and that number of epochs."""
Job = tuple[list[Choice], int]
"""Choices of one training, and the number of the seed."""


def confirm(
    prepared: Path, path: Path, wanted: Iterable[Choice], workers: int, seeds: int = FRESH
) -> dict[Choice, float]:
    """The mean validation accuracy of every choice over fresh seeds, by choice; each training is kept in `path`."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    whole = text[: text.rfind("\n") + 1]  # the last line of one that was killed may be half written
    path.write_text(whole, encoding="utf-8")
    rows = [json.loads(line) for line in whole.splitlines()]
    known = {(recipe, epochs, seed): value for recipe, epochs, seed, value in rows}
    wanted = sorted(set(wanted))
    jobs = _jobs(wanted, known, seeds)
    print(f"{len(wanted)} choices on {seeds} fresh seeds each, {len(jobs)} trainings to do", flush=True)
    with multiprocessing.get_context("spawn").Pool(workers) as pool, path.open("a", encoding="utf-8") as file:
        for done in pool.imap_unordered(partial(_trained, str(prepared)), jobs):
            for (recipe, epochs), seed, value in done:
                known[recipe, epochs, seed] = value
                file.write(json.dumps([recipe, epochs, seed, value]) + "\n")
            file.flush()
    return {choice: fmean(known[*choice, seed] for seed in range(seeds)) for choice in wanted}


def _jobs(wanted: list[Choice], known: dict[tuple[str, int, int], float], seeds: int) -> list[Job]:
    """The trainings that are left to do, the longest first."""
    together: dict[tuple[str, int], list[Choice]] = defaultdict(list)
    for recipe, epochs in wanted:
        fields = json.loads(recipe)
        shared = fields if _recipe(fields).train.uses_total() else fields | {"train": fields["train"] | {"epochs": 0}}
        for seed in range(seeds):
            if (recipe, epochs, seed) not in known:
                together[json.dumps(shared, sort_keys=True), seed].append((recipe, epochs))
    jobs = [(choices, seed) for (_, seed), choices in together.items()]
    return sorted(jobs, key=lambda job: -max(epochs for _, epochs in job[0]))


def _recipe(fields: dict[str, Any]) -> Any:
    from podium.config.recipe import Recipe

    return Recipe.model_validate(fields)


def _trained(prepared: str, job: Job) -> list[tuple[Choice, int, float]]:
    """The accuracy of each choice of `job`, out of one training as long as the longest; 0 once it has diverged."""
    import torch

    from podium.training.loop import DivergedError
    from podium.training.program import training
    from podium.training.seeds import derive
    from podium.tuning.work import TrialData

    torch.set_num_threads(1)
    choices, number = job
    data = TrialData.load(Path(prepared), torch.device("cpu"))
    longest = max(choices, key=lambda choice: choice[1])[0]
    run = training(_recipe(json.loads(longest)), data.images, derive("fresh", number), data.device)
    with suppress(DivergedError):
        run.train(data.train, data.val)
    run.metrics.complete(run.history, run.notes)
    seen = {epoch: float(values["val_accuracy"]) for epoch, values in enumerate(run.history, start=1)}
    return [(choice, number, seen.get(choice[1], 0.0)) for choice in choices]
