"""Where a version comes from, and whether the workspace still matches it."""

import json
import subprocess
from pathlib import Path

import pytest

from podium import cli
from podium.data.dataset import write_json
from podium.errors import InputError, PodiumError, RefusedError
from podium.registry import ancestry, changes, provenance, reproduction, versions
from podium.registry.reproduction import reproduce
from registered import NAME, Project, register

pytestmark = pytest.mark.slow


@pytest.fixture
def version(fresh: Project) -> versions.Version:
    """Version 1, registered in a folder with parameters and a lock."""
    Path("params.yaml").write_text("train: {epochs: 3}\nretrain: {seed: 5}\n", encoding="utf-8")
    Path("dvc.lock").write_text(
        "stages:\n  prepare:\n    outs:\n    - path: data/prepared\n      md5: ab12.dir\n", "utf-8"
    )
    register(fresh)
    return versions.find(fresh.tracking, NAME, 1)


def test_tree_names_run_trial_study_data_code_and_environment(fresh: Project, version: versions.Version) -> None:
    tree = ancestry.tree(fresh.tracking, version)
    text = "\n".join(tree.lines())
    for words in (
        f"{NAME} version 1: aliases challenger",
        f"├─ retraining: run {version.run_id}, status FINISHED, device cpu, threads 1, seed 0",
        "│  └─ selection: confirmation seeds 1 2",
        "│     ├─ trial 4: run gone from MLflow",
        "│     └─ study: name podium-tiny",
        f"├─ data: digest {'d' * 64}, data/prepared in DVC ab12.dir",
        "├─ code: commit unknown",
        "├─ parameters: file lineage/",
        "└─ environment: python 3.",
    ):
        assert words in text
    assert json.loads(json.dumps(tree.to_dict()))["from"][1]["digest"] == "d" * 64


def test_tree_finds_the_trials_run_and_not_another_of_the_same_trial(fresh: Project, version: versions.Version) -> None:
    client, experiment = fresh.tracking.client, fresh.tracking.experiment_id
    tags = {"podium.study": "podium-tiny", "podium.trial": "4"}
    trial = client.create_run(experiment, tags=tags | {"podium.kind": "trial"}).info.run_id
    client.log_param(trial, "train.epochs", 3)
    client.create_run(experiment, tags=tags | {"podium.kind": "retrain"})
    search = client.create_run(experiment, tags={"podium.study": "podium-tiny", "podium.kind": "search"}).info.run_id
    client.log_metric(search, "confirmed_mean", 0.975)
    text = "\n".join(ancestry.tree(fresh.tracking, version).lines())
    assert f"trial 4: run {trial}, status RUNNING, train.epochs 3" in text
    assert f"study: name podium-tiny, run {search}" in text
    assert "mean on them 0.9750" in text


def test_made_from_finds_the_versions_of_a_digest(project: Project) -> None:
    assert [v.number for v in ancestry.made_from(project.tracking, NAME, "dddddd")] == [1, 2, 3]
    with pytest.raises(InputError, match="no version of .* was made from data eeeeee; known are dddddddddddd"):
        ancestry.made_from(project.tracking, NAME, "eeeeee")
    with pytest.raises(InputError, match="at least the first 6 characters"):
        ancestry.made_from(project.tracking, NAME, "d")


def differences(project: Project, version: versions.Version) -> dict[str, tuple[str, str]]:
    found = reproduction.workspace_differences(project.tracking, version, project.folder)
    return {difference.what: (difference.then, difference.now) for difference in found}


def test_workspace_as_it_was_matches(fresh: Project, version: versions.Version) -> None:
    assert differences(fresh, version) == {}


