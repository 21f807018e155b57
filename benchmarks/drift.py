"""Drift: how often windows of the same images are called drifted, what is named when they change, and what it costs.

Images that never run out: pieces of two photographs at random places and scales (64 x 64, colour, four classes), and
scikit-learn's digits, drawn again and again from those that the model did not learn (8 x 8, grey, ten classes).
Training images, held-out answers and windows are drawn alike, so a window that is not changed is of the same
distribution. The cost is that of a request to `podium serve` with and without statistics, asked in turns.

    python benchmarks/drift.py                       20 versions of 50 windows each; about ten minutes
    python benchmarks/drift.py --part cost           the cost alone
"""

import io
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits, load_sample_images
from sklearn.linear_model import LogisticRegression

import project
from measuring import parser, publish, table
from podium.config.params import DriftParams
from podium.drift.reference import Reference, reference_of
from podium.drift.sketch import SAMPLE, Sketch
from podium.drift.window_verdict import Verdict, compare
from serving import Way, asker, in_turns, records, serving

WINDOWS, WINDOW = 50, 1000
TRAIN, HELD_OUT = 1500, 400
PARAMS = DriftParams()
Pixels = NDArray[np.uint8]


class Digits:
    """Digits drawn from 1,197 of which the model has learnt none."""

    classes = tuple(map(str, range(10)))
    side = 8

    def __init__(self, seed: int) -> None:
        digits = load_digits()
        images = (digits.images * 15.9).astype(np.uint8)
        order = np.random.default_rng(seed).permutation(len(images))
        self.images, self.labels = images[order[600:]], digits.target[order[600:]]
        flat = images[order[:600]].reshape(600, -1)
        self._model = LogisticRegression(max_iter=5000, C=0.001).fit(flat, digits.target[order[:600]])

    def draw(self, count: int, random: np.random.Generator, *, mixed: bool = False) -> Pixels:
        """(count, 1, 8, 8); `mixed`: three times as many of 0, 1 and 2."""
        weights = np.where(mixed & (self.labels < 3), 3.0, 1.0)
        chosen = random.choice(len(self.images), count, p=weights / weights.sum())
        return np.asarray(self.images[chosen][:, None])

    def answer(self, images: Pixels) -> NDArray[np.float32]:
        """(N, 10) probabilities."""
        found: NDArray[np.float32] = self._model.predict_proba(images.reshape(len(images), -1)).astype(np.float32)
        return found


class Photographs:
    """Pieces of the upper and the lower half of two photographs: four classes."""

    classes = ("roof", "yard", "petals", "leaves")
    side = 64

    def __init__(self, seed: int) -> None:
        self._halves = [half for image in load_sample_images().images for half in np.array_split(image, 2)]
        random = np.random.default_rng([seed, 1])
        labels = np.arange(400) % 4
        images = self._pieces(labels, random)
        self._model = LogisticRegression(max_iter=5000, C=0.1).fit(self._seen(images), labels)

    def draw(self, count: int, random: np.random.Generator, *, mixed: bool = False) -> Pixels:
        """(count, 3, 64, 64); `mixed`: half of them are of one class."""
        return self._pieces(random.choice(4, count, p=(0.5, 0.2, 0.2, 0.1) if mixed else None), random)

    def answer(self, images: Pixels) -> NDArray[np.float32]:
        """(N, 4) probabilities."""
        found: NDArray[np.float32] = self._model.predict_proba(self._seen(images)).astype(np.float32)
        return found

    def _pieces(self, labels: NDArray[np.integer], random: np.random.Generator) -> Pixels:
        made = []
        for label in labels:
            half = self._halves[label]
            side = int(random.integers(64, 160))
            top, left = (int(random.integers(0, length - side)) for length in half.shape[:2])
            piece = Image.fromarray(half[top : top + side, left : left + side])
            made.append(np.asarray(piece.resize((64, 64), Image.Resampling.BILINEAR)).transpose(2, 0, 1))
        return np.stack(made)

    def _seen(self, images: Pixels) -> NDArray[np.float64]:
        """Colours and their spread in each quarter."""
        quarters = images.reshape(len(images), 3, 2, 32, 2, 32) / 255
        return np.concatenate([f(quarters, axis=(3, 5)).reshape(len(images), -1) for f in (np.mean, np.std)], axis=1)


