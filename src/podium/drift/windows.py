"""The windows of one version, in a folder that any number of workers and servers share.

    open.npz               the window that is being filled
    windows/000012.npz     a window that is complete, with what the tests said in 000012.json
    lock

A writer takes the lock, reads the open window, merges its own images into it and puts the file in its place. Each file
is written whole beside its name and renamed, so a process that is killed at any moment leaves whole files, and what it
had not merged yet (about a second's images) is lost; nothing is counted twice. The kernel releases its lock. What is
damaged a writer puts aside (*.damaged), so that a server goes on; a reader names it.
"""

import re
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from podium import paths
from podium.config.run_sections import DriftParams
from podium.drift.reference import Reference
from podium.drift.sketch import Sketch
from podium.drift.window_verdict import FEWEST, Verdict, compare
from podium.errors import InputError, PodiumError
from podium.locks import locked

OPEN, CLOSED, LOCK = "open.npz", "windows", "lock"
DAMAGED = ".damaged"
NUMBERED = re.compile(r"(\d{6,})\.\S+", re.ASCII)
"""Files of a complete window."""
PATIENCE = 10.0
"""Seconds to wait for the lock: whoever has it needs milliseconds, unless it is stopped."""
_VERDICT = TypeAdapter(Verdict)


@dataclass(frozen=True)
class Rules:
    """When a window is complete, how many are kept, and when one has drifted."""

    images: int | None
    """A window with so many images is complete; None: none is by its images."""
    hours: float
    """One whose first image is older than this is complete too, with FEWEST images or more."""
    keep: int
    """Complete windows that are kept; older ones are removed."""
    false_alarm: float
    """The chance that any window of a version is called drifted by chance."""
    min_effect: float

    @staticmethod
    def of(params: DriftParams) -> "Rules":
        """Those of the section `drift`."""
        return Rules(params.window, params.hours, params.keep, params.false_alarm, params.min_effect)


def folder_of(params: DriftParams, name: str, number: int, digest: str) -> Path:
    """Where the windows of version `number` of model `name` are; `digest`: of the version's files.

    A version that was deleted, and whose number was given again, has another folder.
    """
    base = Path(params.folder) if params.folder else paths.mlruns() / "drift"
    return base / name / f"{number}-{digest[:12]}"


class DamagedError(InputError):
    """The file `path` is not what was written there."""

    def __init__(self, path: Path, what: str, remedy: str = "move it away, and what it counted is left out") -> None:
        super().__init__(f"{what}; {remedy}")
        self.path, self.what = path, what


