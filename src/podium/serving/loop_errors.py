"""What the event loop reports beside the requests: in a sentence where a client or a limit of the machine is behind it.

Who can make a server write a traceback for each connection fills its disk.
"""

import asyncio
import errno
import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from podium.serving.listening import OUT_OF_FILES
from podium.text import one_line, reason_of

LOG = logging.getLogger("podium.serve")
AGAIN = 60.0
"""Seconds in which one sentence is not said again; the next time says how often it came meanwhile."""
PROTOCOLS = ("h11", "h2", "hpack", "hyperframe", "priority", "wsproto")
"""Packages whose errors say that a message breaks a protocol."""
SERVER = ("hypercorn", *PROTOCOLS)
NOT_CAUGHT = (KeyError, UnicodeError)
"""What hypercorn itself raises (0.18) for data on a closed stream of HTTP/2, and for a path that is no ASCII."""
OUT_OF_MEMORY = (errno.ENOBUFS, errno.ENOMEM)


class LoopErrors:
    """The exception handler of the server's event loop; `ended`: whether the server takes no connections any more."""

    def __init__(self, ended: Callable[[], bool]) -> None:
        self._ended = ended
        self._said: dict[str, tuple[float, int]] = {}
        """When each sentence was said last, and how often it came since."""

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what `context` reports (asyncio's `call_exception_handler`)."""
        error, message = context.get("exception"), str(context.get("message"))
        if isinstance(error, OSError) and error.errno in (*OUT_OF_FILES, *OUT_OF_MEMORY):
            # Reported a thousand times in a row: asyncio tries as often as there may be connections in the queue.
            remedy = " (ulimit -n)" if error.errno in OUT_OF_FILES else ""
            self._say(loop, f"no connection is taken until another ends: {error.strerror}{remedy}")
        elif isinstance(error, ValueError) and "_start_serving" in message and self._ended():
            return  # what it tries a second later, after all of that: the socket has been closed meanwhile
        elif isinstance(error, asyncio.CancelledError) and self._ended():
            return  # a connection that was still at work after serve.drain_seconds; the end of the server is logged
        elif "client_connected_cb" in message and error is not None:
            self._connection_failed(loop, error)
        else:
            loop.default_exception_handler(context)

    def _connection_failed(self, loop: asyncio.AbstractEventLoop, error: BaseException) -> None:
        """A connection ended with `error`, and only that one. A network that breaks is nothing to say."""
        others = [one for one in _leaves(error) if not isinstance(one, OSError)]
        for one in sorted(others, key=_is_of_the_client)[:1]:
            frame = traceback.extract_tb(one.__traceback__)[-1:]
            place = "".join(f" ({at.filename.rpartition('site-packages/')[2]}:{at.lineno})" for at in frame)
            said = f"{type(one).__name__}{place}"
            if _is_of_the_client(one):
                self._say(loop, f"a connection was closed: its client sent what HTTP does not allow: {said}")
                LOG.debug("%s", one_line(reason_of(one)))
            else:
                self._say(loop, f"a connection was closed by an error of this server: {said}", one)

    def _say(self, loop: asyncio.AbstractEventLoop, sentence: str, error: BaseException | None = None) -> None:
        """Log `sentence`, with the traceback of `error`."""
        now = loop.time()
        said, times = self._said.get(sentence, (float("-inf"), 0))
        if now - said < AGAIN:
            self._said[sentence] = said, times + 1
            return
        self._said[sentence] = now, 0
        LOG.error("%s%s", sentence, f" ({times:,} times more in the meantime)" if times else "", exc_info=error)


def _is_of_the_client(error: BaseException) -> bool:
    """Whether what the client sent is behind `error`; all else is a bug or a lack of this process."""
    if type(error).__module__.partition(".")[0] in PROTOCOLS:
        return not type(error).__name__.startswith("Local")  # what this side did against the protocol
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return isinstance(error, NOT_CAUGHT) and modules[-1:] != [] and modules[-1].partition(".")[0] in SERVER


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error
