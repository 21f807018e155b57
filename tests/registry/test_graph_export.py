"""A version's graph as a file for other programs."""

import json
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import registered
from podium import cli
from podium.data.decode import Preprocess, decode
from podium.errors import InputError, RefusedError
from podium.registry import exported, graph_export, versions
from podium.registry.graph_export import format_of, write_graph
from registered import NAME, Project


def test_onnx_file_alone_predicts_what_the_version_does(project: Project) -> None:
    cli.main(["export", "3", "model.onnx"])

    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    assert about["version"] == f"{NAME}/3"
    classes, spec = json.loads(about["classes"]), Preprocess.from_dict(json.loads(about["preprocess"]))
    files = registered.reference_images(project.folder)[:20]
    pixels = np.stack([decode(file, spec) for file in files])
    (got,) = session.run(["probabilities"], {"images": pixels})
    expected = versions.load(project.tracking, versions.find(project.tracking, NAME, 3)).predict(files)
    assert [classes[k] for k in got.argmax(1)] == expected["label"].tolist()
    np.testing.assert_allclose(got.max(1), expected["probability"], atol=1e-5)
    text = str(onnx.load("model.onnx"))
    assert "site-packages" not in text
    assert str(Path.cwd()) not in text


def test_onnx_file_holds_the_threshold_where_the_version_has_one(project: Project) -> None:
    promise = {"threshold": 0.99998754, "error": 0.02, "confidence": 0.95}
    with versions.checked(project.tracking, versions.find(project.tracking, NAME, 3)) as folder:
        described = folder / "artifacts/model/model.json"
        for abstain, expected in (({}, None), ({"abstain": promise}, promise)):
            about = json.loads(described.read_text(encoding="utf-8")) | abstain
            described.write_text(json.dumps(about), encoding="utf-8")
            write_graph(folder, Path("model.onnx"), "onnx", "it")
            held = {one.key: one.value for one in onnx.load("model.onnx").metadata_props}
            assert json.loads(held.get("abstain", "null")) == expected


def test_pt2_file_is_that_of_the_version(project: Project) -> None:
    Path("real").mkdir()
    Path("model.pt2").symlink_to("real/model.pt2")
    cli.main(["export", "3", "model.pt2"])
    assert Path("model.pt2").is_symlink()
    version = versions.find(project.tracking, NAME, 3)
    with versions.checked(project.tracking, version) as folder:
        assert Path("real/model.pt2").read_bytes() == (folder / "artifacts/model/model.pt2").read_bytes()
    assert [path.name for path in Path("real").iterdir()] == ["model.pt2"]


def test_file_for_executorch_predicts_the_same_with_operators_of_core_aten_only(project: Project) -> None:
    cli.main(["export", "3", "phone.pt2", "--format", "executorch-ready"])

    program = torch.export.load("phone.pt2")
    called = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert called
    assert all(torch.Tag.core in one.tags for one in called)
    assert str(Path.cwd()) not in str(program.graph_module.code)
    version = versions.find(project.tracking, NAME, 3)
    files = registered.reference_images(project.folder)[:5]
    expected = versions.load(project.tracking, version).predict(files)
    with versions.checked(project.tracking, version) as folder:
        about = json.loads((folder / "artifacts/model/model.json").read_text(encoding="utf-8"))
    for file, row in zip(files, expected.to_dict("records"), strict=True):
        pixels = decode(file, Preprocess.from_dict(about["preprocess"]))
        got = program.module()(torch.from_numpy(pixels[None])).detach().numpy()[0]
        assert about["classes"][got.argmax()] == row["label"]
        assert got.max() == pytest.approx(row["probability"], abs=1e-5)


