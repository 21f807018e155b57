"""What the driver asks of workers."""

from typing import Protocol

from podium.tuning.messages import Event, Report, Task


class Pool(Protocol):
    """Workers that train trials. One machine, many processes or a cluster differ in nothing but this."""

    @property
    def capacity(self) -> int:
        """Trials that can be trained at the same time."""
        ...

    def submit(self, task: Task) -> None:
        """Start `task` on a free worker."""
        ...

    def events(self, timeout: float) -> list[Event]:
        """What has happened; waits up to `timeout` seconds for something to happen."""
        ...

    def answer(self, report: Report, go_on: bool) -> None:
        """Tell the worker that sent `report` to go on, or to end its trial."""
        ...

    def pause(self) -> None:
        """Have every running trial saved and ended as interrupted."""
        ...

    def close(self) -> None:
        """End the workers."""
        ...
