"""evaluate: the one access to the held-out test set. Writes data/evaluated, logs to the retraining's MLflow run."""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from podium import paths, process
from podium.components import Choice
from podium.config.params import EvaluateParams, Params, TrackingParams, load
from podium.data.dataset import Split, open_split, open_test_set, sealed_facts, write_json
from podium.data.image_files import ImageFile, read_files
from podium.errors import InputError
from podium.metrics import abstaining, computable, resampling, scores
from podium.metrics.abstaining import Threshold
from podium.metrics.classification import SUMMARY, Metrics, measure
from podium.metrics.plots import draw_calibration, draw_confusion, draw_coverage, gallery, overlay
from podium.metrics.scored import Scored
from podium.metrics.scores import Metric
from podium.models.activation_maps import maps
from podium.text import counted
from podium.tracking import retrain_run
from podium.tracking.run_names import THRESHOLD_TAG
from podium.training import answering
from podium.training.answering import Promise
from podium.training.device import Kind, describe, own_kind, pick
from podium.training.prediction import TOLERANCE, predict_on
from podium.training.trained import TrainedModel

REFERENCE = 64
"""Images stored with their predictions, so that register compares models without a test set access."""
PROBABILITIES = "probabilities.npy"
ACCURACY = Choice(name="accuracy")
LOGGED_FILES = (
    "confusion.png",
    "calibration.png",
    "per_class.csv",
    "confusion.csv",
    "calibration.csv",
    "predictions.csv",
)
"""The files that become artifacts of the run."""
ABSTAIN_FILES = answering.FILE, "coverage.csv", "coverage.png"
"""Those of evaluate.abstain."""


def evaluate(
    params: EvaluateParams,
    tracking_params: TrackingParams,
    sealed: Path,
    retrained: Path,
    out: Path,
    objective: Choice = ACCURACY,
    device: Kind = "cpu",
    prepared: Path = paths.PREPARED,
) -> dict[str, float]:
    """Measure the model of `retrained` on `sealed`/test, write everything to `out`, and return metrics.json.

    `device`: where it predicts, in float32; the CPU predicts a sample too, and these are what `register` compares with.
    `objective`: search.metric; it has an interval among the figures, and what else evaluate.metrics names is there too.
    With evaluate.abstain a threshold is chosen on `prepared`/val before the test set is opened.
    The files are complete before they are logged to MLflow, and a second run logs nothing twice. Raises InputError
    where the model is not one for these images, a metric can't be computed for their classes, the device is not there
    or evaluate.abstain can't be reached, each before the test set is opened; RefusedError where the device and the CPU
    differ, PodiumError where nothing can be logged to MLflow.
    """
    about, model = TrainedModel.load(retrained)
    facts = sealed_facts(sealed / "test")
    _check(about, list(facts.counts), list(facts.shape), retrained, "test")
    named = [("search.metric", objective), *(("evaluate.metrics", choice) for choice in params.metrics)]
    computable.check([(parameter, scores.of(choice)) for parameter, choice in named], facts.counts)
    # An exported graph has the device that it was traced on.
    where = torch.device("cpu") if about.graph else pick(device)
    threshold = _threshold(params, about, model, prepared, retrained, where)
    split = open_test_set(sealed / "test", "evaluate", f"run {about.run_id}")
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").unlink(missing_ok=True)  # it is written last: where it is, the folder is complete
    probabilities = _predict(model, split, where, out)
    files = read_files(sealed / "test", len(split.labels))
    others = _others(objective, params, split, probabilities)
    others |= _abstain(out, threshold, params, split, probabilities)
    metrics = replace(_measured(params, split, probabilities), others=others)
    _write_predictions(out, split, probabilities, files)
    write_json(out / "gallery.json", _with_maps(gallery(split, probabilities, files), model, split))
    _write_tables(out, metrics)
    # Not in metrics.json, which `dvc metrics` compares.
    write_json(out / "evaluation.json", _made_with(params, about, objective))
    write_json(out / "metrics.json", metrics.summary())
    print(_table(metrics, params.confidence, scores.of(objective)))
    _log(tracking_params, about.run_id, metrics, out, threshold)
    return metrics.summary()


def _predict(model: nn.Module, split: Split, where: torch.device, out: Path) -> NDArray[np.float32]:
    """(N, K) the probabilities of the test images; says by how much those of a device differ from the CPU's.

    They are written to a file of `out` as they come, and mapped: the system may take their memory back at any time.
    """
    path = out / PROBABILITIES

    def into(shape: tuple[int, int]) -> NDArray[np.float32]:
        return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)

    written, off = predict_on(model, split.images, where, into)
    if isinstance(written, np.memmap):
        written.flush()
    if where.type != "cpu":
        how = f"by up to {off:.2g} (limit {TOLERANCE[where.type]:g})"
        print(f"evaluate: on {describe(where)}; probabilities differ from the CPU's {how}")
    mapped: NDArray[np.float32] = np.load(path, mmap_mode="c", allow_pickle=False)  # torch warns of one to read only
    return mapped


