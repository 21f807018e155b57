from pathlib import Path

import pytest

from podium.config import presets
from podium.config.params import Params, load, parse
from podium.errors import InputError

ROOT = Path(__file__).parents[1]
PRESETS = ROOT / "presets"


@pytest.fixture
def params(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    return path


@pytest.mark.parametrize("name", ["fashion-mnist", "folder", "photos", "scratch"])
def test_shipped_preset_makes_valid_params_that_say_what_it_says(params: Path, name: str) -> None:
    preset = parse((PRESETS / f"{name}.yaml").read_text(encoding="utf-8"))

    changed = presets.apply(name, PRESETS, params)

    assert "prepare.source" in changed
    assert load(params).prepare == preset.prepare
    assert load(params).register_ == preset.register_
    assert load(params).search.space == (preset.search.space or load(ROOT / "params.yaml").search.space)


def test_preset_keeps_what_it_does_not_name(params: Path) -> None:
    params.write_text(params.read_text(encoding="utf-8").replace("n_trials: 100 ", "n_trials: 7 "), encoding="utf-8")

    presets.apply("folder", PRESETS, params)

    text = params.read_text(encoding="utf-8")
    assert "# Trials in total, over every resume; raising it continues the same study" in text
    assert load(params).search.n_trials == 7
    assert load(params).evaluate == Params().evaluate


def test_preset_replaces_the_overrides_as_it_replaces_the_space(params: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("# mine\nsearch: {overrides: {train.cutmix: 0.5}}\n", encoding="utf-8")
    text = params.read_text(encoding="utf-8").replace("overrides: {}", "overrides: {train.ema: 0.9}")
    params.write_text(text, encoding="utf-8")

    presets.apply("mine", tmp_path, params)

    assert load(params).search.overrides == {"train.cutmix": 0.5}


def test_preset_applied_twice_changes_nothing_more(params: Path) -> None:
    presets.apply("folder", PRESETS, params)
    once = params.read_bytes()

    assert presets.apply("folder", PRESETS, params) == []
    assert params.read_bytes() == once


def test_unknown_preset_is_refused_with_the_one_that_was_meant(params: Path) -> None:
    with pytest.raises(InputError, match=r"no preset 'fashion-minst'; did you mean fashion-mnist\?"):
        presets.apply("fashion-minst", PRESETS, params)


def test_preset_that_makes_invalid_params_is_refused_and_nothing_is_written(params: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("# mine\ntrain: {batch_size: 0}\n", encoding="utf-8")
    before = params.read_bytes()

    with pytest.raises(InputError, match=r"with the preset mine has 1 problem:\n  train\.batch_size"):
        presets.apply("mine", tmp_path, params)
    assert params.read_bytes() == before


def test_every_preset_has_a_line_that_says_what_it_is() -> None:
    assert all(line for line in presets.names(PRESETS).values())
