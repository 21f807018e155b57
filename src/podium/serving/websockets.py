"""WebSockets, which this server does not speak: each is refused, and its connection closed.

hypercorn 0.18 answers a handshake that is none with 400, and then keeps the connection for as long as the client likes:
no limit of idle connections counts it any more, because a request is at work that nobody ends.
"""

from typing import Any

from podium.private_names import private_or_public


def refuse() -> None:
    """Have hypercorn end a stream that was refused before the application saw it; there is no parameter for it."""
    lost = "the connection of a refused WebSocket stays until its client ends it"
    private_or_public("hypercorn", lost, _replace, lambda: None)


def _replace() -> None:
    from hypercorn.protocol import h2, h11
    from hypercorn.protocol.events import StreamClosed
    from hypercorn.protocol.ws_stream import WSStream

    class RefusedWebSocket(WSStream):
        async def handle(self, event: Any) -> None:
            """What the client sent."""
            before = getattr(self, "closed", True)
            await super().handle(event)
            if not before and self.closed and not isinstance(event, StreamClosed):
                await self.send(StreamClosed(stream_id=self.stream_id))

    if not all("WSStream" in vars(protocol) for protocol in (h11, h2)) or not hasattr(WSStream, "handle"):
        raise AttributeError("its protocols have no WSStream with `handle`")
    for protocol in (h11, h2):
        vars(protocol)["WSStream"] = RefusedWebSocket
