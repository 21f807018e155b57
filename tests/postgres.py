"""A PostgreSQL server for tests: Debian's package, as an ordinary user, on loopback, in a temporary folder."""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from starting import free_port

ACCOUNT = "postgres"
"""Debian's package makes it; the server refuses to run as root."""


@dataclass(frozen=True)
class Postgres:
    """A running server; its one user may do everything and needs a password."""

    port: int
    password: str
    binaries: Path
    data: Path
    settings: str
    """What the server is started with."""

    def url(self, database: str) -> str:
        """Without the password, as params.yaml has it."""
        return f"postgresql://podium@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make an empty database and return its URL."""
        self._client(f'CREATE DATABASE "{database}"')
        return self.url(database)

    def end_connections(self) -> None:
        """Cut every client off, as a restart of the server or of a router does."""
        self._client("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid != pg_backend_pid()")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._control("-l", str(self.data.with_name("log")), "-o", self.settings, "start")

    def stop(self) -> None:
        """Stop the server as a crash does."""
        self._control("-m", "immediate", "stop")

    def _control(self, *arguments: str) -> None:
        _as_server([str(self.binaries / "pg_ctl"), "-D", str(self.data), "-w", *arguments])

    def _client(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.url("postgres"), password=self.password, autocommit=True) as connection:
            connection.execute(statement.encode())


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A server that runs as long as the session."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="podium-postgres-"))
    port = free_port()
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    server = Postgres(port, secrets.token_hex(8), binaries[-1], folder / "data", settings)
    try:
        (folder / "password").write_text(server.password, encoding="utf-8")
        if os.geteuid() == 0:
            for path in (folder, folder / "password"):
                shutil.chown(path, ACCOUNT)
        words = ["-U", "podium", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}", "--no-sync", "-D"]
        _as_server([str(server.binaries / "initdb"), *words, str(server.data)])
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres(postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    """The server, with its password in the environment."""
    monkeypatch.setenv("PGPASSWORD", postgres_server.password)
    return postgres_server


def _as_server(command: list[str]) -> None:
    account = ACCOUNT if os.geteuid() == 0 else None
    done = subprocess.run(command, user=account, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
