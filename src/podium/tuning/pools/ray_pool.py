"""Workers as tasks of a Ray cluster: one task is one attempt at a trial, and Ray decides where it runs.

Ray repeats nothing by itself. A task that is lost with its worker or its node comes back to the driver, which hands the
trial out again under the next attempt's number: what an older attempt still sends is void, and its reports are
answered with an end.
"""

import queue
import threading
import time
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
from podium.text import counted
from podium.training import checkpoint
from podium.tuning.messages import Ended, Event, Lost, Report, Resumed, Task
from podium.tuning.pools.blame import Blame
from podium.tuning.pools.processes import BROKEN_IN_A_ROW
from podium.tuning.pools.ray_worker import CONCURRENT, Began, Mailbox, Message, Saved, Setup, train

LOOK_EVERY = 1.0
"""Seconds for which the cluster's resources are taken to be what they were."""
POLL = 1.0
"""Seconds that a question to the mailbox waits; an answer comes as soon as there is one."""
GONE = "its node is gone"
UNCHARGED = 10
"""Losses for which nobody knows the trial to be to blame; from then on each counts as one of its restarts."""


@dataclass
class _Attempt:
    """The newest attempt at a trial that has not ended."""

    task: Task
    reference: Any
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


class RayPool:
    """As many trials in flight as the cluster has room for, `at_most` at any time."""

    def __init__(self, prepared: Path, runtime: RuntimeParams, at_most: int) -> None:
        self._runtime = runtime
        self._at_most = at_most
        self._attempts: dict[int, _Attempt] = {}
        self._inbox: queue.Queue[Message | _Returned] = queue.Queue()
        self._pausing = False
        self._closing = threading.Event()
        self._looked = float("-inf")
        self._slots = 0
        self._nodes: set[str] = set()
        """Nodes that have room for a trial."""
        self._gone: set[str] = set()
        """Nodes that Ray has given up."""
        self._broken: Counter[str] = Counter()
        """How many workers of a node were broken since a trial ended there."""
        self._blame: Blame[str] = Blame()
        self._suspect: set[str] = set()
        """Nodes on which one worker after another died in its trial."""
        self._died_on: dict[int, set[str]] = {}
        """Nodes on which workers of a trial have died: it is handed to others."""
        self._uncharged: Counter[int] = Counter()
        """Losses of a trial that it was not charged for."""
        self._shared = is_shared(runtime)
        with ExitStack() as stack:
            stack.enter_context(cluster.opened(runtime, (runtime.workers or resources.cores()) * runtime.trial_cpus))
            self._reserved = cpus, gpus = cluster.check_fits(cluster.nodes(), runtime)
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
        self._look()
        return min(max(self._slots + self._runtime.queued, 1), self._at_most)

    def submit(self, task: Task) -> None:
        """Hand `task` to Ray, with its checkpoint where the nodes share no folder."""
        path = Path(task.checkpoint)
        content = path.read_bytes() if not self._shared and path.is_file() else None
        train = self._train
        if avoided := self._avoided(self._died_on.get(task.number, set())):
            train = train.options(label_selector={"ray.io/node-id": f"!in({','.join(avoided)})"})
        reference = train.remote(task, self._setup, content)
        self._attempts[task.number] = _Attempt(task, reference)
        reference.future().add_done_callback(lambda f: self._inbox.put(_Returned(task.number, task.attempt, f)))

    def events(self, timeout: float) -> list[Event]:
        """What has arrived, within `timeout` seconds."""
        items = []
        with suppress(queue.Empty):
            items.append(self._inbox.get(timeout=timeout))
        while not self._inbox.empty():
            items.append(self._inbox.get_nowait())
        events = [self._read(item) for item in items]
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
        for attempt in self._attempts.values():
            ray.cancel(attempt.reference, force=True)
        ray.kill(self._mailbox)
        self._opened.close()

    def worker_of(self, number: int) -> Began | None:
        """Where trial `number` runs; None while it waits for a place."""
        attempt = self._attempts.get(number)
        return attempt.began if attempt is not None else None

    def _look(self) -> None:
        """See which nodes there are, unless that was just seen."""
        if time.monotonic() - self._looked >= LOOK_EVERY:
            nodes = cluster.nodes()
            self._nodes = {n["NodeID"] for n in nodes if cluster.slots([n], *self._reserved)}
            avoided = self._avoided()
            self._slots = cluster.slots((n for n in nodes if n["NodeID"] not in avoided), *self._reserved)
            self._gone = {node["NodeID"] for node in nodes if not node["Alive"]}
            self._looked = time.monotonic()

    def _lost_with_their_nodes(self) -> list[Event]:
        """Trials of nodes that Ray has given up.

        Where a network or a machine goes silently, Ray itself waits for the connection to time out before it reports
        of a task that it is lost: it had not after 90 s.
        """
        self._look()
        there = [a for a in self._attempts.values() if a.began is not None and a.began.node in self._gone]
        return [self._lose(attempt, GONE) for attempt in there]

    def _lose(self, attempt: _Attempt, how: str) -> Lost:
        task, began = attempt.task, attempt.began
        del self._attempts[task.number]
        where = f" ({began.where})" if began else ""
        lost = Lost(task.number, task.attempt, f"its worker{where} is lost: {how}")
        if began is not None and began.ready and how != GONE:
            return self._died(lost, began.node)
        if began is not None and not began.ready:
            self._broken[began.node] += 1
        self._uncharged[task.number] += 1
        reason = lost.reason if began is not None and began.ready else f"{lost.reason}, before it began"
        return replace(lost, reason=reason, charged=self._uncharged[task.number] > UNCHARGED)

    def _died(self, lost: Lost, node: str) -> Lost:
        """`lost`, by a worker of `node` that died in its trial; where they all do there, it is not charged."""
        self._died_on.setdefault(lost.number, set()).add(node)
        others = self._nodes - {node, *self._avoided()}
        verdict, cleared = self._blame.died(node, lost.number, others=bool(others))
        self._suspect -= cleared
        if verdict == "trial":
            return lost
        self._suspect.add(node)
        again = "one worker after another died on its node; the trial is tried on another"
        return replace(lost, reason=f"{lost.reason}; {again}", charged=False)

    def _works(self, attempt: _Attempt, ended: Ended) -> Ended:
        """`ended`, with what that says of the nodes."""
        if attempt.began is None or ended.how == "interrupted":
            return ended
        if ended.how in ("failed", "infeasible"):
            self._suspect -= self._blame.dropped(ended.number)
        elif broken := self._blame.worked(attempt.began.node, ended.number):
            note = (
                f"no more trials go to the {counted(len(broken), 'node')} on which workers of trial {ended.number} died"
            )
            return replace(ended, notes=[*ended.notes, f"{note}: it works on another"])
        return ended

    def _give_up(self, attempt: _Attempt, lost: Lost) -> Lost:
        """A worker reports that it is broken, and exits."""
        del self._attempts[lost.number]
        if attempt.began is None:
            return lost
        self._broken[attempt.began.node] += 1
        return replace(lost, reason=lost.reason.replace("its worker", f"its worker ({attempt.began.where})", 1))

    def _avoided(self, more: Collection[str] = ()) -> list[str]:
        """Nodes whose workers are broken again and again, or die in their trials, and `more`; as long as there are
        others.
        """
        broken = {node for node, count in self._broken.items() if count >= BROKEN_IN_A_ROW} | self._suspect
        for avoided in ({*broken, *more}, broken):
            if self._nodes - avoided:
                return sorted(avoided)
        return []

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
        attempt = self._attempts.get(item.number)
        if attempt is None or attempt.task.attempt != item.attempt:
            if isinstance(item, Report):  # of a worker that was thought dead
                self._mailbox.answer.remote(item.number, item.attempt, False)
            return None
        if isinstance(item, Began):
            attempt.began = item
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
        """A node on which another worker gets on is not to blame as a whole: one of its GPUs may be."""
        node = attempt.began and attempt.began.node
        if node and sum(one.began is not None and one.began.node == node for one in self._attempts.values()) > 1:
            self._blame.alive(node)

    def _ended(self, attempt: _Attempt, returned: _Returned) -> Event:
        number, tried = returned.number, returned.attempt
        error = returned.future.exception()
        if error is None:
            ended: Ended = returned.future.result()
            if attempt.began is not None:
                self._broken.pop(attempt.began.node, None)
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
