"""Files of weights as people have them: what is around the tensors, what they are, and what is no such file at all."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

import tiny
from podium.config.recipe import ModelParams
from podium.errors import InputError
from podium.models import build, state_dicts
from podium.models.backbone import Backbone, load_weights

State = dict[str, Tensor]
HEAD = ("fc.weight", "fc.bias")


class Network(nn.Module):
    """A small one with all that matters: a convolution, a batch norm and a head."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.fc(self.norm(self.conv(images)).mean((2, 3)))
        return logits


def _state(classes: int = 3, value: int = 7) -> State:
    """Weights that no new network has, and that float16 holds exactly."""
    return {k: torch.full_like(v, value) for k, v in Network(classes).state_dict().items()}


def _with(prefix: str, state: State | None = None) -> State:
    return {prefix + key: one for key, one in (state or _state()).items()}


def _each(change: Callable[[Tensor], Tensor]) -> State:
    return {k: change(v) if v.is_floating_point() else v for k, v in _state().items()}


def _without(*ends: str) -> State:
    return {k: v for k, v in _state().items() if not k.endswith(ends)}


def _bytes(content: Any, **how: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **how)
    return stream.getvalue()


def _archive(kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("model.pth", b"x")
    else:
        with tarfile.open(fileobj=stream, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("model.pth"))
    return stream.getvalue()


def _loaded(path: Path, content: Any) -> tuple[Network, list[str]]:
    path.write_bytes(content if isinstance(content, bytes) else _bytes(content))
    network = Network()
    return network, load_weights(Backbone(network), path)


WHOLE: dict[str, tuple[Callable[[], Any], str]] = {
    "plain": (_state, ""),
    "ema, as timm saves it": (lambda: {"state_dict": _state(value=5), "state_dict_ema": _state()}, "state_dict_ema"),
    "ema, as ConvNeXt does": (lambda: {"model": _state(value=5), "model_ema": _with("module.")}, "its model_ema"),
    "ema alone": (lambda: {"ema_state_dict": _state(), "epoch": 3}, "its ema_state_dict"),
    "ema that is not there": (lambda: {"state_dict": _state(), "state_dict_ema": None}, "its state_dict"),
    "beside an optimizer": (
        lambda: {"model": _state(), "optimizer": {"state": {0: {"m": torch.ones(1)}}}},
        "its model",
    ),
    "ema in another form": (
        lambda: {"model_ema": {"shadow_params": [torch.ones(1)], "decay": 0.9}, "state_dict": _state()},
        "its state_dict was taken",
    ),
    "another key": (lambda: {"net": _state(), "best": 0.5}, "its net was taken"),
    "nested": (lambda: {"model": {"state_dict": _state()}}, "its model.state_dict was taken"),
    "DataParallel of a part": (lambda: _with("module.backbone."), ""),
    "compiled": (lambda: _with("_orig_mod."), ""),
    "Lightning": (lambda: {"state_dict": _with("model.net."), "hyper_parameters": {"lr": 0.1}}, "its state_dict"),
    "SWA": (
        lambda: {"n_averaged": torch.tensor(5)} | _with("module."),
        "what begins with module. was taken, 1 other tensor not",
    ),
    "as Podium trains it": (
        lambda: {"0.scale": torch.ones(3)} | _with("1.network."),
        "what begins with 1.network. was taken, 1 other tensor not",
    ),
    "float16": (lambda: _each(Tensor.half), ""),
    "bfloat16": (lambda: _each(Tensor.bfloat16), ""),
    "float64": (lambda: _each(Tensor.double), ""),
    "sparse": (lambda: _state() | {"fc.weight": _state()["fc.weight"].to_sparse()}, ""),
    "parameters": (lambda: _each(nn.Parameter), ""),
    "safetensors, called pth": (lambda: save(_state()), ""),
    "with a number of NumPy 1": (
        lambda: _bytes({"model": _state(), "best": np.float64(0.5)}, _use_new_zipfile_serialization=False).replace(
            b"numpy._core.multiarray", b"numpy.core.multiarray"
        ),
        "its model",
    ),
    "without counters": (lambda: _without("num_batches_tracked"), ""),
}


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
@pytest.mark.parametrize("case", WHOLE)
def test_all_of_the_network_is_taken_from_what_it_was_saved_as(tmp_path: Path, case: str) -> None:
    make, note = WHOLE[case]
    network, notes = _loaded(tmp_path / "w.pth", make())
    assert all(v.eq(7).all() for k, v in network.state_dict().items() if not k.endswith("tracked"))
    assert all(v.dtype == torch.float32 and v.layout == torch.strided for v in network.parameters())
    assert bool(notes) == bool(note)
    assert note in "".join(notes)


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (_state(5), r"fc, the head, is for other classes \(\(5, 4\) instead of \(3, 4\)\) and is initialised anew"),
        (_state(5) | {"fc.bias": torch.ones(9)}, "is for other classes"),
        (_with("backbone.", _state(1000)), "is for other classes"),
        ({k: v for k, v in _state(5).items() if k != "fc.bias"}, "is for other classes"),
        (_without(*HEAD), "fc, the head, is missing there and is initialised anew"),
        (_with("encoder.", _without(*HEAD)) | {"projector.weight": torch.ones(2)}, "is missing there"),
    ],
    ids=["classes", "shapes", "prefix", "no bias", "headless", "part"],
)
def test_rest_is_taken_and_said_where_the_head_is_another(tmp_path: Path, state: State, why: str) -> None:
    network, notes = _loaded(tmp_path / "w.pth", state)
    assert network.conv.weight.eq(7).all()
    assert network.norm.running_mean.eq(7).all()  # type: ignore[union-attr]
    assert not network.fc.weight.eq(7).any()
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(notes)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "html": (lambda: b"\n<!DOCTYPE html><title>404</title>", "is a web page .*: fetch the file itself"),
    "json": (lambda: b'{"error": "denied"}', r"no file of weights: it begins with '\{\"error\": \"denied\"\}'"),
    "image": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(600), "no file of weights"),
    "pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS.*`git lfs pull`"),
    "empty": (lambda: b"", "it is empty: fetch it again"),
    "gzip": (lambda: gzip.compress(b"x" * 99), "is an archive: unpack it"),
    "zip": (lambda: _archive("zip"), "is an archive of model.pth: unpack it"),
    "tar": (lambda: _archive("tar"), "is an archive: unpack it"),
    "half of it": (lambda: _bytes(_state())[:900], "is broken: it ends too early"),
    "half of safetensors": (lambda: save(_state())[:-9], r"it is broken, or no file of weights \(SafetensorError\)"),
    "objects around": (
        lambda: {"state_dict": _state(), "rate": Fraction(1, 2)},
        r"can't be read safely: it holds Python objects \(fractions.Fraction\)",
    ),
    "whole": (Network, r"can't be read safely: it holds Python objects \([\w.]*Network\)"),
    "list": (lambda: [_state()], "must hold a state dict, tensors by name; got list"),
    "nothing": (dict, "must hold a state dict, tensors by name; got an empty dict"),
    "a text": (lambda: _state() | {"name": "x"}, "got a dict in which name is str"),
    "numbers for names": (lambda: dict(enumerate(_state().values())), "got a dict with the key 0"),
    "two networks": (lambda: {"teacher": _state(), "student": _state()}, "several state dicts, teacher, student"),
    "two prefixes": (
        lambda: _with("encoder_q.") | _with("encoder_k."),
        r"holds this network 2 times, as encoder_k\., encoder_q\.: save the one that is meant alone",
    ),
    "another": (lambda: {"a.weight": torch.ones(1)}, "is not of this network: conv.weight is missing"),
    "another behind a prefix": (
        lambda: _with("module.") | {"module.more": torch.ones(1)},
        "is not of this network: more is unknown$",
    ),
    "half a head": (lambda: _without("fc.bias"), "is not of this network: fc.bias is missing$"),
    "integers": (lambda: _each(Tensor.char), r"can't be used: conv\.weight is int8 instead of float32"),
    "complex": (lambda: _each(lambda one: one.to(torch.complex64)), "is complex64 instead of float32"),
    "without values": (lambda: _each(lambda one: one.to("meta")), r"conv\.weight has no values"),
    "NaN": (
        lambda: _state() | {"fc.bias": torch.tensor([1.0, float("nan"), 1.0])},
        r"can't be used: fc\.bias has NaN or infinite numbers \(1 of 3\)",
    ),
    "too large": (lambda: _each(lambda one: one.double() * 1e40), "NaN or infinite numbers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_file_is_refused_by_what_it_is(tmp_path: Path, case: str) -> None:
    make, words = REFUSED[case]
    with pytest.raises(InputError, match=rf"^model\.weights: .*w\.pth .*{words}") as caught:
        _loaded(tmp_path / "w.pth", make())
    assert "weights_only" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folder_and_dangling_link_are_refused_as_such(tmp_path: Path) -> None:
    (tmp_path / "link.pth").symlink_to(tmp_path / "gone.pth")
    for name, words in (("", "is a folder: name the file in it"), ("link.pth", r"is a link to .*gone\.pth, which is")):
        with pytest.raises(InputError, match=words):
            load_weights(Network(), tmp_path / name)


def test_programs_are_refused_with_where_their_tensors_are(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as script:
        script.writestr("script/data.pkl", b"x")
        script.writestr("script/constants.pkl", b"x")
    with zipfile.ZipFile(tmp_path / "exported.pt2", "w") as exported:
        exported.writestr("exported/archive_format", b"pt2")
    for name, words in (("script.pt", r"torch\.jit\.load"), ("exported.pt2", r"torch\.export\.load")):
        with pytest.raises(InputError, match=words):
            load_weights(Network(), tmp_path / name)


def test_own_network_of_several_layers_gets_the_weights_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
    state = {key: torch.full_like(value, 7) for key, value in nn.Sequential(*layers).state_dict().items()}
    torch.save(state, tmp_path / "w.pt")
    monkeypatch.setattr(build, "build_model", lambda *_: nn.Sequential(nn.Identity(), *layers))
    monkeypatch.setattr(build, "located", lambda *_: tmp_path / "w.pt")

    model = build.initial_model(ModelParams(name="torchvision:resnet18", weights="w.pt"), tiny.spec((3, 8, 8), 3))

    assert all(value.eq(7).all() for value in model.state_dict().values())


def test_mask_that_is_infinite_in_the_network_itself_is_taken() -> None:
    mask = torch.full((4, 4), float("-inf")).triu(1)
    assert state_dicts.as_of(mask, mask, "mask").equal(mask)
    with pytest.raises(ValueError, match="mask has NaN or infinite numbers"):
        state_dicts.as_of(torch.ones(4, 4), mask, "mask")


@pytest.mark.parametrize("length", [15392, 19280])  # its bytes are " <" and "PK"
def test_safetensors_is_known_by_its_form_whatever_its_length_reads_like(tmp_path: Path, length: int) -> None:
    plain = save({"a": torch.ones(1)})
    header = plain[8 : 8 + int.from_bytes(plain[:8], "little")].rstrip()
    path = tmp_path / "w.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + header.ljust(length) + plain[-4:])
    assert state_dicts.read(path)[0]["a"].item() == 1
