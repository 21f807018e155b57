"""Promotion, ledger, rollback and a race where the registry is a server."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import registered
import serving_process
from podium.config.params import GateParams, TrackingParams
from podium.errors import RefusedError
from podium.promotion import champion, ledger, moves, verdict_files
from podium.promotion.ledger import Entry
from podium.tracking.store import connect
from registered import NAME, Project, register, write_images, write_model


@pytest.fixture
def remote(tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project whose store is a tracking server, with two versions."""
    monkeypatch.chdir(tmp_path)
    Path("server.db").write_bytes(mlflow_template.read_bytes())
    with serving_process.tracking_server("sqlite:///server.db", "kept") as address:
        write_images(tmp_path)
        project = Project(tmp_path, TrackingParams(uri=address))
        for steps in (0, 80):
            write_model(project, steps)
            register(project)
        yield project


@pytest.mark.slow
def test_ledger_in_a_server_is_whole_after_moves_a_race_and_a_rollback(remote: Project) -> None:
    images = champion.Images(remote.path("sealed"), remote.path("prepared"))
    for number in (1, 2):
        champion.promote(remote.tracking, NAME, number, images, GateParams(**registered.LOOSE))
    before = ledger.read(remote.tracking.client, NAME)
    barrier = threading.Barrier(2)

    def one(target: int) -> str:
        client = connect(remote.store).client
        barrier.wait()
        try:
            return str(moves.move(client, before, Entry("promote", 2, target, "race")).target)
        except RefusedError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(one, (1, 2)))
    book, problems = ledger.history(remote.tracking, NAME)
    assert [text for text in said if text.isdigit()] == [str(book.champion)]
    assert (len(book.entries), problems) == (3, [])
    assert verdict_files.check(remote.tracking, book) == []
    other = 3 - (book.champion or 0)
    done = champion.rollback(remote.tracking, NAME, "too slow", to=other)
    assert done.version.number == ledger.history(remote.tracking, NAME)[0].champion == other
    remote.tracking.client.set_registered_model_alias(NAME, "champion", str(3 - other))
    assert "moved outside of podium" in ledger.history(remote.tracking, NAME)[1][0]
