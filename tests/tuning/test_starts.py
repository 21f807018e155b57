"""search.starts: the portfolio's configurations come first, as far as the space has them."""

import json
from pathlib import Path
from typing import Any

import optuna
import pytest

import tiny
from podium.config.params import SearchParams
from podium.errors import InputError
from podium.tuning import starts as portfolio
from podium.tuning.freeze_thaw import decisions as decided
from podium.tuning.starts import DECISIVE, START, starts
from podium.tuning.study import identity
from tuning.freeze_thaw.thawing import params_of, search

ADAMW = {"train.optimizer": "adamw", "train.schedule": "cosine", "train.learning_rate": 0.01, "train.epochs": 9}
SGD = {"train.optimizer": "sgd", "train.schedule": "cosine", "train.learning_rate": 0.05, "train.momentum": 0.8}
RATES = {"low": 1e-4, "high": 1e-1, "log": True}
OPTIMIZERS = {"choices": ["sgd", "adamw"]}
MOMENTUM = {"low": 0.0, "high": 0.9, "when": {"train.optimizer": ["sgd"]}}


@pytest.fixture(autouse=True)
def two_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A portfolio of two."""
    file = tmp_path / "portfolio.json"
    file.write_text(json.dumps({"learnt_on": [], "starts": [ADAMW, SGD]}), encoding="utf-8")
    monkeypatch.setattr(portfolio, "FILE", file)


def _params(space: dict[str, Any], which: str = "portfolio") -> SearchParams:
    return SearchParams.model_validate({"starts": which, "space": space})


BASE = tiny.recipe(train__optimizer="adamw", train__schedule="cosine")


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ({"train.learning_rate": RATES}, [{"train.learning_rate": 0.01}]),
        (
            {"train.learning_rate": RATES, "train.optimizer": OPTIMIZERS, "train.momentum": MOMENTUM},
            [
                {"train.learning_rate": 0.01, "train.optimizer": "adamw"},
                {"train.learning_rate": 0.05, "train.optimizer": "sgd", "train.momentum": 0.8},
            ],
        ),
        (
            {"train.learning_rate": RATES, "train.epochs": {"low": 2, "high": 5}},
            [{"train.learning_rate": 0.01}],
        ),
        (
            {"train.learning_rate": RATES, "train.epochs": {"low": 2, "high": 20}},
            [{"train.learning_rate": 0.01, "train.epochs": 9}],
        ),
    ],
    ids=["the rate alone", "both optimizers", "epochs out of range are left open", "epochs in range"],
)
def test_starts_are_those_whose_decisive_values_the_space_has(
    space: dict[str, Any], expected: list[dict[str, Any]]
) -> None:
    assert starts(_params(space), BASE) == expected
    assert starts(_params(space, "none"), BASE) == []


def test_space_that_has_no_start_is_refused_with_the_remedy() -> None:
    space = {"train.learning_rate": {"low": 1e-5, "high": 1e-4, "log": True}}
    with pytest.raises(InputError, match=r"none of the portfolio's 2 .* search.space, or as in train.*starts: none"):
        starts(_params(space), BASE)


def test_search_without_starts_is_the_study_that_it_was() -> None:
    space = {"train.learning_rate": RATES}
    before, now = (identity(_params(space, which), BASE, "d")["search"] for which in ("none", "portfolio"))
    assert "starts" not in before
    assert now["starts"] == "portfolio"


def test_thaw_search_looks_at_each_start_for_an_epoch(tmp_path: Path) -> None:
    def enqueue(study: optuna.Study) -> None:
        study.enqueue_trial({"train.learning_rate": 0.02, "train.epochs": 5, "train.optimizer": "adamw"})
        for values in (ADAMW, SGD):
            study.enqueue_trial(values, {START: "portfolio"})

    study, _ = search(tmp_path, params_of(max_epochs=12), before=enqueue, train__schedule="cosine")
    first = [(one.trial, one.until, one.how) for one in decided.read(study)][:3]
    assert first == [(0, 5, "enqueued"), (1, 1, "portfolio"), (2, 1, "portfolio")]


def test_portfolio_of_the_project_fits_the_space_of_params_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    from podium.api import load_params

    monkeypatch.undo()
    params = load_params(Path(__file__).parents[2] / "params.yaml", {"search.starts": "portfolio"})
    found = starts(params.search, params.recipe())
    assert 5 <= len(found) <= 10
    assert all({"train.optimizer", "train.learning_rate"} <= set(one) <= set(params.search.space) for one in found)
    assert any(set(DECISIVE) <= set(one) for one in found), "one with momentum"
