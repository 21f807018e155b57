"""Versions in a real registry: how they are found, what they say of themselves, what their files must be."""

import base64
import importlib.util
import json
import os
import py_compile
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import registered
from podium.errors import InputError, PodiumError, RefusedError
from podium.registry import versions
from podium.registry.loading import STORE_VARIABLES
from registered import NAME, Project


def model_folder(project: Project, number: int) -> Path:
    """Where the files of a version lie."""
    uri = project.tracking.client.get_model_version_download_uri(NAME, str(number))
    return Path(uri.removeprefix("file://"))


def moved_to(project: Project, folder: Path) -> versions.Version:
    """Version 4: a copy of version 3 with its files in `folder`, where a test may damage them."""
    shutil.copytree(model_folder(project, 3), folder)
    tags = versions.find(project.tracking, NAME, 3).tags
    made = project.tracking.client.create_model_version(NAME, folder.as_uri(), tags=tags)
    return versions.find(project.tracking, NAME, int(made.version))


def test_version_says_where_it_comes_from(project: Project) -> None:
    version = versions.find(project.tracking, NAME, 3)
    run = project.tracking.client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert version.aliases == ("challenger",)
    expected = {
        "git_commit": "unknown",
        "git_dirty": "unknown",
        "data_digest": "d" * 64,
        "dvc_lock_digest": "unknown",
        "study": "podium-tiny",
        "trial": "80",
        "seed": "0",
        "confirmation_seeds": "1,2",
        "device": "cpu",
    }
    assert {name: version.tags[name] for name in expected} == expected
    assert float(version.tags["parity_max_difference"]) <= 1e-5
    for package in ("torch", "mlflow", "optuna", "dvc"):
        assert version.tags[f"{package}_version"][0].isdigit()


def test_version_has_a_card_that_a_database_can_hold(project: Project) -> None:
    version = project.tracking.client.get_model_version(NAME, "3")
    card = str(version.description)
    assert card.startswith(f"**Accuracy {float(version.tags['accuracy']):.4f}**")
    assert "left, right, top" in card
    assert len(card) < 5000


def test_logged_model_belongs_to_the_run_and_holds_no_pickle(project: Project) -> None:
    version = versions.find(project.tracking, NAME, 3)
    run = project.tracking.client.get_run(version.run_id)
    assert run.outputs is not None
    assert [f"models:/{output.model_id}" for output in run.outputs.model_outputs] == [version.model_uri]
    logged = project.tracking.client.get_logged_model(version.model_uri.removeprefix("models:/"))
    assert (str(logged.status), logged.experiment_id) == ("READY", run.info.experiment_id)
    files = {p.relative_to(model_folder(project, 3)).as_posix() for p in model_folder(project, 3).rglob("*")}
    assert {"MLmodel", "served_model.py", "artifacts/model/model.pt2", "artifacts/model/manifest.json"} <= files
    # `mlflow models serve` leaves __pycache__ in the store where it loads from it: not the model's, never loaded by us.
    assert not [name for name in files if name.endswith((".pkl", ".pt", ".pth"))]


def test_logged_model_pins_what_serving_needs_and_nothing_else(project: Project) -> None:
    lines = (model_folder(project, 3) / "requirements.txt").read_text(encoding="utf-8").split()
    assert [line.split("==")[0] for line in lines] == ["mlflow", "numpy", "pandas", "pillow", "torch", "pillow-heif"]
    assert all("==" in line for line in lines)


def test_logged_model_keeps_an_image_file_as_its_example(project: Project) -> None:
    example = json.loads((model_folder(project, 3) / "input_example.json").read_text(encoding="utf-8"))
    assert base64.b64decode(example["data"][0][0]) == registered.reference_images(project.folder)[0]


@pytest.mark.parametrize(("which", "number"), [(1, 1), (2, 2), ("challenger", 3)])
def test_find_by_number_or_alias_gives_the_version(project: Project, which: int | str, number: int) -> None:
    assert versions.find(project.tracking, NAME, which).number == number


