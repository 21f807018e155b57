"""The search as a stage sees it: a plan from params.yaml, a session, and its outcome as files."""

import csv
import json
import os
import re
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from podium.closure import versions_of
from podium.components import KINDS, find, load
from podium.config import limits
from podium.config.params import Params
from podium.config.recipe import Recipe
from podium.config.section import ARGUMENTS
from podium.config.space import Dimension, is_argument, reachable
from podium.data.dataset import DatasetInfo, write_json
from podium.errors import InputError, PodiumError
from podium.metrics import scores
from podium.models.networks import ImageSpec
from podium.models.weight_files import digests
from podium.own_code import arguments_of
from podium.text import red
from podium.tracking.mirror import Parent
from podium.training.epochs import COLUMNS, Epoch, columns_of
from podium.training.rehearsal import rehearse
from podium.tuning import feasibility, session
from podium.tuning.feasibility import is_feasible
from podium.tuning.freeze_thaw.decisions import read as read_decisions
from podium.tuning.inherit import SOURCE
from podium.tuning.pools.placement import environment
from podium.tuning.shared_epochs import BEST, EPOCHS
from podium.tuning.study import identity, name_of, point

KEPT_IN_RANKING = 100
"""Completed trials in ranking.json: as many as `select.top_k` may ask for."""
REFERENCE = "reference_lines.json"
"""What the validation images give without a search."""
ENOUGH_FOR_IMPORTANCES = 8
"""Completed trials below which an importance is noise."""


def search(params: Params, prepared: Path, out: Path) -> optuna.Study:
    """Search over `prepared` (train and val only) and write the trials, their curves, the ranking and more to `out`."""
    info = DatasetInfo.read(prepared)
    check_defined(params, info)
    params.register_.check_installed()  # it is needed at the end, hours from now
    plan = plan_of(params, info)
    rehearse(plan.base, params.search, ImageSpec.of(info), params.evaluate.metrics)
    study, parent = session.run(plan, prepared, params.runtime, params.tracking)
    best = write(out, study, params, parent, _reference_lines(params, prepared))
    states = {state.name: sum(t.state == state for t in study.trials) for state in TrialState}
    counts = ", ".join(f"{n} {name}" for name, n in states.items() if n)
    counts += f"; {over}" if (over := feasibility.counted(study)) else ""
    print(f"{study.study_name}: {counts}; best {params.search.metric.label} {best.value:.4f} (trial {best.number})")
    if not parent:
        raise PodiumError(
            f"MLflow has nothing of this search: tracking.uri {params.tracking.uri} did not take a single run. The"
            " study itself is complete: run `dvc repro` again when the store works, it trains nothing again"
        )
    _compare(out, study, best, params)
    return study


def check_defined(params: Params, info: DatasetInfo) -> None:
    """Raise InputError where search.metric or one of evaluate.metrics has no value for the validation images."""
    images = info.counts.get("val", {})
    if not images:  # an earlier Podium counted nothing: each epoch looks
        return
    named = [
        ("search.metric", params.search.component("metric")),
        *(("search.limits", scores.of(one)) for one in limits.metrics_of(params.search.limits)),
        *(("evaluate.metrics", one) for one in params.measured()),
    ]
    problems = [
        f"{parameter}: {metric.label} is undefined on the validation images: {why}"
        for parameter, metric in named
        if (why := metric.undefined(images))
    ]
    if problems:
        raise InputError("\n".join(problems))


