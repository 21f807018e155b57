"""The process of `podium serve`: hypercorn in front of the application, from the first connection to the last answer.

Why hypercorn: docs/decisions/2026-11-29-server.md.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

from podium.config.params import DriftParams, ServeParams
from podium.private_names import private_or_public
from podium.registry import loading
from podium.serving import listening, workers
from podium.serving.application import Application
from podium.serving.challenger import END_SECONDS, LOOKS, Beside, Challenger
from podium.serving.drift_observer import DriftObserver, observed
from podium.serving.follower import Choice, Follower
from podium.serving.freed_memory import keep_freed_memory
from podium.serving.loop_errors import LoopErrors
from podium.serving.predictor import Predictor
from podium.serving.presence import EVERY, Sign
from podium.serving.server_metrics import ServerMetrics
from podium.text import counted, one_line, reason_of

LOG = logging.getLogger("podium.serve")
FEWEST_FILES = 512
"""Open files that a server should be allowed: a usual limit is 1,024 or more."""
LOAD_SECONDS, LAST_SECONDS = 60.0, 10.0
"""Time at the end for a version that is being loaded, and for what asks the registry: it may be away."""
HIDES = "the call that removes this server from the registry"
QUEUED = 2
"""Pieces of a body, 64 kB each, that wait for the application; 10 by default. No limit of memory counts them: with a
thousand connections whose bodies have to wait, 10 were 0.6 GB."""
KEPT_REQUESTS = 1_000_000
"""Requests on one connection; hypercorn closes it after 1,000 by default, which costs a client a request."""


def serve(
    choice: Choice,
    params: ServeParams,
    sockets: list[socket.socket],
    beside: Beside | None = None,
    drift: DriftParams | None = None,
) -> None:
    """Serve predictions on `sockets` until a signal comes, then answer what is at work and return.

    `beside` is a second version, for a shadow or a canary; `drift`: how statistics of answered images are kept, None:
    they are not. Raises PodiumError where the version can't be served.
    """
    import torch

    torch.set_num_threads(params.threads)
    keep_freed_memory()
    # Else torch makes an empty folder there when it loads a graph (2.14), which a kill would leave.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", tempfile.gettempdir())
    _log_to_stderr()
    files = listening.allow_many_connections()
    if files < FEWEST_FILES:
        LOG.warning(
            "this process may have %d open files (ulimit -n, LimitNOFILE of systemd): where silent connections take"
            " most, further ones are closed after %d s, not serve.idle_seconds (%d); at least %d files are advised",
            *(files, listening.HURRIED, params.idle_seconds, FEWEST_FILES),
        )
    asyncio.run(_Server(choice, params, sockets, beside, drift).run())


class _Server:
    """One process's server."""

    def __init__(
        self,
        choice: Choice,
        params: ServeParams,
        sockets: list[socket.socket],
        beside: Beside | None,
        drift: DriftParams | None,
    ) -> None:
        self.params, self.sockets = params, sockets
        self.metrics = ServerMetrics()
        self.follower = Follower(choice, params.follow_seconds, self._changed)
        self.drift = DriftObserver(drift, choice.name, self.metrics) if drift and drift.window else None
        watching = [observed(self.drift, int(params.queue_mb * 1e6), self.metrics)] if self.drift else []
        self.watching = watching
        # One that is only asked in the shadow answers nothing.
        also = self._challenges if self.drift and beside and beside.canary else None
        self.challenger = (
            Challenger(beside, lambda: self.follower.current, params, self.metrics, also) if beside else None
        )
        observers = [*watching, *(self.challenger.observers if self.challenger else [])]
        canary = self.challenger.canary if self.challenger else None
        self.application = Application(self.follower, params, self.metrics, observers, canary)
        self.sign = Sign(choice.tracking, choice.name, listening.url(params.host, params.port), choice.follows)
        self.ended = asyncio.Event()
        self.ready_or_ended = asyncio.Event()
        """Set when the first version is loaded, or will not be."""
        self.failure: BaseException | None = None
        self.unshown = ""
        """Why the registry does not take the sign of life; empty: it does."""

    async def run(self) -> None:
        from podium.serving import silent_http2, websockets

        websockets.refuse()
        silent_http2.end()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(LoopErrors(self.ended.is_set))
        for number in workers.awaited():
            loop.add_signal_handler(number, self._signalled, number)
        loading_first = asyncio.ensure_future(self._start())
        config = hypercorn_config(self.params, listening.allow_many_connections())
        if workers.shares_sockets():  # a client must not meet the one worker that has no model yet: the others take it
            await self.ready_or_ended.wait()
        await answering(self.application, config, self.sockets, self.ended)
        await self._leave(loading_first)
        if self.failure is not None:
            raise self.failure

    async def _start(self) -> None:
        """Load the version; a server of one process answers health checks meanwhile."""
        try:
            await asyncio.to_thread(self.follower.start)
        except BaseException as error:
            self.failure = error
            self.ended.set()
            return
        finally:
            self.ready_or_ended.set()
        for observer in self.watching:
            observer.start()
        workers.tell_ready()
        if self.challenger is not None:
            self.application.pages.challenger = self.challenger.follower
            self.challenger.start()
        current = self.follower.current
        LOG.info("version %s serves", current.number if current else "none")
        while not self.ended.is_set():
            await asyncio.to_thread(self._show)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), EVERY)

    def _show(self) -> None:
        current = self.follower.current
        try:
            if current is not None:
                self.sign.show(current.number)
            said = ""
        except Exception as error:  # a registry that is away or read-only: promote can't name this server then
            said = one_line(reason_of(error) or type(error).__name__)
        if said and not self.unshown:  # once, not every 20 s for the hours that it may last
            LOG.warning("the registry does not accept this server's heartbeat: %s", said)
        elif self.unshown and not said:
            LOG.info("the registry accepts this server's heartbeat again")
        self.unshown = said

    def _changed(self, new: Predictor) -> None:
        new.on_batch = self.metrics.batches.observe
        self.metrics.version.clear()
        self.metrics.version.labels(self.metrics.worker, self.follower.choice.name).set(new.number)
        self.metrics.changes.inc()
        if self.drift is not None:
            self.drift.follow(new)

    def _challenges(self, new: Predictor) -> None:
        if self.drift is not None:
            self.drift.follow(new, "challenger")

    def _signalled(self, number: int) -> None:
        if self.ended.is_set():
            loading.remove_fetched()
            os._exit(128 + number)
        LOG.info("%s: completing the requests in progress, then ending", signal.Signals(number).name)
        self.application.pages.draining = True
        self.ended.set()
        self.ready_or_ended.set()

    async def _leave(self, loading_first: "asyncio.Future[None]") -> None:
        """End the threads; where one goes on working, end the process without it."""
        self.application.end()
        loaded = self.follower.current is not None
        first = "the thread that sends heartbeats to the registry" if loaded else "the loading of the first version"
        ends = {first: _ended(loading_first, LAST_SECONDS if loaded else LOAD_SECONDS)}
        ends[LOOKS.format("version")] = asyncio.to_thread(self.follower.end, LAST_SECONDS)
        for one in self.watching:
            ends[f"the observer {one.observer.name}"] = asyncio.to_thread(one.end, END_SECONDS)
        beside = asyncio.ensure_future(asyncio.to_thread(self.challenger.end)) if self.challenger is not None else None
        working = [what for what, ended in zip(ends, await asyncio.gather(*ends.values()), strict=True) if not ended]
        working += await beside if beside is not None else []
        hiding = loaded and not self.unshown
        if hiding and not await _ended(asyncio.ensure_future(asyncio.to_thread(self._hide)), LAST_SECONDS):
            working.append(HIDES)
        if self.application.at_work:
            working.append(f"{counted(self.application.at_work, 'request')} (serve.drain_seconds)")
        if working:
            LOG.warning("ended with work unfinished: %s", "; ".join(dict.fromkeys(working)))
            loading.remove_fetched()
            os._exit(0 if self.failure is None else 1)

    def _hide(self) -> None:
        with suppress(Exception):  # a registry that is away: it forgets this server by itself
            self.sign.remove()


