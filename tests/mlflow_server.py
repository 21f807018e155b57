"""An MLflow server as a team runs it: PostgreSQL behind it, artifacts through it, and a password before it."""

import os
import secrets
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from werkzeug.security import generate_password_hash

from podium.config.params import TrackingParams
from postgres import Postgres
from starting import free_port
from waiting import until

USER = "podium"


@dataclass
class Server:
    """A server that can be stopped and started again on the same port, with the same database."""

    folder: Path
    database: str
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_hex(16))
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def tracking(self) -> TrackingParams:
        """What params.yaml says of it."""
        return TrackingParams(uri=f"http://127.0.0.1:{self.port}", flush_seconds=0.2)

    @property
    def artifacts(self) -> Path:
        """Where it keeps what is sent to it."""
        return self.folder / "artifacts"

    def start(self) -> None:
        """Start it and wait until it answers."""
        ini = self.folder / "auth.ini"
        ini.write_text(
            f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{self.folder}/users.db\n"
            f"admin_username = {USER}\nadmin_password = {self.password}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
            encoding="utf-8",
        )
        words = ["--backend-store-uri", self.database, "--artifacts-destination", self.artifacts.as_uri()]
        words += ["--app-name", "basic-auth", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        secret = {"MLFLOW_AUTH_CONFIG_PATH": str(ini), "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16)}
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *words],
                cwd=self.folder,
                env=os.environ | secret | quiet,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(self._answers, self.process, self.log)
        self._hash_cheaply()

    def _hash_cheaply(self) -> None:
        """Store a hash of the password that takes no time: the server checks it for every one of 1,000 calls."""
        cheap = generate_password_hash(self.password, "pbkdf2:sha256:1")
        with closing(sqlite3.connect(self.folder / "users.db")) as users, users:
            assert users.execute("UPDATE users SET password_hash = ?", (cheap,)).rowcount == 1

    def stop(self) -> None:
        """Kill it and its workers."""
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            self.process = None

    def log(self) -> str:
        """What it has said so far."""
        return (self.folder / "server.log").read_text(encoding="utf-8", errors="replace")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.tracking.uri}/health", timeout=60) as answer:  # noqa: S310 (our own)
                return bool(answer.status == 200)
        except urllib.error.HTTPError:
            return True  # it is there, and asks who we are
        except OSError:
            return False


@pytest.fixture
def server(postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A running server, with the user's name and password in the environment and nowhere else."""
    folder = tmp_path / "server"
    folder.mkdir()
    url = postgres.create(f"mlflow{secrets.token_hex(4)}").replace("postgresql://", "postgresql+psycopg://")
    running = Server(folder, url)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", running.password)
    running.start()
    yield running
    running.stop()
