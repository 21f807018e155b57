"""Verdicts of the gate in MLflow: JSON, page and picture on the version's run, tags of the version, digests checked.

The picture shows the disagreements: the test images that exactly one of challenger and champion predicts rightly.
"""

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from podium.data import accesses
from podium.data.dataset import images_again
from podium.data.shards import Images
from podium.errors import PodiumError, RefusedError
from podium.metrics.plots import save_figure, short
from podium.promotion import ledger
from podium.promotion.ledger import Entry, Ledger, digest
from podium.promotion.verdict import Disagreement, Verdict
from podium.registry import versions
from podium.registry.versions import Version
from podium.tracking.refusal import NO_SUCH_RUN
from podium.tracking.store import Tracking

COLUMNS = 8
ROWS = 3
"""Rows of images for each of the two directions; the rest are counted."""


def store(tracking: Tracking, version: Version, verdict: Verdict, sealed: Path, forced: str) -> dict[str, str]:
    """Store `verdict` on `version` as JSON, Markdown and picture; returns what the ledger stores of it.

    `sealed` is the folder that was judged on, open already; `forced` the reason to move against the verdict.
    """
    text = json.dumps(verdict.to_dict(), indent=2, ensure_ascii=False) + "\n"
    written = digest(text)
    # With a digest: two processes may judge a version in one second, and each entry of the ledger names its own.
    stem = f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}-{version.name}-{version.number}-{written[:8]}"
    with tempfile.TemporaryDirectory(prefix="podium-") as folder:
        files = Path(folder)
        (files / f"{stem}.json").write_text(text, encoding="utf-8")
        picture = f"{stem}.png" if verdict.disagreements else ""
        if picture:
            draw_disagreements(files / picture, verdict.disagreements, images_again(sealed))
        (files / f"{stem}.md").write_text(verdict.markdown(picture), encoding="utf-8")
        tracking.client.log_artifacts(version.run_id, folder, "gate")
    tags = {
        "gate_decision": verdict.decision,
        "gate_reason": verdict.reason[:1000],
        "gate_rule": verdict.rule,
        "gate_openings": str(sum(verdict.accesses.values())),
        "gate_verdict": f"gate/{stem}.json",
        "gate_verdict_digest": written,
    }
    if verdict.comparison and verdict.comparison.p_value is not None:
        tags["gate_p_value"] = f"{verdict.comparison.p_value:.3g}"
    if forced:
        tags["gate_forced"] = f"{accesses.now()} {accesses.who()}: {forced}"
    for key, value in tags.items():
        tracking.client.set_model_version_tag(version.name, str(version.number), key, value)
    return {"file": f"gate/{stem}.json", "digest": written}


def check_place(tracking: Tracking, version: Version) -> None:
    """Raise RefusedError where `store` would have no place for a verdict: the run of `version` is gone."""
    try:
        tracking.client.get_run(version.run_id)
    except MlflowException as error:
        if error.error_code not in NO_SUCH_RUN:
            raise
        raise RefusedError(
            f"{version} can't be judged: the run that trained it, with which the gate stores its verdict, is gone from"
            " MLflow (`mlflow gc`, or it was registered by hand): train and register it again, with `dvc repro --force"
            " --single-item retrain` and `dvc repro`. The test set was not opened"
        ) from None


def check(tracking: Tracking, book: Ledger) -> list[str]:
    """A sentence for each stored verdict and each champion that is not what the ledger has the digest of."""
    found = [problem for entry in book.entries if entry.verdict and (problem := _problem(tracking, book.name, entry))]
    for number in sorted({entry.target for entry in book.entries if entry.model and entry.target is not None}):
        try:
            version = versions.find(tracking, book.name, number)
            _check_model(tracking, version, book)
            if problem := ledger.origin_problem(version, book):
                found.append(problem)
            with versions.checked(tracking, version):  # the files themselves, not what a tag says of them
                pass
        except PodiumError as error:  # gone, changed, or without digests
            found.append(str(error))
    return found


def draw_disagreements(path: Path, found: tuple[Disagreement, ...], images: Images) -> None:
    """Write the picture of `found`, at least one, to `path`; `images` are those of the test set, (N, C, H, W) uint8."""
    gained = [one for one in found if one.challenger == one.label]
    lost = [one for one in found if one.challenger != one.label]
    groups = [
        (f"{len(gained)} that only the challenger gets right", gained, "#2f855a"),
        (f"{len(lost)} that only the champion gets right", lost, "#c53030"),
    ]
    heights = [max(1, -(-min(len(group), COLUMNS * ROWS) // COLUMNS)) for _, group, _ in groups]
    figure = Figure(figsize=(1.15 * COLUMNS, 1.5 * sum(heights) + 1.0), layout="constrained")
    parts = np.asarray(figure.subfigures(2, 1, height_ratios=heights)).ravel()
    for part, (title, group, color), rows in zip(parts, groups, heights, strict=True):
        hidden = len(group) - COLUMNS * ROWS
        part.suptitle(title + (f" ({hidden} of them not shown)" if hidden > 0 else ""), color=color, fontsize=11)
        cells = np.asarray(part.subplots(rows, COLUMNS, squeeze=False)).ravel()
        for axes in cells:
            axes.set_axis_off()
        for axes, one in zip(cells, group, strict=False):
            axes.imshow(_pixels(images[one.index]), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_title(_caption(one), fontsize=7, parse_math=False)
    save_figure(figure, path)


def _check_model(tracking: Tracking, version: Version, book: Ledger) -> None:
    """As `ledger.check_model`; the ledger is read again, once for each version, only where `book` is not enough."""
    try:
        ledger.check_model(tracking, version, book)
    except PodiumError:  # as it is after the version was read: moves go on meanwhile
        ledger.check_model(tracking, version)


def _problem(tracking: Tracking, name: str, entry: Entry) -> str:
    """What is wrong with the stored verdict that `entry` names, as a sentence; empty: nothing."""
    stored = entry.verdict or {}
    if "file" not in stored:
        return ""
    place = f"the verdict of entry {entry.number} of {name}'s ledger"
    try:
        run_id = str(tracking.client.get_model_version(name, str(entry.target)).run_id)
        with tempfile.TemporaryDirectory(prefix="podium-") as folder:
            path = Path(tracking.client.download_artifacts(run_id, str(stored["file"]), folder))
            found = digest(path.read_text(encoding="utf-8"))
    except (MlflowException, OSError, ValueError) as error:
        return f"{place} can't be read: {' '.join(str(error).split())[:300]}"
    return "" if found == stored.get("digest") else f"{place} is not the one that was given: edited"


def _caption(one: Disagreement) -> str:
    names = (short(one.label), short(one.challenger), short(one.champion))
    return "is {}\nnew: {}\nold: {}".format(*names)


def _pixels(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)
