"""A version's graph for other programs: ONNX, the .pt2 itself, or one for ExecuTorch, checked to predict the same."""

import base64
import json
import operator
import os
import shutil
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.onnx.errors import OnnxExporterError

from podium.config.run_sections import FORMAT_PACKAGES
from podium.data.decode import Preprocess, decode
from podium.errors import InputError, RefusedError
from podium.registry.exported import GRAPH, PARITY_LIMIT, largest_difference, load_graph
from podium.text import one_line

Format = Literal["onnx", "pt2", "executorch-ready"]
FORMATS: dict[Format, str] = {"onnx": "onnx", "pt2": "pt2", "executorch-ready": "pt2"}
"""With the ending of their files; the first of several formats is that of a file with the ending alone."""
ASSERTIONS = ("aten._assert_tensor_metadata.default", "aten._assert_scalar.default")
"""What torch.export adds to be checked at run time; ExecuTorch has none of them."""
INPUT, OUTPUT = "images", "probabilities"
PACKAGES = FORMAT_PACKAGES["onnx"]
ONNX = "model.onnx"
"""Its name in a version that was registered with register.formats: [onnx]."""
METADATA = ("classes", "preprocess", "abstain")
"""What of model.json stands in the metadata of an ONNX file; `abstain` where there is a threshold."""
SIZES = (1, 2, 7, 64)
"""Batches of random pixels that both graphs are compared on."""
Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def format_of(out: Path, given: str | None) -> Format:
    """The format `given`, or that of the file's ending. Raises InputError where they differ or neither says."""
    ending = out.suffix.lower().lstrip(".")
    for name, own in FORMATS.items():
        if (given == name and (ending == own or ending not in FORMATS.values())) or (given is None and ending == own):
            return name
    if given is not None:
        raise InputError(f"--format is {given}, and {out} ends like {ending}: write one of them in both places")
    endings = sorted({f".{one}" for one in FORMATS.values()})
    raise InputError(f"{out} ends in none of {', '.join(endings)}: add --format")


def check_destination(out: Path) -> None:
    """Raise InputError where `out` can't become a file: a device or a folder must not be replaced, by root neither."""
    with _writing(out):
        try:
            mode = out.stat().st_mode  # it raises for a link that leads back to itself
        except FileNotFoundError:
            return
    if not stat.S_ISREG(mode):
        raise InputError(f"{out} is there and is no plain file: export to another name")


def write_graph(folder: Path, out: Path, kind: Format, version: str) -> float:
    """Write the graph of the model in `folder` (a checked copy) to `out`, which appears when it is complete.

    It takes uint8 (N, C, H, W), pixels as the model's decoder makes them, and gives float32 (N, classes); METADATA
    stands in the file's metadata (ONNX) and in model.json of the version. For ExecuTorch N is 1. Returns the largest
    difference of a probability from the version's own graph. Raises RefusedError above PARITY_LIMIT and where the
    format can't hold the network, InputError where the packages for ONNX are missing or `out` can't be written.
    """
    check_destination(out)
    inside = folder / "artifacts/model"
    about = json.loads((inside / "model.json").read_text(encoding="utf-8"))
    out = out.resolve()
    partial = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        if kind == "onnx":
            _check_packages()
            model = _onnx_bytes(inside, about, version)
            with _writing(out):
                partial.write_bytes(model)
            run = _onnx_graph(partial)
        elif kind == "executorch-ready":
            program = _core_program(inside, version)
            with _writing(out):
                torch.export.save(program, partial)
            run = _one_by_one(load_graph(partial))
        else:
            with _writing(out):
                shutil.copyfile(inside / GRAPH, partial)
            run = load_graph(partial)
        found = _checked_difference(run, inside, about, version, "Nothing was written")
        with _writing(out):
            partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return found


def add_onnx(bundle: Path, version: str) -> float:
    """Write the graph of `bundle`, the files of a model that is to be registered, as ONNX beside it.

    Returns the largest difference of a probability from the graph and the stored predictions. Raises RefusedError
    above PARITY_LIMIT, and where ONNX can't hold the network.
    """
    about = json.loads((bundle / "model.json").read_text(encoding="utf-8"))
    out = bundle / ONNX
    out.write_bytes(_onnx_bytes(bundle, about, version))
    remedy = "Nothing was registered; with register.formats: [] it is registered without ONNX"
    return _checked_difference(_onnx_graph(out), bundle, about, "the model", remedy)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{out} can't be written: {error.strerror}") from None


