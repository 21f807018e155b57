"""A driver killed before each of its writes: the search that goes on is the search that was never disturbed."""

from pathlib import Path

import pytest

from podium.config.params import SearchParams
from tuning.killing import KilledError, Workers, kill_before, parameters, search, table


def _kill_everywhere(folder: Path, params: SearchParams, every: int, checkpoints: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        count = kill_before(-1, patch)
        undisturbed = table(search(folder / "undisturbed", params, Workers(checkpoints=checkpoints)))
        writes = count()
    assert {row["state"] for row in undisturbed} >= {"COMPLETE"}
    wrong = []
    for write in range(0, writes, every):
        workers = Workers(checkpoints=checkpoints)
        with pytest.MonkeyPatch.context() as patch:
            kill_before(write, patch)
            with pytest.raises(KilledError, match=r"^$"):
                search(folder / str(write), params, workers)
        if table(search(folder / str(write), params, workers)) != undisturbed:
            wrong.append(write)
    assert wrong == [], f"out of {writes} writes"


@pytest.mark.parametrize("checkpoints", [True, False])
def test_killed_search_is_the_samesearch(tmp_path: Path, checkpoints: bool) -> None:
    _kill_everywhere(tmp_path, parameters("median", "tpe"), every=17, checkpoints=checkpoints)


@pytest.mark.slow
@pytest.mark.parametrize("checkpoints", [True, False])
@pytest.mark.parametrize("pruner", ["none", "median", "halving", "hyperband"])
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_search_killed_before_any_write_is_the_samesearch(
    tmp_path: Path, pruner: str, sampler: str, checkpoints: bool
) -> None:
    _kill_everywhere(tmp_path, parameters(pruner, sampler), every=1, checkpoints=checkpoints)
