"""What tests of the search share."""

import os

import optuna
import pytest
import torch


@pytest.fixture(autouse=True)
def _quick_and_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test cuts the power, so none waits for the disk (3 ms a write of the journal), nor for a second core."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
