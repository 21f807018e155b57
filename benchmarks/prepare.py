"""Preparing a folder of photographs, beside torchvision's ImageFolder with DataLoader workers; doctor's time; memory.

Both decode the same JPEG files (pieces of scikit-learn's two photographs, of 1200x900) to uint8 of 64x64, cropped to
the middle, into one array; they take turns. Podium's figure holds reading, SHA-256, decoding and the store on disk; a
second turn finds everything decoded. CPU seconds are of the process and its workers: on a busy machine they say more
than time.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn import datasets

from measuring import parser, publish, shown, spread, table
from podium.config.params import DoctorParams, PrepareParams
from podium.data import reading
from podium.data.audit.data_audit import audited
from podium.data.decode import Preprocess
from podium.data.image_store import persistent_store
from podium.data.sources import folder

SPEC = Preprocess(3, 64, 64, resize="crop")
MEMORY = """
import sys
from pathlib import Path
import podium.data.audit.near_duplicates
from podium.config.params import DoctorParams, PrepareParams
from podium.stages.prepare import prepare
root, out = Path(sys.argv[1]), Path(sys.argv[2])
def peak():  # not ru_maxrss, which begins with that of the process that started this one
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

before = peak()
prepare(PrepareParams(source=f"folder:{root}", root=str(root), size=1024, min_per_class=2),
        DoctorParams(), out / "prepared", out / "sealed", out / "decoded")
print(before, peak())
"""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--images", type=int, default=1000, help="photographs to decode (default 1,000)")
    options.add_argument("--doctor", type=int, default=10_000, help="images to examine (default 10,000)")
    options.add_argument("--rounds", type=int, default=3, help="turns of each (default 3)")
    arguments = options.parse_args()
    count, patients, rounds = (
        (60, 300, 1) if arguments.quick else (arguments.images, arguments.doctor, arguments.rounds)
    )
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        photographs(place / "photos", count, (1200, 900))
        rates = decoding(place, count, rounds)
        photographs(place / "many", patients, (160, 120))
        doctor = examination(place / "many", place / "examined")
        memory = footprint(place, 40 if arguments.quick else 400)
    what = f"decode {count:,} JPEGs of 1200x900"
    rows = [
        [f"{what}: {who}", shown(found["wall"], digits=0), shown(found["cpu"], digits=0)]
        for who, found in rates.items()
    ]
    head = ["what", "images/s", "images per CPU second"]
    lines = [
        table(head, rows),
        "",
        f"doctor, {patients:,} images: {doctor['wall']:.0f} s ({doctor['cpu']:.0f} CPU seconds), near-duplicates"
        f" looked for: {doctor['near']}; decoded before",
        f"memory: {memory['used'] / 1e6:.0f} MB above the imports for a set of {memory['set'] / 1e6:.0f} MB",
    ]
    content = {"images": count, "decode": {who: {k: spread(v, 1) for k, v in f.items()} for who, f in rates.items()},
               "doctor": doctor | {"images": patients}, "memory": memory}  # fmt: skip
    publish("prepare", "\n".join(lines), content, quick=arguments.quick)


def photographs(root: Path, count: int, size: tuple[int, int]) -> None:
    """`count` JPEGs in two classes: pieces of two photographs from anywhere, in any scale."""
    draw = np.random.default_rng(0)
    images = [
        Image.open(path).convert("RGB") for path in sorted((Path(datasets.__file__).parent / "images").glob("*.jpg"))
    ]
    for number in range(count):
        whole = images[number % 2]
        width = int(draw.integers(100, 400))
        left, top = (int(draw.integers(0, side)) for side in (whole.width - width, whole.height - width * 3 // 4))
        path = root / ("china", "flower")[number % 2] / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        whole.crop((left, top, left + width, top + width * 3 // 4)).resize(size).save(path, quality=90)


def decoding(place: Path, count: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Images a second and a CPU second of each, in turns."""

    def ours() -> None:
        shutil.rmtree(place / "store", ignore_errors=True)
        again()

    def again() -> None:
        source = folder.read(place / "photos")
        with persistent_store(place / "store", SPEC) as store:
            assert len(reading.read(source, SPEC, store).rows) == count

    def image_folder() -> None:
        import torch
        from torch.utils.data import DataLoader
        from torchvision import transforms
        from torchvision.datasets import ImageFolder

        steps = [transforms.Resize(64), transforms.CenterCrop(64), transforms.PILToTensor()]
        images = ImageFolder(str(place / "photos"), transforms.Compose(steps))
        loader = DataLoader(images, batch_size=64, num_workers=reading.workers())
        assert len(torch.cat([batch for batch, _ in loader])) == count

    image_folder()  # imports
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for who, work in {"ImageFolder + DataLoader": image_folder, "Podium": ours, "Podium, known": again}.items():
            wall, cpu = timed(work)
            rates = found.setdefault(who, {"wall": [], "cpu": []})
            rates["wall"].append(count / wall)
            rates["cpu"].append(count / cpu)
    return found


def examination(root: Path, decoded: Path) -> dict[str, Any]:
    """The doctor's time for a folder whose files are decoded already."""
    params = PrepareParams(source=f"folder:{root}", root=str(root), size=64)
    with audited(params, DoctorParams(near="off"), decoded):
        pass
    near = ""

    def work() -> None:
        nonlocal near
        with audited(params, DoctorParams(), decoded) as data:
            near = data.report.near

    wall, cpu = timed(work)
    return {"wall": wall, "cpu": cpu, "near": near}


def footprint(place: Path, count: int) -> dict[str, int]:
    """Bytes of memory that preparing a large set takes beyond the imports, and the size of the set."""
    for number in range(count):
        path = place / "large" / ("a", "b")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (1024, 1024), (number % 256, number // 256, 9)).save(path)
    command = [sys.executable, "-c", MEMORY, str(place / "large"), str(place / "large-out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split()[-2:])
    return {"used": after - before, "set": count * 3 * 1024 * 1024}


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds of time and of CPU, workers included."""
    started, used = time.perf_counter(), cpu_seconds()
    work()
    return time.perf_counter() - started, cpu_seconds() - used


def cpu_seconds() -> float:
    """Of this process and of children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    main()
