"""The search as a stage sees it: its plan, a session, and its outcome as files."""

import csv
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from podium.config.aims import Aim
from podium.config.params import Params
from podium.config.search_section import SearchParams
from podium.data.dataset import DatasetInfo, write_json
from podium.errors import PodiumError
from podium.models.networks import ImageSpec
from podium.text import counted, number, red
from podium.tracking.pareto_front import is_feasible
from podium.training.epochs import COLUMNS, Epoch, columns_of
from podium.training.rehearsal import rehearse
from podium.tuning import feasibility, reference_lines, reference_process, session
from podium.tuning.feasibility import MEASURED
from podium.tuning.freeze_thaw.decisions import write_decisions
from podium.tuning.freeze_thaw.forecast import write_forecast
from podium.tuning.inherit import SOURCE
from podium.tuning.no_result import why_none
from podium.tuning.pareto import first, front, shown
from podium.tuning.pools import processes
from podium.tuning.search_plan import base_of, check_defined, plan_of
from podium.tuning.shared_epochs import BEST, EPOCHS

KEPT_IN_RANKING = 100
"""Completed trials in ranking.json: as many as `select.top_k` may ask for. Of several metrics the whole front."""
REFERENCE = "reference_lines.json"
"""What the validation images give without a search."""
SHOWN = 12
"""Trials of the Pareto front that are printed."""
ENOUGH_FOR_IMPORTANCES = 8
"""Completed trials below which an importance is noise."""


def search(params: Params, prepared: Path, out: Path) -> optuna.Study:
    """Search over `prepared` (train and val only) and write the trials, their curves, the ranking and more to `out`."""
    info = DatasetInfo.read(prepared)
    check_defined(params, info)
    params.register_.check_installed()  # it is needed at the end, hours from now
    plan = plan_of(params, info)
    metrics, gate = params.evaluate.metrics, params.gate.metric
    rehearse(plan.base, params.search, ImageSpec.of(info), metrics, gate, forked=processes.is_warm())
    if len(params.search.named) > 1:
        print("search: with several metrics no trial is pruned by its epochs: none shows that it is off the front")
    study, parent = session.run(plan, prepared, params.runtime, params.tracking)
    best = write(out, study, params, parent, _reference_lines(params, prepared))
    states = {state.name: sum(t.state == state for t in study.trials) for state in TrialState}
    counts = ", ".join(f"{n} {name}" for name, n in states.items() if n)
    counts += f"; {over}" if (over := feasibility.counted(study)) else ""
    print(f"{study.study_name}: {counts}; {_result(study, best, params.search.aims)}")
    if not parent:
        raise PodiumError(
            f"MLflow has nothing of this search: tracking.uri {params.tracking.uri} did not take a single run. The"
            " study itself is complete: run `dvc repro` again when the store works, it trains nothing again"
        )
    _compare(out, study, best, params)
    return study


def _result(study: optuna.Study, best: FrozenTrial, aims: list[Aim]) -> str:
    """The best trial; of several metrics the Pareto front, the best by the first metric first."""
    text = f"best {aims[0].name} {number(best.values[0])} (trial {best.number})"
    if len(aims) == 1:
        return text
    found = _on_front(study)
    lines = [f"  trial {t.number}: {shown(_named(t, aims), aims)}" for t in found[:SHOWN]]
    more = [f"  and {len(found) - SHOWN} more: data/search/trials.csv"] if len(found) > SHOWN else []
    return "\n".join([f"{text}; {counted(len(found), 'trial')} on the Pareto front:", *lines, *more])


def _named(trial: FrozenTrial, aims: Sequence[Aim]) -> dict[str, float]:
    return {aim.name: value for aim, value in zip(aims, trial.values, strict=True)}


def write(
    out: Path, study: optuna.Study, params: Params, parent_run_id: str, reference: dict[str, Any] | None = None
) -> FrozenTrial:
    """Write everything of `study` that later stages read to `out`, and return its best trial.

    `reference`: the reference lines of the same images.
    """
    out.mkdir(parents=True, exist_ok=True)
    aims = params.search.aims
    write_trials(out / "trials.csv", study, [aim.name for aim in aims])
    write_curves(out / "curves.csv", study, "val_" + params.search.component("metric").label)
    write_decisions(out / "decisions.csv", study)
    write_forecast(out / "forecast.json", study, params.search, base_of(params))
    write_json(out / "space.json", _space(params))
    best = _best(study, params.search)
    write_json(out / "importances.json", importances(study))
    order = ranked(study) if len(aims) == 1 else _on_front(study)
    kept = order[:KEPT_IN_RANKING] if len(aims) == 1 else order  # knee and weights compare with the whole front
    write_json(out / "ranking.json", [about(t, aims) for t in kept])
    fields = params.recipe().flat()
    if reference is not None:
        write_json(out / REFERENCE, reference)
    whole = {name: fields[name] for name in params.search.overrides}  # what the retraining has again
    # Written last: where it is, the rest is whole.
    facts: dict[str, Any] = {"study": study.study_name, "parent_run_id": parent_run_id}
    facts |= {"metric": params.search.component("metric").label, "seed": params.search.seed}
    metric = params.search.component("metric")
    facts |= {"direction": metric.direction, "percent": metric.PERCENT}
    if len(aims) > 1:
        facts |= {"aims": [aim.plain() for aim in aims]}
    write_json(out / "best.json", about(best, aims) | facts | {"whole": whole})
    return best


def _reference_lines(params: Params, prepared: Path) -> dict[str, Any]:
    return reference_process.measure(params, prepared).to_dict()


