"""Memory that predicting and measuring 100,000 images of 1,000 classes takes, by what is measured.

A linear network gives the scores of random images, as `evaluate` predicts: into a file as they come. Each figure is of
a process of its own, above what it takes after its imports: the peak of all pages (VmHWM), and of those that are no
file's (RssAnon, read every 20 ms). The system takes a file's pages back where it is short of memory.

    python benchmarks/evaluate_memory.py --images 100000 --classes 1000
"""

import json
import subprocess
import sys
from pathlib import Path

from measuring import parser, publish, table

ROWS = {
    "what every evaluation has": [],
    "and the loss, Brier and top-5": ["loss", "brier", "top_k"],
    "and AUROC": ["auroc"],
    "and average precision": ["average_precision"],
}
"""Metrics by the row of the table."""
MEASURE = """
import json, sys, tempfile, threading, time
from pathlib import Path
import numpy as np, torch
from podium.components import Choice
from podium.metrics import resampling, scores
from podium.metrics.classification import measure
from podium.metrics.scored import Scored
from podium.training.prediction import predict_probabilities

def used(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])

torch.set_num_threads(1)
count, number, names = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(",")
torch.manual_seed(0)
draw = np.random.default_rng(0)
images = draw.integers(0, 256, (count, 1, 2, 2), dtype=np.uint8)
layer = torch.nn.Linear(4, number)

class Network(torch.nn.Module):
    def forward(self, images):
        return layer(images.flatten(1).float() / 32)

labels = draw.integers(0, number, count)
labels[:number] = np.arange(number)
classes = tuple(map(str, range(number)))
predict_probabilities(Network(), images[:8])
measure(labels[:number], np.eye(number, dtype=np.float32), classes)
before, anonymous, peak, done = used("VmRSS"), used("RssAnon"), [0], threading.Event()

def watch():
    while not done.wait(0.02):
        peak[0] = max(peak[0], used("RssAnon"))

watcher = threading.Thread(target=watch)
watcher.start()
started = time.process_time()
with tempfile.TemporaryDirectory() as folder:
    def into(shape):
        return np.lib.format.open_memmap(Path(folder) / "p.npy", mode="w+", dtype=np.float32, shape=shape)
    how = {} if len(sys.argv) > 4 else {"into": into}
    found = predict_probabilities(Network(), images, **how)
    values = {"accuracy": measure(labels, found, classes).accuracy}
    scored = Scored(torch.from_numpy(found), torch.from_numpy(labels), classes, are_probabilities=True)
    for name in filter(None, names):
        metric = scores.of(Choice(name=name))
        values[name] = resampling.measured(metric, scored, resampling.Groups.of(count, None))
    cpu = time.process_time() - started
    done.set()
    watcher.join()
print(json.dumps({"peak": used("VmHWM") - before, "own": peak[0] - anonymous, "cpu": cpu, "values": values}))
"""


def main() -> None:
    """Measure, print and write the table."""
    made = parser(__doc__)
    made.add_argument("--images", type=int, default=100_000)
    made.add_argument("--classes", type=int, default=1000)
    made.add_argument("--only", nargs="*", help="metrics of a single row, which is printed and not written")
    made.add_argument("--in-memory", action="store_true", help="predictions held, as before 2026-11-30")
    options = made.parse_args()
    images, classes = (2000, 20) if options.quick else (options.images, options.classes)
    how = ["held"] if options.in_memory else []
    if options.only is not None:
        print(json.dumps(measured(images, classes, options.only, *how)))
        return
    chosen = list(ROWS.items())[-1:] if options.quick else list(ROWS.items())
    found = {row: measured(images, classes, metrics, *how) for row, metrics in chosen}
    rows = [
        [row, f"{one['peak'] / 1e6:,.0f} MB", f"{one['own'] / 1e6:,.0f} MB", f"{one['cpu']:.0f} s"]
        for row, one in found.items()
    ]
    head = [f"{images:,} images, {classes:,} classes", "peak", "without the file's pages", "CPU time"]
    content = {"images": images, "classes": classes, "found": found}
    publish("evaluate_memory", table(head, rows), content, quick=options.quick)


def measured(images: int, classes: int, metrics: list[str], *how: str) -> dict[str, float]:
    """Bytes at the peak, CPU seconds and the values."""
    command = [sys.executable, "-c", MEASURE, str(images), str(classes), ",".join(metrics), *how]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
