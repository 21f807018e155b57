"""A version made again: its commit checked out beside, its data from DVC's cache, the same seeds, and compared.

Only the retraining is run, from the kept choice of the selection: the same weights need nothing more, and the sealed
images stay closed.
"""

import base64
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from podium.config import params
from podium.data.decode import Preprocess, decode
from podium.errors import InputError, PodiumError, RefusedError
from podium.lineage import changes, origin
from podium.lineage.ancestry import kept_files
from podium.registry import versions
from podium.registry.versions import Version
from podium.text import MASK, was_masked
from podium.tracking.store import Tracking
from podium.training.predict import predict_probabilities
from podium.training.trained import TrainedModel

NEEDED = ("data/prepared", "data/selected")
COMMIT = re.compile(r"[0-9a-f]{40,64}")
TOLERANCE = 0.02
"""Of a probability, for a version trained on a GPU: its sums have no fixed order, and small differences grow over the
epochs. It could not be measured on a GPU when it was written."""


@dataclass(frozen=True)
class Reproduced:
    """What came of it."""

    exact: bool
    """The weights are the same, bit for bit."""
    within: bool
    """Exact or, of a version trained on a GPU, within TOLERANCE."""
    labels: int
    """Stored images that get another label."""
    largest: float
    """Largest difference of a probability on the stored images."""
    differences: list[str]
    """What else is not the same: packages, device, threads."""


def reproduce(tracking: Tracking, version: Version, root: Path) -> Reproduced:
    """Make `version` of the project in `root` again and compare. Prints what the retraining prints.

    Raises InputError where commit, lock or data are not to be had, RefusedError where the retraining fails.
    """
    kept = kept_files(tracking, version)
    for name in ("params.yaml", "dvc.lock"):
        if name not in kept:
            raise InputError(f"{version} can't be made again: its run holds no {name} (artifacts lineage/)")
    with tempfile.TemporaryDirectory(prefix="podium-reproduce-") as scratch:
        copy = Path(scratch)
        _check_out(root, version, kept, copy)
        _restore_data(root, copy)
        _retrain(copy)
        about, model = TrainedModel.load(copy / "data/retrained")
        exact = about.weights_digest == version.tags["weights_digest"]
        labels, largest = _compare(tracking, version, model, about)
    there = _facts(version, about, kept)
    on_gpu = not version.tags.get("device", "cpu").startswith("cpu")
    return Reproduced(exact, exact or (on_gpu and not labels and largest <= TOLERANCE), labels, largest, there)


def _check_out(root: Path, version: Version, kept: dict[str, str], copy: Path) -> None:
    """The version's commit with its uncommitted changes in `copy`, and the parameters that it had."""
    commit = version.tags.get("git_commit", "unknown")
    if not COMMIT.fullmatch(commit):
        raise InputError(f"{version} can't be made again: it was registered outside of a git checkout")
    done = subprocess.run(["git", "archive", "--format=tar", commit], cwd=root, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise InputError(f"commit {commit} of {version} is not in this checkout ({said}): `git fetch` it")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(copy, filter="data")
    _apply(kept, version, copy)
    own = {"tracking.uri": "sqlite:///mlruns/mlflow.db", "retrain.profile_steps": 0}
    own |= {"runtime.device": "cpu"} if version.tags.get("device", "cpu").startswith("cpu") else {}
    own |= {"runtime.threads": int(version.tags.get("threads", "1"))}
    (copy / "params.yaml").write_text(params.with_values(kept["params.yaml"], own), encoding="utf-8")
    for name in ("dvc.yaml", "dvc.lock"):
        if name in kept:
            (copy / name).write_text(kept[name], encoding="utf-8")


def _apply(kept: dict[str, str], version: Version, copy: Path) -> None:
    """The version's uncommitted changes, but of the files that were kept whole."""
    patch = kept.get(origin.PATCH, "")
    if missing := changes.left_out(patch):
        raise InputError(f"{version} can't be made again, for its run does not hold all of it: {'; '.join(missing)}")
    if not changes.by_file(patch):
        return
    file = copy / origin.PATCH
    file.write_bytes(changes.to_bytes(patch))
    what = f"the uncommitted changes of {version} can't be applied"
    if was_masked(patch):
        what += f" (no password of an address was kept: where its file has one, {MASK} stands in the patch)"
    whole = [f"--exclude={name}" for name in origin.COPIED if name in kept]
    _run(copy, "git", "apply", "--whitespace=nowarn", *whole, origin.PATCH, what=what)
    file.unlink()


def _restore_data(root: Path, copy: Path) -> None:
    """The images and the selection, from the cache of the project in `root`."""
    dvc = (sys.executable, "-m", "dvc")
    cache = _run(root, *dvc, "cache", "dir", what="DVC's cache is not to be found").strip()
    if not (copy / ".dvc").is_dir():
        _run(copy, *dvc, "init", "--no-scm", "--quiet", what="DVC does not start")
    for name, value in (("cache.dir", str((root / cache).resolve())), ("core.no_scm", "true")):
        _run(copy, *dvc, "config", "--local", name, value, what="DVC can't be set up")
    _run(copy, *dvc, "checkout", "--quiet", *NEEDED, what="the data is not in DVC's cache: `dvc pull` fetches it")


def _retrain(copy: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(copy / "src"), "DVC_ROOT": str(copy)}
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "DVC_EXP_NAME"):
        environment.pop(name, None)
    done = subprocess.run([sys.executable, "-m", "podium.stages.retrain"], cwd=copy, env=environment, check=False)
    if done.returncode:
        raise RefusedError(f"the retraining failed (exit code {done.returncode}); what it printed says why")


def _compare(tracking: Tracking, version: Version, model: nn.Module, about: TrainedModel) -> tuple[int, float]:
    """Labels that differ and the largest difference of a probability, on the images stored in the version."""
    with versions.checked(tracking, version) as folder:
        inside = folder / "artifacts/model"
        rows = json.loads((inside / "answers.json").read_text(encoding="utf-8"))
        spec = Preprocess.from_dict(json.loads((inside / "model.json").read_text(encoding="utf-8"))["preprocess"])
    images = np.stack([decode(base64.b64decode(row["image"]), spec) for row in rows])
    found = predict_probabilities(model, images)
    labels = sum(about.classes[k] != row["label"] for k, row in zip(found.argmax(1), rows, strict=True))
    return labels, float(max(abs(p - row["probability"]) for p, row in zip(found.max(1), rows, strict=True)))


def _facts(version: Version, about: TrainedModel, kept: dict[str, str]) -> list[str]:
    pairs = {
        "device": (version.tags.get("device", "unknown"), about.device),
        "threads": (version.tags.get("threads", "unknown"), str(about.threads)),
        "seed": (version.tags.get("seed", "unknown"), str(about.seed)),
        "data": (version.tags.get("data_digest", "unknown"), about.data_digest),
    }
    facts = [f"{name}: {then} -> {now}" for name, (then, now) in pairs.items() if then != now]
    return facts + origin.differences(kept.get(origin.ENVIRONMENT, "").splitlines(), origin.environment())


def _run(folder: Path, *command: str, what: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_"))}
    environment["GIT_CEILING_DIRECTORIES"] = str(folder.parent)  # a repository around `folder` would take the patch
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    if done.returncode:
        raise PodiumError(f"{what}: {' '.join(done.stderr.decode(errors='replace').split())[-500:]}")
    return changes.to_text(done.stdout)