def _check_packages() -> None:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(
            f"--format onnx needs {', '.join(missing)}, not installed here: `pip install {' '.join(missing)}`"
        )


def _onnx_bytes(inside: Path, about: dict[str, Any], version: str) -> bytes:
    import onnx

    program = torch.export.load(inside / GRAPH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter, about its own inside
        try:
            made: Any = torch.onnx.export(program, input_names=[INPUT], output_names=[OUTPUT], verbose=False)
        except OnnxExporterError as error:
            raise RefusedError(f"ONNX can't hold the network of {version}: {_cause(error)}") from error
    model = made.model_proto
    metadata = {name: json.dumps(about[name]) for name in METADATA if name in about}
    onnx.helper.set_model_props(model, {"version": version} | metadata)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for node in model.graph.node:
        del node.metadata_props[:]  # where in which file of this machine it comes from
    model.producer_name, model.doc_string = "podium", ""
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _core_program(inside: Path, version: str) -> torch.export.ExportedProgram:
    """The graph for one image in the operators of Core ATen, of which ExecuTorch's `to_edge` makes a .pte.

    A phone sets its memory aside before it runs, so the batch can't be of any size. Raises RefusedError where another
    operator is left.
    """
    program = torch.export.load(inside / GRAPH)
    placeholder = next(node for node in program.graph.nodes if node.name == program.graph_signature.user_inputs[0])
    example = torch.zeros((1, *placeholder.meta["val"].shape[1:]), dtype=torch.uint8)
    core: torch.export.ExportedProgram = torch.export.export(program.module(), (example,)).run_decompositions()
    for node in list(core.graph.nodes):
        node.meta.pop("stack_trace", None)  # paths of this machine
        if str(node.target) in ASSERTIONS:
            core.graph.erase_node(node)
    core.graph_module.recompile()
    called = {node.target for node in core.graph.nodes if node.op == "call_function"} - {operator.getitem}
    if others := sorted(str(one) for one in called if torch.Tag.core not in getattr(one, "tags", ())):
        raise RefusedError(
            f"ExecuTorch can't hold the network of {version}: Core ATen has no {', '.join(others)}. Nothing was written"
        )
    return core


def _one_by_one(run: Run) -> Run:
    return lambda images: np.concatenate([run(images[row : row + 1]) for row in range(len(images))])


def _cause(error: BaseException) -> str:
    """The first sentence of what torch's exporter met; what it says itself is a page about its own inside."""
    while error.__cause__ is not None:
        error = error.__cause__
    return one_line(str(error).partition("\n")[0] or type(error).__name__)


def _onnx_graph(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        probabilities: NDArray[np.float32] = session.run([OUTPUT], {INPUT: images})[0]
        return probabilities

    return run


def _checked_difference(run: Run, inside: Path, about: dict[str, Any], version: str, remedy: str) -> float:
    found = _difference(run, inside, about)
    if not found <= PARITY_LIMIT:  # not `>`: a NaN must not pass
        raise RefusedError(
            f"the exported graph does not give the probabilities of {version}: they differ by up to {found:.2g};"
            f" rounding explains {PARITY_LIMIT:g}. {remedy}"
        )
    return found


def _difference(run: Run, inside: Path, about: dict[str, Any]) -> float:
    """The largest difference of `run` from the version's graph and from the predictions stored with it."""
    own, spec = load_graph(inside / GRAPH), Preprocess.from_dict(about["preprocess"])
    stored = json.loads((inside / "answers.json").read_text(encoding="utf-8"))
    pixels = np.stack([decode(base64.b64decode(row["image"]), spec) for row in stored])
    rows = [about["classes"].index(row["label"]) for row in stored]
    got = run(pixels)
    found = [
        largest_difference(got, own(pixels)),
        largest_difference(got[np.arange(len(rows)), rows], np.array([row["probability"] for row in stored])),
    ]
    draw = np.random.default_rng(0)
    for size in SIZES:
        images = draw.integers(0, 256, (size, *pixels.shape[1:]), dtype=np.uint8)
        found.append(largest_difference(run(images), own(images)))
    return float(np.max(found))
