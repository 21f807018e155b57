"""Where a registered version comes from, as a tree: run, selection, trial, study, data, code, parameters, machine."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from podium.errors import InputError, RefusedError
from podium.registry import changes, provenance, versions
from podium.registry.versions import Version
from podium.tracking.run_names import KIND_TAG, STUDY_TAG, TRIAL_TAG
from podium.tracking.store import Tracking

SHOWN = ("torch", "mlflow", "optuna", "dvc")
"""Packages whose versions the tree names; a file has them all."""


@dataclass(frozen=True)
class Node:
    """A line of the tree."""

    name: str
    facts: dict[str, str]
    below: list["Node"] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The tree, for JSON."""
        return {"name": self.name, **self.facts, "from": [node.to_dict() for node in self.below]}

    def lines(self, first: str = "", rest: str = "") -> list[str]:
        """The tree for the console."""
        facts = ", ".join(f"{name} {value}" for name, value in self.facts.items() if value)
        found = [f"{first}{self.name}: {facts}" if facts else f"{first}{self.name}"]
        for place, node in enumerate(self.below, start=1):
            last = place == len(self.below)
            found += node.lines(rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))
        return found


def tree(tracking: Tracking, version: Version) -> Node:
    """Everything that is known of how `version` was made."""
    tags = version.tags
    stored = stored_files(tracking, version)
    run = _run(tracking, version.run_id)
    selection = Node("selection", _selection(tracking, tags), [_trial(tracking, tags), _study(tracking, tags)])
    made = {"device": tags.get("device", ""), "threads": tags.get("threads", ""), "seed": tags.get("seed", "")}
    status = {"run": version.run_id, "status": _status(run)}
    facts = {
        "aliases": " ".join(version.aliases),
        "accuracy": tags.get("accuracy", ""),
        "gate": tags.get("gate_decision", ""),
    }
    return Node(
        str(version),
        facts | {"weights": tags.get("weights_digest", "")[:12]},
        [
            Node("retraining", status | made, [selection]),
            Node("data", {"digest": tags.get("data_digest", "")} | _dvc(stored)),
            Node("code", _code(tags, stored)),
            Node("parameters", {"file": _place(tags, stored, "params.yaml")}),
            Node("environment", _environment(tags, stored)),
        ],
    )


def made_from(tracking: Tracking, name: str, data: str) -> list[Version]:
    """The versions of `name` made from the data whose digest begins with `data`. Raises InputError: too short, none."""
    if len(data) < 6:
        raise InputError(f"--data must be at least the first 6 characters of a digest; got {data!r}")
    every = versions.every(tracking, name)
    found = [version for version in every if version.tags.get("data_digest", "").startswith(data)]
    if not found:
        known = sorted({version.tags.get("data_digest", "unknown")[:12] for version in every})
        raise InputError(f"no version of {name} was made from data {data}; known are {', '.join(known) or 'none'}")
    return found


def stored_files(tracking: Tracking, version: Version) -> dict[str, str]:
    """What `provenance.write_sources` stored with the version's run, by name; empty if there is nothing.

    Raises RefusedError where it was changed since: `podium reproduce` runs what is in it.
    """
    place = version.tags.get(versions.LINEAGE)
    if not place:
        return {}
    try:
        with tempfile.TemporaryDirectory(prefix="podium-") as folder:
            files = Path(tracking.client.download_artifacts(version.run_id, place, folder))
            if version.tags.get(versions.LINEAGE_DIGEST) != versions.folder_digest(files):
                raise RefusedError(
                    f"what {version} was made from ({place} of its run) was changed after it was registered"
                )
            return {path.name: changes.to_text(path.read_bytes()) for path in sorted(files.iterdir())}
    except (MlflowException, OSError):
        return {}


def _run(tracking: Tracking, run_id: str) -> Run | None:
    try:
        return tracking.client.get_run(run_id)
    except MlflowException:
        return None


def _status(run: Run | None) -> str:
    """MLflow gives deleted runs too."""
    if run is None:
        return "gone from MLflow"
    return f"{run.info.status}{', deleted' if run.info.lifecycle_stage == 'deleted' else ''}"


def _selection(tracking: Tracking, tags: dict[str, str]) -> dict[str, str]:
    parent = _first(tracking, f"tags.`{STUDY_TAG}` = '{tags.get('study')}' and tags.`{KIND_TAG}` = 'search'")
    mean = parent.data.metrics.get("confirmed_mean") if parent else None
    facts = {"confirmation seeds": tags.get("confirmation_seeds", "").replace(",", " ")}
    return facts | ({"mean on them": f"{mean:.4f}"} if mean is not None else {})


def _trial(tracking: Tracking, tags: dict[str, str]) -> Node:
    number = tags.get("trial", "?")
    where = f"tags.`{STUDY_TAG}` = '{tags.get('study')}' and tags.`{TRIAL_TAG}` = '{number}'"
    run = _first(tracking, f"{where} and tags.`{KIND_TAG}` = 'trial'")  # the retraining's run has the others too
    facts = {"run": run.info.run_id, "status": _status(run)} if run else {"run": "gone from MLflow"}
    return Node(f"trial {number}", facts | (dict(sorted(run.data.params.items())) if run else {}))


def _study(tracking: Tracking, tags: dict[str, str]) -> Node:
    run = _first(tracking, f"tags.`{STUDY_TAG}` = '{tags.get('study')}' and tags.`{KIND_TAG}` = 'search'")
    return Node("study", {"name": tags.get("study", ""), "run": run.info.run_id if run else "gone from MLflow"})


def _first(tracking: Tracking, where: str) -> Run | None:
    found = tracking.client.search_runs([tracking.experiment_id], where, max_results=1)
    return found[0] if found else None


def _dvc(stored: dict[str, str]) -> dict[str, str]:
    """The digests by which DVC's cache has the images, from the stored dvc.lock."""
    outputs = provenance.lock_outputs(stored.get("dvc.lock", ""))
    return {f"{path} in DVC": outputs[path] for path in ("data/prepared", "data/sealed") if path in outputs}


def _code(tags: dict[str, str], stored: dict[str, str]) -> dict[str, str]:
    patch = stored.get(provenance.PATCH, "")
    files, missing = changes.by_file(patch), changes.left_out(patch)
    facts = {"commit": tags.get("git_commit", "unknown")}
    if files:
        facts |= {"uncommitted changes": f"{len(files)} files ({tags.get('lineage')}/{provenance.PATCH} of the run)"}
    return facts | ({"but": "; ".join(missing)} if missing else {})


def _environment(tags: dict[str, str], stored: dict[str, str]) -> dict[str, str]:
    lines = stored.get(provenance.ENVIRONMENT, "").splitlines()
    facts = {name: tags.get(f"{name}_version", "unknown") for name in SHOWN}
    python = [line.removeprefix("python==") for line in lines if line.startswith("python==")]
    return {"python": python[0] if python else "unknown"} | facts | {"packages": str(len(lines) - 1) if lines else ""}


def _place(tags: dict[str, str], stored: dict[str, str], name: str) -> str:
    return f"{tags.get('lineage')}/{name} of the run" if name in stored else "not stored"
