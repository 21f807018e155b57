"""Where rank 0 of a retraining on several devices leaves checkpoints."""


class Desk:
    """Where rank 0 leaves checkpoints, for the driver and for ranks that come later: an actor beside the driver."""

    def __init__(self, content: bytes | None) -> None:
        self._content = content
        self._fresh = False
        self._stopping = False
        self._diverged = ""

    def put(self, content: bytes) -> None:
        """Leave a checkpoint."""
        self._content, self._fresh = content, True

    def newest(self) -> bytes | None:
        """The last checkpoint that was left."""
        return self._content

    def diverged(self, reason: str) -> None:
        """Say that the loss is no number any more."""
        self._diverged = reason

    def stop(self) -> None:
        """Have the ranks save and end."""
        self._stopping = True

    def stopping(self) -> bool:
        """Whether they are to."""
        return self._stopping

    def news(self) -> tuple[bytes | None, str]:
        """A checkpoint that was not asked for before, and why training diverged."""
        fresh, self._fresh = self._fresh, False
        return self._content if fresh else None, self._diverged
