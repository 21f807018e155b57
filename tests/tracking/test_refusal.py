"""A store that says no is told from one that is away: before the search, with what mends it."""

import re
import sqlite3
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException

import trials
from podium import cli, paths
from podium.config.params import TrackingParams
from podium.data.dataset import write_json
from podium.errors import InputError, PodiumError, RefusedError
from podium.tracking import mirror as mirrors
from podium.tracking import store as store_module
from podium.tracking.mirror import Mirror, Parent
from podium.tracking.refusal import refusal
from podium.tracking.store import connect, database, search
from podium.tuning.storage import open_storage

NO_JSON = "API request to endpoint was successful but the response body was not in a valid JSON format. Response body: "


def _error(code: str) -> MlflowException:
    made: MlflowException = RestException({"error_code": code, "message": "no"})  # type: ignore[no-untyped-call]
    return made


def _revision(store: TrackingParams, revision: str) -> None:
    connection = sqlite3.connect(str(database(store.uri)))
    connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.commit()
    connection.close()


def _delete_experiment(store: TrackingParams) -> None:
    tracking = connect(store)
    tracking.client.delete_experiment(tracking.experiment_id)


REFUSALS: dict[str, tuple[Callable[[TrackingParams], object], str]] = {
    "experiment deleted": (
        _delete_experiment,
        "tracking.experiment: .* was deleted .*mlflow experiments restore --experiment-id",
    ),
    "older database": (
        lambda store: _revision(store, "451aebb31d03"),
        "is of an MLflow older than .*`mlflow db upgrade sqlite",
    ),
    "newer database": (
        lambda store: _revision(store, "ffffffffffff"),
        "is of an MLflow newer than .* which is installed",
    ),
}


@pytest.mark.parametrize(("spoil", "sentence"), REFUSALS.values(), ids=REFUSALS)
def test_store_that_says_no_is_refused_before_the_search(
    store: TrackingParams, spoil: Callable[[TrackingParams], object], sentence: str
) -> None:
    spoil(store)
    with pytest.raises(RefusedError, match=sentence):
        connect(store)
    mirror = Mirror(trials.study_of_each_kind(), store, Parent("search-1234", {}))
    with pytest.raises(RefusedError, match=sentence):
        mirror.check()
    mirror.close()
    assert mirror.parent_run_id is None
    assert not list(paths.mlruns().glob("runs/*")), "nothing was searched that could be recorded"


def test_address_of_no_store_is_refused(store: TrackingParams) -> None:
    with pytest.raises(RefusedError, match="no MLflow store has such an address"):
        connect(store.model_copy(update={"uri": "no-such-scheme://x"}))


class _AnyJson(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"ok": true}')


def test_address_at_which_another_service_answers_with_json_is_refused(store: TrackingParams) -> None:
    with HTTPServer(("127.0.0.1", 0), _AnyJson) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        with pytest.raises(RefusedError, match="it answers, but not as MLflow does"):
            connect(store.model_copy(update={"uri": f"http://127.0.0.1:{other.server_port}"}))
        other.shutdown()


def test_server_that_has_the_experiment_needs_no_file_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Client:
        def __init__(self, uri: str, registry_uri: str) -> None:
            assert uri == registry_uri == "http://mlflow:5000"

        def get_experiment_by_name(self, name: str) -> SimpleNamespace:
            return SimpleNamespace(experiment_id="7", lifecycle_stage="active" if name == "podium" else "deleted")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store_module, "SynchronousClient", Client)
    assert store_module.open_store("http://mlflow:5000").experiment_id == "7"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RefusedError, match="deleted"):
        store_module.open_store("http://mlflow:5000", "old")


def test_store_that_is_away_is_no_refusal(store: TrackingParams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(mirrors, "PATIENCE", 0.05)
    away = store.model_copy(update={"uri": "http://127.0.0.1:9"})
    with pytest.raises(PodiumError, match="does not work") as error:
        connect(away)
    assert not isinstance(error.value, RefusedError)
    mirror = Mirror(trials.study_of_each_kind(), away, Parent("search-1234", {}))
    mirror.check()
    mirror.close()
    assert mirror.error != ""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            _error("PERMISSION_DENIED"),
            "the permission EDIT on the experiment 'mine'",
        ),
        (_error("UNAUTHENTICATED"), "MLFLOW_TRACKING_USERNAME"),
        (MlflowException("(sqlite3.OperationalError) attempt to write a readonly database"), "can't be written"),
        (PermissionError(13, "Permission denied", "mlruns"), "can't be written"),
        (RefusedError("as it is"), "as it is"),
        (MlflowException("The experiment 3 must be in the 'active' state"), "the experiment 'mine' was deleted"),
        (MlflowException(f"{NO_JSON}'<!doctype html><html>\nSign in</html>'"), "it answers with a web page"),
        (MlflowException(f'{NO_JSON}\'{{ "run": {{ "name": "<b>\''), ""),
        (MlflowException("API request to endpoint /api failed with error code 405 != 200."), "http to https"),
        (MlflowException("API request to endpoint /api failed with error code 405 != 200."), "people only read"),
        (MlflowException("API request to endpoint /api failed with error code 404 != 200."), ""),
        (ConnectionError("refused"), ""),
        (MlflowException("API request failed with exception HTTPConnectionPool"), ""),
        (OSError(28, "No space left on device"), ""),
        (MlflowException("(sqlite3.OperationalError) database is locked"), ""),
        (MlflowException("The run 7 must be in the 'active' state"), ""),
    ],
)
def test_error_is_a_refusal_or_the_store_is_away(error: Exception, words: str) -> None:
    found = refusal(error, "http://mlflow.example", "mine")
    assert (found is not None) == bool(words)
    assert words in str(found or "")


