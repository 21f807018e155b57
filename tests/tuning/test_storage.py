import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

import tiny
from podium.config.params import RuntimeParams, TrackingParams, parse
from podium.data.dataset import DatasetInfo
from podium.errors import PodiumError, RefusedError
from podium.tuning import session, storage
from podium.tuning.search_plan import plan_of
from podium.tuning.upkeep import studies, sync_all
from postgres import Postgres
from tuning.sessions import Killer
from waiting import until


@pytest.fixture(autouse=True)
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_studies_are_in_the_journal_unless_a_database_is_named(tmp_path: Path) -> None:
    url = "postgresql://podium@db.example/studies"
    assert storage.place(RuntimeParams()) == tmp_path / "mlruns" / "optuna.journal"
    assert storage.place(RuntimeParams(storage=url)) == url


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("storage: sqlite:///a.db", "runtime.storage: must be empty or begin with postgresql://; got 'sqlite'"),
        ("storage: postgresql://me:secret@db/studies", "runtime.storage: must hold no password, for this file is"),
        ("storage: postgresql://db/studies?user=me&password=secret", "runtime.storage: must hold no password, for"),
    ],
)
def test_storage_that_can_not_be_is_refused_and_shows_no_password(line: str, problem: str) -> None:
    with pytest.raises(PodiumError) as error:
        parse(f"runtime:\n  {line}\n")
    assert problem in str(error.value)
    assert "secret" not in str(error.value)


def test_database_that_does_not_answer_is_named_with_what_to_do() -> None:
    where = "postgresql://podium@127.0.0.1:9/studies"
    with pytest.raises(PodiumError, match=r"runtime.storage: postgresql://podium@127.0.0.1:9/studies does not answer"):
        storage.open_at(where)
    with pytest.raises(PodiumError, match="does not answer"), storage.alone(where, "search-1"):
        pass


def test_database_that_does_not_answer_is_named_without_its_password() -> None:
    where = "postgresql://podium@127.0.0.1:9/studies?password=secret"  # params.yaml would be refused
    with pytest.raises(PodiumError, match="does not answer") as error:
        storage.open_at(where)
    assert "secret" not in str(error.value)


@pytest.mark.slow
def test_search_in_a_database_is_the_search_in_the_journal(
    postgres: Postgres, tmp_path: Path, store: TrackingParams
) -> None:
    prepared = tiny.prepare(tmp_path / "prepared")
    journal = tiny.params(store)
    database = tiny.params(store, runtime=f"storage: {postgres.create('equal')}")
    found = []
    for params in (journal, database):
        plan = plan_of(params, DatasetInfo.read(prepared))
        study, _ = session.run(plan, prepared, params.runtime, params.tracking)
        found.append([(t.number, t.state, t.value, t.params, t.intermediate_values) for t in study.trials])
    assert found[0] == found[1]
    assert [study.study_name for study in studies(database.runtime.storage)] == [study.study_name]
    assert sync_all(database.tracking, database.runtime, repair=False) == {study.study_name: []}


@pytest.mark.parametrize(
    ("write", "flushed"),
    [
        (lambda study: study.set_user_attr("podium:session:0123", ""), True),
        (lambda study: study.set_user_attr("podium:id", "0 search-1"), True),
        (lambda study: study.set_user_attr("seconds", 1.0), False),
        (lambda study: study.set_user_attr("session", ""), False),
        (lambda study: study.ask().set_user_attr("podium:session:0123", ""), False),  # a trial's
        (lambda study: study.tell(study.ask(), 0.5), True),
    ],
)
def test_journal_is_flushed_at_what_mlflow_has_at_once(
    write: Callable[[optuna.Study], None], flushed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = optuna.create_study(storage=storage.open_storage(tmp_path / "optuna.journal"))
    monkeypatch.setattr(storage, "SYNC_SECONDS", math.inf)
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", calls.append)
    write(study)
    assert bool(calls) == flushed


HOLD = """
import sys
from podium.tuning import storage
with storage.alone(sys.argv[1], "search-1"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_second_driver_on_another_machine_is_refused_until_the_first_is_gone(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.create("locks")
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "another-machine"))
    refused = rf"the search search-1 is already under way: podium, process {first.pid} on .* holds it since 20"
    with pytest.raises(RefusedError, match=refused), storage.alone(url, "search-1"):
        pass
    with storage.alone(url, "search-2"):
        first.kill()
        first.communicate()
    until(lambda: _is_free(url))


def _is_free(url: str) -> bool:
    try:
        with storage.alone(url, "search-1"):
            return True
    except RefusedError:  # the server has yet to notice the death
        return False


@pytest.mark.slow
def test_lock_that_was_cut_off_is_taken_again_or_given_up_to_who_has_it_now(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "CHECK_EVERY", 0.0)
    url = postgres.create("cut")
    with storage.alone(url, "search-1") as check:
        check()
        postgres.end_connections()
        check()  # nobody else came meanwhile
        postgres.end_connections()
        monkeypatch.setenv("DVC_ROOT", str(tmp_path / "another-machine"))
        with storage.alone(url, "search-1"), pytest.raises(RefusedError, match="is already under way"):
            check()


@pytest.mark.slow
def test_database_that_goes_away_in_a_search_ends_it_with_a_sentence_and_loses_nothing(
    postgres: Postgres, tmp_path: Path, store: TrackingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = tiny.prepare(tmp_path / "prepared")
    params = tiny.params(store, runtime=f"storage: {postgres.create('away')}")
    plan = plan_of(params, DatasetInfo.read(prepared))
    with monkeypatch.context() as patch:
        killer = Killer(2, 1, postgres.stop)
        patch.setattr(session, "Progress", lambda *arguments, **named: killer)
        patch.setattr(killer, "close", lambda: None, raising=False)
        patch.setattr("podium.tracking.mirror.PATIENCE", 0.0)
        with pytest.raises(
            PodiumError, match=r"runtime.storage: .* does not answer: .* what is recorded stays recorded"
        ):
            session.run(plan, prepared, params.runtime, params.tracking)
        assert killer.done
    postgres.start()
    study, _ = session.run(plan, prepared, params.runtime, params.tracking)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
    assert sync_all(params.tracking, params.runtime, repair=False) == {study.study_name: []}
