"""Silent connections of HTTP/2 without TLS: they end after the idle time, as those of HTTP/1.1 do.

hypercorn 0.18 reads the first line of HTTP/2 ("PRI * HTTP/2.0") as the head of a request, so it stops the idle time,
and starts it again only after a request: who sends that line and nothing more kept a connection for ever.
"""

from typing import Any

from podium.private_names import private_or_public


def end() -> None:
    """Have hypercorn count a connection of HTTP/2 as idle until its first request; there is no parameter for it."""
    lost = "a silent connection of HTTP/2 stays until its client ends it"
    private_or_public("hypercorn", lost, _replace, lambda: None)


def _replace() -> None:
    from hypercorn import protocol
    from hypercorn.events import Updated
    from hypercorn.protocol.h2 import H2Protocol

    class TimedHttp2(H2Protocol):
        async def initiate(self, headers: Any = None, *others: Any, **named: Any) -> None:
            """Begin; with `headers` the request that asked for HTTP/2 is at work already."""
            await super().initiate(headers, *others, **named)
            if headers is None:
                await self.send(Updated(idle=True))

    Updated(idle=True)
    if "H2Protocol" not in vars(protocol) or not hasattr(H2Protocol, "initiate"):
        raise AttributeError("its protocols have no H2Protocol with `initiate`")
    vars(protocol)["H2Protocol"] = TimedHttp2
