"""Where verdicts of the gate are kept: artifacts of the version's run, tags of the version, a digest in the ledger."""

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from mlflow.exceptions import MlflowException

from podium.data import accesses
from podium.promotion import changed_sides
from podium.promotion.entries import Entry, digest
from podium.promotion.verdict import Verdict
from podium.registry.versions import Version
from podium.tracking.store import Tracking


def keep(tracking: Tracking, version: Version, verdict: Verdict, sealed: Path, forced: str) -> dict[str, str]:
    """Store `verdict` on `version` as JSON, Markdown and picture; returns what the ledger says of them.

    `sealed` is the folder that was judged on, open already; `forced` the reason to move against the verdict.
    """
    text = json.dumps(verdict.to_dict(), indent=2, ensure_ascii=False) + "\n"
    stem = f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}-{version.name}-{version.number}"
    with tempfile.TemporaryDirectory(prefix="podium-") as folder:
        files = Path(folder)
        (files / f"{stem}.json").write_text(text, encoding="utf-8")
        picture = f"{stem}.png" if verdict.changed else ""
        if picture:
            images = np.load(sealed / "images.npy", mmap_mode="r", allow_pickle=False)
            changed_sides.draw(files / picture, verdict.changed, images)
        (files / f"{stem}.md").write_text(verdict.markdown(picture), encoding="utf-8")
        tracking.client.log_artifacts(version.run_id, folder, "gate")
    written = digest(text)
    tags = {
        "gate_decision": verdict.decision,
        "gate_reason": verdict.reason[:1000],
        "gate_rule": verdict.rule,
        "gate_openings": str(sum(verdict.openings.values())),
        "gate_verdict": f"gate/{stem}.json",
        "gate_verdict_digest": written,
    }
    if verdict.comparison:
        tags["gate_p_value"] = f"{verdict.comparison.p_value:.3g}"
    if forced:
        tags["gate_forced"] = f"{accesses.now()} {accesses.who()}: {forced}"
    for key, value in tags.items():
        tracking.client.set_model_version_tag(version.name, str(version.number), key, value)
    return {"file": f"gate/{stem}.json", "digest": written}


def problem(tracking: Tracking, name: str, entry: Entry) -> str:
    """What is wrong with the stored verdict that `entry` names, as a sentence; empty: nothing."""
    told = entry.verdict or {}
    if "file" not in told:
        return ""
    place = f"the verdict of entry {entry.number} of {name}'s ledger"
    try:
        run_id = str(tracking.client.get_model_version(name, str(entry.target)).run_id)
        with tempfile.TemporaryDirectory(prefix="podium-") as folder:
            path = Path(tracking.client.download_artifacts(run_id, str(told["file"]), folder))
            found = digest(path.read_text(encoding="utf-8"))
    except (MlflowException, OSError, ValueError) as error:
        return f"{place} can't be read: {' '.join(str(error).split())[:300]}"
    return "" if found == told["digest"] else f"{place} is not the one that was given: edited"