def write(
    out: Path, study: optuna.Study, params: Params, parent_run_id: str, reference: dict[str, Any] | None = None
) -> FrozenTrial:
    """Write everything of `study` that later stages read to `out`, and return its best trial.

    `reference`: the reference lines of the same images.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_trials(out / "trials.csv", study)
    write_curves(out / "curves.csv", study, "val_" + params.search.component("metric").label)
    write_decisions(out / "decisions.csv", study)
    write_json(out / "space.json", _space(params))
    best = _best(study)
    write_json(out / "importances.json", importances(study))
    write_json(out / "ranking.json", [about(t) for t in ranked(study)[:KEPT_IN_RANKING]])
    fields = params.recipe().flat()
    if reference is not None:
        write_json(out / REFERENCE, reference)
    whole = {name: fields[name] for name in params.search.overrides}  # what the retraining has again
    # Written last: where it is, the rest is whole.
    facts: dict[str, Any] = {"study": study.study_name, "parent_run_id": parent_run_id}
    facts |= {"metric": params.search.component("metric").label, "seed": params.search.seed}
    metric = params.search.component("metric")
    facts |= {"direction": metric.direction, "percent": metric.PERCENT}
    write_json(out / "best.json", about(best) | facts | {"whole": whole})
    return best


def _reference_lines(params: Params, prepared: Path) -> dict[str, Any]:
    from podium.tuning import reference_lines  # here: it imports torch, which the search's driver does without

    return reference_lines.measure(params, prepared).to_dict()


def _compare(out: Path, study: optuna.Study, best: FrozenTrial, params: Params) -> None:
    """Print the reference lines beside the best trial, in red if it does not beat them, and log them."""
    from podium.tracking.search_run import log_reference_lines
    from podium.tuning import reference_lines

    lines = reference_lines.Lines.from_dict(json.loads((out / REFERENCE).read_text(encoding="utf-8")))
    value = float(best.value or 0.0)
    print("\n".join(reference_lines.described(lines, value, f"the search's best (trial {best.number})")))
    if sentence := reference_lines.verdict(lines, value, best.user_attrs["recipe"]):
        print(red(sentence))
    values = {f"reference_{line.name}": line.value for line in lines.lines}
    log_reference_lines(params.tracking, study, values, beaten=lines.beaten_by(value))


def plan_of(params: Params, info: DatasetInfo) -> session.Plan:
    """The search that `params` and the prepared images describe."""
    if params.train.program is not None and (costly := limits.of_costs(params.search.limits)):
        raise InputError(
            f"search.limits: {', '.join(costly)} can't be known before an own training loop (train.program) has built"
            " its network: leave them out, or limit metrics"
        )
    base = with_defaults(params.recipe().replace(params.search.overrides), params.search.space)
    facts = identity(params.search, base, info.digest)
    facts["weights"] = digests(base, params.search.space)
    facts["environment"] = environment(params.runtime, versions_of(reachable(base, params.search.space)))
    name = name_of("search", facts)
    enqueued: list[tuple[dict[str, Any], dict[str, Any]]] = []
    if params.search.defaults_first:
        values = point(params.search.space, base, base)
        if isinstance(values, str):
            raise InputError(
                f"search.defaults_first: {values}: your own settings of `model` and `train` can't be tried. Widen"
                " search.space, set search.space: {}, or search.defaults_first: false"
            )
        enqueued.append((dict(values), {}))
    tags = {"podium.data_digest": info.digest, "podium.source": info.source}
    if os.environ.get("DVC_EXP_NAME"):
        tags["podium.experiment"] = os.environ["DVC_EXP_NAME"]
    return session.Plan(
        name,
        facts,
        params.search,
        base,
        Parent(name, tags),
        "search",
        enqueued,
        subject_of(info.source),
        inherits=True,
        metrics=params.evaluate.metrics,
    )


def subject_of(source: str) -> str:
    """What is classified, as a title has it: `photos` for `folder:data/raw/photos`, `digits` for `digits`."""
    return re.split(r"[:/\\]", source.rstrip("/\\"))[-1][:40] or source


def with_defaults(base: Recipe, space: dict[str, Dimension]) -> Recipe:
    """`base` with the defaults of people's own arguments that are searched and not given: those are tried first."""
    values: dict[str, Any] = {}
    for name in (name for name in space if is_argument(name) and name not in base.flat()):
        slot, _, argument = name.partition(f".{ARGUMENTS}.")
        for kind, choice in [*base.model.chosen(), *base.train.chosen()]:
            place = "model" if kind == "network" else KINDS[kind].parameter
            here = slot in (place, f"{place}.{choice.label}")
            if here and find(kind, choice.name) is None:
                known, _ = arguments_of(load(kind, choice.name))
                if argument in known and not known[argument].required:
                    values[name] = known[argument].default
    return base.replace(values)


def write_trials(path: Path, study: optuna.Study) -> None:
    """Every trial by number: number, state, value, last reported value, epochs, seed, and the searched fields.

    The file has nothing that differs between two equal searches, such as times.
    """
    trials = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    fields = sorted({name for t in trials for name in (*t.params, *([EPOCHS] if BEST in t.user_attrs else []))})
    limited = ["feasible", "over_limits"] if any(t.constraints for t in trials) else []
    columns = ["number", "state", "value", "last_value", "epochs", "seed", *fields, *limited, SOURCE]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for trial in sorted(trials, key=lambda t: t.number):
            writer.writerow(_row(trial))


def write_curves(path: Path, study: optuna.Study, objective: str) -> None:
    """Every epoch of every trial, its `objective` as `value` too; nothing in which two equal searches differ."""
    trials = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    with path.open("w", newline="", encoding="utf-8") as file:
        columns = ["trial", "state", "value", *(columns_of(t.user_attrs.get("history", []) for t in trials) or COLUMNS)]
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for trial in sorted(trials, key=lambda t: t.number):
            about = {"trial": trial.number, "state": trial.state.name}
            writer.writerows(
                about | epoch | {"epoch": int(epoch["epoch"]), "value": epoch.get(objective, "")}
                for epoch in trial.user_attrs.get("history", [])
            )


