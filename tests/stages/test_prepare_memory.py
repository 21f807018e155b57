"""A set that is ten times larger than the memory that prepare may have."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import photos

SIDE = 1024
IMAGES = 220
ALLOWED = 64 * 1024**2
"""Bytes of address space above what the imports take; the decoded set has 692 MB."""

LIMITED = """
import resource, sys
from pathlib import Path
import podium.data.audit.near_duplicates, scipy.fft
from podium.config.params import DoctorParams, PrepareParams
from podium.stages.prepare import prepare

root, out, allowed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
stacks = 16 * 8 * 1024**2 + 8 * 64 * 1024**2  # reserved by threads and their allocators, not used
resource.setrlimit(resource.RLIMIT_AS, (size + allowed + stacks,) * 2)
def peak():  # not ru_maxrss, which begins with that of the process that started this one
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

before = peak()
prepare(PrepareParams(source=f"folder:{root}", root=str(root), size=1024, min_per_class=2),
        DoctorParams(), out / "prepared", out / "sealed", out / "decoded")
print(peak() - before, file=sys.stderr)
"""


@pytest.mark.slow
def test_set_ten_times_larger_than_the_allowed_memory_is_prepared(tmp_path: Path) -> None:
    for number in range(IMAGES):
        image = Image.new("RGB", (SIDE, SIDE), (number, 7, 9))
        photos.write(tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number}.png", image)

    command = [sys.executable, "-c", LIMITED, str(tmp_path / "photos"), str(tmp_path), str(ALLOWED)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    about = json.loads((tmp_path / "prepared/train/split.json").read_text(encoding="utf-8"))
    assert about["shape"] == [3, SIDE, SIDE]
    assert IMAGES * 3 * SIDE * SIDE > 10 * ALLOWED
    assert int(done.stderr.split()[-1]) < 2.5 * ALLOWED
