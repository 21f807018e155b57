"""benchmarks/gpu.py: its cheapest checks on the CPU, and that no check ends the others or is hidden."""

import importlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from waiting import PATIENCE

ROOT = Path(__file__).parents[1]


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    threads = torch.get_num_threads()
    found: Any = importlib.import_module("gpu_harness")
    importlib.import_module("gpu_training_checks")
    yield found
    torch.set_num_threads(threads)


def test_cheapest_checks_pass_on_the_cpu_and_those_of_a_gpu_say_why_they_do_not_run(
    harness: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    harness.run_here([1, 7, 8, 9], harness.Options("cpu", tiny=True))
    lines = [line.removeprefix(harness.MARK) for line in capsys.readouterr().out.splitlines()]
    results = {one["number"]: one["result"] for one in map(json.loads, lines) if "number" in one}
    assert {number: one["status"] for number, one in results.items()} == {1: "PASS", 7: "PASS", 8: "SKIP", 9: "PASS"}
    assert results[8]["found"] == "needs CUDA: it has a peak of its tensors"
    assert results[7]["found"].endswith("(tiny: not judged)")


@pytest.mark.parametrize(("used", "good"), [(0.9, True), (1.1, False), (0.2, False)])
def test_memory_is_judged_by_the_estimate(harness: Any, used: float, good: bool) -> None:
    checks = importlib.import_module("gpu_training_checks")
    assert checks.well_estimated(used * 2**30, 2**30) == good


def test_memory_of_a_step_and_of_a_validation_can_be_measured_and_fail(
    harness: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = importlib.import_module("gpu_training_checks")
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda where: 0)
    monkeypatch.setattr(checks.footprint, "peak", lambda where: 10 * 2**40)
    result = harness.CHECKS[8].run(harness.Options("cpu", tiny=True))
    assert result.status == "FAIL"
    assert result.found.count("10240.00 GiB, estimate ") == 2


def test_check_of_parts_wants_a_note_of_them(harness: Any) -> None:
    checks = importlib.import_module("gpu_worker_checks")
    note = "trial 0: train.batch_size 64: out of memory; its gradients are added up over 2 parts"
    assert checks.in_parts(["trial 0 continues without checkpoints: no memory", note]) == [note]


@pytest.mark.parametrize(("share", "streams"), [(2**30, False), (1000, True)])
def test_check_of_streamed_images_sees_whether_they_are(
    harness: Any, tmp_path: Path, share: int, streams: bool
) -> None:
    checks = importlib.import_module("gpu_worker_checks")
    prepared = checks.project(str(tmp_path), 40, 8)
    assert checks.streamed(prepared, torch.device("cpu"), share) == streams


SCRIPT = """
import json, os, sys, time
numbers = [int(one) for one in sys.argv[2:] if one.isdigit()]
for number in numbers:
    if number == 2:
        print("a word of its own", flush=True)
    print("gpu-check " + json.dumps({"begins": number}), flush=True)
    if number == 2:
        time.sleep(600)
    if number == 3:
        os._exit(7)
    result = {"status": "FAIL" if number == 4 else "PASS", "found": "x", "seconds": 0.1}
    print("gpu-check " + json.dumps({"number": number, "result": result}), flush=True)
"""


@pytest.fixture
def _scripted(harness: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check 2 hangs, 3 ends its process, 4 fails."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    monkeypatch.setattr(harness, "SCRIPT", script)
    monkeypatch.setattr(harness, "_printed", set())
    limits = {1: PATIENCE, 2: 0.5, 3: PATIENCE, 4: PATIENCE, 5: PATIENCE}
    checks = {n: harness.Check(n, f"check {n}", lambda options: None, limit) for n, limit in limits.items()}
    monkeypatch.setattr(harness, "CHECKS", checks)


@pytest.mark.usefixtures("_scripted")
def test_check_that_hangs_ends_its_process_or_fails_is_a_failure_and_the_others_run(harness: Any) -> None:
    log = io.StringIO()
    found = harness.run_all([1, 2, 3, 4, 5], harness.Options("cpu", tiny=True), 5 * PATIENCE, log)
    statuses = ["PASS", "FAIL", "FAIL", "FAIL", "PASS"]
    assert [found[number].status for number in range(1, 6)] == statuses
    assert found[2].found == "not done within its 0.5 s"
    assert found[3].found == "its process ended with exit code 7; see the log"
    assert log.getvalue() == "a word of its own\n"
    rows = harness.table(found).splitlines()[2:]
    assert [row.split(" | ")[2] for row in rows] == statuses


@pytest.mark.usefixtures("_scripted")
def test_checks_for_which_no_time_is_left_are_skipped_and_say_so(harness: Any) -> None:
    found = harness.run_all([1, 5], harness.Options("cpu", tiny=True), 0.5, sys.stderr)
    assert {one.status for one in found.values()} == {"SKIP"}
    assert found[5].found == "no time left of 0.5 s"
