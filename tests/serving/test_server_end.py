"""What the end of a server names that it does not wait for any longer."""

import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from podium.config.params import DriftParams, ServeParams
from podium.serving import server
from podium.serving.challenger import LOOKS, Beside


class Left(BaseException):
    """The process has ended."""


def leave(code: int) -> None:
    raise Left(code)


@pytest.mark.parametrize(
    ("at_work", "stuck", "said"),
    [
        (0, ["drift"], "the observer drift"),
        (0, ["shadow"], "the observer shadow"),
        (0, ["challenger"], LOOKS.format("challenger")),
        (2, ["version", "drift"], f"{LOOKS.format('version')}; the observer drift; 2 requests (serve.drain_seconds)"),
        (1, [], "1 request (serve.drain_seconds)"),
    ],
)
def test_work_that_is_left_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    at_work: int,
    stuck: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("podium.serving.server.os._exit", leave)
    monkeypatch.setattr(logging.getLogger("podium.serve"), "propagate", True)
    choice: Any = SimpleNamespace(name="m", which="champion", follows="champion", tracking=None)

    async def end() -> None:
        made = server._Server(choice, ServeParams(), [], Beside(choice, shadow=True, canary=0.0), DriftParams())
        assert made.challenger is not None
        made.application.at_work = at_work
        ends = [(one.observer.name, one) for one in (*made.watching, *made.challenger.observers)]
        for name, one in [*ends, ("challenger", made.challenger.follower), ("version", made.follower)]:
            monkeypatch.setattr(one, "end", lambda _, name=name: name not in stuck)
        started = asyncio.get_running_loop().create_future()
        started.set_result(None)
        await made._leave(started)

    with pytest.raises(Left, match="0"):
        asyncio.run(end())
    assert caplog.messages == [f"ended with work unfinished: {said}"]
