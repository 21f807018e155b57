"""Freed memory that stays with the process: counted by the page faults of work that allocates and frees in turns."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, threading
from podium.serving.freed_memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        held = [b"x" * size for size in 6 * [1_000_000, 3_000_000]]
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def work():
    faults()
    print(faults())
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
OTHERS = ("MALLOC_", "GLIBC_", "LD_PRELOAD", "PYTHON")
"""What the environment of the tests may say of how memory is allocated."""


def page_faults(how: str, **variables: str) -> int:
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OTHERS)}
    command = [sys.executable, "-c", PROGRAM, how]
    return int(subprocess.run(command, env=environment | path | variables, capture_output=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_used_again_without_page_faults_unless_the_environment_says_otherwise() -> None:
    kept = page_faults("kept")
    many = 10 * kept + 1000
    assert page_faults("not kept") > many
    said = {"MALLOC_TRIM_THRESHOLD_": "100000", "MALLOC_MMAP_THRESHOLD_": "100000"}
    assert page_faults("kept", **said) > many
    tuned = "glibc.malloc.mmap_threshold=100000:glibc.malloc.trim_threshold=100000"
    assert page_faults("kept", GLIBC_TUNABLES=tuned) > many
    assert page_faults("kept", GLIBC_TUNABLES="glibc.malloc.perturb=0:glibc.malloc.arena_test=8") < many / 2