async def _ended(work: "asyncio.Future[None]", seconds: float) -> bool:
    """Whether `work`, which is in a thread and can't be stopped, has ended within `seconds`. Raises what it raised."""
    done, _ = await asyncio.wait({work}, timeout=seconds)
    for one in done:
        one.result()
    return bool(done)


def answering(application: Any, config: Any, sockets: list[socket.socket], ended: asyncio.Event) -> Awaitable[None]:
    """hypercorn answers on `sockets` until `ended`. Its public function takes their numbers only, and closes them."""

    def with_sockets() -> Awaitable[None]:
        from hypercorn.asyncio.run import worker_serve
        from hypercorn.config import Sockets
        from hypercorn.utils import wrap_app

        app = wrap_app(application, config.wsgi_max_body_size, "asgi")
        return worker_serve(app, config, sockets=Sockets([], sockets, []), shutdown_trigger=ended.wait)

    def with_numbers() -> Awaitable[None]:
        from hypercorn.asyncio import serve

        config.bind = [f"fd://{one.detach()}" for one in sockets]
        return serve(application, config, mode="asgi", shutdown_trigger=ended.wait)

    return private_or_public("hypercorn", "its sockets are given by their numbers", with_sockets, with_numbers)


def hypercorn_config(params: ServeParams, files: int) -> Any:
    """hypercorn's configuration for a process that may have so many open `files`."""
    from hypercorn.config import Config

    class Patient(Config):
        """Read whenever a connection falls silent, also until its first headers have come."""

        @property
        def keep_alive_timeout(self) -> float:  # type: ignore[override]  # hypercorn only reads it
            return listening.patience(params.idle_seconds, files)

    config = Patient()
    config.keep_alive_max_requests = KEPT_REQUESTS
    config.max_app_queue_size = QUEUED
    config.graceful_timeout = params.drain_seconds
    config.backlog = listening.BACKLOG
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("podium.serve.http")
    config.loglevel = "WARNING"
    config.alpn_protocols = ["http/1.1"]
    return config


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
    logger = logging.getLogger("podium.serve")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logging.getLogger("podium.serve.http").setLevel(logging.WARNING)
    # A line for each try at a registry that is away; and for each damaged form or image, whose client is answered.
    for library in ("urllib3", "python_multipart", "PIL"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