def test_workspace_that_changed_says_in_what(
    fresh: Project, version: versions.Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("params.yaml").write_text("train: {epochs: 4}\nruntime: {workers: 2}\n", encoding="utf-8")
    info = fresh.path("prepared") / "dataset.json"
    write_json(info, json.loads(info.read_text(encoding="utf-8")) | {"digest": "e" * 64})
    fresh.path("retrained").joinpath("model.json").unlink()
    environment = provenance.environment()
    monkeypatch.setattr(provenance, "environment", lambda: [*environment[:-1], "new==1"])
    found = differences(fresh, version)
    assert found.pop("new") == ("absent", "1")
    assert found.pop("train.epochs") == ("3", "4")
    assert found.pop("retrain.seed") == ("5", "not set")
    assert found.pop("data") == ("d" * 12, "e" * 12)
    assert found.pop("weights") == (version.tags["weights_digest"][:12], "missing")
    assert [now for _, now in found.values()] == ["absent"]  # the package that was left out


def test_version_whose_files_changed_does_not_match(fresh: Project, version: versions.Version) -> None:
    place = fresh.tracking.client.get_model_version_download_uri(NAME, "1").removeprefix("file://")
    (Path(place) / "served_model.py").write_text("print('mine')\n", encoding="utf-8")
    assert "served_model.py is changed" in differences(fresh, version)["registered files"][1]


def test_version_whose_run_kept_nothing_says_so(fresh: Project, version: versions.Version) -> None:
    fresh.tracking.client.delete_model_version_tag(NAME, "1", "lineage")
    found = differences(fresh, versions.find(fresh.tracking, NAME, 1))
    assert [what for what, (then, _) in found.items() if then == "not stored"] == [
        "uncommitted changes",
        "parameters",
        "environment",
    ]


def test_origin_that_was_changed_is_refused(fresh: Project, version: versions.Version) -> None:
    stored = Path(fresh.tracking.client.get_run(version.run_id).info.artifact_uri.removeprefix("file://"))
    patch = stored / version.tags["lineage"] / "params.yaml"
    patch.write_text("+ run something else\n", encoding="utf-8")
    with pytest.raises(RefusedError, match="was changed after it was registered"):
        ancestry.stored_files(fresh.tracking, version)


CODE = "where = 'postgresql://me:hunter2@host/db'\nhow = 1\n"
LARGE = b"x" * (changes.LARGEST_FILE + 1)
LARGE_SAID = "changes left out, for more than 500,000 bytes each: src/code.py"


def commit(folder: Path) -> None:
    """Make a checkout of `folder`, of one commit."""
    (folder / "src").mkdir()
    files = {"params.yaml": "{}\n", "dvc.lock": "stages: {}\n", ".gitignore": "/data\n/mlruns\n", "src/code.py": CODE}
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    for command in ("init -q", "add -A", "-c user.name=t -c user.email=t@example.org commit -qm one"):
        subprocess.run(["git", *command.split()], cwd=folder, check=True)


@pytest.fixture
def checkout(project: Project) -> Project:
    """The three versions in a checkout."""
    commit(project.folder)
    return project


def keep(project: Project) -> versions.Version:
    """Version 3 as if it were registered here and now."""
    client, version = project.tracking.client, versions.find(project.tracking, NAME, 3)
    place = f"lineage/{project.folder.name}"
    folder = project.folder / "mlruns/kept"
    folder.mkdir()
    provenance.write_sources(folder, project.folder)
    client.log_artifacts(version.run_id, str(folder), place)
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=project.folder, text=True).strip()
    tags = {"lineage": place, versions.LINEAGE_DIGEST: versions.folder_digest(folder), "git_commit": head}
    for key, value in tags.items():
        client.set_model_version_tag(NAME, "3", key, value)
    return versions.find(project.tracking, NAME, 3)