class Windows:
    """The folder of a version with the statistics `reference`."""

    def __init__(
        self,
        folder: Path,
        reference: Reference,
        rules: Rules,
        clock: Callable[[], float] = time.time,
        tell: Callable[[str], object] = lambda _: None,
    ) -> None:
        """`tell` is called with what went wrong where `add` goes on all the same."""
        self.folder, self.reference, self.rules, self.clock, self.tell = folder, reference, rules, clock, tell
        self.limit = 1.0
        """Images that draw this number or more would not be kept, as the open window was seen last."""

    def begin(self) -> None:
        """Make the folder, which says that statistics are kept, before any image has come. Raises PodiumError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_written(self.folder, error) from None

    def fresh(self) -> Sketch:
        """An empty sketch of this version's features."""
        return Sketch(self.reference.names, len(self.reference.classes))

    def add(self, sketch: Sketch) -> Verdict | None:
        """Merge `sketch` into the open window; the verdict on that window where it is complete by that.

        Raises PodiumError where the folder can't be written, or its lock is held for PATIENCE seconds; then nothing of
        `sketch` is in it. Where the window can't be closed or tested, all of `sketch` is in it: that is told, not
        raised, and done by a later `add`. Damaged files are put aside, and told.
        """
        with self._alone():
            whole = self._open_or_aside()
            whole.merge(sketch)
            self._write(self.folder / OPEN, whole.to_bytes())
            self.limit = whole.limit
            try:
                return self._closed_and_judged(whole)
            except Exception as error:  # whatever it is: who hears of an error adds the same images again
                self.tell(str(error) or type(error).__name__)
                return None

    def settle(self) -> list[Verdict]:
        """The verdicts on every window that is kept, the oldest first; those that are due are closed and judged.

        Raises InputError for a damaged file.
        """
        if not self.folder.is_dir():
            return []
        with self._alone():
            self._closed_if_due(self.opened())
            return [self._verdict(number) for number in self.numbers()]

    def opened(self) -> Sketch:
        """The window that is being filled. Raises InputError where its file is damaged."""
        return self._read(self.folder / OPEN) or self.fresh()

    def newest(self) -> Verdict | None:
        """The verdict on the newest complete window; None where there is none, or it is being tested.

        Needs no lock and writes nothing. Raises InputError where its file is damaged.
        """
        numbers = self.numbers()
        return self._stored(numbers[-1]) if numbers else None

    def numbers(self) -> list[int]:
        """Numbers of the complete windows that are kept, rising. Raises InputError where the folder can't be read."""
        return sorted(number for number, name in self._names() if name == self._path(number).name)

    def sketch(self, number: int) -> Sketch:
        """A complete window. Raises InputError where it is not there or damaged."""
        found = self._read(self._path(number))
        if found is None:
            raise InputError(f"{self._path(number)} is missing: that window is no longer stored (drift.keep)")
        return found

    def _alone(self) -> AbstractContextManager[None]:
        return locked(self.folder / LOCK, wait=True, seconds=PATIENCE)

    def _path(self, number: int) -> Path:
        return self.folder / CLOSED / f"{number:06}.npz"

    def _names(self) -> list[tuple[int, str]]:
        """The files of complete windows, each with the window's number."""
        try:
            # Not glob, which takes a folder that can't be read for an empty one.
            names = [path.name for path in (self.folder / CLOSED).iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise InputError(f"{self.folder / CLOSED} can't be read: {error.strerror} (drift.folder)") from None
        return [(int(found[1]), name) for name in names if (found := NUMBERED.fullmatch(name))]

    def _open_or_aside(self) -> Sketch:
        """The open window; a damaged one is put aside, so that a server goes on."""
        try:
            return self.opened()
        except DamagedError as error:
            self._put_aside(error)
            return self.fresh()

    def _put_aside(self, error: DamagedError) -> None:
        aside = error.path.with_name(error.path.name + DAMAGED)
        try:
            error.path.replace(aside)
        except OSError as failure:
            raise _not_written(self.folder, failure) from None
        self.tell(f"{error.what}; it was moved aside as {aside.name}")

    def _read(self, path: Path) -> Sketch | None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"{path} can't be read: {error.strerror} (drift.folder)") from None
        try:
            found = Sketch.from_bytes(data, str(path))
        except InputError as error:
            raise DamagedError(path, str(error)) from None
        if (found.features, found.classes) != (self.reference.names, len(self.reference.classes)):
            raise DamagedError(
                path, f"{path} is of another model: its features or classes are not those of this version"
            )
        return found

    def _closed_and_judged(self, window: Sketch) -> Verdict | None:
        """The verdict on the open window where it is complete; one that a kill left without a verdict gets it too."""
        closed = self._closed_if_due(window)
        numbers = self.numbers()
        while numbers and self._path(numbers[-1]).is_file():
            try:
                verdict = self._verdict(numbers[-1])
                return verdict if numbers[-1] == closed else None
            except DamagedError as error:  # the verdict's file, and then the window's own
                self._put_aside(error)
        return None

    def _closed_if_due(self, window: Sketch) -> int | None:
        """The number of the open window where it is complete: its file is renamed, which can't be half done."""
        old = self.clock() - window.began >= 3600 * self.rules.hours
        full = self.rules.images is not None and window.count >= self.rules.images
        if not full and not (old and window.count >= FEWEST):
            return None
        names = self._names()
        number = max((one for one, _ in names), default=0) + 1
        try:
            (self.folder / CLOSED).mkdir(exist_ok=True)
            (self.folder / OPEN).rename(self._path(number))
            self.limit = 1.0
            for one, name in sorted(names, reverse=True):  # a window before its verdict
                if one <= number - self.rules.keep:
                    (self.folder / CLOSED / name).unlink(missing_ok=True)
            for left in self.folder.glob(f"{OPEN}.*.tmp"):  # by a kill: whoever writes has the lock
                left.unlink(missing_ok=True)
        except OSError as error:
            raise _not_written(self.folder, error) from None
        return number

    def _stored(self, number: int) -> Verdict | None:
        """What the tests said when the window was complete; None where they were not made yet."""
        path = self._path(number).with_suffix(".json")
        try:
            found = _VERDICT.validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"{path} can't be read: {error.strerror} (drift.folder)") from None
        except ValidationError as error:
            why = error.errors()[0]["msg"]
        else:
            if found.window == number:
                return found
            why = f"it is of window {found.window}"
        raise DamagedError(path, f"{path} is damaged: {why}", "remove it, and the window is tested again")

    def _verdict(self, number: int) -> Verdict:
        """The same; the tests are made now where a kill came in between."""
        if (found := self._stored(number)) is not None:
            return found
        verdict = compare(self.reference, self.sketch(number), number, self.rules.false_alarm, self.rules.min_effect)
        self._write(self._path(number).with_suffix(".json"), _VERDICT.dump_json(verdict, indent=2))
        return verdict

    def _write(self, path: Path, data: bytes) -> None:
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise _not_written(self.folder, error) from None


def _not_written(folder: Path, error: OSError) -> PodiumError:
    return PodiumError(f"{folder} can't be written: {error.strerror} (drift.folder)")
