"""Workers as tasks of a Ray cluster: one task is one attempt at a trial, and Ray decides where it runs.

Ray repeats nothing by itself. A task that is lost with its worker or its node comes back to the driver, which hands the
trial out again under the next attempt's number: what an older attempt still sends is void, and its reports are
answered with an end.
"""

import queue
import threading
from collections import Counter
from collections.abc import Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from podium import cluster, resources
from podium.config.params import RuntimeParams
from podium.data.shared import is_shared, share
from podium.training import checkpoint
from podium.tuning.messages import Ended, Event, Lost, Report, Resumed, Task
from podium.tuning.pools.ray_places import Places, Spot
from podium.tuning.pools.ray_worker import CONCURRENT, Began, Held, Mailbox, Message, Saved, Setup, train

POLL = 1.0
"""Seconds that a question to the mailbox waits; an answer comes as soon as there is one."""
GONE = "its node is gone"
UNCHARGED = 10
"""Losses for which nobody knows the trial to be to blame; from then on each counts as one of its restarts."""


@dataclass
class _Attempt:
    """The newest attempt at a trial that has not ended."""

    task: Task
    reference: Any = None
    """Ray's, of the task that it is."""
    began: Began | None = None
    reported: int = 0
    """The last epoch that it reported."""
    answered: bool | None = None
    """What was answered to that; None: not yet."""


@dataclass(frozen=True)
class _Returned:
    """A task has returned, or is lost."""

    number: int
    attempt: int
    future: Any
    reference: Any


