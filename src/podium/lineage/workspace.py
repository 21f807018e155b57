"""Does the workspace still match a registered version? Commit, changes, parameters, data, weights, packages, files."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podium.config import params
from podium.errors import InputError, PodiumError
from podium.lineage import changes, origin
from podium.lineage.ancestry import kept_files
from podium.registry import provenance, versions
from podium.registry.versions import Version
from podium.text import masked
from podium.tracking.store import Tracking

NEUTRAL = ("tracking", "runtime", "gate", "serve")
"""Sections that change no result."""
NOT_KEPT = "not kept"


@dataclass(frozen=True)
class Difference:
    """Something that is not as it was when the version was registered."""

    what: str
    then: str
    now: str


def differences(tracking: Tracking, version: Version, root: Path) -> list[Difference]:
    """How the project in `root` differs from `version`, and `version`'s files from those that were registered."""
    kept = kept_files(tracking, version)
    return [
        *_code(version, kept, root),
        *_params(kept.get("params.yaml"), root / "params.yaml"),
        *_digest("data", version.tags.get("data_digest", ""), _read(root / "data/prepared/dataset.json", "digest")),
        *_digest(
            "weights", version.tags["weights_digest"], _read(root / "data/retrained/model.json", "weights_digest")
        ),
        *_packages(kept.get(origin.ENVIRONMENT)),
        *_files(tracking, version),
    ]


def _code(version: Version, kept: dict[str, str], root: Path) -> Iterator[Difference]:
    then, now = version.tags.get("git_commit", provenance.UNKNOWN), provenance.git_facts(root).commit
    if then != now:
        yield Difference("commit", then[:12], now[:12])
    if origin.PATCH not in kept:
        yield Difference("uncommitted changes", NOT_KEPT, "")
        return
    patches = masked(kept[origin.PATCH]), changes.uncommitted(root)
    before, after = map(changes.by_file, patches)
    if before != after:
        yield Difference("uncommitted changes", ", ".join(before) or "none", ", ".join(after) or "none")
    missing = ["; ".join(changes.left_out(patch)) for patch in patches]
    if any(missing):  # also where both lack the same: it can't be compared
        yield Difference("changes left out", missing[0] or "none", missing[1] or "none")


def _params(kept: str | None, path: Path) -> Iterator[Difference]:
    if kept is None:
        yield Difference("parameters", NOT_KEPT, "")
        return
    try:
        then, now = params.flat(kept), params.flat(path.read_text(encoding="utf-8"))
    except (InputError, OSError) as error:
        yield Difference("parameters", "", str(error))
        return
    for name in sorted(then.keys() | now.keys()):
        if name.split(".")[0] not in NEUTRAL and then.get(name) != now.get(name):
            yield Difference(name, str(then.get(name, "not set")), str(now.get(name, "not set")))


def _digest(what: str, then: str, now: str) -> Iterator[Difference]:
    if then != now:
        yield Difference(what, then[:12], now[:12] or "missing")


def _read(path: Path, key: str) -> str:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return str(content[key])
    except (OSError, ValueError, KeyError):
        return ""


def _packages(kept: str | None) -> Iterator[Difference]:
    if kept is None:
        yield Difference("environment", NOT_KEPT, "")
        return
    for line in origin.differences(kept.splitlines(), origin.environment()):
        name, _, numbers = line.partition(": ")
        then, _, now = numbers.partition(" -> ")
        yield Difference(name, then, now)


def _files(tracking: Tracking, version: Version) -> Iterator[Difference]:
    try:
        versions.load(tracking, version).check_answers()
    except PodiumError as error:
        yield Difference("registered files", "as registered", str(error))