@dataclass(frozen=True)
class Case:
    """Something that happens to images, and a word that has to be among those that name it."""

    name: str
    words: str
    """Of the demand; empty: it is only reported what is named."""
    change: Callable[[Pixels], Pixels] = lambda images: images
    size: float = 1.0
    """The images as sent are larger by this factor."""
    mixed: bool = False


def pixels(values: NDArray[np.floating]) -> Pixels:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def blur(sigma: float) -> Callable[[Pixels], Pixels]:
    return lambda images: pixels(gaussian_filter(images.astype(np.float64), (0, 0, sigma, sigma)))


def cast(*gains: float) -> Callable[[Pixels], Pixels]:
    return lambda images: pixels(images * np.array(gains)[:, None, None]) if images.shape[1] == 3 else images


def grain(sigma: float) -> Callable[[Pixels], Pixels]:
    return lambda images: pixels(images + np.random.default_rng(7).normal(0, sigma, images.shape))


def jpeg(images: Pixels) -> Pixels:
    made = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(buffer, "JPEG", quality=8)
        back = np.asarray(Image.open(buffer))
        made.append(back[None] if back.ndim == 2 else back.transpose(2, 0, 1))
    return np.stack(made)


def some(share: float, change: Callable[[Pixels], Pixels]) -> Callable[[Pixels], Pixels]:
    """Only every so many-th image is changed."""
    return lambda images: np.where(
        (np.arange(len(images)) % round(1 / share) == 0)[:, None, None, None], change(images), images
    )


