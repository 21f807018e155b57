"""Is a version what its sources give? Compared with this folder (verify), or retrained from them (reproduce).

To reproduce, its commit is checked out in a temporary folder, its data comes from DVC's cache and its seeds are the
same. Only the retraining is run, from the stored choice of the selection: the same weights need nothing more, and the
held-out test set stays closed.
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from podium.config import params
from podium.data.decode import Preprocess, decode
from podium.errors import InputError, PodiumError, RefusedError
from podium.registry import changes, provenance, versions
from podium.registry.ancestry import stored_files
from podium.registry.versions import Version
from podium.text import MASK, masked, was_masked
from podium.tracking.store import Tracking
from podium.training.prediction import predict_probabilities
from podium.training.trained import TrainedModel

NEEDED = ("data/prepared", "data/selected")
COMMIT = re.compile(r"[0-9a-f]{40,64}")
THREADS = re.compile(r"[1-9][0-9]{0,3}")
TOLERANCE = 0.02
"""Of a probability, for a version trained on a GPU: its sums have no fixed order, and small differences grow over the
epochs. It could not be measured on a GPU when it was written."""


@dataclass(frozen=True)
class Reproduced:
    """The reproduced model compared with the registered one."""

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
    """Retrain `version` of the project in `root` and compare. Prints what the retraining prints.

    Raises InputError where commit, lock or data are missing, RefusedError where the retraining fails.
    """
    if not THREADS.fullmatch(version.tags.get("threads", "1")):
        raise InputError(f"{version} can't be reproduced: its tag threads is no number of threads")
    stored = stored_files(tracking, version)
    for name in ("params.yaml", "dvc.lock"):
        if name not in stored:
            raise InputError(f"{version} can't be reproduced: its run holds no {name} (artifacts lineage/)")
    with tempfile.TemporaryDirectory(prefix="podium-reproduce-") as scratch:
        copy = Path(scratch)
        _check_out(root, version, stored, copy)
        _restore_data(root, copy)
        _retrain(copy)
        about, model = TrainedModel.load(copy / "data/retrained")
        exact = about.weights_digest == version.tags.get("weights_digest")
        labels, largest = _compare(tracking, version, model, about)
    there = _facts(version, about, stored)
    on_gpu = not version.tags.get("device", "cpu").startswith("cpu")
    return Reproduced(exact, exact or (on_gpu and not labels and largest <= TOLERANCE), labels, largest, there)


def _check_out(root: Path, version: Version, stored: dict[str, str], copy: Path) -> None:
    """The version's commit with its uncommitted changes in `copy`, and the parameters that it had."""
    commit = version.tags.get("git_commit", "unknown")
    if not COMMIT.fullmatch(commit):
        raise InputError(f"{version} can't be reproduced: it was registered outside of a git checkout")
    done = subprocess.run(["git", "archive", "--format=tar", commit], cwd=root, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise InputError(f"commit {commit} of {version} is not in this checkout ({said}): `git fetch` it")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(copy, filter="data")
    _apply(stored, version, copy)
    own = {"tracking.uri": "sqlite:///mlruns/mlflow.db", "retrain.profile_steps": 0}
    own |= {"runtime.device": "cpu"} if version.tags.get("device", "cpu").startswith("cpu") else {}
    own |= {"runtime.threads": int(version.tags.get("threads", "1"))}
    (copy / "params.yaml").write_text(params.with_values(stored["params.yaml"], own), encoding="utf-8")
    for name in ("dvc.yaml", "dvc.lock"):
        if name in stored:
            (copy / name).write_text(stored[name], encoding="utf-8")


def _apply(stored: dict[str, str], version: Version, copy: Path) -> None:
    """The version's uncommitted changes, except for the files that were stored whole."""
    patch = stored.get(provenance.PATCH, "")
    if missing := changes.left_out(patch):
        raise InputError(f"{version} can't be reproduced: its run does not hold all of it: {'; '.join(missing)}")
    if not changes.by_file(patch):
        return
    file = copy / provenance.PATCH
    file.write_bytes(changes.to_bytes(patch))
    what = f"the uncommitted changes of {version} can't be applied"
    if was_masked(patch):
        what += f" (passwords within addresses were not stored: {MASK} stands for them in the patch)"
    whole = [f"--exclude={name}" for name in provenance.COPIED if name in stored]
    _run(copy, "git", "apply", "--whitespace=nowarn", *whole, provenance.PATCH, what=what)
    file.unlink()


def _restore_data(root: Path, copy: Path) -> None:
    """The images and the selection, from the cache of the project in `root`."""
    dvc = (sys.executable, "-m", "dvc")
    cache = _run(root, *dvc, "cache", "dir", what="DVC's cache was not found").strip()
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


def _facts(version: Version, about: TrainedModel, stored: dict[str, str]) -> list[str]:
    pairs = {
        "device": (version.tags.get("device", "unknown"), about.device),
        "threads": (version.tags.get("threads", "unknown"), str(about.threads)),
        "seed": (version.tags.get("seed", "unknown"), str(about.seed)),
        "data": (version.tags.get("data_digest", "unknown"), about.data_digest),
    }
    facts = [f"{name}: {before} -> {now}" for name, (before, now) in pairs.items() if before != now]
    then = stored.get(provenance.ENVIRONMENT, "").splitlines()
    return facts + provenance.environment_differences(then, provenance.environment())


def _run(folder: Path, *command: str, what: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_"))}
    environment["GIT_CEILING_DIRECTORIES"] = str(folder.parent)  # a repository around `folder` would take the patch
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    if done.returncode:
        raise PodiumError(f"{what}: {' '.join(done.stderr.decode(errors='replace').split())[-500:]}")
    return changes.to_text(done.stdout)


NEUTRAL = ("tracking", "runtime", "gate", "serve")
"""Sections that change no result."""
NOT_STORED = "not stored"


@dataclass(frozen=True)
class Difference:
    """Something that has changed since the version was registered."""

    what: str
    then: str
    now: str


def workspace_differences(tracking: Tracking, version: Version, root: Path) -> list[Difference]:
    """How the project in `root` differs from `version`, and `version`'s files from those that were registered."""
    stored = stored_files(tracking, version)
    data = _read_json(root / "data/prepared/dataset.json", "digest")
    weights = _read_json(root / "data/retrained/model.json", "weights_digest")
    return [
        *_code_differs(version, stored, root),
        *_params_differ(stored.get("params.yaml"), root / "params.yaml"),
        *_digest_differs("data", version.tags.get("data_digest", ""), data),
        *_digest_differs("weights", version.tags.get("weights_digest", ""), weights),
        *_packages_differ(stored.get(provenance.ENVIRONMENT)),
        *_files_differ(tracking, version),
    ]


def _code_differs(version: Version, stored: dict[str, str], root: Path) -> Iterator[Difference]:
    then, now = version.tags.get("git_commit", provenance.UNKNOWN), provenance.git_facts(root).commit
    if then != now:
        yield Difference("commit", then[:12], now[:12])
    if provenance.PATCH not in stored:
        yield Difference("uncommitted changes", NOT_STORED, "")
        return
    patches = masked(stored[provenance.PATCH]), changes.uncommitted(root)
    before, after = map(changes.by_file, patches)
    if before != after:
        yield Difference("uncommitted changes", ", ".join(before) or "none", ", ".join(after) or "none")
    missing = ["; ".join(changes.left_out(patch)) for patch in patches]
    if any(missing):  # also where both lack the same: it can't be compared
        yield Difference("changes left out", missing[0] or "none", missing[1] or "none")


def _params_differ(stored: str | None, path: Path) -> Iterator[Difference]:
    if stored is None:
        yield Difference("parameters", NOT_STORED, "")
        return
    try:
        then, now = params.flat(stored), params.flat(path.read_text(encoding="utf-8"))
    except (InputError, OSError) as error:
        yield Difference("parameters", "", str(error))
        return
    for name in sorted(then.keys() | now.keys()):
        if name.split(".")[0] not in NEUTRAL and then.get(name) != now.get(name):
            yield Difference(name, str(then.get(name, "not set")), str(now.get(name, "not set")))


def _digest_differs(what: str, then: str, now: str) -> Iterator[Difference]:
    if then != now:
        yield Difference(what, then[:12], now[:12] or "missing")


def _read_json(path: Path, key: str) -> str:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return str(content[key])
    except (OSError, ValueError, KeyError):
        return ""


def _packages_differ(stored: str | None) -> Iterator[Difference]:
    if stored is None:
        yield Difference("environment", NOT_STORED, "")
        return
    for line in provenance.environment_differences(stored.splitlines(), provenance.environment()):
        name, _, numbers = line.partition(": ")
        then, _, now = numbers.partition(" -> ")
        yield Difference(name, then, now)


def _files_differ(tracking: Tracking, version: Version) -> Iterator[Difference]:
    try:
        versions.load(tracking, version).check_predictions()
    except PodiumError as error:
        yield Difference("registered files", "as registered", str(error))
