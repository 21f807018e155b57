"""Every walk-through of README.md and docs, from a fresh clone to a version that answers."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import photos
import serving_process
from pipeline import ROOT, Clone
from stages.running import ONE_PROCESS
from starting import free_port

SMALL = {
    "model.width": 4,
    "train.epochs": 1,
    "train.batch_size": 128,
    "search.n_trials": 2,
    "search.pruner": "none",
    "select.top_k": 1,
    "select.seeds": 1,
    "retrain.profile_steps": 0,
    "runtime.engine": "inline",
}
"""What makes a pipeline one of half a minute; a walk-through's own settings come after it."""

pytestmark = pytest.mark.slow


def sections(page: str) -> dict[str, tuple[dict[str, str], dict[str, Any]]]:
    """Each section that has settings: its modules by path, and the settings."""
    found = {}
    for part in re.split(r"^## ", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        modules = dict(re.findall(r"```python\n# (src/\S+)\n(.*?)```", part, re.DOTALL))
        if settings := re.findall(r"```yaml\n(.*?)```", part, re.DOTALL):
            found[part.partition("\n")[0]] = (modules, YAML(typ="safe").load(settings[0]))
    return found


EXTEND = sections("docs/extend.md")
SCRIPT = sections("docs/from-a-script.md")
README = sections("README.md")


def merged(clone: Clone, settings: dict[str, Any]) -> None:
    """Put `settings` into params.yaml; a search space takes the place of the one that was there."""
    yaml = YAML()
    path = clone.folder / "params.yaml"
    raw = yaml.load(path)
    for section, fields in settings.items():
        for name, value in fields.items():
            raw[section][name] = value
    yaml.dump(raw, path)


ALL_STAGES = f"""
import sys
sys.argv[1:] = ["prepare", "search", "select", "retrain", "evaluate", "register"]
{ONE_PROCESS}
"""
ANSWER = """
import json, os, signal, threading, time
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen
from podium import cli

def ask():
    image = Path("image.png").read_bytes()
    request = Request("http://127.0.0.1:PORT/invocations", image, {"Content-Type": "image/png"})
    try:
        while True:
            try:
                urlopen("http://127.0.0.1:PORT/ready", timeout=600).close()
                break
            except URLError:
                time.sleep(0.05)
        with urlopen(request, timeout=600) as response:
            Path("answer.json").write_bytes(response.read())
    finally:
        os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=ask).start()
cli.main(["serve", "--alias", "challenger", "--port", "PORT"])
"""
"""The stages one after the other and then the server, all in one process: a third of the time that `dvc repro` and
`podium serve` take for so little training."""


def version_that_answers(clone: Clone) -> None:
    """Run the pipeline, serve the version and ask it."""
    photos.write(clone.folder / "image.png", photos.tiles()[0])
    clone.run("python", "-c", ALL_STAGES + ANSWER.replace("PORT", str(free_port())))
    assert clone.json("registered/version.json")["version"] == 1
    answer = json.loads((clone.folder / "answer.json").read_text(encoding="utf-8"))
    assert answer["predictions"][0]["label"] in clone.json("prepared/dataset.json")["classes"]


def version_that_is_served(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the pipeline as a person does, serve the version and ask it."""
    clone.run("dvc", "repro", "--quiet")
    assert clone.json("registered/version.json")["version"] == 1
    monkeypatch.chdir(clone.folder)
    monkeypatch.setenv("PYTHONPATH", str(clone.folder / "src"))
    image = base64.b64encode(photos.encoded(photos.tiles()[0])).decode()
    with serving_process.podium("--alias", "challenger") as address:
        status, answer = serving_process.ask(address, {"dataframe_records": [{"image": image}]})
    assert status == 200
    assert answer["predictions"][0]["label"] in clone.json("prepared/dataset.json")["classes"]


TOGETHER = (
    ("A network",),
    ("A network of timm or torchvision",),
    (
        "A loss",
        "A metric",
        "An augmentation",
        "An optimizer and a schedule",
        "A sampler or a pruner",
        "A source of images",
        "A tracker",
    ),
    ("The whole training loop",),
)
"""Walk-throughs that one pipeline can have at the same time: each is named in params.yaml and runs."""


@pytest.mark.parametrize("titles", TOGETHER, ids=lambda titles: titles[0])
def test_walk_through_ends_in_a_version_that_answers(
    titles: tuple[str, ...], tmp_path: Path, mlflow_template: Path
) -> None:
    clone = Clone(tmp_path / "clone", SMALL, mlflow_template)
    if "network" in titles[0]:
        clone.set({"prepare.size": 32 if "timm" in titles[0] else 8})
    space: dict[str, Any] = {}
    for modules, settings in (EXTEND[title] for title in titles):
        for path, code in modules.items():
            (clone.folder / path).write_text(code, encoding="utf-8")
        merged(clone, settings)
        space |= settings["search"]["space"]
    merged(clone, {"search": {"space": space}})

    version_that_answers(clone)

    if titles == TOGETHER[0]:
        assert "uncommitted changes" in clone.run("podium", "lineage", "1")


def test_network_of_the_readme_ends_in_a_version_that_answers(tmp_path: Path, mlflow_template: Path) -> None:
    modules, settings = README["Your own code"]
    clone = Clone(tmp_path / "clone", SMALL, mlflow_template)
    for path, code in modules.items():
        (clone.folder / path).write_text(code, encoding="utf-8")
    merged(clone, settings)

    version_that_answers(clone)


def test_blog_posts_program_runs_with_its_class_and_its_loader_as_they_stand(
    tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs/from-a-script.md").read_text(encoding="utf-8")
    modules, settings = SCRIPT["After"]
    before = re.findall(r"class CNN.*?\n\n\n", page, re.DOTALL)[0].strip()
    assert before in modules["src/blog_net.py"]
    clone = Clone(tmp_path / "clone", SMALL, mlflow_template)
    for path, code in modules.items():
        (clone.folder / path).write_text(code, encoding="utf-8")
    merged(clone, settings)
    clone.set({"search.n_trials": 1, "search.space.train.epochs": {"low": 1, "high": 2}, "train.epochs": 1})

    version_that_is_served(clone, monkeypatch)

    (clone.folder / "src/unrelated.py").write_text("VALUE = 1\n", encoding="utf-8")
    assert "Running stage 'search'" not in clone.run("dvc", "repro")
    net = clone.folder / "src/blog_net.py"
    net.write_text(net.read_text(encoding="utf-8").replace("1024, 512", "1024, 256").replace("512, 10", "256, 10"))
    assert "Running stage 'search'" in clone.run("dvc", "repro", "search")


def test_walk_throughs_fit_a_screen() -> None:
    assert sorted(EXTEND) == sorted(title for titles in TOGETHER for title in titles)
    for title, (modules, _) in EXTEND.items():
        for code in modules.values():
            assert len(code.strip().splitlines()) <= 19, title  # and the line with its name


def test_script_from_python_runs(tmp_path: Path, mlflow_template: Path) -> None:
    clone = Clone(tmp_path / "clone", SMALL, mlflow_template)
    clone.run("dvc", "repro", "--quiet", "prepare")

    said = clone.run("python", "docs/from-python.py")

    assert "validation accuracy 0." in said
