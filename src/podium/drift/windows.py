"""The windows of one version, in a folder that any number of workers and servers share.

    open.npz               the window that is being filled
    windows/000012.npz     a window that is complete, with what the tests said in 000012.json
    lock

A writer takes the lock, reads the open window, merges its own images into it and puts the file in its place. Each file
is written whole beside its name and renamed, so a process that is killed at any moment leaves whole files, and what it
had not merged yet (about a second's images) is lost; nothing is counted twice. The kernel releases its lock.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from podium import paths
from podium.config.drift_section import DriftParams
from podium.drift.reference import Reference
from podium.drift.sketch import Sketch
from podium.drift.window_verdict import FEWEST, Verdict, compare
from podium.errors import InputError, PodiumError
from podium.locks import locked

OPEN, CLOSED, LOCK = "open.npz", "windows", "lock"
DAMAGED = ".damaged"
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


class Windows:
    """The folder of a version with the statistics `reference`."""

    def __init__(
        self, folder: Path, reference: Reference, rules: Rules, clock: Callable[[], float] = time.time
    ) -> None:
        self.folder, self.reference, self.rules, self.clock = folder, reference, rules, clock
        self.limit = 1.0
        """Images that draw this number or more would not be kept, as the open window was seen last."""

    def fresh(self) -> Sketch:
        """An empty sketch of this version's features."""
        return Sketch(self.reference.names, len(self.reference.classes))

    def add(self, sketch: Sketch) -> Verdict | None:
        """Merge `sketch` into the open window; the verdict on that window where it is complete by that.

        Raises PodiumError where the folder can't be written; then nothing of `sketch` is in it.
        """
        with self._alone():
            whole = self._open_or_aside()
            whole.merge(sketch)
            self._write(self.folder / OPEN, whole.to_bytes())
            self.limit = whole.limit
            return self._close_if_due(whole)

    def settle(self) -> list[Verdict]:
        """The verdicts on every window that is kept, the oldest first; those that are due are closed and judged.

        Raises InputError for a damaged file.
        """
        if not self.folder.is_dir():
            return []
        with self._alone():
            self._close_if_due(self.opened())
            return [self._verdict(number) for number in self.numbers()]

    def opened(self) -> Sketch:
        """The window that is being filled. Raises InputError where its file is damaged."""
        return self._read(self.folder / OPEN) or self.fresh()

    def newest(self) -> Verdict | None:
        """The verdict on the newest complete window. Raises InputError where its file is damaged."""
        numbers = self.numbers()
        return self._verdict(numbers[-1]) if numbers else None

    def numbers(self) -> list[int]:
        """Numbers of the complete windows that are kept, rising."""
        found = (self.folder / CLOSED).glob("*.npz")
        return sorted(int(path.stem) for path in found if path.stem.isdigit())

    def sketch(self, number: int) -> Sketch:
        """A complete window. Raises InputError where it is not there or damaged."""
        found = self._read(self._path(number))
        if found is None:
            raise InputError(f"{self._path(number)} is missing: that window is not kept any more (drift.keep)")
        return found

    def _alone(self) -> AbstractContextManager[None]:
        return locked(self.folder / LOCK, wait=True)

    def _path(self, number: int) -> Path:
        return self.folder / CLOSED / f"{number:06}.npz"

    def _open_or_aside(self) -> Sketch:
        """The open window; a damaged one is put aside, so that a server goes on."""
        try:
            return self.opened()
        except InputError:
            path = self.folder / OPEN
            path.replace(path.with_name(OPEN + DAMAGED))
            return self.fresh()

    def _read(self, path: Path) -> Sketch | None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"{path} can't be read: {error.strerror}") from None
        found = Sketch.from_bytes(data, str(path))
        if (found.features, found.classes) != (self.reference.names, len(self.reference.classes)):
            raise InputError(f"{path} is of another model: its features or classes are not those of this version")
        return found

    def _close_if_due(self, window: Sketch) -> Verdict | None:
        """The verdict on the open window where it is complete: its file is renamed, which can't be half done."""
        old = self.clock() - window.began >= 3600 * self.rules.hours
        full = self.rules.images is not None and window.count >= self.rules.images
        if not full and not (old and window.count >= FEWEST):
            return None
        kept = self.numbers()
        number = kept[-1] + 1 if kept else 1
        try:
            (self.folder / CLOSED).mkdir(exist_ok=True)
            (self.folder / OPEN).rename(self._path(number))
            for gone in kept[: max(0, len(kept) + 1 - self.rules.keep)]:
                self._path(gone).unlink(missing_ok=True)
                self._path(gone).with_suffix(".json").unlink(missing_ok=True)
        except OSError as error:
            raise _not_written(self.folder, error) from None
        self.limit = 1.0
        return self._verdict(number)

    def _verdict(self, number: int) -> Verdict:
        """What the tests said when the window was complete; they are made now where a kill came in between."""
        path = self._path(number).with_suffix(".json")
        try:
            found = _VERDICT.validate_json(path.read_bytes())
            if found.window != number:
                raise InputError(f"{path} is damaged: it is of window {found.window}")
            return found
        except FileNotFoundError:
            pass
        except ValidationError as error:
            raise InputError(
                f"{path} is damaged: {error.errors()[0]['msg']}; remove it, and the window is tested again"
            ) from None
        verdict = compare(self.reference, self.sketch(number), number, self.rules.false_alarm, self.rules.min_effect)
        self._write(path, _VERDICT.dump_json(verdict, indent=2))
        return verdict

    def _write(self, path: Path, data: bytes) -> None:
        temporary = path.with_name(path.name + ".tmp")
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError as error:
            raise _not_written(self.folder, error) from None


def _not_written(folder: Path, error: OSError) -> PodiumError:
    return PodiumError(f"{folder} can't be written: {error.strerror} (drift.folder)")
