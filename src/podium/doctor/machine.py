"""Checks of the machine (Python, packages, CUDA, disk, ports), and what a finding is."""

import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement

PYTHON = (3, 11)
LITTLE, SCARCE = 1e9, 5e9
"""Free bytes below which a run may not end, and below which the user is warned."""
PORTS = {5000: "make ui", 5001: "mlflow models serve", 6006: "podium profile --show", 8080: "make dashboard"}
SHOWN = 5
"""Packages that are listed by name."""


@dataclass(frozen=True)
class Finding:
    """The result of one check, and the remedy if it is not `ok`."""

    subject: str
    level: Literal["ok", "note", "fail"]
    """note: worth knowing, nothing fails because of it."""
    found: str
    remedy: str = ""


def ok(subject: str, found: str) -> Finding:
    """As it should be."""
    return Finding(subject, "ok", found)


def note(subject: str, found: str, remedy: str) -> Finding:
    """Worth knowing."""
    return Finding(subject, "note", found, remedy)


def fail(subject: str, found: str, remedy: str) -> Finding:
    """Something would fail."""
    return Finding(subject, "fail", found, remedy)


def table(findings: list[Finding]) -> str:
    """One line per finding, its remedy on the line below."""
    width = max(len(f.subject) for f in findings)
    lines = []
    for f in findings:
        lines.append(f"{f.level:<4}  {f.subject:<{width}}  {f.found}")
        if f.remedy:
            lines.append(f"{'':<4}  {'':<{width}}  -> {f.remedy}")
    return "\n".join(lines)


def python(found: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """Whether Python is new enough."""
    text = ".".join(map(str, found))
    if found[:2] >= PYTHON:
        return ok("Python", text)
    return fail("Python", f"{text}; Podium needs 3.11 or newer", "make clean, then make PYTHON=python3.12 install")


def packages(lock: Path) -> Finding:
    """Whether what is installed is what the lock file says."""
    if not lock.is_file():
        return note("packages", f"{lock} is missing", "git checkout requirements.lock")
    missing, other = [], []
    for name, wanted in _locked(lock):
        try:
            if version(name) != wanted:
                other.append(f"{name} {version(name)} (lock: {wanted})")
        except PackageNotFoundError:
            missing.append(f"{name} {wanted}")
    remedy = "rm -f .venv/installed && make install"
    if missing:
        return fail("packages", f"{len(missing)} of {lock} are not installed: {_some(missing)}", remedy)
    if other:
        return note("packages", f"{len(other)} differ from {lock}: {_some(other)}", remedy)
    return ok("packages", f"as {lock} says")


def own_packages(requirements: Path) -> Finding:
    """Whether what people's own code wants beyond the lock file is installed."""
    if not requirements.is_file():
        return ok("own packages", f"none: there is no {requirements}")
    try:
        text = requirements.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"byte {error.start + 1:,} is 0x{error.object[error.start]:02x}"
        found = f"{requirements} is not UTF-8 ({where}), so they are not checked"
        return note("own packages", found, "save it as UTF-8; `>` of PowerShell writes UTF-16")
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    remedy = "rm -f .venv/installed && make install"
    wrong = []
    for line in lines:
        try:
            wanted = Requirement(line)
            if (wanted.marker is None or wanted.marker.evaluate()) and not wanted.specifier.contains(
                version(wanted.name), prereleases=True
            ):
                wrong.append(f"{line} (here {version(wanted.name)})")
        except InvalidRequirement:
            continue  # empty, an option, or a file: pip's business
        except PackageNotFoundError:
            wrong.append(line)
    if wrong:
        return fail("own packages", f"of {requirements}, not installed: {_some(wrong)}", remedy)
    return ok("own packages", f"as {requirements} says")


def cuda(wanted: str) -> Finding:
    """What torch sees of a GPU, and why not; `wanted` is runtime.device."""
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count()))
        return ok("CUDA", f"torch {torch.__version__} sees {names}")
    why = _why_no_cuda()
    if wanted == "cuda":
        return fail("CUDA", f"runtime.device is cuda, and {why}", "set runtime.device: auto, or fix the cause")
    return ok("CUDA", f"none, so the CPU trains: {why}")


def disk(root: Path) -> Finding:
    """Whether there is room for a run."""
    free = shutil.disk_usage(root).free
    text = f"{free / 1e9:.1f} GB are free at {root}"
    remedy = "podium gc, dvc gc --workspace, or delete runs in MLflow and then `mlflow gc`"
    return (
        fail("disk", text, remedy)
        if free < LITTLE
        else note("disk", text, remedy)
        if free < SCARCE
        else ok("disk", text)
    )


def ports() -> Finding:
    """Which of the ports that the README names are taken."""
    taken = [f"{port} ({what})" for port, what in PORTS.items() if not _is_free(port)]
    if taken:
        return note("ports", f"in use: {', '.join(taken)}", "something listens there already; pass another --port")
    return ok("ports", f"{', '.join(map(str, PORTS))} are free")


def _locked(lock: Path) -> Iterator[tuple[str, str]]:
    """Name and version of each package of a lock file that this machine should have."""
    for line in lock.read_text(encoding="utf-8").splitlines():
        if not line or line[0] in "# ":
            continue
        wanted = Requirement(line.rstrip("\\ "))
        if wanted.marker is None or wanted.marker.evaluate():
            yield wanted.name, str(wanted.specifier).removeprefix("==")


def _why_no_cuda() -> str:
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return f"torch {torch.__version__} (CUDA {torch.version.cuda}) says: {' '.join(str(error).split())[:200]}"
    return "torch counts no device (CUDA_VISIBLE_DEVICES?)"


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a connection that has just ended holds nothing
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
