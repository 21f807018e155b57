from pathlib import Path

import pytest

import tiny
from own import OwnCode
from podium.config.params import RuntimeParams
from podium.errors import PodiumError
from podium.tuning.messages import Ended, Event, Report, Task
from podium.tuning.pools.inline import open_inline
from tuning.scripted import states
from tuning.sessions import Killer, search

INLINE = RuntimeParams(engine="inline", device="cpu")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare(tmp_path_factory.mktemp("prepared"))


def test_images_that_cannot_be_loaded_end_the_search_and_charge_no_trial(prepared: Path, tmp_path: Path) -> None:
    message = r"no worker can begin a trial \(10 in a row could not\): trial 0: .*dataset.json is missing"
    with pytest.raises(PodiumError, match=message):
        search(tmp_path, open_inline(tmp_path / "nowhere", INLINE), 2)
    assert states(search(tmp_path, open_inline(prepared, INLINE), 2)) == ["COMPLETE"] * 2


def test_closing_ends_a_trial_in_its_middle(prepared: Path, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop() -> None:
        raise StopError("enough")

    pool = open_inline(prepared, INLINE)
    with pytest.raises(StopError, match="enough"):
        search(tmp_path, pool, 2, Killer(0, 1, stop))
    assert not pool._thread.is_alive()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def f(run):\n    raise SystemExit(0)\n", "line 2, in f: SystemExit: 0"),
        ("def f(run):\n    raise ValueError('x')\n", "line 2, in f: ValueError: x"),
    ],
    ids=["ends", "fails"],
)
def test_own_code_that_ends_the_program_fails_its_trial(
    own: OwnCode, prepared: Path, text: str, reason: str, tmp_path: Path
) -> None:
    module = own.write(text)
    pool = open_inline(prepared, INLINE)
    pool.submit(_task(tmp_path, module))
    (ended,) = pool.events(60)
    assert isinstance(ended, Ended)
    assert ended.reason.endswith(f"src/{module}.py, {reason}")
    pool.close()


def test_interrupt_within_own_code_reaches_the_driver(own: OwnCode, prepared: Path, tmp_path: Path) -> None:
    module = own.write("def f(run):\n    raise KeyboardInterrupt\n")
    pool = open_inline(prepared, INLINE)
    pool.submit(_task(tmp_path, module))
    with pytest.raises(KeyboardInterrupt):
        pool.events(60)


def test_trial_that_is_abandoned_is_heard_of_no_more_and_the_next_one_is_trained(
    own: OwnCode, prepared: Path, tmp_path: Path
) -> None:
    module = own.write(
        "def f(network, run):\n    for epoch in (1, 2):\n        run.report(epoch, val_accuracy=0.5)\n"
        "    return network()\n"
    )
    pool = open_inline(prepared, INLINE)
    pool.submit(_task(tmp_path, module))
    (report,) = pool.events(60)
    assert isinstance(report, Report)
    pool.abandon([0])
    pool.answer(report, go_on=True)
    pool.submit(_task(tmp_path, module, number=1))
    heard: list[Event] = []
    while not any(isinstance(one, Ended) for one in heard):
        for event in pool.events(60):
            heard.append(event)
            if isinstance(event, Report):
                pool.answer(event, go_on=True)
    pool.close()
    assert {event.number for event in heard} == {1}
    assert isinstance(heard[-1], Ended)
    assert heard[-1].how == "finished"


def _task(folder: Path, module: str, number: int = 0) -> Task:
    recipe = tiny.recipe(train__program=f"{module}:f")
    return Task(number, 1, 0, recipe.nested(), str(folder / f"{number}.pt"), 1e9)
