"""One test per check of the project."""

import re
import subprocess
from pathlib import Path

import pytest

import tiny
from own import OwnCode
from podium.config import run_sections
from podium.config.params import TrackingParams, load, parse
from podium.doctor import project
from podium.doctor.machine import Finding, ok
from podium.errors import InputError
from podium.locks import locked
from podium.tracking.store import connect
from podium.tuning import outcome


def test_parameters_that_are_wrong_are_reported_whole(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("search: {n_trials: 0}\n", encoding="utf-8")
    found = project.parameters(path)
    assert (found.level, "search.n_trials" in found.found) == ("fail", True)
    path.write_text("search: {n_trials: 1}\n", encoding="utf-8")
    assert project.parameters(path).level == "ok"


def test_cuda_of_the_ranks_alone_is_not_missed_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Seen(Exception):  # noqa: N818 (what was asked for; the other checks are not made)
        pass

    def cuda(wanted: str) -> Finding:
        raise Seen(wanted)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("podium.doctor.machine.cuda", cuda)
    for devices, wanted in ((1, "cuda"), (2, "auto")):
        (tmp_path / "params.yaml").write_text(f"runtime: {{device: cuda, devices: {devices}}}\n", encoding="utf-8")
        with pytest.raises(Seen, match=wanted):
            project.check_environment()


def test_packages_of_a_format_that_are_missing_are_found_before_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("register: {formats: [onnx, onnx]}\n", encoding="utf-8")
    assert "register.formats: must name each format once; got onnx, onnx" in project.parameters(path).found
    path.write_text("register: {formats: [onnx]}\n", encoding="utf-8")
    assert project.parameters(path).level == "ok"
    monkeypatch.setitem(run_sections.FORMAT_PACKAGES, "onnx", ("onnx", "no_such_package"))
    wrong = "register.formats: onnx needs no_such_package, not installed here: `pip install no_such_package`, or write"
    assert wrong in project.parameters(path).found
    monkeypatch.setattr(outcome, "plan_of", lambda *_: pytest.fail("it went on"))
    with pytest.raises(InputError, match=re.escape(wrong)):
        outcome.search(load(path), tiny.prepare(tmp_path / "prepared"), tmp_path / "search")


def test_weights_that_are_missing_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lite = "model: {name: 'timm:tf_efficientnet_lite0', weights: imagenet}"
    assert project.weights(parse(lite)).found == "imagenet"
    missing = project.weights(parse(lite.replace("imagenet", "mine.pt")))
    assert (missing.level, "mine.pt must lie in data/weights" in missing.found) == ("fail", True)
    other = project.weights(parse("model: {name: 'timm:resnet10t', weights: imagenet}"))
    assert (other.level, "podium weights timm:resnet10t" in other.found) == ("fail", True)


def test_old_file_store_is_found(tmp_path: Path) -> None:
    assert project.old_store(tmp_path).level == "ok"
    (tmp_path / "0").mkdir()
    (tmp_path / "0/meta.yaml").touch()
    assert project.old_store(tmp_path).level == "fail"


def test_foreign_database_is_found(tmp_path: Path) -> None:
    ours = TrackingParams()
    assert project.foreign_database(tmp_path, ours).level == "ok"
    (tmp_path / "mlflow.db").touch()
    assert project.foreign_database(tmp_path, ours).level == "note"
    chosen = TrackingParams(uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert project.foreign_database(tmp_path, chosen).level == "ok"


def test_folder_that_can_not_be_written_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert project.writable(tmp_path / "mlruns").level == "ok"
    monkeypatch.setattr("podium.doctor.project.os.access", lambda path, mode: False)  # root may write anywhere
    assert project.writable(tmp_path / "mlruns").level == "fail"


def test_tracking_that_does_not_answer_is_found_and_nothing_is_made(store: TrackingParams, tmp_path: Path) -> None:
    assert project.tracking(store).level == "ok"
    assert project.tracking(TrackingParams(uri="http://127.0.0.1:9")).level == "fail"
    absent = TrackingParams(uri=f"sqlite:///{tmp_path}/other/mlflow.db")
    assert project.tracking(absent).level == "ok"
    assert not (tmp_path / "other").exists()
    connect(store).client.delete_experiment(connect(store).experiment_id)
    refused = project.tracking(store)
    assert (refused.level, "Restore it with" in refused.found, refused.remedy) == ("fail", True, "")
    (tmp_path / "broken.db").write_text("no database")
    assert project.tracking(TrackingParams(uri=f"sqlite:///{tmp_path}/broken.db")).level == "fail"


@pytest.mark.parametrize("address", ["http://user:secret@127.0.0.1:9", "http://127.0.0.1:9?password=secret"])
def test_password_of_a_tracking_server_is_not_shown(address: str) -> None:
    unchecked = TrackingParams.model_construct(uri=address)  # params.yaml would be refused
    found = project.tracking(unchecked)
    assert "secret" not in f"{found.found} {found.remedy}"


@pytest.mark.parametrize(("name", "level"), [("mlruns/optuna.journal.lock", "fail"), (".git/index.lock", "fail")])
def test_lock_that_a_killed_program_left_is_found(tmp_path: Path, name: str, level: str) -> None:
    assert project.locks(tmp_path / "mlruns", tmp_path).level == "ok"
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).touch()
    assert project.locks(tmp_path / "mlruns", tmp_path).level == level


def test_search_under_way_is_reported_and_one_that_ended_is_not(tmp_path: Path) -> None:
    with locked(tmp_path / "locks/search-1.lock"):
        assert "search-1" in project.locks(tmp_path, tmp_path).found
    assert project.locks(tmp_path, tmp_path).level == "ok"


def test_tree_with_changes_is_reported(tmp_path: Path) -> None:
    def level() -> Finding:
        return project.tree(tmp_path)

    assert "no git repository" in level().found
    (tmp_path / "a").write_text("1")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "a"], [*identity, "commit", "-qm", "a"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    assert level().level == "ok"
    (tmp_path / "a").write_text("2")
    assert level().level == "note"


def test_remote_that_is_missing_is_reported(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    analytics = false\n")
    assert project.remote(tmp_path).level == "note"
    (tmp_path / ".dvc/config").write_text("[core]\n    remote = box\n['remote \"box\"']\n    url = /tmp/box\n")
    assert project.remote(tmp_path).level == "ok"


OWN = """
import torch


class Net(torch.nn.Linear):
    def __init__(self, num_classes: int, hidden: int = 8) -> None:
        super().__init__(8, num_classes)


def loss(logits, targets, gamma: float = 1.0):
    return torch.nn.functional.cross_entropy(logits, targets) * gamma


def rows(most: int):
    yield from ()
"""


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("rows", "{m}:rows: loaded; `dvc repro prepare` reads its rows"),
        ("missing", "prepare.source: {m}:missing: {m} has no 'missing'"),
    ],
)
def test_source_is_loaded_and_not_called_tried(own: OwnCode, tmp_path: Path, source: str, found: str) -> None:
    module = own.write(OWN)
    params = parse(f"prepare: {{source: '{module}:{source}', arguments: {{most: 3}}}}")
    finding = project.own_code(params, tmp_path / "prepared")
    assert finding.found.startswith(found.format(m=module))
    assert finding.level == ("ok" if source == "rows" else "fail")


