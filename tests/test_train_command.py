"""`podium train --register`: the configuration goes the way that the stages of dvc.yaml go."""

from pathlib import Path
from typing import Any

import pytest

from podium import paths
from podium.commands import _training
from podium.config.params import parse
from podium.stages import evaluate as evaluate_stage


def test_train_register_evaluates_as_the_stage_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    params = parse(
        "runtime: {device: cuda}\nsearch: {metric: [macro_f1, mcc, brier]}\nevaluate: {metrics: [brier, kappa]}"
    )
    calls: list[tuple[Any, ...]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluate_stage, "evaluate", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(evaluate_stage, "load", lambda path: params)
    for later in ("retrain", "register_stage"):
        monkeypatch.setattr(_training, later, lambda *arguments: None)
    _training.register(params, "train-abc", seed=3)
    evaluate_stage.main()
    by_command, by_stage = calls
    folder = paths.mlruns() / "train/train-abc"
    assert by_command[2:5] == (paths.SEALED, folder / "retrained", folder / "evaluated")
    assert by_stage[2:5] == (paths.SEALED, paths.RETRAINED, paths.EVALUATED)
    assert by_command[:2] + by_command[5:] == by_stage[:2] + by_stage[5:]
    assert [one.name for one in by_command[0].metrics] == ["brier", "kappa", "mcc"]
    assert (by_command[5].name, by_command[6]) == ("macro_f1", "cuda")
