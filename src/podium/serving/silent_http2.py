"""Silent connections of HTTP/2 without TLS: they end after the idle time, as those of HTTP/1.1 do.

hypercorn 0.18 reads the first line of HTTP/2 ("PRI * HTTP/2.0") as the head of a request, so it stops the idle time,
and starts it again only after a request: who sends that line and nothing more kept a connection for ever.
"""

from typing import Any

from hypercorn import protocol
from hypercorn.events import Updated
from hypercorn.protocol.h2 import H2Protocol


class TimedHttp2(H2Protocol):
    """Idle from its beginning until its first request."""

    async def initiate(self, headers: Any = None, settings: Any = None) -> None:
        """Begin; with `headers` the request that asked for HTTP/2 is at work already."""
        await super().initiate(headers, settings)
        if headers is None:
            await self.send(Updated(idle=True))


def end() -> None:
    """Have hypercorn take TimedHttp2; there is no parameter for it."""
    vars(protocol)["H2Protocol"] = TimedHttp2
