"""What an experiment changes is printed: params.yaml compared with the commit's."""

import subprocess
from pathlib import Path

import pytest

from podium.config.experiment import changes
from podium.config.params import load

COMMITTED = """
train: {epochs: 20, flip: false}
search:
  n_trials: 9
  overrides: {}
  space: {train.batch_size: {choices: [16, 32]}, train.epochs: {low: 5, high: 30}}
"""
CHANGED = """
train: {epochs: 5, flip: true, shift: 2}
search:
  overrides: {train.data_fraction: 0.5}
  space: {train.batch_size: {choices: [16, 64]}, train.epochs: {low: 5, high: 30}}
"""


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A params.yaml that differs from the commit's, within an experiment."""
    path = tmp_path / "project" / "params.yaml"
    path.parent.mkdir()
    path.write_text(COMMITTED, encoding="utf-8")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "a"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    path.write_text(CHANGED, encoding="utf-8")
    monkeypatch.setenv("DVC_EXP_NAME", "wise-owl")
    return path


def test_each_changed_setting_is_shown_with_what_it_was(params: Path) -> None:
    assert changes(params, load(params)) == [
        "train.epochs: 5 instead of 20 (tried by trial 0 only: it is a dimension of search.space)",
        "train.flip: true instead of false",
        "train.shift: 2 instead of no value",
        "search.overrides.train.data_fraction: 0.5 instead of no value",
        "search.space.train.batch_size.choices: [16, 64] instead of [16, 32]",
        "search.n_trials: removed, was 9",
        "search.overrides: removed, was {}",
    ]


def test_setting_that_no_trial_has_is_shown_as_such(params: Path) -> None:
    params.write_text(COMMITTED.replace("epochs: 20", "epochs: 5") + "  defaults_first: false\n", encoding="utf-8")
    first, _ = changes(params, load(params))
    assert first == "train.epochs: 5 instead of 20 (tried by no trial: it is a dimension of search.space)"


def test_nothing_is_shown_outside_of_an_experiment(params: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_EXP_NAME")
    assert changes(params, load(params)) == []


def test_nothing_is_shown_where_git_has_no_such_file(params: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = params.with_name("other.yaml")
    other.write_text(CHANGED, encoding="utf-8")
    assert changes(other, load(other)) == []
    monkeypatch.setenv("PATH", "")
    assert changes(params, load(params)) == []
