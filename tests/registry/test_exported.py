"""The exported graph against the network it came from, and the manifest against its files."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import tiny
from podium.config.recipe import ModelParams
from podium.errors import InputError, RefusedError
from podium.models.build import build_model
from podium.registry.exported import PARITY_LIMIT, check_manifest, export_graph, load_graph, parity, write_manifest
from podium.training.prediction import predict_probabilities

EXAMPLE = torch.zeros((2, 3, 8, 8), dtype=torch.uint8)


def network(dropout: float = 0.0, mean: float = 0.5) -> nn.Sequential:
    torch.manual_seed(0)
    return build_model(ModelParams(width=4, hidden=8, dropout=dropout), tiny.spec((3, 8, 8), 4, mean))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph of `network()`."""
    path = tmp_path_factory.mktemp("graph") / "graph.pt2"
    export_graph(network(), EXAMPLE, path)
    return path


@pytest.fixture
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (9, 3, 8, 8), dtype=np.uint8)


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_graph_on_any_batch_gives_the_probabilities_of_the_network(
    graph: Path, images: NDArray[np.uint8], count: int
) -> None:
    got = load_graph(graph)(images[:count])
    assert got.shape == (count, 4)
    assert got.dtype == np.float32
    expected = predict_probabilities(network(), images)[:count]
    np.testing.assert_allclose(got, expected, atol=PARITY_LIMIT)


def test_graph_of_a_network_in_training_has_no_dropout_and_leaves_it_training(
    tmp_path: Path, images: NDArray[np.uint8]
) -> None:
    model = network(dropout=0.9).train()
    export_graph(model, EXAMPLE, tmp_path / "graph.pt2")
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    run = load_graph(tmp_path / "graph.pt2")
    np.testing.assert_array_equal(run(images), run(images))


def test_graph_holds_no_free_pickle_and_no_path_of_this_machine(graph: Path) -> None:
    with zipfile.ZipFile(graph) as archive:
        contents = {info.filename: archive.read(info) for info in archive.infolist()}
    assert contents
    for name, content in contents.items():
        assert not content.startswith((b"\x80\x02", b"\x80\x04", b"\x80\x05")), name
        if content.startswith(b"PK"):  # the example, which is tensors and nothing else
            assert name.endswith("sample_inputs/model.pt")
            ((example,), keywords) = torch.load(io.BytesIO(content), weights_only=True)
            assert (tuple(example.shape), int(example.sum()), keywords) == ((2, 3, 8, 8), 0, {})
        assert b"/src/podium" not in content, name
        assert b"site-packages" not in content, name


def test_graph_of_the_same_weights_is_the_same_file(graph: Path, tmp_path: Path) -> None:
    path = tmp_path / "graph.pt2"
    export_graph(network(), EXAMPLE, path)
    assert path.read_bytes() == graph.read_bytes()


@pytest.mark.parametrize(
    "example", [EXAMPLE[:1], EXAMPLE.float(), EXAMPLE[0]], ids=["one image", "float", "no batch dimension"]
)
def test_export_of_an_example_that_fixes_the_batch_is_refused(example: torch.Tensor, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"example must be uint8 \(N >= 2, C, H, W\); got"):
        export_graph(network(), example, tmp_path / "graph.pt2")


def test_parity_of_the_model_that_was_evaluated_is_below_rounding(graph: Path, images: NDArray[np.uint8]) -> None:
    model = network()
    reference = predict_probabilities(model, images).astype(np.float32)
    found = parity(model, graph, images, reference)
    assert 0 <= found.largest <= PARITY_LIMIT


def test_parity_with_another_normalisation_in_the_graph_is_refused(graph: Path, images: NDArray[np.uint8]) -> None:
    model = network(mean=0.51)
    reference = predict_probabilities(model, images).astype(np.float32)
    with pytest.raises(
        RefusedError, match=r"differ by up to 0 \(model\), 0\.\d+ \(exported graph\).*dvc repro -f evaluate"
    ):
        parity(model, graph, images, reference)


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (lambda p: p + np.float32(3e-5), r"3e-05"),
        (lambda p: p * np.float32(np.nan), "nan"),
        (lambda p: p[:, :3], "inf"),
        (lambda p: p[:5], "inf"),
    ],
    ids=["off", "nan", "a class less", "images less"],
)
def test_parity_with_other_reference_answers_is_refused(
    graph: Path,
    images: NDArray[np.uint8],
    change: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    shown: str,
) -> None:
    reference = predict_probabilities(network(), images).astype(np.float32)
    with pytest.raises(RefusedError, match=shown):
        parity(network(), graph, images, change(reference))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder of two files and their manifest."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "graph.pt2").write_bytes(b"graph")
    (folder / "model.json").write_text("{}", encoding="utf-8")
    write_manifest(folder)
    return folder


def test_manifest_of_an_untouched_folder_is_returned(bundle: Path) -> None:
    assert sorted(check_manifest(bundle)) == ["graph.pt2", "model.json"]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / "graph.pt2").write_bytes(b"grapH"), "graph.pt2 is changed"),
        (lambda folder: (folder / "model.json").unlink(), "model.json is missing"),
        (lambda folder: (folder / "python_model.pkl").write_bytes(b""), "python_model.pkl is not listed"),
        (lambda folder: (folder / "a/b").mkdir(parents=True) or (folder / "a/b/c").touch(), "a/b/c is not listed"),
    ],
    ids=["changed", "missing", "planted", "planted below"],
)
def test_manifest_of_a_damaged_folder_names_the_file(
    bundle: Path, damage: Callable[[Path], object], sentence: str
) -> None:
    damage(bundle)
    with pytest.raises(RefusedError, match=f"differ from its manifest: {sentence}"):
        check_manifest(bundle)


@pytest.mark.parametrize("text", ["[]", "3", "not json", '{"a": "0", "a": "1"}', "[" * 10_000, "\udcff"])
def test_manifest_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(RefusedError, match=r"manifest\.json can't be read: .*\. Register or export the model again"):
        check_manifest(tmp_path)


def test_manifest_that_is_missing_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no manifest\.json"):
        check_manifest(tmp_path)


FAMILIES: tuple[str, ...] = (
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "mobilenet_v3_small",
    "regnet_y_400mf",
)
FAMILIES += ("resnet18", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "vit_b_32")


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_graph_of_each_kind_of_torchvision_network_answers_as_it_does(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    shape = (3, 64, 64)
    model = build_model(ModelParams(name=f"torchvision:{name}"), tiny.spec(shape, 5)).eval()
    export_graph(model, torch.zeros((2, *shape), dtype=torch.uint8), tmp_path / "graph.pt2")
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    run = load_graph(tmp_path / "graph.pt2")
    for count in (1, 3):
        np.testing.assert_allclose(run(images[:count]), predict_probabilities(model, images)[:count], atol=PARITY_LIMIT)
