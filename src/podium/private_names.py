"""Names that a library does not promise: what is done where one of them is gone, or has become something else."""

import sys
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_said: set[str] = set()


def private_or_public(library: str, consequence: str, private: Callable[[], T], public: Callable[[], T]) -> T:
    """What `private` returns; where it fails, for whatever reason, what `public` does, and `consequence` is said once.

    `library` is the module's name, such as mlflow. A failure of both is none of its names: that of `public` is raised.
    """
    try:
        return private()
    except Exception as error:
        found = public()
        say(library, consequence, error)
        return found


def say(library: str, consequence: str, error: Exception) -> None:
    """Say once in this process that `library` is another one than Podium knows, by `error`, and what follows."""
    if consequence in _said:
        return
    _said.add(consequence)
    version = getattr(sys.modules.get(library), "__version__", "")
    name = f"{NAMES.get(library, library)} {version}".rstrip()
    what = f"{name} is not what Podium expects ({type(error).__name__}: {error})"
    print(f"{what}: {consequence}", file=sys.stderr, flush=True)


NAMES = {"mlflow": "MLflow", "optuna": "Optuna", "ray": "Ray"}
"""How these libraries write their own names."""
