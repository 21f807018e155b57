"""Workers that follow a script: the driver can't tell them from real ones, and nothing takes time."""

from collections.abc import Callable, Collection, Generator
from typing import Any

import optuna

from podium.config.params import SearchParams
from podium.training.epochs import Epoch
from podium.tuning.messages import Ended, Event, Lost, Report, Resumed, Task

PATIENCE = 50
"""Times that a driver may wait in vain before it counts as hanging."""
Script = Generator[Event, bool, None]
"""What a worker sends; it is resumed with the driver's answer to a report, or with anything after another event."""


class ScriptedPool:
    """A pool whose workers do, one event at a time and in turn, what `script(task)` yields."""

    def __init__(self, capacity: int, script: Callable[[Task], Script]) -> None:
        self.capacity = capacity
        self.script = script
        self.submitted: list[tuple[int, int]] = []
        """Number and attempt of each task."""
        self.answers: dict[tuple[int, int], bool] = {}
        """The last answer by number and epoch."""
        self.paused = False
        self.closed = False
        self.polls = 0
        self._idle = 0
        self._running: list[tuple[Task, Script, Report | None]] = []

    def submit(self, task: Task) -> None:
        assert len(self._running) < self.capacity, "a task for more workers than there are"
        self.submitted.append((task.number, task.attempt))
        self._running.append((task, self.script(task), None))

    def events(self, timeout: float) -> list[Event]:
        self.polls += 1
        if not self._running:
            self._idle += 1
            assert self._idle < PATIENCE, "the driver waits for workers that have nothing to do"
            return []
        task, script, asked = self._running.pop(0)
        if self.paused:
            return [Ended(task.number, task.attempt, "interrupted")]
        event = next(script) if asked is None else script.send(self.answers[asked.number, int(asked.epoch["epoch"])])
        stale = (event.number, event.attempt) != (task.number, task.attempt)
        if stale or isinstance(event, Report | Resumed):
            self._running.append((task, script, event if isinstance(event, Report) and not stale else None))
        return [event]

    def answer(self, report: Report, go_on: bool) -> None:
        self.answers[report.number, int(report.epoch["epoch"])] = go_on

    def abandon(self, numbers: Collection[int]) -> None:
        left = [one for one in self._running if one[0].number not in numbers]
        self.capacity -= len(self._running) - len(left)  # processes are killed, and their places given up
        self._running = left

    def pause(self) -> None:
        self.paused = True

    def close(self) -> None:
        self.closed = True


def epoch(number: int, value: float = 0.5) -> Epoch:
    """An epoch that a worker could have sent."""
    return {
        "epoch": number,
        "train_loss": 1.0 - value,
        "learning_rate": 0.1,
        "val_loss": 1.0 - value,
        "val_accuracy": value,
        "seconds": 0.01,
    }


def finishes(task: Task, value: float = 0.5, first: int = 1) -> Script:
    """Train every epoch from `first` on, and obey the driver."""
    history = [epoch(number, value) for number in range(1, first)]
    for number in range(first, task.recipe["train"]["epochs"] + 1):
        history.append(epoch(number, value))
        if not (yield Report(task.number, task.attempt, history[-1])):
            yield Ended(task.number, task.attempt, "stopped", history)
            return
    yield Ended(task.number, task.attempt, "finished", history)


def prunes(task: Task) -> Script:
    """Be stopped after the first epoch, whatever the driver says."""
    yield Report(task.number, task.attempt, epoch(1))
    yield Ended(task.number, task.attempt, "stopped", [epoch(1)])


def fails(task: Task) -> Script:
    """Raise an error at once."""
    yield Ended(task.number, task.attempt, "failed", reason=f"ValueError: no {task.number}", trace="Traceback")


def dies(task: Task) -> Script:
    """Be killed after the first epoch."""
    yield Report(task.number, task.attempt, epoch(1))
    yield Lost(task.number, task.attempt, "its worker was killed by SIGKILL")


def hangs(task: Task) -> Script:
    """Send nothing that the driver can use."""
    while True:
        yield Report(task.number, task.attempt + 100, epoch(1))


def in_turn(*scripts: Callable[[Task], Script]) -> Callable[[Task], Script]:
    """The scripts one after the other, by the trial's number."""
    return lambda task: scripts[task.number % len(scripts)](task)


class Recorder:
    """A watcher that remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.histories: dict[int, list[Epoch]] = {}
        self.rests: list[tuple[int, int]] = []
        self.told: list[tuple[int, str]] = []

    def running(self, trial: Any, history: list[Epoch]) -> None:
        self.histories[trial.number] = list(history)

    def rested(self, trial: Any, history: list[Epoch]) -> None:
        self.rests.append((trial.number, len(history)))

    def ended(self, trial: Any) -> None:
        self.told.append((trial.number, trial.state.name))

    def note(self, line: str) -> None:
        self.lines.append(line)


def states(study: optuna.Study) -> list[str]:
    """Each trial's state, by number."""
    return [trial.state.name for trial in study.get_trials(deepcopy=False)]


def search_params(**fields: Any) -> SearchParams:
    """A search over one field, without what the fields replace."""
    space = {"train.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}
    return SearchParams.model_validate({"sampler": "random", "pruner": "none", "space": space} | fields)
