"""`podium sync --as-copy` gives a folder's studies and records other ids, whatever kills it."""

from pathlib import Path

import optuna
import pytest

from podium import paths
from podium.config.params import RuntimeParams, TrackingParams
from podium.errors import PodiumError, RefusedError
from podium.locks import locked
from podium.tracking import project_id, recorded_run
from podium.tracking.record import study_id
from podium.tracking.recorded_run import Record
from podium.tracking.store import connect
from podium.tuning import as_copy
from podium.tuning.storage import open_storage

STEPS = [
    "podium.tracking.project_id.plan",
    "podium.tuning.as_copy.set_study_id",
    "podium.tracking.project_id.set_project_id",
    "podium.tracking.recorded_run.save",
    "podium.tracking.project_id.carried_out",
]


@pytest.fixture
def old(store: TrackingParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A folder with two studies, each with the record of its run, and two retrainings; their ids, by name.

    Another copy has logged to the run of one of them.
    """
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    storage = open_storage(paths.mlruns() / "optuna.journal")
    ids = {"project": project_id.project_id()}
    for name in ("search-1", "search-2"):
        study = optuna.create_study(study_name=name, storage=storage)
        ids[name] = study_id(study, make=True) or ""
        identity = {"podium.study": name, "podium.kind": "search", "podium.id": ids[name]}
        recorded_run.save(Record(name=name, identity=identity, run_id=f"of {name}", tags={"podium.session": "1"}))
        retraining = {"podium.retrain": f"retrain-{name}", "podium.kind": "retrain", "podium.project": ids["project"]}
        recorded_run.save(Record(name="retrain", identity=retraining, run_id=f"of retrain-{name}"))
        with locked(paths.lock(f"retrain-{name}")):
            pass
    _run(store, ids["search-2"], "another")
    optuna.create_study(study_name="somebody's", storage=storage)  # has no id: nothing of it was logged
    return ids


def _run(store: TrackingParams, own: str, session: str) -> None:
    """Make the run of the search with the id `own`, to which a session with this mark has logged."""
    tracking = connect(store)
    tags = {"podium.kind": "search", "podium.id": own, "podium.session": session}
    tracking.client.create_run(tracking.experiment_id, tags=tags)


def _now() -> dict[str, str]:
    storage = open_storage(paths.mlruns() / "optuna.journal")
    names = ("search-1", "search-2", "somebody's")
    ids = {name: study_id(optuna.load_study(study_name=name, storage=storage)) for name in names}
    return {"project": project_id.project_id()} | {name: one for name, one in ids.items() if one}


def _assert_separated(old: dict[str, str]) -> None:
    new = _now()
    assert new.keys() == old.keys()
    assert not set(new.values()) & set(old.values())
    records = [recorded_run.read(path) for path in recorded_run.files(["search", "retrain"])]
    assert {path.stem for path in recorded_run.files(["search", "retrain"])} == {record.key for record in records}
    found = {record.identity.get("podium.study") or record.identity["podium.retrain"]: record for record in records}
    assert len(records) == len(found) == 4
    for name in ("search-1", "search-2"):
        assert found[name].identity["podium.id"] == new[name]
        assert found[f"retrain-{name}"].identity["podium.project"] == new["project"]
    for name, record in found.items():
        assert (record.run_id, record.former, record.tags) == ("", [f"of {name}"], {})


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("step", "number"), [*((step, 1) for step in STEPS), (STEPS[1], 2), (STEPS[3], 2), (STEPS[3], 3), (STEPS[3], 4)]
)
def test_separation_that_is_killed_at_any_step_ends_the_second_time(
    step: str,
    number: int,
    after: bool,
    store: TrackingParams,
    old: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module, _, name = step.rpartition(".")
    real = getattr(__import__(module, fromlist=[name]), name)
    calls = []

    def killed(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == number and not after:
            raise KeyboardInterrupt
        real(*arguments)
        if len(calls) == number:
            raise KeyboardInterrupt

    monkeypatch.setattr(step, killed)
    with pytest.raises(KeyboardInterrupt):
        as_copy.separate(store, RuntimeParams())
    monkeypatch.setattr(step, real)
    planned = project_id.planned()
    assert (planned is None) == ((step, after) in [(STEPS[0], False), (STEPS[-1], True)])
    if planned is not None:
        with pytest.raises(RefusedError, match=r"as-copy.json is there.* Run `podium sync --as-copy` again"):
            project_id.project_id()
    if planned is not None or not after:
        assert as_copy.separate(store, RuntimeParams()) == 2
    _assert_separated(old)


@pytest.mark.parametrize("holder", ["search-2", "retrain-search-1"])
def test_separation_while_something_is_at_work_changes_nothing(
    holder: str, store: TrackingParams, old: dict[str, str]
) -> None:
    with locked(paths.lock(holder)), pytest.raises(RefusedError, match="is already under way"):
        as_copy.separate(store, RuntimeParams())
    assert _now() == old


def test_separation_with_a_damaged_record_changes_nothing(store: TrackingParams, old: dict[str, str]) -> None:
    recorded_run.files(["search"])[1].write_text("{", encoding="utf-8")
    with pytest.raises(PodiumError, match=r"search-.*\.json can't be read"):
        as_copy.separate(store, RuntimeParams())
    assert _now() == old


@pytest.mark.parametrize("text", ["", "{", "[]", '{"project": ["a"]}'])
def test_damaged_plan_is_named_with_what_to_do(text: str, store: TrackingParams, old: dict[str, str]) -> None:
    (paths.lock("").parent / "as-copy.json").write_text(text, encoding="utf-8")
    with pytest.raises(PodiumError, match=r"as-copy.json can't be read: .* remove it"):
        as_copy.separate(store, RuntimeParams())


@pytest.mark.parametrize("text", ["", "\n"])
def test_project_id_that_was_never_written_whole_is_made_again(text: str, old: dict[str, str]) -> None:
    (paths.lock("").parent / "project.id").write_text(text, encoding="utf-8")
    made = project_id.project_id()
    assert len(made) == 32
    assert project_id.project_id() == made


def test_copy_of_a_study_in_the_same_storage_gets_an_id_of_its_own(store: TrackingParams, old: dict[str, str]) -> None:
    storage = open_storage(paths.mlruns() / "optuna.journal")
    studies = [optuna.load_study(study_name=name, storage=storage) for name in ("search-1", "search-2")]
    for study in studies:
        study.set_user_attr("podium:id", "0" * 32)  # as it was when nothing said whose it is
    _run(store, "0" * 32, "another")
    as_copy.separate(store, RuntimeParams())
    assert len({*_now().values(), "0" * 32}) == 4


def test_only_folder_whose_studies_have_runs_is_not_separated(store: TrackingParams, old: dict[str, str]) -> None:
    as_copy.separate(store, RuntimeParams())
    own = _now()
    storage = open_storage(paths.mlruns() / "optuna.journal")
    optuna.load_study(study_name="search-1", storage=storage).set_user_attr("podium:session:ours", "")
    _run(store, own["search-1"], "ours")
    for _ in range(2):
        with pytest.raises(RefusedError, match="nobody else has logged to the runs of this folder's studies"):
            as_copy.separate(store, RuntimeParams())
    assert _now() == own
    assert project_id.planned() is None


def test_separation_that_was_not_logged_yet_may_be_asked_for_again(store: TrackingParams, old: dict[str, str]) -> None:
    for _ in range(2):
        assert as_copy.separate(store, RuntimeParams()) == 2
    assert not set(_now().values()) & set(old.values())


def test_folder_whose_studies_have_no_id_yet_gets_another_of_its_own(store: TrackingParams, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(tmp_path))
        before = project_id.project_id()
        assert as_copy.separate(store, RuntimeParams()) == 0
        assert project_id.project_id() != before
