"""register: the trained model, proved equal to what was evaluated, becomes a version in the registry."""

import csv
import hashlib
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from podium import paths, process
from podium.config.params import RegisterParams, TrackingParams, load
from podium.data import decode
from podium.data.dataset import DatasetInfo, open_split, write_json
from podium.data.image_files import read_sizes
from podium.data.image_store import decoder_digest, decoder_files
from podium.drift.reference import NAME as REFERENCE
from podium.drift.reference import Reference, reference_of
from podium.errors import InputError, RefusedError
from podium.registry import card, exported, graph_export, loading, logged_model, provenance, versions
from podium.registry.versions import Version
from podium.tracking.recorded_run import run_now
from podium.tracking.store import Tracking, connect
from podium.training.answering import FILE, Promise
from podium.training.trained import TrainedModel

LOST = (
    "the MLflow store of tracking.uri does not register the model (where the run of the retraining was deleted there,"
    " `podium sync` restores it; if it was made elsewhere, `dvc repro --force --single-item retrain` makes a new one)"
)


@dataclass(frozen=True)
class Folders:
    """Where the stages before left what is registered."""

    prepared: Path
    selected: Path
    retrained: Path
    evaluated: Path


@dataclass(frozen=True)
class Evaluation:
    """What evaluate left: its metrics, and its predictions for the first test images."""

    metrics: dict[str, float]
    classes: list[dict[str, str]]
    """per_class.csv"""
    images: NDArray[np.uint8]
    """(N, C, H, W)"""
    probabilities: NDArray[np.float32]
    """(N, classes)"""
    digest: str
    """SHA-256 of measures, images and probabilities, and of the promise, where there is one."""
    promise: Promise | None = None
    """From which probability the model answers; None: always."""


def register_stage(params: RegisterParams, tracking_params: TrackingParams, folders: Folders, out: Path) -> Version:
    """Register the model of `folders` as a version of `params.name` with the alias `challenger`; write version.json.

    Where the latest version is this very model, that one is completed. Raises RefusedError where the loaded model, the
    exported graph, one of `params.formats` or the served model does not answer as evaluation recorded; then nothing is
    registered.
    """
    params.check_installed()
    trained, model = TrainedModel.load(folders.retrained)
    trained = replace(trained, run_id=run_now(trained.run_id))
    evaluation = read_evaluation(folders.evaluated)
    channels, height, width = trained.shape
    how = {"channels": channels, "height": height, "width": width} | trained.preprocess
    spec = decode.Preprocess.from_dict(how)
    check_decoding(evaluation.images, spec)
    reference = drift_reference(folders, trained.classes).to_bytes()
    same = logged_model.identity(
        *(trained.weights_digest, evaluation.digest, trained.classes, spec.to_dict(), decoder_digest()),
        hashlib.sha256(reference).hexdigest(),
        *params.formats,  # none: as it was before there were any
    )
    store = connect(tracking_params)
    evaluated = card.Evaluated(
        evaluation.metrics,
        evaluation.classes,
        DatasetInfo.read(folders.prepared),
        _chosen(folders.selected),
        evaluation.promise,
    )
    tags = _tags(trained, evaluation, same)
    with tempfile.TemporaryDirectory(prefix="podium-") as folder, versions.mlflow_errors(LOST):
        bundle = Path(folder) / "model"
        parity = write_bundle(bundle, trained, model, evaluation, spec)
        (bundle / REFERENCE).write_bytes(reference)
        if params.formats:
            parity = max(parity, graph_export.add_onnx(bundle, f"{params.name}, weights {trained.weights_digest[:12]}"))
        (bundle / "card.md").write_text(card.page(trained, spec, evaluated, tags), encoding="utf-8")
        exported.write_manifest(bundle)
        version = versions.latest(store, params.name)
        if version is None or not _is_same(version, same):
            version = _register(store, params.name, trained, evaluation, bundle, parity, tags)
        store.client.set_registered_model_alias(params.name, versions.CHALLENGER, str(version.number))
        versions.record_accesses(store, params.name, evaluated.info.access_key)
    _write(out, version, trained, evaluation)
    print(f"{version} is the challenger; `podium promote` makes it the champion if the gate sees evidence for it")
    return version


