"""WebSockets, which this server does not speak: each is refused, and its connection closed.

hypercorn 0.18 answers a handshake that is none with 400, and then keeps the connection for as long as the client likes:
no limit of idle connections counts it any more, because a request is at work that nobody ends.
"""

from hypercorn.protocol import h2, h11
from hypercorn.protocol.events import Event, StreamClosed
from hypercorn.protocol.ws_stream import WSStream


class RefusedWebSocket(WSStream):
    """Ends a stream that was refused before the application saw it."""

    async def handle(self, event: Event) -> None:
        """What the client sent."""
        before = self.closed
        await super().handle(event)
        if self.closed and not before and not isinstance(event, StreamClosed):
            await self.send(StreamClosed(stream_id=self.stream_id))


def refuse() -> None:
    """Have hypercorn take RefusedWebSocket; there is no parameter for it."""
    for protocol in (h11, h2):
        vars(protocol)["WSStream"] = RefusedWebSocket
