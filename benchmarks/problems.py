"""The problems that searches are compared on: images that packages hold, a space, and settings that nobody tuned.

Each is params.yaml with some values replaced. Those in SAME_SPACE draw the same configurations, so that a portfolio
can be learnt on some and tried on another (portfolio.py). curves.py records trainings, fidelity.py replays searches.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from letter_set import letters
from measuring import ROOT
from photo_sets import icons, photos
from podium.api import load_params
from podium.config.params import Params

BARE_SPACE = {
    "train.learning_rate": {"low": 1.0e-5, "high": 1.0e-1, "log": True},
    "train.batch_size": {"choices": [16, 32, 64, 128]},
    "train.epochs": {"low": 10, "high": 50},
}
"""The plain script's three dimensions (peers/plain.py)."""
BARE = {
    "search.space": BARE_SPACE,
    "train.optimizer": "sgd",
    "train.momentum": 0.0,
    "train.schedule": "constant",
    "train.label_smoothing": 0.0,
    "train.weight_decay": 0.0,
}
SCRIPT = BARE | {"model.normalize": "none"}
"""The plain script's network sees the same values: what is confirmed of it and its peers is trained by Podium."""
FAMILY = r"/([A-Za-z0-9]+)-[A-Za-z0-9]+\.png"
"""Of a rendered letter's file: the typeface."""
HEAD = {
    "prepare.size": 224,
    "prepare.channels": 3,
    "prepare.resize": "pad",
    "model.name": "timm:tf_efficientnet_lite0",
    "model.weights": "imagenet",
    "train.backbone_rate": 0.0,
}
"""A new head on the features of a frozen network."""


@dataclass(frozen=True)
class Problem:
    """Images, and a search over trainings on them."""

    name: str
    about: str
    changes: dict[str, Any] = field(default_factory=dict)
    """Values of params.yaml that are others, by dotted name."""
    without: tuple[str, ...] = ()
    """Dimensions of params.yaml's space that it does not have."""
    pictures: Callable[[Path], None] | None = None
    """What writes the images, a folder per class; None: scikit-learn's digits."""
    recorded: int = 100
    """Configurations that are recorded."""
    first_guess: bool = False
    """Whether the first trial has the settings of params.yaml, which were found on the digits."""

    def params(self) -> Params:
        """All parameters."""
        changed = load_params(ROOT / "params.yaml", self.changes | {"search.defaults_first": self.first_guess})
        space = {name: d for name, d in changed.search.space.items() if name not in self.without}
        search = changed.search.model_copy(update={"space": space})
        return changed.model_copy(update={"search": search})

    def prepared(self, work: Path) -> Path:
        """Prepare the images in the folder `work`, where that was not done; returns data/prepared."""
        from podium.stages import prepare

        folder = work / self.name
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "prepared" / "dataset.json").is_file():
            params = self.params()
            with contextlib.chdir(folder):
                if self.pictures is not None:
                    self.pictures(folder / "data/raw/images")
                where = (folder / name for name in ("prepared", "sealed", "decoded"))
                prepare.prepare(params.prepare, params.doctor, *where)
        return folder / "prepared"


def _folder(**more: Any) -> dict[str, Any]:
    return {"prepare.source": "folder:data/raw/images", "doctor.near": "copies"} | more


PROBLEMS = {
    one.name: one
    for one in (
        Problem("digits", "scikit-learn's digits, a CNN, the nine dimensions of params.yaml", recorded=300),
        Problem("shipped", "the same with the first guess, as params.yaml has it", recorded=0, first_guess=True),
        Problem("bare", "the same images, the plain script's three dimensions", BARE),
        Problem("script", "as bare, with pixels from 0 to 1 as the plain script has them", SCRIPT, recorded=0),
        Problem("bare_again", "as bare, on two seeds", BARE, recorded=48),
        Problem(
            "letters",
            "capital letters of typefaces that were not trained on, a CNN, nine dimensions",
            _folder(**{"model.width": 16, "prepare.channels": 1, "prepare.group": FAMILY}),
            pictures=letters,
        ),
        Problem(
            "photos",
            "photographs and drawings in eight classes, a head on frozen features, eight dimensions",
            _folder(**HEAD),
            without=("train.shift",),
            pictures=photos,
        ),
        Problem(
            "icons",
            "icons in six classes, a head on frozen features, eight dimensions",
            _folder(**HEAD),
            without=("train.shift",),
            pictures=icons,
        ),
    )
}
SAME_SPACE = ("digits", "letters", "photos", "icons")
"""Those whose configurations are params.yaml's."""