@pytest.mark.parametrize(
    ("name", "which", "sentence"),
    [
        (NAME, 9, r"has no version 9, only 1, 2, 3 \(challenger is 3\)"),
        (NAME, 10**20, "has no version 100000000000000000000, only 1, 2, 3"),
        (NAME, "champion", r"no version with the alias 'champion', only 1, 2, 3 .*; `podium promote` makes a champion"),
        ("nobody", 1, "nothing is registered as nobody: run `dvc repro`"),
        ("nobody", "champion", "nothing is registered as nobody"),
    ],
)
def test_find_of_what_is_not_there_says_what_is(project: Project, name: str, which: int | str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        versions.find(project.tracking, name, which)


def test_latest_is_the_highest_number_and_none_of_an_unknown_name(project: Project) -> None:
    found = versions.latest(project.tracking, NAME)
    assert found is not None
    assert found.number == 3
    assert versions.latest(project.tracking, "nobody") is None
    assert versions.aliases(project.tracking, "nobody") == {}


def test_loaded_model_answers_as_it_was_evaluated(project: Project) -> None:
    model = versions.load(project.tracking, versions.find(project.tracking, NAME, 3))
    model.check_predictions()
    answers = model.predict(registered.reference_images(project.folder))
    assert list(answers.columns) == ["label", "probability", "model"]
    assert set(answers["model"]) == {f"{NAME}/3"}
    assert len(answers) == 64


def test_loaded_model_that_can_not_predict_its_stored_images_fails_its_check(project: Project) -> None:
    model = versions.load(project.tracking, versions.find(project.tracking, NAME, 3))
    rows = [row | {"image": base64.b64encode(b"no image for this Pillow").decode()} for row in model.stored]
    for stored in (rows, [{key: value for key, value in row.items() if key != "decoded"} for row in rows]):
        with pytest.raises(RefusedError, match="does not predict the images that are stored in it: "):
            replace(model, stored=stored).check_predictions()


def test_loaded_model_asked_for_no_image_names_it(project: Project) -> None:
    model = versions.load(project.tracking, versions.find(project.tracking, NAME, 3))
    with pytest.raises(InputError, match="image 2 of 2: it is empty"):
        model.predict([registered.reference_images(project.folder)[0], b""])


@pytest.mark.parametrize("uri", [None, "sqlite:///elsewhere.db"])
def test_load_leaves_the_process_wide_store_and_the_files_as_they_were(
    project: Project, monkeypatch: pytest.MonkeyPatch, uri: str | None
) -> None:
    for name in STORE_VARIABLES:
        monkeypatch.setenv(name, uri) if uri else monkeypatch.delenv(name, raising=False)
    before = sorted(model_folder(project, 3).rglob("*"))
    versions.load(project.tracking, versions.find(project.tracking, NAME, 3))
    assert [os.environ.get(name) for name in STORE_VARIABLES] == [uri, uri]
    assert sorted(model_folder(project, 3).rglob("*")) == before


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("artifacts/model/model.pt2", None, "artifacts/model/model.pt2 is changed"),
        ("artifacts/model/decode.py", b"print('mine')", "artifacts/model/decode.py is changed"),
        ("served_model.py", b"print('mine')", "served_model.py is changed"),
        ("MLmodel", None, "MLmodel is changed"),
        ("python_model.pkl", b"cos\nsystem\n", "python_model.pkl is not listed"),
        ("manifest.json", b"{}", "manifest.json is not listed"),
    ],
)
def test_load_of_a_version_whose_files_changed_is_refused(
    project: Project, tmp_path: Path, file: str, content: bytes | None, sentence: str
) -> None:
    copied = tmp_path / "copy"
    version = moved_to(project, copied)
    path = copied / file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(path.read_bytes()[:-1] + b"!" if content is None else content)
    with pytest.raises(RefusedError, match=f"{NAME} version 4 is not what was registered: .*{sentence}"):
        versions.load(project.tracking, version)


def test_load_does_not_run_a_planted_compiled_file(project: Project, tmp_path: Path) -> None:
    version = moved_to(project, tmp_path / "copy")
    planted = tmp_path / "planted.py"
    planted.write_text("raise SystemExit('planted code ran')", encoding="utf-8")
    compiled = importlib.util.cache_from_source(str(tmp_path / "copy" / "served_model.py"))
    never_checked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    Path(compiled).parent.mkdir(exist_ok=True)
    py_compile.compile(str(planted), compiled, doraise=True, invalidation_mode=never_checked)
    versions.load(project.tracking, version).check_predictions()


def test_load_of_a_version_whose_files_are_gone_says_so(project: Project, tmp_path: Path) -> None:
    version = moved_to(project, tmp_path / "copy")
    (tmp_path / "copy").rename(tmp_path / "elsewhere")
    with pytest.raises(PodiumError, match=f"{NAME} version 4 can't be loaded: its files are gone"):
        versions.load(project.tracking, version)
