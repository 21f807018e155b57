"""A registered model: its versions, found by number or alias, fetched and checked; and accesses to its test set.

A folder counts its own accesses to the held-out test set (data/accesses.py). When it registers a version or runs the
gate, it adds those that the registry does not have yet as tags of the registered model, each under an id of its own: a
folder that was moved or copied counts none twice. Tags are only ever added, so two folders at once lose nothing.
"""

import json
import re
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from podium import strict_json
from podium.data import accesses
from podium.errors import InputError, PodiumError, RefusedError
from podium.registry import loading
from podium.registry.exported import content_digest, file_digests
from podium.text import reason_of
from podium.tracking.store import Tracking

# isort: split
# After podium.tracking, which turns MLflow's telemetry off before mlflow is imported.
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

CHALLENGER = "challenger"
CHAMPION = "champion"
LINEAGE, LINEAGE_DIGEST = "lineage", "lineage_digest"
"""Tags: where in the run's artifacts lies what reproduces the version, and `folder_digest` of it."""
SHA256 = re.compile("[0-9a-f]{64}")
LARGEST = 2**31 - 1
"""Of a version's number, as databases have it."""
ORIGIN = (LINEAGE, LINEAGE_DIGEST, "git_commit", "data_digest", "weights_digest", "seed", "threads", "device")
"""Tags by which `podium reproduce` makes a version again and `podium verify` compares with it."""
FILES = "files"
"""Tag: SHA-256 of every file of the model, MLflow's own files too."""
ACCESSES = "podium.sealed."
"""Tags of the registered model: accesses to the held-out test set."""
OURS = "podium."
"""How all tags of the registered model begin that Podium writes."""
SHOWN = 5
"""Names that an error shows; it says that there are more."""
ACCESSES_PER_TAG = 150
"""MLflow limits a tag's value to 5,000 characters."""


@dataclass(frozen=True)
class Version:
    """One version of a registered model."""

    name: str
    number: int
    run_id: str
    """The run that trained it."""
    model_uri: str
    """Where MLflow keeps its files: models:/m-..."""
    tags: dict[str, str]
    aliases: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} version {self.number}"


def create_version(
    tracking: Tracking, name: str, run_id: str, model_uri: str, tags: dict[str, str], description: str
) -> Version:
    """Register the logged model `model_uri` as the next version of `name`, with `tags` and its files' digests."""
    client = tracking.client
    with loading.process_store(tracking):
        _ensure_registered(tracking, name)
        with loading.fetched(tracking, model_uri) as folder:
            files = loading.digests(folder)
        tags = tags | {FILES: json.dumps(files), "model_digest": content_digest(files)}
        model_id = model_uri.rsplit("/", 1)[1]
        return _version(
            client.create_model_version(name, model_uri, run_id, tags, None, description, model_id=model_id)
        )


def latest(tracking: Tracking, name: str) -> Version | None:
    """The version of `name` with the highest number; None where there is none."""
    found = every(tracking, name)
    return found[-1] if found else None


def find(tracking: Tracking, name: str, which: int | str) -> Version:
    """A version by its number or alias. Raises InputError naming what there is."""
    if isinstance(which, int) and which > LARGEST:
        raise InputError(_what_there_is(tracking, name, which))
    try:
        if isinstance(which, int):
            return _version(tracking.client.get_model_version(name, str(which)))
        return _version(tracking.client.get_model_version_by_alias(name, which))
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
    raise InputError(_what_there_is(tracking, name, which))


def load(tracking: Tracking, version: Version) -> loading.LoadedModel:
    """The model as a server has it. Raises RefusedError where its files are not those that were registered.

    Raises PodiumError where it can't be fetched or loaded.
    """
    return loading.load(tracking, _uri(version), str(version), _files(version))


def checked(tracking: Tracking, version: Version) -> AbstractContextManager[Path]:
    """A copy of the model's files for the time of a block. Raises as `load` does."""
    return loading.checked(tracking, _uri(version), str(version), _files(version))


def _uri(version: Version) -> str:
    return f"models:/{version.name}/{version.number}"


def _files(version: Version) -> dict[str, str]:
    """The digests of the version's files. Raises RefusedError where it has none: nobody could say what is loaded."""
    try:
        files = strict_json.read_object(version.tags[FILES])
    except (KeyError, ValueError):
        files = {}
    if not _are_digests(files):
        raise RefusedError(
            f"{version} has no digests of its files (tag {FILES!r}): it was not registered by `dvc repro`, or the tag"
            " was changed or taken away; register the model again"
        )
    return cast(dict[str, str], files)


def _are_digests(files: dict[str, Any]) -> bool:
    """Whether `files` is a SHA-256 for each of one or more names."""
    return bool(files) and all(SHA256.fullmatch(str(one)) for one in files.values())


def folder_digest(folder: Path) -> str:
    """SHA-256 over the digests of the files of `folder`."""
    return content_digest(file_digests(folder))


