"""How often the sealed images were opened, from all folders that share a registry.

A folder counts its own openings (images/accesses.py). Whenever it registers a version or asks the gate, it adds those
that the registry has not heard of, each by a name of its own, as a tag of the registered model: a folder that was moved
or copied counts none twice. Tags are only ever added, so two folders at once do not undo each other.
"""

import json
import secrets
from collections import Counter

from podium.data import accesses
from podium.errors import PodiumError
from podium.registry import versions
from podium.tracking.store import Tracking

PREFIX = "podium.sealed."
MOST = 150
"""Openings in one tag, whose value MLflow limits to 5,000 characters."""


def tell(tracking: Tracking, name: str, digest: str) -> dict[str, int]:
    """Tell registered model `name` of the openings of the sealed set `digest` from here; how often each reader did.

    Raises PodiumError for a record that was damaged, here or there.
    """
    own = accesses.known(digest)
    with versions.mlflow_errors(f"{name}: the openings of the sealed images can't be told"):
        told = _told(tracking, name, digest)
        new = [(opening, reader) for opening, reader in own.items() if opening not in told]
        for start in range(0, len(new), MOST):
            text = json.dumps(dict(new[start : start + MOST]), separators=(",", ":"))
            key = f"{PREFIX}{digest[:12]}.{secrets.token_hex(4)}"
            tracking.client.set_registered_model_tag(name, key, text)
    return dict(Counter((told | own).values()))


def _told(tracking: Tracking, name: str, digest: str) -> dict[str, str]:
    told: dict[str, str] = {}
    for key, text in tracking.client.get_registered_model(name).tags.items():
        if key.startswith(f"{PREFIX}{digest[:12]}."):
            try:
                told |= {str(opening): str(reader) for opening, reader in json.loads(text).items()}
            except (ValueError, AttributeError) as error:
                raise PodiumError(
                    f"tag {key} of registered model {name} is damaged ({error}); it counts the openings of the sealed"
                    " set: restore it"
                ) from None
    return told
