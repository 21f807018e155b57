"""A trained model on disk, as retrain leaves it and evaluate and register read it: weights.pt and model.json."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from podium import own_code
from podium.components import Choice
from podium.config.recipe import Recipe
from podium.data.dataset import write_json
from podium.errors import InputError
from podium.models.build import build_model
from podium.models.layers import Temperature
from podium.models.networks import ImageSpec
from podium.training.network_check import exported

GRAPH = "network.pt2"


@dataclass(frozen=True)
class TrainedModel:
    """Everything that rebuilds the network, and where it came from."""

    recipe: dict[str, dict[str, Any]]
    """The `model` and `train` sections that it was trained with."""
    classes: list[str]
    shape: list[int]
    """Channels, height, width of its images."""
    mean: list[float]
    std: list[float]
    seed: int
    device: str
    """Where it was trained, such as cpu or cuda:0 NVIDIA L4."""
    data_digest: str
    study: str
    """Name of the Optuna study that proposed the configuration."""
    trial: int
    """Number of the trial in that study."""
    confirmation_seeds: list[int]
    """The fresh seeds on which the configuration was confirmed."""
    run_id: str
    """MLflow run of the retraining."""
    preprocess: dict[str, Any] = field(default_factory=dict)
    """How its images were decoded, the arguments of podium.data.decode.Preprocess; empty: stretched to `shape`."""
    threads: int = 1
    """Intra-op threads of the training, on which the last bits of a sum depend."""
    temperature: float = 1.0
    """By what the logits are divided, fitted on images that were not trained on; no part of the weights."""
    splits: list[str] = field(default_factory=lambda: ["train", "val"])
    """What it was trained on."""
    graph: str = ""
    """SHA-256 of network.pt2, the module that an own training loop returned; empty: the settings rebuild it."""
    weights_digest: str = ""
    """SHA-256 over the names and values of the weights."""

    def build(self) -> nn.Sequential:
        """The network with fresh weights."""
        channels, height, width = self.shape
        images = ImageSpec((channels, height, width), len(self.classes), tuple(self.mean), tuple(self.std))
        model = build_model(Recipe.model_validate(self.recipe).model, images)
        return model if self.temperature == 1 else model.append(Temperature(self.temperature))

    def save(self, folder: Path, model: nn.Module) -> "TrainedModel":
        """Write `model`'s weights and then this description to `folder`; returns it with the weights' digest."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        torch.save(state, folder / "weights.pt")
        graph = ""
        if self.recipe["train"].get("program"):
            save_graph(model, self.shape, folder / GRAPH, Recipe.model_validate(self.recipe).train.program)
            graph = hashlib.sha256((folder / GRAPH).read_bytes()).hexdigest()
        whole = TrainedModel(**{**asdict(self), "weights_digest": digest_of(state), "graph": graph})
        write_json(folder / "model.json", asdict(whole))
        return whole

    @staticmethod
    def load(folder: Path) -> "tuple[TrainedModel, nn.Sequential]":
        """The description and the network in eval mode on the CPU.

        Raises InputError where the folder is incomplete or the weights are not the ones described.
        """
        path = folder / "model.json"
        try:
            about = TrainedModel(**json.loads(path.read_text(encoding="utf-8")))
            state = torch.load(folder / "weights.pt", map_location="cpu", weights_only=True)
            whole = digest_of(state) == about.weights_digest
        except FileNotFoundError as error:
            raise InputError(f"{error.filename} is missing: run `dvc repro retrain`") from None
        except Exception as error:  # torch raises whatever a broken file makes of its reader
            raise InputError(f"{folder} can't be read ({error}): run `dvc repro retrain`") from None
        if not whole:
            raise InputError(f"{folder / 'weights.pt'} is not what {path} describes: run `dvc repro retrain`")
        if about.graph:
            return about, about._of_graph(folder / GRAPH).eval()
        model = about.build()
        model.load_state_dict(state)
        return about, model.eval()

    def _of_graph(self, path: Path) -> nn.Sequential:
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != self.graph:
            raise InputError(f"{path} is missing or not the one that was written: run `dvc repro retrain`")
        model = nn.Sequential(Graph(path))
        return model if self.temperature == 1 else model.append(Temperature(self.temperature))


class Graph(nn.Module):
    """An exported network: raw uint8 images in, logits out. It has the one mode in which it was exported."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.module = torch.export.load(path).module()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        logits: torch.Tensor = self.module(images)
        return logits

    def train(self, mode: bool = True) -> "Graph":
        """Its mode stays."""
        return self


def save_graph(model: nn.Module, shape: Sequence[int], path: Path, program: Choice | None = None) -> None:
    """Write `model`, of uint8 images of `shape` (C, H, W), to `path` (.pt2), on the CPU, for batches of any size.

    Raises InputError where torch can't export it, naming the `program` that returned it.
    """
    name = program.name if program else ""
    named = f"train.program: the module that {name} returned" if program else "model.name: the network"
    torch.export.save(exported(model, tuple(shape), named, own_code.at(name)), path)


def digest_of(state: dict[str, torch.Tensor]) -> str:
    """SHA-256 over the names, types and values of a state dict's tensors, in the order of their names."""
    sha = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()
