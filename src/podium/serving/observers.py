"""What else is done with answered requests, off the answer's path: each observer has a thread and a bounded queue.

An observer can't change an answer, and nothing that it does or raises reaches a client.
"""

import logging
import os
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from podium import process
from podium.text import one_line

LOG = logging.getLogger("podium.serve")
NICE = 10
"""By how much an observer's thread is less urgent than those that answer (Linux: niceness of one thread)."""


@dataclass(frozen=True)
class Images:
    """Up to 64 images of one request that were answered together."""

    column: Literal["image", "array"]
    values: Sequence[Any]
    """Of each image: the bytes of its file, or its pixels as nested lists, as the client sent them."""
    pixels: NDArray[np.uint8]
    """(N, C, H, W), read only: as they were decoded for the version that answered, before it normalises them."""
    places: Sequence[int]
    """Row of each in its request, counted from 0."""
    count: int
    """Images of the whole request."""
    size: int
    """Bytes that these images take in memory, about."""
    sizes: NDArray[np.int64] | None = None
    """(N, 2) width and height of each as it was sent; None: the version that answered does not say."""


@dataclass(frozen=True)
class Answers:
    """What the images got."""

    number: int
    """Version that answered."""
    classes: tuple[str, ...]
    """Names of its K classes."""
    probabilities: NDArray[np.float32]
    """(N, K)"""
    seconds: float
    """For these images together: decoding, waiting for the network and the network."""
    digest: str = ""
    """Of the version's files: a number is given again where a registry was made anew."""
    role: Literal["champion", "challenger"] = "champion"
    """Whether it answered as the challenger, for a canary: aliases may have moved when an observer sees this."""


class Observer(Protocol):
    """Sees answered requests. Its methods are called by one thread of its own, one after the other."""

    name: str
    """In log and metrics; one word."""

    def seen(self, request_id: str, images: Images, answers: Answers) -> None:
        """Look at images of one request when their answer is ready. What it raises is logged, and counted as failed.

        `request_id` is the one of the answer's header X-Request-Id: up to 64 of the characters A-Z a-z 0-9 . _ -
        """

    def end(self) -> None:
        """Write what is not written yet: the server ends."""


Keep = Callable[[Images, Answers], object]
"""Is called with images as they are answered, in the thread that answers: it only remembers them."""


class Sighting:
    """What one request has to show to the observers, when its answer is ready."""

    def __init__(self, request_id: str, observers: "Sequence[ObserverThread]") -> None:
        self.request_id = request_id
        self._observers = observers
        self._most = max((one.most for one in observers), default=0)
        self._bytes = 0
        self._found: list[tuple[Images, Answers]] = []
        self._left_out = 0
        self._open = True
        self._lock = threading.Lock()

    @property
    def keep(self) -> Keep | None:
        """Remembers images, as many as an observer could take; None: nobody wants to see any."""
        return self._keep if self._observers else None

    def offer(self) -> None:
        """Show the observers what was remembered, once: their queues have a limit, a client that reads its answer
        slowly has none. Returns at once, and raises nothing.
        """
        found, left_out = self._closed()
        for observer in self._observers:
            for images, answers in found:
                observer.offer(self.request_id, images, answers)
            if left_out:
                observer.count("dropped", left_out)

    def forget(self) -> None:
        """Hold no image any more: the request was not answered."""
        self._closed()

    def _closed(self) -> tuple[list[tuple[Images, Answers]], int]:
        """What was remembered, which is left to the caller; a thread that is still at work adds nothing from now on."""
        with self._lock:
            found, left_out = self._found, self._left_out
            self._found, self._left_out, self._open = [], 0, False
        return found, left_out

    def _keep(self, images: Images, answers: Answers) -> None:
        with self._lock:
            if not self._open:
                return
            if self._bytes + images.size > self._most:
                self._left_out += len(images.values)
            else:
                self._bytes += images.size
                self._found.append((images, answers))


class ObserverThread:
    """One observer with its queue."""

    def __init__(self, observer: Observer, most: int, count: Callable[[str, int], object]) -> None:
        self.observer = observer
        self.most = most
        """Bytes of images that may wait."""
        self.count = count
        """Is called with `seen`, `dropped` or `failed`, and for how many images that is so."""
        self._waiting: queue.SimpleQueue[tuple[str, Images, Answers] | None] = queue.SimpleQueue()
        self._bytes = 0
        self._lock = threading.Lock()
        self._ended = False
        self._failing = ""
        self._thread = threading.Thread(target=self._run, name=f"podium-{observer.name}", daemon=True)

    def start(self) -> None:
        """Begin to observe."""
        self._thread.start()

    def offer(self, request_id: str, images: Images, answers: Answers) -> None:
        """Queue the images, or drop them where the queue is full. Returns at once, and raises nothing."""
        with self._lock:
            fits = self._bytes + images.size <= self.most and not self._ended
            if fits:
                self._bytes += images.size
                self._waiting.put((request_id, images, answers))
        if not fits:
            self.count("dropped", len(images.values))

    def end(self, seconds: float) -> bool:
        """Take no more, drop what waits and end the observer; whether that was done within `seconds`."""
        with self._lock:
            self._ended = True
            self._waiting.put(None)
        if self._thread.ident is not None:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        with suppress(OSError, AttributeError):  # not Linux, or not allowed: it is as urgent as the others
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while (one := self._waiting.get()) is not None:
            count = len(one[1].values)
            if self._ended:
                self.count("dropped", count)
                continue
            self.count("seen" if self._guarded(self.observer.seen, *one) else "failed", count)
            with self._lock:
                self._bytes -= one[1].size
        self._guarded(self.observer.end)

    def _guarded(self, work: Callable[..., object], *arguments: object) -> bool:
        """Whether `work` ended without an exception."""
        try:
            work(*arguments)
        except Exception as error:  # of anybody's code: the server goes on answering
            said = one_line(f"{type(error).__name__}: {error}")
            if said != self._failing:
                known = process.message_of(error)  # such as a full disk; else it is a bug, whose traceback is needed
                LOG.error(
                    "the observer %s failed; requests are answered without it%s",
                    self.observer.name,
                    f": {one_line(known)}" if known else "",
                    exc_info=not known,
                )
            self._failing = said
            return False
        return True
