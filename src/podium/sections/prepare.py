"""The section `prepare`."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, model_validator

from podium.recipe import FROZEN
from podium.sections.fields import Fraction, Text


def _source(text: str) -> str:
    if not re.fullmatch(r"digits|torchvision:[A-Za-z0-9]+", text):
        raise ValueError(f"must be digits or torchvision:<class>, such as torchvision:FashionMNIST; got {text!r}")
    return text


Source = Annotated[str, AfterValidator(_source)]


class PrepareParams(BaseModel):
    """Which images, and how they are divided."""

    model_config = FROZEN

    source: Source = "digits"
    """digits (inside scikit-learn) or torchvision:<class name>, such as torchvision:FashionMNIST."""
    root: Text = "data/raw"
    """Folder in which a torchvision set's files lie."""
    download: bool = False
    """Let torchvision fetch the files where they are missing."""
    val_fraction: Fraction = 0.15
    """Share of the images for validation: what the search maximises on."""
    test_fraction: Fraction = 0.15
    """Share sealed until evaluation, where the source has no test split of its own."""
    salt: str = "podium"
    """Another salt gives another split; the same salt keeps every image where it is when images are added."""
    min_per_class: Annotated[int, Field(ge=1)] = 5
    """A class with fewer images than this in the training split, or none in another split, is refused."""

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> "PrepareParams":
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                "val_fraction + test_fraction must be below 1, so that images are left to train on;"
                f" got {self.val_fraction} + {self.test_fraction}"
            )
        return self