def write_decisions(path: Path, study: optuna.Study) -> None:
    """What a freeze-thaw search decided, in order: which trial, how, until which epoch, and what the model expected.

    Another search has no such file. `gain` and `noise` are logarithms of the error: see freeze_thaw.decisions.
    """
    decisions = read_decisions(study)
    if not decisions:
        path.unlink(missing_ok=True)
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        columns = ["decision", "trial", "how", "until", "gain", "noise"]
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for number, one in enumerate(decisions):
            known = {name: value for name, value in vars(one).items() if value is not None}
            writer.writerow({"decision": number, **known})


def _space(params: Params) -> dict[str, Any]:
    """What was searched, and what every field is that was not."""
    space = {name: d.model_dump(exclude_defaults=True) for name, d in sorted(params.search.space.items())}
    return {"space": space, "fixed": params.recipe().replace(params.search.overrides).flat()}


def _row(trial: FrozenTrial) -> dict[str, Any]:
    history = trial.user_attrs.get("history", [])
    last = trial.last_step
    return {
        "number": trial.number,
        "state": trial.state.name,
        "value": trial.value if trial.state == TrialState.COMPLETE else "",
        "last_value": "" if last is None else trial.intermediate_values[last],
        "epochs": len(history),
        "seed": trial.user_attrs.get("seed", ""),
        **({EPOCHS: trial.user_attrs[BEST]} if BEST in trial.user_attrs else {}),
        "feasible": is_feasible(trial) if trial.constraints else "",
        "over_limits": trial.user_attrs.get(feasibility.OVER, ""),
        **trial.params,
        SOURCE: trial.user_attrs.get(SOURCE, ""),
    }


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """The completed trials that keep search.limits, best first; equal values by validation loss, then by number."""
    sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
    complete = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE and is_feasible(t)]

    def order(trial: FrozenTrial) -> tuple[float, float, int]:
        value = trial.value if trial.value is not None else float("inf")
        return sign * value, result_epoch(trial).get("val_loss", 0.0), trial.number

    return sorted(complete, key=order)


def _best(study: optuna.Study) -> FrozenTrial:
    complete = ranked(study)
    if not complete:
        if over := feasibility.counted(study):
            raise PodiumError(_none_feasible(study, over))
        failed = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.FAIL]
        reason = failed[0].user_attrs.get("reason", "") if failed else "every trial was pruned"
        remedy = "raise search.max_epochs or search.timeout" if read_decisions(study) else "raise search.n_trials"
        raise PodiumError(f"no trial of {study.study_name} was completed ({reason}); {remedy} or widen search.space")
    return complete[0]


def result_epoch(trial: FrozenTrial) -> Epoch:
    """The epoch that a completed trial's value is of: its last, or the best where it serves all of `train.epochs`."""
    history: list[Epoch] = trial.user_attrs["history"]
    epoch: int = trial.user_attrs.get(BEST, len(history))
    return history[epoch - 1]


def _none_feasible(study: optuna.Study, over: str) -> str:
    """The message where no trial can be selected: the nearest one is the one that breaks its limits least."""
    broken = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished() and not is_feasible(t)]
    nearest = min(broken, key=lambda t: sum(value for value in t.constraints.values() if value > 0))
    return (
        f"no trial of {study.study_name} keeps search.limits: {over}. The nearest is trial {nearest.number}:"
        f" {nearest.user_attrs.get(feasibility.OVER, '')}. Relax the limit, or widen search.space"
    )


def about(trial: FrozenTrial) -> dict[str, Any]:
    """A completed trial as the ranking has it."""
    chosen = {EPOCHS: trial.user_attrs[BEST]} if BEST in trial.user_attrs else {}
    return {
        "trial": trial.number,
        "value": trial.value,
        "val_loss": result_epoch(trial).get("val_loss"),
        "trial_seed": trial.user_attrs["seed"],
        "recipe": trial.user_attrs["recipe"] | chosen,
    }


def importances(study: optuna.Study) -> dict[str, float]:
    """How much of the objective's variance each dimension decides (PED-ANOVA: Watanabe et al. 2023).

    Empty where too few trials completed, or all with one value.
    """
    values = [t.value for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    if len(values) < ENOUGH_FOR_IMPORTANCES or len(set(values)) < 2:
        return {}
    # Here: it imports scikit-learn's forests, 1 s that the first trial would have to wait for.
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Some regimes for parameter")  # a field of few trials: its share is small too
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return {name: round(float(value), 6) for name, value in found.items()}