@pytest.mark.parametrize(
    ("name", "then", "now", "found"),
    [
        ("src/code.py", None, None, {}),
        ("src/code.py", b"2\n", b"2\n", {}),
        ("src/code.py", b"2\n", b"3\n", {"uncommitted changes": ("src/code.py", "src/code.py")}),
        ("src/code.py", b"2\n", CODE.encode(), {"uncommitted changes": ("src/code.py", "none")}),
        ("src/code.py", b"K\xf6ln\n", b"K\xf6ln\n", {}),
        ("src/code.py", b"K\xf6ln\n", b"K\xe4ln\n", {"uncommitted changes": ("src/code.py", "src/code.py")}),
        ("src/code.py", b"1\r\n", b"1\r\n", {}),
        ("src/code.py", b"2 # https://a:b@c\n", b"2 # https://a:b@c\n", {}),
        (".env", b"KEY=hunter2\n", b"", {}),
        ("src/code.py", LARGE, LARGE, {"changes left out": (LARGE_SAID, LARGE_SAID)}),
        ("src/code.py", LARGE, CODE.encode(), {"changes left out": (LARGE_SAID, "none")}),
        ("src/code.py", CODE.encode(), LARGE, {"changes left out": ("none", LARGE_SAID)}),
    ],
)
def test_workspace_is_compared_with_the_changes_of_then(
    checkout: Project, name: str, then: bytes | None, now: bytes | None, found: dict[str, tuple[str, str]]
) -> None:
    if then is not None:
        (checkout.folder / name).write_bytes(then)
    version = keep(checkout)
    if now is not None:
        (checkout.folder / name).write_bytes(now)
    assert differences(checkout, version) == found


def test_workspace_of_which_git_can_say_nothing_does_not_match(checkout: Project) -> None:
    version = keep(checkout)
    (checkout.folder / ".git/index").write_text("no index", encoding="utf-8")
    then, now = differences(checkout, version)["changes left out"]
    assert then == "none"
    assert "git diff-files failed" in now


def test_version_of_which_changes_were_left_out_can_not_be_made_again(checkout: Project) -> None:
    (checkout.folder / "src/code.py").write_bytes(LARGE)
    version = keep(checkout)
    assert f"but {LARGE_SAID}" in "\n".join(ancestry.tree(checkout.tracking, version).lines())
    with pytest.raises(InputError, match=r"can't be reproduced: its run does not hold all of it: changes left out"):
        reproduce(checkout.tracking, version, checkout.folder)


def test_version_whose_changes_stand_beside_a_password_says_why_they_do_not_apply(checkout: Project) -> None:
    (checkout.folder / "src/code.py").write_text(CODE.replace("1", "2"), encoding="utf-8")
    version = keep(checkout)
    with pytest.raises(
        PodiumError, match=r"can't be applied \(passwords within addresses were not stored: .*does not apply"
    ):
        reproduce(checkout.tracking, version, checkout.folder)


def test_registering_says_which_changes_were_left_out(fresh: Project, capsys: pytest.CaptureFixture[str]) -> None:
    commit(fresh.folder)
    (fresh.folder / "src/code.py").write_bytes(LARGE)
    register(fresh)
    assert f"podium: {LARGE_SAID}. `podium reproduce` will not" in capsys.readouterr().err


def test_tree_says_that_the_run_was_deleted(fresh: Project, version: versions.Version) -> None:
    fresh.tracking.client.delete_run(version.run_id)
    assert f"run {version.run_id}, status FINISHED, deleted" in "\n".join(
        ancestry.tree(fresh.tracking, version).lines()
    )


def test_tags_reach_the_terminal_in_one_line_each(
    fresh: Project, version: versions.Version, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("params.yaml").write_text(f"register: {{name: {NAME}}}\n", encoding="utf-8")
    for key in ("accuracy", "git_commit", "device", "torch_version"):
        fresh.tracking.client.set_model_version_tag(NAME, "1", key, "\x1b[2Jnone\nof it")
    with pytest.raises(SystemExit, match="1"):
        cli.main(["verify", "1"])
    cli.main(["lineage", "1"])
    cli.main(["lineage", "--data", "dddddd"])
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert "none\\nof it" in said.out


def test_version_whose_tag_of_threads_is_no_number_is_refused(fresh: Project, version: versions.Version) -> None:
    fresh.tracking.client.set_model_version_tag(NAME, "1", "threads", "many")
    with pytest.raises(InputError, match="its tag threads is no number of threads"):
        reproduce(fresh.tracking, versions.find(fresh.tracking, NAME, 1), fresh.folder)