def test_permission_that_is_lacking_when_the_first_run_is_made_is_known_before_the_search(
    store: TrackingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*arguments: object, **options: object) -> None:
        raise _error("PERMISSION_DENIED")

    connect(store)
    monkeypatch.setattr(MlflowClient, "create_run", denied)
    mirror = Mirror(trials.study_of_each_kind(), store, Parent("search-1234", {}))
    with pytest.raises(RefusedError, match="the permission EDIT on the experiment 'podium'"):
        mirror.check()
    mirror.close()


def _sync(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(["sync", *words])
    return int(end.value.code or 0)


@pytest.fixture
def here(store: TrackingParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrackingParams:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    (tmp_path / "params.yaml").write_text(f'tracking: {{uri: "{store.uri}"}}\n', encoding="utf-8")
    trials.study_of_each_kind(open_storage(paths.mlruns() / "optuna.journal"))
    return store


@pytest.mark.parametrize(("spoil", "sentence"), REFUSALS.values(), ids=REFUSALS)
def test_sync_ends_with_a_sentence(
    here: TrackingParams, spoil: Callable[[TrackingParams], object], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(here)
    assert _sync() == 1
    assert re.search(sentence, capsys.readouterr().err)


def _two_objectives(storage: optuna.storages.BaseStorage) -> None:
    study = optuna.create_study(study_name="it's \n two", directions=["minimize", "maximize"], storage=storage)
    study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 1.0), 2)


def _odd_attributes(storage: optuna.storages.BaseStorage) -> None:
    study = optuna.create_study(study_name="search-mine", storage=storage)
    study.set_user_attr("identity", "no dictionary")
    study.add_trial(optuna.trial.create_trial(value=1.0, user_attrs={"history": [{"x": 1}], "recipe": 3, "seed": None}))


def _odd_id(storage: optuna.storages.BaseStorage) -> None:
    optuna.create_study(study_name="..", storage=storage).set_user_attr("podium:id", {"no": "id"})


@pytest.mark.parametrize("foreign", [_two_objectives, _odd_attributes, _odd_id])
def test_study_of_somebody_else_in_the_journal_stops_no_other(
    here: TrackingParams, foreign: Callable[[optuna.storages.BaseStorage], None], capsys: pytest.CaptureFixture[str]
) -> None:
    storage = open_storage(paths.mlruns() / "optuna.journal")
    foreign(storage)
    cli.main(["sync"])
    capsys.readouterr()
    cli.main(["sync", "--check"])
    assert "MLflow shows exactly what the studies hold (2 studies)" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["seven", "-1", "", "7.5", "\u0661", "1" * 30])
def test_tag_of_a_trial_that_is_no_number_stops_nothing(here: TrackingParams, text: str) -> None:
    from podium.tracking.trial_runs import runs_of

    cli.main(["sync"])
    tracking = connect(here)
    run = runs_of(tracking, "search-1234")[0]
    tracking.client.set_tag(run.info.run_id, "podium.trial", text)
    assert _sync("--check") == 1
    cli.main(["sync"])
    assert tracking.client.get_run(run.info.run_id).data.tags["podium.kind"] == "superseded"
    cli.main(["sync", "--check"])
    assert len(runs_of(tracking, "search-1234")) == 4


@pytest.mark.parametrize(
    ("uri", "experiment", "sentence"),
    [
        ("./mlstore", "podium", "tracking.uri: ./mlstore does not work: MLflow logs to no folder of files"),
        ("mysql+nodriver://h/d", "podium", "no MLflow store has such an address"),
        ("mysql://me@h/d", "podium", "its driver is not installed. `pip install` .* 'MySQLdb'"),
        ("http://[bad", "podium", r"tracking.uri: 'http://\[bad' is no address of an MLflow store: its host or port"),
        ("http://h:port", "podium", "'http://h:port' is no address .*its host or port can't be read"),
        ("http://h:70000", "podium", "its host or port can't be read"),
        ("https://h:0", "podium", "the port is 0"),
        ("http://", "podium", "the host is missing"),
        ("sqlite://x.db", "podium", "SQLite needs three slashes and a file"),
        ("sqlite:///:memory:", "podium", "SQLite needs a file: what is in memory"),
        (" ", "podium", "it is empty"),
        (None, "", "tracking.experiment: '' has 0 characters. MLflow takes 1 to 500"),
        (None, "  ", "tracking.experiment: '  ' has 2 characters"),
        (None, "x" * 600, "has 600 characters"),
    ],
)
def test_address_or_name_that_no_store_has_is_refused_first(
    store: TrackingParams, uri: str | None, experiment: str, sentence: str
) -> None:
    with pytest.raises(RefusedError, match=sentence):
        store_module.open_store(uri, experiment)


