"""Where a version comes from, and whether the workspace still matches it."""

import json
from pathlib import Path

import pytest

from podium.errors import InputError, RefusedError
from podium.images.dataset import write_json
from podium.lineage import ancestry, origin, workspace
from podium.registry import versions
from registered import NAME, Project, register


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
    found = workspace.differences(project.tracking, version, project.folder)
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
    environment = origin.environment()
    monkeypatch.setattr(origin, "environment", lambda: [*environment[:-1], "new==1"])
    found = differences(fresh, version)
    assert found.pop("new") == ("absent", "1")
    assert found.pop("train.epochs") == ("3", "4")
    assert found.pop("retrain.seed") == ("5", "not set")
    assert found.pop("data") == ("d" * 12, "e" * 12)
    assert found.pop("weights") == (version.tags["weights_digest"][:12], "missing")
    assert [now for _, now in found.values()] == ["absent"]  # the package that was left out


def test_version_whose_files_changed_does_not_match(fresh: Project, version: versions.Version) -> None:
    place = fresh.tracking.client.get_model_version_download_uri(NAME, "1").removeprefix("file://")
    (Path(place) / "serving.py").write_text("print('mine')\n", encoding="utf-8")
    assert "serving.py is changed" in differences(fresh, version)["registered files"][1]


def test_version_whose_run_kept_nothing_says_so(fresh: Project, version: versions.Version) -> None:
    fresh.tracking.client.delete_model_version_tag(NAME, "1", "lineage")
    found = differences(fresh, versions.find(fresh.tracking, NAME, 1))
    assert [what for what, (then, _) in found.items() if then == "not kept"] == [
        "uncommitted changes",
        "parameters",
        "environment",
    ]


def test_origin_that_was_changed_is_refused(fresh: Project, version: versions.Version) -> None:
    stored = Path(fresh.tracking.client.get_run(version.run_id).info.artifact_uri.removeprefix("file://"))
    patch = stored / version.tags["lineage"] / origin.PATCH
    patch.write_text("+ run something else\n", encoding="utf-8")
    with pytest.raises(RefusedError, match="is not what was kept when it was registered"):
        ancestry.kept_files(fresh.tracking, version)