def main() -> None:
    """The stage, as dvc.yaml runs it."""
    params = load(paths.PARAMS)
    folders = Folders(paths.PREPARED, paths.SELECTED, paths.RETRAINED, paths.EVALUATED)
    register_stage(params.register_, params.tracking, folders, paths.REGISTERED)


def read_evaluation(folder: Path) -> Evaluation:
    """metrics.json, per_class.csv and reference.npz of `folder`. Raises InputError where they are missing."""
    metrics, per_class, answers = (folder / name for name in ("metrics.json", "per_class.csv", "reference.npz"))
    for path in (metrics, per_class, answers):
        if not path.is_file():
            raise InputError(f"{path} is missing: run `dvc repro evaluate`")
    with np.load(answers, allow_pickle=False) as arrays:
        images, probabilities = arrays["images"], arrays["probabilities"].astype(np.float32)
    text = metrics.read_text(encoding="utf-8")
    sha = hashlib.sha256(text.encode())
    sha.update(np.ascontiguousarray(images).tobytes())
    sha.update(np.ascontiguousarray(probabilities).tobytes())
    promise = Promise.read(folder)
    if promise is not None:
        sha.update((folder / FILE).read_bytes())
    with per_class.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return Evaluation(json.loads(text), rows, images, probabilities, sha.hexdigest(), promise)


def drift_reference(folders: Folders, classes: list[str]) -> Reference:
    """What answered images are compared with: the training images, and what evaluate recorded of the held-out ones.

    Of duplicates one counts. Raises InputError where the images or evaluate's predictions are missing.
    """
    train = open_split(folders.prepared / "train")
    sizes = read_sizes(folders.prepared / "train", len(train.labels))
    if sizes is None:
        print("register: the sizes of the training images are not known, drift of sizes will not be seen: they are"
              " written by `dvc repro -f prepare`", file=sys.stderr)  # fmt: skip
    answers, table = folders.evaluated / "probabilities.npy", folders.evaluated / "predictions.csv"
    for path in (answers, table):
        if not path.is_file():
            raise InputError(f"{path} is missing: run `dvc repro evaluate`")
    probabilities = np.load(answers, allow_pickle=False)
    with table.open(encoding="utf-8", newline="") as file:
        alone = np.array([row["copy_of"] == "" for row in csv.DictReader(file)], np.bool_)
    if probabilities.shape != (len(alone), len(classes)):
        raise InputError(
            f"{answers} must have a row for each of {len(alone):,} images of {table} and a column for each of"
            f" {len(classes)} classes; got {probabilities.shape}: run `dvc repro -f evaluate`"
        )
    return reference_of(train.images, train.pictures, sizes, probabilities[alone], tuple(classes))


def check_decoding(images: NDArray[np.uint8], spec: decode.Preprocess) -> None:
    """An image file of each of `images` must decode to its exact pixels. Raises RefusedError."""
    for number, image in enumerate(images):
        got = decode.decode(decode.encode_png(image), spec)
        if not np.array_equal(got, image):
            raise RefusedError(
                f"serving would not see what evaluation saw: reference image {number}, written as PNG and decoded,"
                f" differs in {np.count_nonzero(got != image)} of {image.size} values. Nothing was registered"
            )


def write_bundle(
    bundle: Path, trained: TrainedModel, model: nn.Module, evaluation: Evaluation, spec: decode.Preprocess
) -> float:
    """Write what serving needs to `bundle`, once the graph is proved right; returns the largest difference.

    Raises RefusedError where it is above `exported.PARITY_LIMIT`.
    """
    bundle.mkdir(parents=True)
    example = torch.zeros((2, *trained.shape), dtype=torch.uint8)
    exported.export_graph(model, example, bundle / exported.GRAPH)
    parity = exported.parity(model, bundle / exported.GRAPH, evaluation.images, evaluation.probabilities)
    for path in decoder_files():
        shutil.copyfile(path, bundle / path.name)
    write_json(bundle / "model.json", card.about(trained, spec, evaluation.metrics, evaluation.promise))
    answers = exported.evaluated_predictions(evaluation.images, evaluation.probabilities, trained.classes)
    answers += exported.converted_predictions(model, evaluation.images, spec, trained.classes)
    write_json(bundle / "answers.json", answers)
    return parity.largest


