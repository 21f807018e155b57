"""How a process of Podium ends: an exit code and an error message for what a person can act on, a traceback for a bug,
and Ctrl-C and SIGTERM as the request to save and stop.
"""

import errno
import gc
import io
import os
import re
import signal
import sqlite3
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import util
from types import FrameType, TracebackType
from typing import TextIO

from podium import own_code
from podium.errors import InputError, PodiumError
from podium.text import one_line, reason_of

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
"""Errors of a disk that is full or can not be written: for a person to fix, not a bug."""
SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")
"""What numpy says of a disk that took a part of an array: it leaves the error's number out."""
POLL_SECONDS = 0.5
"""Time between two checks whether another process is still running."""
SOCKET_PATH = 103
"""Bytes of a socket's path that every system takes (unix(7): 107; macOS: 103)."""
SOCKET = "/pymp-abcdefgh/listener-abcdefgh"
"""As multiprocessing names one below the folder for temporary files."""
SHORT = "/tmp"  # noqa: S108 (folders in it are made by mkdtemp)


def run(main: Callable[[], object]) -> None:
    """Call `main`; exit 0 when it returns, or with the error's own code after printing its message to stderr."""
    print_any_name()
    _use_utf8()
    short_interrupts()
    try:
        _keep_sockets_short()
        main()
        sys.stdout.flush()
        _discard_unwritable()  # warnings that a full disk did not take: they are no result
        gc.freeze()  # no last collection over what torch and mlflow made: leaving takes 0.3 s instead of 1.6 s
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        _discard(sys.stdout)
        _discard_unwritable()
    except own_code.RAISED as error:
        if not (message := message_of(error)):
            raise
        with suppress(OSError):  # nobody reads it: the exit code says it
            print("podium: " + "\n".join(map(one_line, message.split("\n"))), file=sys.stderr)
        _discard_unwritable()
        sys.exit(error.exit_code if isinstance(error, PodiumError) else PodiumError.exit_code)


def message_of(error: BaseException) -> str:
    """What a person can do about `error`, with its reason; empty: it is a bug, whose traceback is needed.

    A bug of people's own code is told by its file and line.
    """
    if isinstance(error, PodiumError):
        return str(error) or type(error).__name__
    failure = own_code.failure(error)
    place = own_code.place_of(error) if failure else ""
    if isinstance(error, OSError) and (error.errno in DISK_ERRORS or SHORT_WRITE.fullmatch(str(error))):
        return _disk_message(error, place)
    if failure and not _is_of_mlflow(error):  # a database of their own
        return failure
    return one_line(_store_message(error, place)) or failure


@contextmanager
def unread_output() -> Iterator[None]:
    """Within the block the reader of what is printed, such as `head`, may close the pipe: the program goes on after it,
    where its exit code says more than whether it could print.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)


def print_if_possible(text: str, stream: TextIO) -> None:
    """Print a line that nothing depends on: where its disk is full or its reader gone, the program goes on."""
    try:
        print(text, file=stream, flush=True)
    except OSError:
        if stream is sys.stdout:  # on stderr more will come, which may be written again by then
            _discard(stream)


def _discard_unwritable() -> None:
    """Drop what can't be printed any more. Python would try again at its end, and make the exit code 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _discard(stream)