@pytest.mark.slow
def test_own_code_is_loaded_without_images_and_tried_with_them(own: OwnCode, tmp_path: Path) -> None:
    module = own.write(OWN)
    prepared = tmp_path / "prepared"
    params = parse(f"model: {{name: '{module}:Net'}}\ntrain: {{loss: '{module}:loss'}}")
    assert project.own_code(parse(""), prepared) == ok("own code", "params.yaml names none")
    found = project.own_code(params, prepared)
    assert (found.level, found.found[:40]) == ("ok", f"{module}:loss, {module}:Net: loaded; `dvc "[:40])
    tiny.prepare(prepared)
    found = project.own_code(params, prepared)
    assert found.level == "fail"
    assert f"model.name: {module}:Net must give logits" in found.found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("model: {name: '{m}:Net', arguments: {hiden: 3}}", "model.arguments.hiden: {m}:Net has no such argument"),
        ("model: {name: '{m}:Nett'}", "model.name: {m}:Nett: {m} has no 'Nett'; did you mean Net?"),
        (
            "train: {loss: {name: '{m}:loss', arguments: {alpha: 1}}}",
            "train.loss.arguments.alpha: {m}:loss has no such",
        ),
        ("search: {sampler: '{m}:loss'}", "search.sampler.arguments: {m}:loss needs logits"),
        ("prepare: {source: '{m}:rows'}", "prepare.arguments: {m}:rows needs most, which has no default"),
    ],
)
def test_own_code_that_does_not_fit_is_one_finding(own: OwnCode, tmp_path: Path, text: str, problem: str) -> None:
    module = own.write(OWN)
    found = project.own_code(parse(text.replace("{m}", module)), tmp_path / "prepared")
    assert (found.subject, found.level) == ("own code", "fail")
    assert problem.replace("{m}", module) in found.found
