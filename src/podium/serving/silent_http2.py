"""Connections of HTTP/2 without TLS: silent ones end after the idle time, as those of HTTP/1.1 do, and what comes late
for one request, or is wrong in it, ends no other one.

hypercorn 0.18 reads the first line of HTTP/2 ("PRI * HTTP/2.0") as the head of a request, so it stops the idle time,
and starts it again only after a request: who sends that line and nothing more kept a connection for ever. And data of a
request that is answered already (404, 413) are a KeyError to it, a path that is no ASCII a UnicodeError: both ended the
connection with all other requests on it, such as those that a proxy sends for other clients.
"""

from typing import Any

from podium.private_names import private_or_public


def end() -> None:
    """Have hypercorn count a connection of HTTP/2 as idle until its first request, and take late data; there is no
    parameter for either.
    """
    lost = "a silent connection of HTTP/2 stays until its client ends it, and one request can end the others"
    private_or_public("hypercorn", lost, _replace, lambda: None)


def _replace() -> None:
    from h2.errors import ErrorCodes
    from h2.events import DataReceived, RequestReceived
    from hypercorn import protocol
    from hypercorn.events import Updated
    from hypercorn.protocol.h2 import H2Protocol

    class TimedHttp2(H2Protocol):
        async def initiate(self, headers: Any = None, *others: Any, **named: Any) -> None:
            """Begin; with `headers` the request that asked for HTTP/2 is at work already."""
            await super().initiate(headers, *others, **named)
            if headers is None:
                await self.send(Updated(idle=True))

        async def _handle_events(self, events: Any) -> None:
            for event in events:  # one by one: while one waits, its request may be answered, and the next be late
                if isinstance(event, DataReceived) and event.stream_id not in self.streams:
                    # What is not acknowledged would be missing in the window of the others.
                    self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, RequestReceived) and not _is_ascii(event.headers):
                    self.connection.reset_stream(event.stream_id, ErrorCodes.PROTOCOL_ERROR)
                else:
                    await super()._handle_events([event])
            await self._flush()

    Updated(idle=True)
    if "H2Protocol" not in vars(protocol) or not all(
        hasattr(H2Protocol, one) for one in ("initiate", "_handle_events")
    ):
        raise AttributeError("its protocols have no H2Protocol with `initiate` and `_handle_events`")
    vars(protocol)["H2Protocol"] = TimedHttp2


def _is_ascii(headers: Any) -> bool:
    """Whether method, path and what else begins with a colon is what hypercorn expects."""
    return all(value.isascii() for name, value in headers if name.startswith(b":"))
