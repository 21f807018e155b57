"""`podium weights`: nothing is fetched here, the libraries' own loaders are replaced."""

import resource
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file

from podium.cli import main


def _run(*arguments: str) -> int | str | None:
    try:
        main(["weights", *arguments])
    except SystemExit as ended:
        return ended.code
    return 0


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_list_names_what_is_installed_and_what_lies_there(capsys: pytest.CaptureFixture[str]) -> None:
    Path("data/weights").mkdir(parents=True)
    Path("data/weights/mine.pt").write_bytes(b"x")

    assert _run() == 0

    shown = capsys.readouterr().out
    assert "of timm:tf_efficientnet_lite0, Apache-2.0; installed" in shown
    assert "mine.pt" in shown


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_fetched_weights_lie_in_the_folder_with_their_license_said(
    library: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = torchvision.models.ResNet18_Weights
    monkeypatch.setattr(weights, "get_state_dict", lambda self, **options: {"w": torch.ones(2)})
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: torch.nn.Linear(2, 1))

    assert _run(f"{library}:resnet18") == 0

    shown = capsys.readouterr().out
    assert "license: " in shown
    assert f"model.name: {library}:resnet18, model.weights: {library}-resnet18.safetensors" in shown
    assert load_file(f"data/weights/{library}-resnet18.safetensors")
    assert _run(f"{library}:resnet18") == 2  # what is there is not written over


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_without_a_network_one_sentence_says_so(
    library: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def offline(*arguments: object, **options: object) -> None:
        raise OSError("Name or service not known\nmore")

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", offline)
    monkeypatch.setattr(timm, "create_model", offline)

    assert _run(f"{library}:resnet18") == 1

    error = capsys.readouterr().err.strip()
    assert "can't be fetched (OSError): it needs the internet" in error
    assert "\n" not in error
    assert not Path("data/weights").exists()


@pytest.mark.parametrize("name", ["resnet18", "keras:resnet18", "timm:no_such", "torchvision:no_such"])
def test_unknown_weights_are_refused(name: str) -> None:
    assert _run(name) == 2


def test_full_disk_is_said_in_one_sentence_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: torch.nn.Linear(2, 1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))  # bytes of a file, which fails as a full disk does
    try:
        code = _run("timm:resnet18")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert code == 1

    error = capsys.readouterr().err.strip()
    assert "timm-resnet18.safetensors can't be written: " in error
    assert "\n" not in error
    assert not list(Path("data/weights").iterdir())