def _made_with(params: EvaluateParams, about: TrainedModel, objective: Choice) -> dict[str, Any]:
    made_with: dict[str, Any] = {"confidence": params.confidence, "weights_digest": about.weights_digest}
    if objective != ACCURACY:
        metric = scores.of(objective)
        made_with |= {"metric": metric.label, "direction": metric.direction, "percent": metric.PERCENT}
    return made_with


def _log(tracking: TrackingParams, run_id: str, metrics: Metrics, out: Path, threshold: Threshold | None) -> None:
    """Log the evaluation; where nothing is abstained from, what an earlier one has logged of that is removed."""
    files, obsolete = (LOGGED_FILES, ABSTAIN_FILES) if threshold is None else ((*LOGGED_FILES, *ABSTAIN_FILES), ())
    tags = {THRESHOLD_TAG: "none" if threshold is None else repr(threshold.probability)}
    retrain_run.log_evaluation(tracking, run_id, metrics, [out / name for name in files], tags, obsolete)


def evaluate_by(params: Params, retrained: Path, out: Path) -> dict[str, float]:
    """`evaluate` as params.yaml has it: every metric of the search is measured, on runtime.device."""
    objective, *others = params.search.metrics
    missing = [one for one in others if one not in params.evaluate.metrics]
    measured = params.evaluate.model_copy(update={"metrics": [*params.evaluate.metrics, *missing]})
    device = own_kind(params.runtime.device, params.runtime.devices)
    return evaluate(measured, params.tracking, paths.SEALED, retrained, out, objective, device, paths.PREPARED)


def main() -> None:
    """The stage, as dvc.yaml runs it."""
    evaluate_by(load(paths.PARAMS), paths.RETRAINED, paths.EVALUATED)


def _others(
    objective: Choice, params: EvaluateParams, split: Split, probabilities: NDArray[np.float32]
) -> dict[str, float]:
    """The objective with its interval, where that is not accuracy, and evaluate.metrics; those that are defined."""
    labels = torch.from_numpy(split.labels)
    scored = Scored(torch.from_numpy(probabilities), labels, split.classes, are_probabilities=True)
    groups, found = resampling.Groups.of(len(labels), split.duplicates), dict[str, float]()
    for choice in [objective, *params.metrics]:
        metric = scores.of(choice)
        value = resampling.measured(metric, scored, groups)
        if math.isnan(value):
            why = metric.undefined(split.counts()) or "it gives NaN or an infinite number"
            print(f"evaluate: {metric.label} is undefined on the held-out test set and left out: {why}")
            continue
        found[metric.label] = value
        if choice == objective != ACCURACY:
            low, high = resampling.interval(metric, scored, groups, params.confidence)
            if math.isnan(low):
                print(f"evaluate: {metric.label} is undefined for some random draws of the test images: no interval")
                continue
            found |= {f"{metric.label}_low": low, f"{metric.label}_high": high}
    return found


def _abstain(
    out: Path,
    threshold: Threshold | None,
    params: EvaluateParams,
    split: Split,
    probabilities: NDArray[np.float32],
) -> dict[str, float]:
    """Write what the chosen threshold does on the test images, and the whole curve; returns its figures."""
    for name in ABSTAIN_FILES:
        (out / name).unlink(missing_ok=True)
    if threshold is None or params.abstain is None:
        return {}
    probability, right = answering.predictions(split, probabilities)
    counts = threshold.counts(probability, right)
    promise = Promise(threshold.probability, params.abstain, params.confidence, threshold.chosen_on, counts)
    curve = abstaining.curve(probability, right, params.confidence)
    columns = curve.coverage, curve.error, curve.high
    # A threshold is given exactly: near 1 six digits are not enough to tell one from another.
    rows = (
        [*(f"{value:.6f}" for value in row), repr(lowest)]
        for *row, lowest in zip(*columns, curve.threshold.tolist(), strict=True)
    )
    _write_csv(out / "coverage.csv", ("coverage", "error", "error_high", "threshold"), rows)
    draw_coverage(out / "coverage.png", curve, counts, params.abstain)
    promise.write(out)
    print(f"evaluate.abstain: {promise.sentence()}")
    return promise.metrics() | {"aurc": curve.area}


def _threshold(
    params: EvaluateParams,
    about: TrainedModel,
    model: nn.Module,
    prepared: Path,
    retrained: Path,
    where: torch.device,
) -> Threshold | None:
    """That of evaluate.abstain, chosen on `prepared`/val; None: every image is answered."""
    if params.abstain is None:
        return None
    answering.check_unlearnt(about)
    val = open_split(prepared / "val")
    _check(about, list(val.classes), list(val.shape), retrained, "validation")
    return answering.choose(model, val, params.abstain, params.confidence, where)


