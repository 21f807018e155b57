"""Memory of `prepare` for each image, outside the pixels: two sets of tiny images, the larger less the smaller.

The images are 16x16 PNGs of noise in ten classes, in folders. Each set is prepared twice by a process of its own: once
with nothing decoded, once with everything decoded before. A process's peak is VmHWM of /proc, read from inside.
Freed memory goes back to the system at once there, as that of arrays above 32 MB always does: what the allocator keeps
of smaller ones grows with a set of this size, and not beyond. A third time tracemalloc counts what Python and numpy
allocate, without libraries in C such as the tree of near-duplicates and SQLite.

    python benchmarks/prepare_memory.py --images 20000 100000
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from measuring import parser, publish, table

CLASSES = 10
SIDE = 16
TRACED = "the same, allocated"
AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""How glibc gives freed memory back."""
LIMIT = 200
"""Bytes that were asked for."""
PREPARE = """
import json, sys, time, tracemalloc
from pathlib import Path
import podium.data.audit.near_duplicates
from podium.data import dataset
from podium.config.params import DoctorParams, PrepareParams
from podium.stages.prepare import prepare

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

dataset.CHUNK_BYTES = 1 << 20  # else the buffers of pixels grow with the set until they have 16 MB
root, out = Path(sys.argv[1]), Path(sys.argv[2])
before, started = peak(), time.process_time()
if len(sys.argv) > 3:
    tracemalloc.start(1)
params = PrepareParams(source=f"folder:{root}", root=str(root), min_per_class=2)
prepare(params, DoctorParams(), out / "prepared", out / "sealed", out / "decoded")
cpu = time.process_time() - started
after = tracemalloc.get_traced_memory()[1] if len(sys.argv) > 3 else peak()
print(json.dumps({"before": before, "after": after, "cpu": cpu}))
"""


def main() -> None:
    """Measure, print and write the table."""
    made = parser(__doc__)
    made.add_argument("--images", type=int, nargs=2, default=(20_000, 100_000), help="sizes of the two sets")
    options = made.parse_args()
    few, many = (200, 1000) if options.quick else sorted(options.images)
    found: dict[str, dict[int, dict[str, float]]] = {"nothing decoded": {}, "all decoded before": {}, TRACED: {}}
    for count in (few, many):
        with tempfile.TemporaryDirectory() as name:
            images(Path(name) / "images", count)
            for when in found:
                found[when][count] = prepared(Path(name), *([TRACED] if when == TRACED else []))
    rows = []
    for when, by_count in found.items():
        more = by_count[many]["after"] - by_count[few]["after"]
        rows.append([when, *(f"{by_count[n]['after'] / 1e6:.0f} MB" for n in (few, many)),
                     f"{more / (many - few):.0f} bytes", f"{by_count[many]['cpu']:.0f} s"])  # fmt: skip
    head = ["", f"peak, {few:,} images", f"peak, {many:,} images", "for each image", "CPU time of the larger"]
    publish("prepare_memory", table(head, rows), {"limit": LIMIT, "found": found}, quick=options.quick)


def images(root: Path, count: int) -> None:
    """`count` grey PNGs of noise."""
    draw = np.random.default_rng(0)
    for number in range(CLASSES):
        (root / f"class {number}").mkdir(parents=True)
    for number in range(count):
        pixels = draw.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"class {number % CLASSES}" / f"{number:07}.png")


def prepared(place: Path, *how: str) -> dict[str, float]:
    """Bytes before and after, and CPU seconds."""
    command = [sys.executable, "-c", PREPARE, str(place / "images"), str(place / "out"), *how]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | AT_ONCE)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