def _register(
    store: Tracking,
    name: str,
    trained: TrainedModel,
    evaluation: Evaluation,
    bundle: Path,
    parity: float,
    tags: dict[str, str],
) -> Version:
    """Log the model, ask it through its bytes as a server would, and only then create the version."""
    files = [decode.encode_png(image) for image in evaluation.images]
    uri = logged_model.log(store, trained.run_id, bundle, files[0], tags[logged_model.IDENTITY])
    model = loading.load(store, uri, "the logged model", "unchecked")
    answers = model.predict(files)
    best = evaluation.probabilities.argmax(axis=1)
    off = exported.largest_difference(answers["probability"].to_numpy(), evaluation.probabilities.max(axis=1))
    wrong = int(np.count_nonzero(answers["label"].to_numpy() != np.array(trained.classes, dtype=object)[best]))
    if wrong or not off <= exported.PARITY_LIMIT:
        raise RefusedError(
            f"the model as it is served does not answer as evaluation recorded: {wrong} of {len(files)} labels and up"
            f" to {off:.2g} of probability differ; rounding explains {exported.PARITY_LIMIT:g}. No version was made"
        )
    model.check_predictions()
    tags = tags | {"parity_max_difference": f"{max(parity, off):.2g}"} | _keep_origin(store, trained, tags)
    return versions.create_version(
        store, name, trained.run_id, uri, tags, card.markdown(trained, evaluation.metrics, tags)
    )


def _keep_origin(store: Tracking, trained: TrainedModel, tags: dict[str, str]) -> dict[str, str]:
    """Put what makes the version again among its run's artifacts; returns the tags that say where, and its digest."""
    place = f"lineage/{tags[logged_model.IDENTITY][:12]}"
    with tempfile.TemporaryDirectory(prefix="podium-") as folder:
        for missing in provenance.write_sources(Path(folder)):
            print(f"podium: {missing}. `podium reproduce` will not make this version again", file=sys.stderr)
        store.client.log_artifacts(trained.run_id, folder, place)
        return {versions.LINEAGE: place, versions.LINEAGE_DIGEST: versions.folder_digest(Path(folder))}


def _tags(trained: TrainedModel, evaluation: Evaluation, same: str) -> dict[str, str]:
    git = provenance.git_facts()
    packages = provenance.package_versions("torch", "mlflow", "optuna", "dvc")
    return {
        logged_model.IDENTITY: same,
        "git_commit": git.commit,
        "git_dirty": git.dirty,
        "data_digest": trained.data_digest,
        "dvc_lock_digest": provenance.lock_digest(Path("dvc.lock")),
        "study": trained.study,
        "trial": str(trained.trial),
        "seed": str(trained.seed),
        "confirmation_seeds": ",".join(map(str, trained.confirmation_seeds)),
        "device": trained.device,
        "threads": str(trained.threads),
        "weights_digest": trained.weights_digest,
        "evaluation_digest": evaluation.digest,
        "accuracy": f"{evaluation.metrics['accuracy']:.6f}",
    } | {f"{package}_version": number for package, number in packages.items()}


def _chosen(selected: Path) -> dict[str, Any]:
    path = selected / "config.json"
    if not path.is_file():
        raise InputError(f"{path} is missing: run `dvc repro select`")
    chosen: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return chosen


def _is_same(version: Version, same: str) -> bool:
    """Whether `version` is the very model, and still has the digests by which it is checked."""
    try:
        versions.digest_of(version)
    except RefusedError:
        return False
    return version.tags.get(logged_model.IDENTITY) == same


def _write(out: Path, version: Version, trained: TrainedModel, evaluation: Evaluation) -> None:
    about: dict[str, Any] = {"name": version.name, "version": version.number, "run_id": version.run_id}
    about |= {"model_uri": version.model_uri, "weights_digest": trained.weights_digest}
    about |= {"model_digest": versions.digest_of(version), "accuracy": round(evaluation.metrics["accuracy"], 6)}
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "version.json", about)


if __name__ == "__main__":
    process.run_stage(main)
