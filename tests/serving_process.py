"""Servers as people start them, for tests: MLflow's plain command and `podium serve`."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from starting import free_port
from waiting import PATIENCE, until


@contextmanager
def plain(name: str) -> Iterator[str]:
    """The address of MLflow's own server of the champion of `name`, started in the present folder."""
    port = free_port()
    command = ["mlflow", "models", "serve", "-m", f"models:/{name}@champion", "--env-manager", "local"]
    with _running([*command, "--host", "127.0.0.1", "--port", str(port)], port) as address:
        yield address


@contextmanager
def podium(*arguments: str) -> Iterator[str]:
    """The address of `podium serve`, started in the present folder."""
    port = free_port()
    with _running(["podium", "serve", "--port", str(port), *arguments], port) as address:
        yield address


@contextmanager
def tracking_server(store: str, artifacts: str) -> Iterator[str]:
    """The address of an MLflow tracking server with its artifacts in the folder `artifacts`."""
    port = free_port()
    command = ["mlflow", "server", "--backend-store-uri", store, "--artifacts-destination", artifacts]
    with _running([*command, "--workers", "1", "--host", "127.0.0.1", "--port", str(port)], port, "/health") as address:
        yield address


def ask(address: str, content: dict[str, Any] | bytes) -> tuple[int, dict[str, Any]]:
    """Status and JSON of a request."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    request = Request(f"{address}/invocations", body, {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urlopen(request, timeout=60) as response:  # noqa: S310
            return response.status, json.load(response)
    except HTTPError as error:
        return error.code, json.load(error)


@contextmanager
def _running(command: list[str], port: int, path: str = "/ping") -> Iterator[str]:
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_REGISTRY_URI"}
    environment |= {"MLFLOW_TRACKING_URI": "sqlite:///mlruns/mlflow.db", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [str(Path(sys.executable).with_name(command[0])), *command[1:]]
    with Path("server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(address + path, process)
        yield address
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(PATIENCE)


def _wait(address: str, process: subprocess.Popen[bytes]) -> None:
    """Until the server answers. On a busy machine its imports take minutes."""

    def answers() -> bool:
        try:
            with urlopen(address, timeout=60):  # noqa: S310 (our own server)
                return True
        except (URLError, ConnectionError, TimeoutError):
            return False

    until(answers, process, lambda: Path("server.log").read_text(encoding="utf-8"))
