"""The MLflow run below which a study's trials lie."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Parent:
    """Which run that is, and what it says."""

    study: str
    """The study whose parent run it is; a confirmation's trials lie below the search's."""
    tags: dict[str, str]
    owned: bool = True
    """Whether this session opens and closes it."""
