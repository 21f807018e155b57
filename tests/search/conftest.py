"""What tests of the search share."""

import os

import optuna
import pytest

from mlflow_store import mlflow_template, store

__all__ = ["mlflow_template", "store"]


@pytest.fixture(autouse=True)
def _quick_and_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test cuts the power, so none waits for the disk; a journal's write takes 3 ms otherwise."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