def digest_of(version: Version) -> str:
    """SHA-256 over the digests of the version's files. Raises RefusedError where it has none."""
    return content_digest(_files(version))


def origin_digest(version: Version) -> str:
    """SHA-256 over the tags that say what the version was made from."""
    return content_digest({key: version.tags.get(key, "") for key in ORIGIN})


def every(tracking: Tracking, name: str) -> list[Version]:
    """Every version of `name`, their numbers rising."""
    found: list[Version] = []
    token, quote = None, '"' if "'" in name else "'"
    while True:
        page = tracking.client.search_model_versions(f"name={quote}{name}{quote}", max_results=1000, page_token=token)
        found += map(_version, page)
        token = page.token
        if not token:
            break
    held = aliases(tracking, name)  # a search of versions leaves them out
    found = [replace(v, aliases=tuple(sorted(a for a, number in held.items() if number == v.number))) for v in found]
    return sorted(found, key=lambda version: version.number)


def aliases(tracking: Tracking, name: str) -> dict[str, int]:
    """Every alias of `name` with its version; empty where nothing is registered under it."""
    try:
        held = tracking.client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}
    return {alias: int(number) for alias, number in held.items()}


@contextmanager
def mlflow_errors(what: str) -> Iterator[None]:
    """MLflow's errors within the block become a PodiumError that begins with `what`."""
    try:
        yield
    except MlflowException as error:
        raise PodiumError(f"{what}: {reason_of(error)}") from error


def _ensure_registered(tracking: Tracking, name: str) -> None:
    try:
        tracking.client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _version(made: ModelVersion) -> Version:
    held = tuple(made.aliases or ())
    return Version(made.name, int(made.version), str(made.run_id), str(made.source), dict(made.tags), held)


def _what_there_is(tracking: Tracking, name: str, which: int | str) -> str:
    numbers = [version.number for version in every(tracking, name)]
    if not numbers:
        others = [one for one in ours(tracking) if one != name]
        renamed = (
            f". Registered here are {', '.join(others[:SHOWN])}{', ...' if len(others) > SHOWN else ''}: if it is one"
            " of them by another name (after a renaming), write that as register.name in params.yaml"
        )
        return (
            f"nothing is registered as {name}: run `dvc repro`; if it says that nothing changed (mlruns was deleted, or"
            " tracking.uri is another store): `dvc repro --force --single-item retrain`, then `dvc repro`"
            f"{renamed if others else ''}"
        )
    held = ", ".join(f"{alias} is {number}" for alias, number in sorted(aliases(tracking, name).items()))
    wanted = f"version {which}" if isinstance(which, int) else f"version with the alias {which!r}"
    hint = "; `podium promote` makes a champion" if which == CHAMPION else ""
    return f"{name} has no {wanted}, only {', '.join(map(str, numbers))} ({held or 'no alias'}){hint}"


def is_registered(tracking: Tracking, name: str) -> bool:
    """Whether there is a registered model of this name, with or without versions."""
    try:
        tracking.client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


def ours(tracking: Tracking) -> dict[str, dict[str, str]]:
    """The registered models of this store that Podium has written tags of, with all their tags, sorted by name."""
    found = dict[str, dict[str, str]]()
    token = None
    while True:
        page = tracking.client.search_registered_models(max_results=100, page_token=token)
        found |= {model.name: model.tags for model in page if any(key.startswith(OURS) for key in model.tags)}
        token = page.token
        if not token:
            return dict(sorted(found.items()))


def record_accesses(tracking: Tracking, name: str, digest: str) -> dict[str, int]:
    """Add this folder's accesses to the test set `digest` to registered model `name`; all accesses by reader.

    Raises PodiumError for a record that was damaged, here or there.
    """
    own = accesses.known(digest)
    with mlflow_errors(f"{name}: the test set accesses can't be recorded"):
        known = _recorded_accesses(tracking, name, digest)
        new = [(access, reader) for access, reader in own.items() if access not in known]
        for start in range(0, len(new), ACCESSES_PER_TAG):
            text = json.dumps(dict(new[start : start + ACCESSES_PER_TAG]), separators=(",", ":"))
            key = f"{ACCESSES}{digest[:12]}.{secrets.token_hex(4)}"
            tracking.client.set_registered_model_tag(name, key, text)
    return dict(Counter((known | own).values()))


def _recorded_accesses(tracking: Tracking, name: str, digest: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, text in tracking.client.get_registered_model(name).tags.items():
        if key.startswith(f"{ACCESSES}{digest[:12]}."):
            try:
                found |= {str(access): str(reader) for access, reader in strict_json.read_object(text).items()}
            except ValueError as error:
                raise PodiumError(
                    f"tag {key} of registered model {name} is damaged ({error}); it counts test set accesses:"
                    " restore it"
                ) from None
    return found