CASES = (
    Case("darker (x 0.6)", "darker", lambda images: pixels(images * 0.6)),
    Case("blurred (sigma 0.8)", "blurred", blur(0.8)),
    Case("other camera: colour cast", "colour cast to red", cast(1.2, 1.0, 0.8)),
    Case("other camera: twice the resolution", "larger images", size=2.0),
    Case("other camera: noise (sigma 15)", "noisier", grain(15)),
    Case("other class mix", "other classes", mixed=True),
    Case("overexposed (+60)", "brighter", lambda images: pixels(images + 60.0)),
    Case("fog (half the contrast)", "lower contrast", lambda images: pixels(170 + (images - 170.0) * 0.5)),
    Case("grey", "paler colours", lambda images: pixels(images.mean(axis=1, keepdims=True).repeat(images.shape[1], 1))),
    Case("every fourth image is blank", "lower contrast", some(0.25, lambda images: 0 * images)),
    Case("JPEG of quality 8", "", jpeg),
    Case("upside down", "", lambda images: images[:, :, ::-1, ::-1]),
    Case("a black bar over a third", "", lambda images: images * (np.arange(images.shape[3]) >= images.shape[3] // 3)),
    Case("negative", "", lambda images: 255 - images),
    Case("a little darker (x 0.95)", "", lambda images: pixels(images * 0.95)),
)
COLOURS = {"colour cast to red", "paler colours"}
"""What grey images can't have."""


@dataclass
class Version:
    """A version of a model and the supply of its images."""

    world: Digits | Photographs
    random: np.random.Generator
    reference: Reference

    @staticmethod
    def make(kind: type[Digits] | type[Photographs], seed: int) -> "Version":
        """With a reference of its own."""
        world, random = kind(seed), np.random.default_rng([seed, 2])
        train, held_out = world.draw(TRAIN, random), world.draw(HELD_OUT, random)
        sizes = np.full((TRAIN, 2), world.side, np.int32)
        reference = reference_of(train, np.arange(TRAIN), sizes, world.answer(held_out), world.classes)
        return Version(world, random, reference)

    def window(self, number: int, case: Case) -> Verdict:
        """The verdict on window `number`, all of whose images are as `case` says."""
        images = case.change(self.world.draw(WINDOW, self.random, mixed=case.mixed))
        answers = self.world.answer(images)
        sketch = Sketch(self.reference.names, len(self.world.classes))
        size = np.full((WINDOW, 2), round(case.size * self.world.side), np.int64)
        rows = self.reference.measure(images, size, answers)
        sketch.add(rows, self.random.random(WINDOW), answers.argmax(axis=1), 0.0)
        return compare(self.reference, sketch, number, PARAMS.false_alarm, PARAMS.min_effect)


def detection(versions: int, windows: int) -> tuple[list[list[str]], dict[str, Any]]:
    """Rows of the table, and false alarms."""
    same, rows, content = Case("the same", ""), list[list[str]](), dict[str, Any]()
    for kind in (Photographs, Digits):
        made = [Version.make(kind, seed) for seed in range(versions)]
        false = [sum(one.window(number, same).drifted for number in range(1, windows + 1)) for one in made]
        what = (
            f"{sum(bool(one) for one in false)} of {versions} versions, {sum(false)} of {versions * windows:,} windows"
        )
        rows.append([kind.__name__, f"the same, {windows} windows", what, ""])
        content[f"{kind.__name__} false alarms"] = false
        for case in CASES:
            if kind is Digits and case.words in COLOURS:
                continue
            verdicts = [one.window(windows + 1, case) for one in made]
            named = sum(any(word.startswith(case.words) for word in one.each) for one in verdicts if one.drifted)
            words = Counter(word.partition(":")[0] for one in verdicts for word in one.each)
            shown = ", ".join(f"{word} ({count})" for word, count in words.most_common(5))
            rows.append([kind.__name__, case.name, f"{named} of {versions}", shown])
            print(rows[-1], flush=True)
    return rows, content


def cost(rounds: int) -> tuple[list[list[str]], dict[str, Any]]:
    """Rows of the table: ms of a request with and without statistics, and the ratio."""
    ways: dict[str, dict[str, Callable[[], object]]] = {"one image": {}, "64 images": {}}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        os.chdir(scratch)
        stack.callback(os.chdir, "/")
        project.make(Path(scratch), 300)
        files, own = project.files(64), Path("params.yaml").read_text(encoding="utf-8")
        for name, section in (("without", "drift: {window: null}"), ("with", "drift: {window: 1000}")):
            Path("params.yaml").write_text(f"{own}{section}\nserve: {{access_log: false}}\n", encoding="utf-8")
            server = stack.enter_context(serving(f"{name} drift", ["podium", "serve", "--pin", "2", "--port", "PORT"]))
            ways["one image"][name] = asker(server, files[0], "image/png")
            ways["64 images"][name] = asker(server, records(files))
        rows, content = [], {}
        for what, each in ways.items():
            turns = {name: Way(ask, time.process_time) for name, ask in each.items()}
            took, _ = in_turns(turns, 40 if what == "one image" else 8, rounds)
            ratio = took["with"] / took["without"]
            rows.append([what, f"{took['without']:.2f}", f"{took['with']:.2f}", f"{ratio:.3f}"])
            content[what] = took | {"ratio": ratio}
    return rows, content


def main() -> None:
    """Measure and publish."""
    arguments = parser(__doc__)
    arguments.add_argument("--part", choices=["detection", "cost"], help="one of the two alone; writes no results")
    arguments.add_argument("--versions", type=int, default=20, help="of each kind")
    arguments.add_argument("--rounds", type=int, default=30, help="turns of requests")
    given = arguments.parse_args()
    lines, content = list[str](), dict[str, Any]()
    if given.part != "cost":
        rows, content = detection(*((2, 5) if given.quick else (given.versions, WINDOWS)))
        what = f"Windows of {WINDOW:,} images against {TRAIN:,} training images and {HELD_OUT} held-out answers"
        lines += [
            f"{what} (sample {SAMPLE:,}):",
            "",
            table(["images", "change", "named in its first window", "all words"], rows),
        ]
    if given.part != "detection":
        rows, times = cost(2 if given.quick else given.rounds)
        content |= {"cost": times}
        lines += ["", table(["request", "without, ms", "with, ms", "ratio"], rows)]
    publish("drift", "\n".join(lines), content, quick=given.quick or given.part is not None)


if __name__ == "__main__":
    main()
