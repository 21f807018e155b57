"""The study: where it is kept, what makes it this one and no other, and what it asks next.

A study's name is a digest of everything that decides its results. So raising the budget continues it, an edited
space or a changed image starts another one, and undoing the edit finds the first again.
"""

import hashlib
import json
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock  # the documented base class has no public name
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import FrozenTrial, TrialState

from podium.locks import locked
from podium.params import SearchParams
from podium.search.sampling import build_pruner, build_sampler
from podium.sections.recipe import Recipe

SYNC_SECONDS = 1.0
"""Seconds of reports that a power cut may take."""
NEUTRAL = {"n_trials", "timeout", "plateau", "trial_timeout", "max_failures", "space"}
"""Fields of SearchParams that say how long to search, not what a trial's result is (the space is named apart)."""


class KernelLock(BaseJournalFileLock):
    """The journal's lock, held through the kernel, which drops it with its holder.

    Optuna's own lock file outlives a killed driver and makes the next one wait for half a minute. Nobody else writes
    while the lock is held, so a last line without an end was left by a writer that died: it is cut off.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._held: ExitStack | None = None

    def acquire(self) -> bool:
        """Wait for the lock, then mend the journal's end."""
        with ExitStack() as stack:
            stack.enter_context(locked(self._journal.with_suffix(".lock"), wait=True))
            _cut_torn_line(self._journal)
            self._held = stack.pop_all()
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._held is not None:
            self._held.close()
            self._held = None


class _Journal(JournalFileBackend):
    """Optuna's journal file, brought to the disk at each trial's end and otherwise once a second.

    Optuna waits for the disk at each of a trial's thirty writes, 1 to 10 ms each, and a worker waits with it. What a
    killed process wrote is there all the same; a power cut may take a second of reports, never a trial that ended. A
    write that the disk refuses names the file.
    """

    def __init__(self, path: Path, lock: KernelLock) -> None:
        super().__init__(str(path), lock)
        self._synced = 0.0

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write `logs` at the end."""
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self._lock.acquire()
        try:
            # Buffered: a raw write that the disk takes a part of says so by a number, and loses the rest.
            with open(self._file_path, "ab") as file:  # noqa: PTH123 (Optuna keeps it as a string)
                file.write(text.encode())
                file.flush()
                if self._is_due(logs):
                    os.fsync(file.fileno())
                    self._synced = time.monotonic()
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._file_path) from error
        finally:
            self._lock.release()

    def _is_due(self, logs: list[dict[str, Any]]) -> bool:
        told = any(log["op_code"] == JournalOperation.SET_TRIAL_STATE_VALUES for log in logs)
        return told or time.monotonic() - self._synced >= SYNC_SECONDS


def open_storage(journal: Path) -> JournalStorage:
    """Optuna's journal file at `journal`, made where it does not exist."""
    journal.parent.mkdir(parents=True, exist_ok=True)
    lock = KernelLock(journal)
    if lock.acquire():
        lock.release()
    return JournalStorage(_Journal(journal, lock))


def identity(params: SearchParams, base: Recipe, data_digest: str, code_digest: str) -> dict[str, Any]:
    """Everything that decides what the trials of a search are; a dimension with a `when` has its field's value too."""
    fields, space = base.flat(), sorted(params.space.items())
    unread = set() if params.deterministic else {"batch"}
    return {
        "data": data_digest,
        "code": code_digest,
        "search": params.model_dump(exclude=NEUTRAL | unread),
        "space": {name: d.model_dump(exclude_defaults=True) for name, d in space},
        "fixed": {n: v for n, v in fields.items() if n not in params.space or params.space[n].when},
        "first": fields if params.defaults_first else {},
    }


def name_of(kind: str, facts: dict[str, Any]) -> str:
    """The study's name: its kind and a digest of its identity."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return f"{kind}-{digest[:12]}"


def open_study(storage: BaseStorage, name: str, params: SearchParams, facts: dict[str, Any]) -> optuna.Study:
    """The study called `name`, made where it does not exist."""
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        load_if_exists=True,
        direction="minimize" if params.metric == "loss" else "maximize",
        sampler=build_sampler(params, 0),
        pruner=build_pruner(params),
    )
    if "identity" not in study.user_attrs:
        study.set_user_attr("identity", facts)
    return study


def ask(study: optuna.Study, params: SearchParams) -> optuna.Trial:
    """The next trial of `study`; a waiting (enqueued) one comes first."""
    started = sum(t.state != TrialState.WAITING for t in study.get_trials(deepcopy=False))
    _prepare(study, params, started)
    return study.ask()


def take_up(study: optuna.Study, params: SearchParams, frozen: FrozenTrial) -> optuna.Trial:
    """A trial that a lost driver left RUNNING, as an object that can be asked and told again.

    Optuna's constructor for it is semi-public: this is the only place that uses it.
    """
    _prepare(study, params, frozen.number)
    return optuna.Trial(study, frozen._trial_id)


def _prepare(study: optuna.Study, params: SearchParams, number: int) -> None:
    """Sampler and pruner for trial `number`, both new: what they remember would not outlive a kill."""
    study.sampler = build_sampler(params, number)
    study.pruner = build_pruner(params)


def _cut_torn_line(journal: Path) -> None:
    """Drop an unfinished last line, which Optuna would take for a broken log."""
    if not journal.is_file():
        return
    with journal.open("rb+") as file:
        size = file.seek(0, 2)
        while size > 0:
            start = max(0, size - 65536)
            file.seek(start)
            block = file.read(size - start)
            newline = block.rfind(b"\n")
            if newline >= 0:
                file.truncate(start + newline + 1)
                return
            size = start
        file.truncate(0)