def _compare(out: Path, study: optuna.Study, best: FrozenTrial, params: Params) -> None:
    """Print the reference lines beside the best trial, in red if it does not beat them, and log them."""
    from podium.tracking.search_run import log_reference_lines

    lines = reference_lines.Lines.from_dict(json.loads((out / REFERENCE).read_text(encoding="utf-8")))
    value = float(best.values[0])
    print("\n".join(reference_lines.described(lines, value, f"the search's best (trial {best.number})")))
    if sentence := reference_lines.verdict(lines, value, best.user_attrs["recipe"]):
        print(red(sentence))
    if not lines.lines:
        return
    values = {f"reference_{line.name}": line.value for line in lines.lines}
    log_reference_lines(params.tracking, study, values, beaten=lines.beaten_by(value))


def write_trials(path: Path, study: optuna.Study, names: Sequence[str] = ()) -> None:
    """Every trial by number: number, state, value, last reported value, epochs, seed, and the searched fields.

    Of several metrics, called `names`, `value` is the first one's; the others' are value_<name>, and `front` says
    whether the trial is on the Pareto front. The file has nothing that differs between two equal searches, such as
    times.
    """
    trials = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    fields = sorted({name for t in trials for name in (*t.params, *([EPOCHS] if BEST in t.user_attrs else []))})
    limited = ["feasible", "over_limits"] if any(t.constraints for t in trials) else []
    more = [*(f"value_{name}" for name in names[1:]), "front"] if len(names) > 1 else []
    best = front(study)
    columns = ["number", "state", "value", *more, "last_value", "epochs", "seed", *fields, *limited, SOURCE]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for trial in sorted(trials, key=lambda t: t.number):
            writer.writerow(_row(trial) | (_of_several(trial, names, best) if more else {}))


def _of_several(trial: FrozenTrial, names: Sequence[str], best: set[int]) -> dict[str, Any]:
    """What the row of a trial has where there are several metrics: Optuna was not told of its epochs."""
    history = trial.user_attrs.get("history", [])
    found: dict[str, Any] = {"last_value": history[-1].get(f"val_{names[0]}", "") if history else ""}
    if trial.state != TrialState.COMPLETE:
        return found
    others = zip(names[1:], trial.values[1:], strict=True)
    return found | {f"value_{name}": value for name, value in others} | {"front": trial.number in best}


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


def _space(params: Params) -> dict[str, Any]:
    """What was searched, and what every field is that was not."""
    space = {name: d.model_dump(exclude_defaults=True) for name, d in sorted(params.search.space.items())}
    return {"space": space, "fixed": params.recipe().replace(params.search.overrides).flat()}


def _row(trial: FrozenTrial) -> dict[str, Any]:
    history = trial.user_attrs.get("history", [])
    last = trial.last_step
    value = first(trial) if trial.state == TrialState.COMPLETE else None
    return {
        "number": trial.number,
        "state": trial.state.name,
        "value": "" if value is None else value,
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
    """The completed trials that keep search.limits, best first; equal values by validation loss, then by number.

    Of several metrics by the first; equal values of it by the next, and so on.
    """
    signs = [-1 if direction == StudyDirection.MAXIMIZE else 1 for direction in study.directions]
    complete = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE and is_feasible(t)]

    def order(trial: FrozenTrial) -> tuple[float, ...]:
        values = [sign * value for sign, value in zip(signs, trial.values, strict=True)]
        return *values, result_epoch(trial).get("val_loss", 0.0), trial.number

    return sorted(complete, key=order)


def _on_front(study: optuna.Study) -> list[FrozenTrial]:
    """The trials on the Pareto front of several metrics, in the order of `ranked`."""
    best = front(study)
    return [trial for trial in ranked(study) if trial.number in best]


def _best(study: optuna.Study, search: SearchParams) -> FrozenTrial:
    complete = ranked(study)
    if not complete:
        raise PodiumError(why_none(study, search))
    return complete[0]


def result_epoch(trial: FrozenTrial) -> Epoch:
    """The epoch that a completed trial's value is of: its last, or the best where it serves all of `train.epochs`."""
    history: list[Epoch] = trial.user_attrs["history"]
    epoch: int = trial.user_attrs.get(BEST, len(history))
    measured: Epoch = trial.user_attrs.get(MEASURED, {})
    return history[epoch - 1] | measured


def about(trial: FrozenTrial, aims: Sequence[Aim] = ()) -> dict[str, Any]:
    """A completed trial as the ranking has it; of several `aims` with the value of each."""
    chosen = {EPOCHS: trial.user_attrs[BEST]} if BEST in trial.user_attrs else {}
    return {
        "trial": trial.number,
        "value": first(trial),
        **({"metrics": _named(trial, aims)} if len(aims) > 1 else {}),
        "val_loss": result_epoch(trial).get("val_loss"),
        "trial_seed": trial.user_attrs["seed"],
        "recipe": trial.user_attrs["recipe"] | chosen,
    }


def importances(study: optuna.Study) -> dict[str, float]:
    """How much of the objective's variance each dimension decides (PED-ANOVA: Watanabe et al. 2023).

    Of several metrics: how much it decides whether a trial comes near the Pareto front. Empty where too few trials
    completed, or all with one value.
    """
    complete = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    values = [tuple(t.values) for t in complete]
    if len(values) < ENOUGH_FOR_IMPORTANCES or len(set(values)) < 2:
        return {}
    # Here: it imports scikit-learn's forests, 1 s that the first trial would have to wait for.
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Some regimes for parameter")  # a field of few trials: its share is small too
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return {name: round(float(value), 6) for name, value in found.items()}