class RayPool:
    """As many trials in flight as the cluster has room for, `at_most` at any time."""

    def __init__(self, prepared: Path, runtime: RuntimeParams, at_most: int) -> None:
        self._runtime = runtime
        self._at_most = at_most
        self._attempts: dict[int, _Attempt] = {}
        self._inbox: queue.Queue[Message | _Returned] = queue.Queue()
        self._pausing = False
        self._closing = threading.Event()
        self._holding: dict[Any, Spot] = {}
        """Tasks that hold GPUs which are given up."""
        self._died_on: dict[int, set[str]] = {}
        """Nodes on which workers of a trial have died: it is handed to others."""
        self._uncharged: Counter[int] = Counter()
        """Losses of a trial that it was not charged for."""
        self._shared = is_shared(runtime)
        with ExitStack() as stack:
            stack.enter_context(cluster.opened(runtime, (runtime.workers or resources.cores()) * runtime.trial_cpus))
            cpus, gpus = cluster.check_fits(cluster.nodes(), runtime)
            self.places = Places(cpus, gpus)
            self._mailbox = _open_mailbox()
            images, folder = share(prepared, runtime), str(Path.cwd()) if self._shared else ""
            self._setup = Setup(images, self._mailbox, runtime.device, runtime.threads, self._shared, folder, gpus)
            self._opened = stack.pop_all()
        # max_calls: a worker with a GPU trains one trial after another too, instead of being started for each.
        options: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus}
        self._train = ray.remote(**options, max_retries=0, max_calls=0)(train)
        self._thread = threading.Thread(target=self._listen, name="podium-mailbox", daemon=True)
        self._thread.start()

    @property
    def capacity(self) -> int:
        """Trials to have in flight: what fits on the nodes that are there now, and those that are to wait in line."""
        if self._runtime.workers:
            return min(self._runtime.workers, self._at_most)
        slots = self.places.slots() - len(self._holding)
        return min(max(slots + self._runtime.queued, 1), self._at_most)

    def submit(self, task: Task) -> None:
        """Hand `task` to Ray, with its checkpoint where the nodes share no folder."""
        self._attempts[task.number] = attempt = _Attempt(task)
        self._launch(attempt)

    def _launch(self, attempt: _Attempt) -> None:
        task, path = attempt.task, Path(attempt.task.checkpoint)
        content = path.read_bytes() if not self._shared and path.is_file() else None
        train = self._train
        if avoided := self.places.avoided(self._died_on.get(task.number, set())):
            train = train.options(label_selector={"ray.io/node-id": f"!in({','.join(avoided)})"})
        attempt.reference = reference = train.remote(task, self._setup, content, self.places.held())
        about = task.number, task.attempt
        reference.future().add_done_callback(lambda f: self._inbox.put(_Returned(*about, f, reference)))

    def events(self, timeout: float) -> list[Event]:
        """What has arrived, within `timeout` seconds."""
        items = []
        with suppress(queue.Empty):
            items.append(self._inbox.get(timeout=timeout))
        while not self._inbox.empty():
            items.append(self._inbox.get_nowait())
        events = [self._read(item) for item in items]
        self._let_go()
        return [event for event in events if event is not None] + self._lost_with_their_nodes()

    def answer(self, report: Report, go_on: bool) -> None:
        """Answer the worker of `report`."""
        attempt = self._attempts.get(report.number)
        if attempt is not None and attempt.task.attempt == report.attempt:
            attempt.answered = go_on
        self._mailbox.answer.remote(report.number, report.attempt, go_on)

    def abandon(self, numbers: Collection[int]) -> None:
        """Cancel the tasks of trials `numbers`, and kill their workers where they have one."""
        for number in numbers:
            if attempt := self._attempts.pop(number, None):
                ray.cancel(attempt.reference, force=True)

    def pause(self) -> None:
        """Have running trials saved at their next step, and take back those that wait for a place."""
        if not self._pausing:
            self._pausing = True
            self._mailbox.pause.remote()
        for attempt in self._attempts.values():
            if attempt.began is None:
                ray.cancel(attempt.reference, force=False)

    def close(self) -> None:
        """End every task and leave the cluster; checkpoints saved until now stay."""
        self._closing.set()
        self._thread.join()
        while not self._inbox.empty():  # checkpoints
            self._read(self._inbox.get_nowait())
        with suppress(ray.exceptions.RayError):  # whoever waits in the mailbox leaves it before it is closed
            ray.get(self._mailbox.pause.remote(), timeout=POLL)
        for reference in [*self._holding, *(attempt.reference for attempt in self._attempts.values())]:
            ray.cancel(reference, force=True)
        ray.kill(self._mailbox)
        self._opened.close()

    def worker_of(self, number: int) -> Began | None:
        """Where trial `number` runs; None while it waits for a place."""
        attempt = self._attempts.get(number)
        return attempt.began if attempt is not None else None

    def _hold(self, attempt: _Attempt, held: Held) -> Ended | None:
        """The task of `attempt` holds a GPU that is given up: hand the trial out again, under the same number."""
        if held.task != attempt.reference.task_id().hex():
            return None  # a mailbox that is started again repeats what was not answered
        self._holding[attempt.reference] = held.spot
        if self._pausing:
            return Ended(held.number, held.attempt, "interrupted")
        self._launch(attempt)
        return None

    def _let_go(self) -> None:
        """End tasks that hold a GPU which is not given up any more, or whose node is not used at all."""
        held = self.places.held()
        for reference in [one for one, spot in self._holding.items() if spot not in held]:
            del self._holding[reference]
            ray.cancel(reference, force=True)

    def _lost_with_their_nodes(self) -> list[Event]:
        """Trials of nodes that Ray has given up.

        Where a network or a machine goes silently, Ray itself waits for the connection to time out before it reports
        of a task that it is lost: it had not after 90 s.
        """
        self.places.look()
        there = [a for a in self._attempts.values() if a.began is not None and a.began.node in self.places.gone]
        return [self._lose(attempt, GONE) for attempt in there]

    def _lose(self, attempt: _Attempt, how: str) -> Lost:
        task, began = attempt.task, attempt.began
        del self._attempts[task.number]
        where = f" ({began.where})" if began else ""
        lost = Lost(task.number, task.attempt, f"its worker{where} is lost: {how}")
        if began is not None and began.ready and how != GONE:
            return self._died(lost, self._spot(began))
        if began is not None and not began.ready and how != GONE:
            self.places.broke(self._spot(began))
        self._uncharged[task.number] += 1
        reason = lost.reason if began is not None and began.ready else f"{lost.reason}, before it began"
        return replace(lost, reason=reason, charged=self._uncharged[task.number] > UNCHARGED)

    def _spot(self, began: Began) -> Spot:
        return self.places.spot(began.node, began.gpu)

    def _died(self, lost: Lost, spot: Spot) -> Lost:
        """`lost`, by a worker that died in its trial; where they all do in its place, it is not charged."""
        if not spot.gpu:
            self._died_on.setdefault(lost.number, set()).add(spot.node)
        if not self.places.died(spot, lost.number):
            return lost
        again = f"one worker after another died on {self.places.words(spot)}; the trial is tried on another"
        return replace(lost, reason=f"{lost.reason}; {again}", charged=False)

    def _works(self, attempt: _Attempt, ended: Ended) -> Ended:
        """`ended`, with what that says of the places."""
        if attempt.began is None or ended.how == "interrupted":
            return ended
        if ended.how in ("failed", "infeasible"):
            self.places.dropped(ended.number)
        elif note := self.places.worked(self._spot(attempt.began), ended.number):
            return replace(ended, notes=[*ended.notes, note])
        return ended

    def _give_up(self, attempt: _Attempt, lost: Lost) -> Lost:
        """A worker reports that it is broken, and exits."""
        del self._attempts[lost.number]
        if attempt.began is None:
            return lost
        self.places.broke(self._spot(attempt.began))
        return replace(lost, reason=lost.reason.replace("its worker", f"its worker ({attempt.began.where})", 1))

    def _listen(self) -> None:
        """Receive what arrives in the mailbox, until the pool closes and the mailbox is empty."""
        while True:
            closing = self._closing.is_set()
            try:
                messages: list[Message] = ray.get(self._mailbox.take.remote(0.0 if closing else POLL))
            except ray.exceptions.RayError:  # the mailbox was killed: Ray starts it again
                messages = []
                self._closing.wait(POLL)
            for message in messages:
                self._inbox.put(message)
            if closing:
                return

    def _read(self, item: Message | _Returned) -> Event | None:
        if isinstance(item, _Returned) and item.reference in self._holding:
            del self._holding[item.reference]
            return None
        attempt = self._attempts.get(item.number)
        of_another = isinstance(item, _Returned) and attempt is not None and item.reference != attempt.reference
        if attempt is None or attempt.task.attempt != item.attempt or of_another:
            if isinstance(item, Report):  # of a worker that was thought dead
                self._mailbox.answer.remote(item.number, item.attempt, False)
            return None
        if isinstance(item, Began):
            attempt.began = item
        elif isinstance(item, Held):
            return self._hold(attempt, item)
        elif isinstance(item, Saved):
            checkpoint.write(Path(attempt.task.checkpoint), item.content)
        elif isinstance(item, Resumed):
            return item
        elif isinstance(item, Report):
            return self._receive(attempt, item)
        elif isinstance(item, Lost):
            return self._give_up(attempt, item)
        else:
            return self._ended(attempt, item)
        return None

    def _receive(self, attempt: _Attempt, report: Report) -> Report | None:
        """`report`, unless it has arrived before: a mailbox that is started again repeats what was not answered."""
        epoch = int(report.epoch["epoch"])
        if epoch != attempt.reported:
            self._shows_life(attempt)
            attempt.reported, attempt.answered = epoch, None
            return report
        if attempt.answered is not None:
            self.answer(report, attempt.answered)
        return None

    def _shows_life(self, attempt: _Attempt) -> None:
        if attempt.began is not None:
            node = attempt.began.node
            there = sum(one.began is not None and one.began.node == node for one in self._attempts.values())
            self.places.reported(self._spot(attempt.began), alone=there == 1)

    def _ended(self, attempt: _Attempt, returned: _Returned) -> Event:
        number, tried = returned.number, returned.attempt
        error = returned.future.exception()
        if error is None:
            ended: Ended = returned.future.result()
            if attempt.began is not None:
                self.places.returned(self._spot(attempt.began))
            if ended.how != "interrupted":
                del self._attempts[number]
            return self._works(attempt, ended)
        if self._pausing and isinstance(error, ray.exceptions.TaskCancelledError):
            return Ended(number, tried, "interrupted")
        return self._lose(attempt, _how(error))


def _open_mailbox() -> Any:
    return ray.remote(Mailbox).options(max_concurrency=CONCURRENT, **cluster.on_this_node()).remote()


def _how(error: BaseException) -> str:
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "killed by Ray, for its node ran out of memory"
    if isinstance(error, ray.exceptions.NodeDiedError):
        return GONE
    if isinstance(error, ray.exceptions.WorkerCrashedError):
        return "killed, crashed, or its node is gone"
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