def test_network_that_core_aten_does_not_hold_is_refused_in_a_sentence(tmp_path: Path) -> None:
    class Shrunk(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            small = torch.nn.functional.interpolate(images.float(), (1, 2), mode="bilinear", antialias=True)
            return small.flatten(1)

    inside = tmp_path / "artifacts/model"
    inside.mkdir(parents=True)
    exported.export_graph(Shrunk(), torch.zeros(2, 1, 4, 4, dtype=torch.uint8), inside / exported.GRAPH)
    (inside / "model.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RefusedError, match=r"Core ATen has no aten._upsample_bilinear2d_aa.default\. Nothing"):
        write_graph(tmp_path, tmp_path / "out.pt2", "executorch-ready", "it")
    assert not (tmp_path / "out.pt2").exists()


def test_graph_that_differs_is_refused_and_nothing_is_written(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_export, "PARITY_LIMIT", -1.0)
    Path("model.pt2").write_text("old", encoding="utf-8")
    version = versions.find(project.tracking, NAME, 3)
    with (
        versions.checked(project.tracking, version) as folder,
        pytest.raises(RefusedError, match="does not give the probabilities of it: .* Nothing was written"),
    ):
        write_graph(folder, Path("model.pt2"), "pt2", "it")
    assert Path("model.pt2").read_text(encoding="utf-8") == "old"
    assert not list(Path().glob(".model*"))


@pytest.mark.parametrize(
    ("name", "given", "kind"),
    [
        *(("a.onnx", None, "onnx"), ("a.PT2", None, "pt2"), ("a", "onnx", "onnx"), ("a.bin", "pt2", "pt2")),
        *((name, "executorch-ready", "executorch-ready") for name in ("a.pt2", "a")),
    ],
)
def test_format_is_the_ending_or_what_is_given(name: str, given: str | None, kind: str) -> None:
    assert format_of(Path(name), given) == kind


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("a.bin", None, r"a.bin ends in none of .onnx, .pt2: add --format"),
        ("a.onnx", "pt2", "--format is pt2, and a.onnx ends like onnx"),
        ("a.onnx", "executorch-ready", "--format is executorch-ready, and a.onnx ends like onnx"),
        ("a.pt2", "onnx", "--format is onnx, and a.pt2 ends like pt2"),
    ],
)
def test_format_that_is_not_clear_is_refused(name: str, given: str | None, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        format_of(Path(name), given)


def test_missing_packages_are_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_export, "PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(InputError, match=r"needs no_such_package, not installed here: `pip install no_such_package`"):
        graph_export._check_packages()


@pytest.mark.parametrize("kind", ["device", "folder"])
def test_export_to_what_is_no_plain_file_is_refused_before_any_work(
    project: Project, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "find", lambda *_: pytest.fail("it asked the registry"))
    monkeypatch.setattr(graph_export, "load_graph", lambda *_: pytest.fail("it worked"))
    if kind == "device":
        os.mkfifo("model.pt2")
    else:
        Path("model.pt2").mkdir()
    with pytest.raises(SystemExit) as end:
        cli.main(["export", "3", "model.pt2"])
    assert end.value.code == 2
    assert "model.pt2 is there and is no plain file" in capsys.readouterr().err
    assert not Path("model.pt2").is_file()
    with pytest.raises(InputError, match="no plain file"):
        write_graph(Path("absent"), Path("model.pt2"), "pt2", "it")


def test_failure_of_reading_is_not_said_to_be_one_of_writing(project: Project) -> None:
    version = versions.find(project.tracking, NAME, 3)
    with versions.checked(project.tracking, version) as folder:
        (folder / "artifacts/model/answers.json").unlink()
        with pytest.raises(FileNotFoundError):
            write_graph(folder, Path("model.pt2"), "pt2", "it")
    assert list(Path().glob("*model.pt2*")) == []


def test_network_that_onnx_can_not_hold_is_refused_in_a_sentence(tmp_path: Path) -> None:
    class Solved(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            values: torch.Tensor = torch.linalg.eigvals(images.float()[:, 0, :2, :2]).real  # ONNX has none
            return values

    exported.export_graph(Solved(), torch.zeros(2, 1, 4, 4, dtype=torch.uint8), tmp_path / exported.GRAPH)
    (tmp_path / "model.json").write_text(json.dumps({"classes": ["a", "b"], "preprocess": {}}), encoding="utf-8")
    with pytest.raises(RefusedError, match=r"^ONNX can't hold the network of it: [^\n]*linalg_eig[^\n]*$"):
        graph_export.add_onnx(tmp_path, "it")
    assert not (tmp_path / graph_export.ONNX).exists()