def _discard(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_any_name() -> None:
    """Let what is printed hold any character: where the terminal's encoding lacks one, its escape is shown."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _use_utf8() -> None:
    """Start this process again in Python's UTF-8 mode where its locale has no UTF-8.

    Else a name that is not ASCII, such as that of the project's folder, could not be handed to a database.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1" and sys.orig_argv[0]:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {"PYTHONUTF8": "1"})  # noqa: S606


def short_interrupts() -> None:
    """Let Ctrl-C end this process with one line instead of a traceback, also while it is still importing."""
    sys.excepthook = _except


def _except(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("podium: interrupted; run the same command again to continue", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def run_stage(main: Callable[[], object]) -> None:
    """The same for a stage: it ends with the `dvc repro` that started it, as on SIGTERM.

    Otherwise a stage whose DVC was killed would run on unnoticed, and block or repeat the work of the next `dvc repro`.
    A stage takes no arguments: `--help` is answered, and anything else refused before the stage has touched a file.
    """
    if given := sys.argv[1:]:
        main = partial(_explain, given)
    if "DVC_STAGE" in os.environ:
        end_with(os.getppid())
    run(main)


def _explain(given: list[str]) -> None:
    """Print what the stage that was started does. Raises InputError for other arguments than --help."""
    if not set(given) & {"-h", "--help"}:
        raise InputError(f"a stage takes no arguments: params.yaml has its settings; got {' '.join(given)}")
    print(f"{sys.modules['__main__'].__doc__ or ''}\nIt takes no arguments: params.yaml has its settings.")


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM within the block; a second one ends the process at once."""
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ignored_signals() -> Iterator[None]:
    """A process that is started within the block ignores Ctrl-C and SIGTERM, until it answers them itself.

    Sent to the whole group they are ours to answer, and that process is still needed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _disk_message(error: OSError, place: str) -> str:
    """What to do about a disk; `place` is the line of people's own code that wrote to it, empty: it was Podium."""
    where = f"{error.filename}: " if error.filename else ""
    return (
        f"{where}{error.strerror or os.strerror(errno.ENOSPC)}{place}. What was recorded before is complete; free some"
        " space or make it writable, then run the same again: it resumes from there (`df -h` shows the space, `podium"
        " gc` frees some)"
    )


STORES = {"mlflow.exceptions.MlflowException", "sqlalchemy.exc.OperationalError", "sqlite3.OperationalError"}
"""What raises where a database or a tracking server fails; by name, since few processes import these packages."""


def _store_message(error: BaseException, place: str) -> str:
    """What to do about an MLflow store that fails in the middle of the work; empty: it is another error.

    `place` is the line of people's own code that called it, empty: it was Podium.

    MLflow's own exception says of itself whether the store failed or the call was wrong by what caused it.
    """
    if not any(f"{one.__module__}.{one.__qualname__}" in STORES for one in type(error).__mro__):
        return ""
    causes = list(_causes(error))
    local = next((one for one in causes if isinstance(one, sqlite3.OperationalError)), None)
    if local is None and not any(isinstance(one, OSError) for one in causes):
        return ""
    reason = reason_of(local or error)
    remedy = "See that the server is running and can be reached"
    if local is not None:
        remedy = "Free some space or make it writable (`df -h` shows the space, `podium gc` frees some)"
        if "locked" in reason:
            remedy = "Another program has locked it for longer than MLflow waits: end that, or wait for it"
    return (
        f"tracking.uri: MLflow's store failed: {reason}{place}. What was recorded before is"
        f" complete. {remedy}, then run the same again: it resumes from there"
    )


def _is_of_mlflow(error: BaseException) -> bool:
    """Whether `error` arose in MLflow, or in what that called."""
    modules = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(module.partition(".")[0] == "mlflow" for module in modules)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and what it was raised from or while handling."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__


def end_with(parent: int) -> None:
    """From now on end this process, as on SIGTERM, once `parent`, which started it, is gone."""
    threading.Thread(target=_end_with, args=(parent,), name="podium-parent", daemon=True).start()


def _end_with(parent: int) -> None:
    never = threading.Event()
    while os.getppid() == parent:
        never.wait(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def _keep_sockets_short() -> None:
    """Let multiprocessing make its sockets in /tmp where TMPDIR is so long that no socket can be made below it.

    Raises InputError if that can't be written either.
    """
    if all(len(os.fsencode(os.environ.get(name, "") + SOCKET)) <= SOCKET_PATH for name in ("TMPDIR", "TEMP", "TMP")):
        return
    given = tempfile.gettempdir()
    if len(os.fsencode(given + SOCKET)) <= SOCKET_PATH:
        return
    tempfile.tempdir = SHORT
    try:
        util.get_temp_dir()  # it is kept, handed down to children, and removed at the end
    except OSError as error:
        raise InputError(
            f"TMPDIR is too long for the path of a socket ({given}: at most {SOCKET_PATH - len(SOCKET)} bytes), and"
            f" {SHORT} can't be written: {error.strerror}. Set TMPDIR to a shorter folder"
        ) from None
    finally:
        tempfile.tempdir = given