def test_address_that_is_no_text_is_refused_with_the_text_to_write(store: TrackingParams) -> None:
    with pytest.raises(InputError, match='uri: must be text, got PosixPath: write "sqlite:///mine.db"'):
        store_module.open_store(Path("mine.db"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match='experiment: must be text, got int: write "3"'):
        store_module.open_store(store.uri, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("http://me:hun/ter2@h", r"'http://me:\*\*\*@h' is no address .*%2F"),
        ("http://me:hun#ter2@h", r"'http://me:\*\*\*@h' is no address"),
        ("http://me:hunter2@[h", r"'http://me:\*\*\*@\[h' is no address"),
        ("http://me:hunter2@h\u2100", "is no address"),
        ("nodriver://me:12/hunter2@h/d", r"nodriver://me:\*\*\*@h/d"),
        ("mysql+nodriver://me:hun?ter2@h/d", r"mysql\+nodriver://me:\*\*\*@h/d"),
    ],
)
def test_address_that_does_not_work_is_shown_without_its_password(
    store: TrackingParams, uri: str, sentence: str
) -> None:
    with pytest.raises(PodiumError, match=sentence) as error:
        store_module.open_store(uri, "podium")
    assert not re.search("hun|ter2", str(error.value))


def test_study_of_which_nothing_ran_gets_no_run_by_sync(here: TrackingParams) -> None:
    """As a search leaves it that the store refused."""
    storage = open_storage(paths.mlruns() / "optuna.journal")
    optuna.create_study(study_name="search-never", storage=storage).enqueue_trial({})
    cli.main(["sync"])
    tracking = connect(here)
    assert search(tracking, {"podium.study": "search-1234"})
    assert search(tracking, {"podium.study": "search-never"}) == []


@pytest.mark.parametrize(("study", "said"), [("search-other", True), ("search-1234", False), (None, False)])
def test_search_that_came_from_another_machine_is_named(
    here: TrackingParams, study: str | None, said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `dvc pull` leaves it: the study is in mlruns, which DVC does not carry."""
    if study is not None:
        paths.SEARCH.mkdir(parents=True)
        write_json(paths.SEARCH / "best.json", {"study": study})
    for _ in range(2):
        cli.main(["sync"])
    text = capsys.readouterr().out
    assert ("is of search-other, whose study is not here: it came from another machine" in text) is said
    assert "MLflow shows exactly what the studies hold (1 study)" in text


def _rested(storage: optuna.storages.BaseStorage) -> None:
    optuna.create_study(study_name="search-mine", storage=storage).add_trial(
        optuna.trial.create_trial(value=1.0, user_attrs={"rested_at": 5})
    )


def _endless(storage: optuna.storages.BaseStorage) -> None:
    study = optuna.create_study(study_name="search-two", storage=storage)
    for epoch in ({"epoch": float("inf"), "seconds": 1}, {"epoch": 1, "seconds": 1, "x": 10**400}):
        study.add_trial(optuna.trial.create_trial(value=1.0, user_attrs={"history": [epoch]}))


def _named(name: str) -> Callable[[optuna.storages.BaseStorage], None]:
    def make(storage: optuna.storages.BaseStorage) -> None:
        optuna.create_study(study_name=name, storage=storage).add_trial(optuna.trial.create_trial(value=1.0))

    return make


@pytest.mark.parametrize("foreign", [_rested, _endless, _named("search-" + "z" * 300), _named(""), _named("../a/b\n")])
def test_odd_study_in_the_journal_is_logged_like_any(
    here: TrackingParams, foreign: Callable[[optuna.storages.BaseStorage], None], capsys: pytest.CaptureFixture[str]
) -> None:
    foreign(open_storage(paths.mlruns() / "optuna.journal"))
    cli.main(["sync"])
    capsys.readouterr()
    cli.main(["sync", "--check"])
    assert "MLflow shows exactly what the studies hold (2 studies)" in capsys.readouterr().out
    assert {path.parent for path in paths.root().rglob("*.lock")} <= {paths.mlruns(), paths.mlruns() / "locks"}


def test_names_of_studies_break_no_line_of_the_table(here: TrackingParams, capsys: pytest.CaptureFixture[str]) -> None:
    _named("two\nlines \u202e turned")(open_storage(paths.mlruns() / "optuna.journal"))
    assert _sync("--check") == 1
    shown = capsys.readouterr().out
    assert "two\\nlines \\u202e turned" in shown
    assert "\u202e" not in shown