def _check(about: TrainedModel, classes: list[str], shape: list[int], retrained: Path, which: str) -> None:
    """Raise InputError unless the model is one for images of these `classes` in this order and of this `shape`."""
    for what, images, model in (
        ("classes", classes, about.classes),
        ("shape (channels, height, width)", shape, about.shape),
    ):
        if images != model:
            raise InputError(
                f"{retrained / 'model.json'}: its {what} must be those of the {which} images; got {model} for"
                f" {images}: run `dvc repro retrain`"
            )


def _with_maps(entries: list[dict[str, Any]], model: nn.Module, split: Split) -> list[dict[str, Any]]:
    """`entries` of the gallery, the wrong predictions with what spoke for the predicted class (`map`, `map_kind`)."""
    wrong = [entry for entry in entries if entry["kind"] == "worst"]
    if wrong:
        images = torch.from_numpy(np.array(split.images[[entry["index"] for entry in wrong]]))
        predicted = torch.tensor([split.classes.index(entry["predicted"]) for entry in wrong])
        heat, kind = maps(model, images, predicted)
        for entry, image, one in zip(wrong, images.numpy(), heat.numpy(), strict=True):
            entry |= {"map": overlay(image, one), "map_kind": kind}
    return entries


def _write_predictions(out: Path, split: Split, probabilities: NDArray[np.float32], files: Sequence[ImageFile]) -> None:
    """The prediction for each image, in the order of the test split; `copy_of`: the first row that shows the same."""
    labels, predictions, confidences = split.labels, probabilities.argmax(1), probabilities.max(1)
    _, place, picture = np.unique(split.pictures, return_index=True, return_inverse=True)
    first, names = place[picture], split.classes
    rows = (
        (row, names[labels[row]], names[predictions[row]], f"{confidences[row]:.6f}", file.path or file.origin,
         "" if first[row] == row else first[row])
        for row, file in enumerate(files)
    )  # fmt: skip
    _write_csv(out / "predictions.csv", ("index", "label", "predicted", "probability", "file", "copy_of"), rows)
    pairs = ((names[label], names[predicted]) for label, predicted in zip(labels, predictions, strict=True))
    _write_csv(out / "confusion.csv", ("actual", "predicted"), pairs)
    np.savez(
        out / "reference.npz",
        allow_pickle=False,
        images=split.images[:REFERENCE],
        probabilities=probabilities[:REFERENCE],
        labels=labels[:REFERENCE],
    )


def _measured(params: EvaluateParams, split: Split, probabilities: NDArray[np.float32]) -> Metrics:
    """The metrics that every evaluation has."""
    return measure(
        split.labels,
        probabilities,
        split.classes,
        confidence=params.confidence,
        bins=params.calibration_bins,
        weights=split.weights,
    )


def _write_tables(out: Path, metrics: Metrics) -> None:
    names = ("class", "support", "precision", "recall", "recall_low", "recall_high", "f1")
    scores = (
        (c.name, c.support, *(f"{x:.6f}" for x in (c.precision, c.recall, c.recall_low, c.recall_high, c.f1)))
        for c in metrics.per_class
    )
    _write_csv(out / "per_class.csv", names, scores)
    bins = (
        (*(f"{x:.6f}" for x in (b.lower, b.upper)), b.count, *(f"{x:.6f}" for x in (b.confidence, b.accuracy)))
        for b in metrics.calibration
        if b.count
    )
    _write_csv(out / "calibration.csv", ("lower", "upper", "count", "confidence", "accuracy"), bins)
    draw_confusion(out / "confusion.png", metrics)
    draw_calibration(out / "calibration.png", metrics)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _table(metrics: Metrics, confidence: float, objective: Metric) -> str:
    """The result for a person."""
    label, others = objective.label, dict(metrics.others)
    bounds = f"{100 * confidence:.4g}% interval {metrics.accuracy_low:.4f} to {metrics.accuracy_high:.4f}"
    once = f", {metrics.groups:,} different (near-duplicates count once)" if metrics.groups < metrics.count else ""
    lines = [
        f"held-out test set: {counted(metrics.count, 'image')}{once}, {counted(len(metrics.per_class), 'class')}",
        f"  accuracy  {metrics.accuracy:.4f}  ({bounds})",
        f"  macro F1  {metrics.macro_f1:.4f}",
        f"  ECE       {metrics.ece:.4f}",
    ]
    ends = [others.pop(f"{label}_{end}", None) for end in ("low", "high")]
    for name in (name for name in others if name not in SUMMARY or (name == label and ends[0] is not None)):
        is_objective = name == label and ends[0] is not None
        bounds = f"  ({100 * confidence:.4g}% interval {ends[0]:.4f} to {ends[1]:.4f})" if is_objective else ""
        lines.append(f"  {name}  {others[name]:.4f}{bounds}")
    lines.append("  weakest classes by recall:")
    weakest = metrics.weakest()
    width = max(len(c.name) for c in weakest)
    lines += [
        f"    {c.name:<{width}}  {c.recall:.4f}  ({c.recall_low:.4f} to {c.recall_high:.4f} of {c.support:,} images)"
        for c in weakest
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    process.run_stage(main)
