"""A study's page in MLflow."""

import optuna
from optuna.trial import create_trial

from podium.tracking.record import record_of, search_attributes
from podium.tracking.study_summary import note_of


def test_values_of_any_size_are_shown_as_a_person_reads_them() -> None:
    """Before: 71586.0000 parameters and 0.0000 MB."""
    study = optuna.create_study(directions=["maximize", "minimize", "minimize"], study_name="search-1")
    study.add_trial(create_trial(values=[0.98125, 71586.0, 0.000042], user_attrs={"history": []}))
    assert "| 0 | 0.9812 | 71,586 | 0.000042 |" in note_of(study)
    title = record_of(study, study.trials[0], None, search_attributes).title
    assert title == "trial-000 · 0.9812, 71,586, 0.000042"
