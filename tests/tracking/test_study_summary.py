"""A study's page in MLflow."""

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from podium.tracking.pareto_front import best_trials, is_feasible
from podium.tracking.record import record_of, search_attributes
from podium.tracking.study_summary import note_of
from podium.tuning.outcome import ranked


def test_values_of_any_size_are_shown_as_a_person_reads_them() -> None:
    """Before: 71586.0000 parameters and 0.0000 MB."""
    study = optuna.create_study(directions=["maximize", "minimize", "minimize"], study_name="search-1")
    study.add_trial(create_trial(values=[0.98125, 71586.0, 0.000042], user_attrs={"history": []}))
    assert "| 0 | 0.9812 | 71,586 | 0.000042 |" in note_of(study)
    title = record_of(study, study.trials[0], None, search_attributes).title
    assert title == "trial-000 · 0.9812, 71,586, 0.000042"


def test_run_note_ranking_and_front_agree_on_what_keeps_the_limits() -> None:
    attributes = {"history": [{"epoch": 1, "val_loss": 0.1, "seconds": 1.0}], "seed": 0, "recipe": {}}
    for values in ([0.9], [0.9, 5.0]):
        directions = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE][: len(values)]
        study = optuna.create_study(directions=directions, study_name="search-1")
        for beyond in (0.1, 0.0, -0.1):
            study.add_trial(create_trial(values=values, user_attrs=attributes, system_attrs={"constraints": [beyond]}))
        records = [record_of(study, trial, None, search_attributes) for trial in study.trials]
        feasible = [next(m.value for m in one.metrics if m.key == "feasible") for one in records]
        assert feasible == [float(is_feasible(trial)) for trial in study.trials] == [0.0, 1.0, 1.0]
        note = note_of(study)
        assert [f"| {number} | 0.9000" in note for number in range(3)] == [False, True, True]
        assert [trial.number for trial in ranked(study)] == [1, 2]
        if len(values) > 1:
            assert [trial.number for trial in best_trials(study)] == [1, 2]


def test_note_ranks_no_pruned_trial_by_its_last_reported_value() -> None:
    """Optuna keeps that as the trial's value: it stood above all completed trials as their objective."""
    study = optuna.create_study(direction="maximize")
    study.add_trial(create_trial(value=0.5))
    study.add_trial(create_trial(state=TrialState.PRUNED, value=0.9, intermediate_values={1: 0.9}))
    note = note_of(study)
    assert "| 0 | 0.5000" in note
    assert "| 1 |" not in note
