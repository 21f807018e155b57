"""Which version answers: the one that the alias names, after it was checked; and what servers say of themselves."""

import asyncio
import json
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from podium.errors import InputError, PodiumError, RefusedError
from podium.promotion import ledger
from podium.registry import versions
from podium.registry.versions import Version
from podium.serving import presence
from podium.serving.follower import Choice, Follower
from podium.serving.operators_pages import OperatorsPages
from podium.serving.predictor import Predictor
from podium.serving.server_metrics import ServerMetrics
from registered import NAME, Project
from waiting import PATIENCE, until


def follower(project: Project, which: int | str = "champion") -> tuple[Follower, list[int]]:
    """One that looks when it is told to, and the versions that it has taken up."""
    tracking, taken = project.tracking, list[int]()

    def check(version: Version) -> None:
        ledger.check_model(tracking, version)

    def changed(new: Predictor) -> None:
        taken.append(new.number)

    return Follower(Choice(tracking, NAME, which, check), 1000.0, changed), taken


def name_champion(project: Project, number: int) -> None:
    project.tracking.client.set_registered_model_alias(NAME, "champion", str(number))


def test_follower_takes_up_what_is_promoted_and_goes_back_without_loading(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_champion(project, 1)
    one, taken = follower(project)
    one.start()
    first = one.current
    one.look()
    assert one.current is first
    name_champion(project, 3)
    one.look()
    assert taken == [1, 3]
    monkeypatch.setattr(versions, "load", lambda *_: pytest.fail("it is still in memory"))
    name_champion(project, 1)
    one.look()
    assert one.current is first
    assert one.end(PATIENCE)


def test_follower_keeps_its_version_while_the_new_one_is_not_what_was_registered(project: Project) -> None:
    name_champion(project, 1)
    one, taken = follower(project)
    one.start()
    tags = versions.find(project.tracking, NAME, 3).tags
    wrong = dict.fromkeys(json.loads(tags["files"]), "0" * 64)
    project.tracking.client.set_model_version_tag(NAME, "3", "files", json.dumps(wrong))
    name_champion(project, 3)
    with pytest.raises(RefusedError, match="version 3 is not what was registered"):
        one.look()
    assert one.current
    assert (one.current.number, taken) == (1, [1])
    project.tracking.client.set_model_version_tag(NAME, "3", "files", tags["files"])
    one.look()
    assert taken == [1, 3]
    project.tracking.client.delete_registered_model_alias(NAME, "champion")
    with pytest.raises(InputError, match="no version with the alias 'champion'"):
        one.look()
    assert one.current.number == 3


def test_follower_compares_a_version_with_the_ledger(project: Project) -> None:
    name_champion(project, 1)
    one, _ = follower(project)
    refused = threading.Event()

    def check(version: Version) -> None:
        if version.number == 3:
            refused.set()
            raise RefusedError("version 3 is not the model that became champion")

    one.choice = Choice(one.choice.tracking, NAME, "champion", check)
    one.seconds = 0.05
    one.start()
    name_champion(project, 3)
    until(lambda: one.failing)
    assert refused.is_set()
    assert "version 3 is not the model that became champion" in one.failing
    assert one.current
    assert one.current.number == 1
    assert one.end(PATIENCE)


def test_pinned_server_does_not_follow(project: Project) -> None:
    name_champion(project, 1)
    one, taken = follower(project, 2)
    one.seconds = 0.01
    one.start()
    name_champion(project, 3)
    assert one.choice.follows == ""
    assert one._thread is None
    assert taken == [2]


def test_follower_without_a_version_can_not_start(project: Project) -> None:
    one, _ = follower(project)
    with pytest.raises(PodiumError, match="no version with the alias 'champion'"):
        one.start()


def test_servers_are_known_while_they_live(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = project.tracking
    assert presence.sentences(tracking, NAME) == []
    follows = presence.Sign(tracking, NAME, "http://127.0.0.1:5001", "champion")
    pinned = presence.Sign(tracking, NAME, "http://127.0.0.1:5002", "")
    follows.show(3)
    pinned.show(2)
    lines = presence.sentences(tracking, NAME)
    assert lines[0].startswith("http://127.0.0.1:5001 (")
    assert lines[0].endswith("follows and serves it within seconds")
    assert "version 2, pinned, does not follow - it is not changed" in lines[1]
    pinned.remove()
    assert len(presence.sentences(tracking, NAME)) == 1
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + presence.GONE + 1)
    assert presence.sentences(tracking, NAME) == []
    tracking.client.set_registered_model_tag(NAME, presence.PREFIX + "x", "[]")
    pinned.show(2)  # removes what killed servers left, and what none of ours wrote
    tags = tracking.client.get_registered_model(NAME).tags
    assert [key for key in tags if key.startswith(presence.PREFIX)] == [pinned.key]


def test_choice_of_a_damaged_folder_is_named(project: Project) -> None:
    source = Path(project.tracking.client.get_model_version_download_uri(NAME, "2").removeprefix("file://"))
    kept = source.with_name("kept")
    shutil.copytree(source, kept)
    try:
        (source / "artifacts/model/model.json").write_text("{}", encoding="utf-8")
        one, _ = follower(project, 2)
        with pytest.raises(RefusedError, match=r"artifacts/model/model.json is changed"):
            one.start()
    finally:
        shutil.rmtree(source)
        kept.rename(source)


def test_second_version_is_loaded_beside_what_goes_on_and_then_followed(project: Project) -> None:
    one, taken = follower(project, "challenger")
    one.seconds = 0.05
    project.tracking.client.delete_registered_model_alias(NAME, "challenger")
    one.start_later()  # nothing is raised: the version that answers goes on
    until(lambda: one.failing)
    assert "no version with the alias 'challenger'" in one.failing
    for number in (2, 3):
        project.tracking.client.set_registered_model_alias(NAME, "challenger", str(number))
        until(lambda: taken[-1:] == [number])  # noqa: B023 - it ends before the next number
    assert one.end(PATIENCE)
    assert (taken, one.failing) == ([2, 3], "")


def test_second_version_by_number_is_loaded_once(project: Project) -> None:
    one, taken = follower(project, 2)
    one.start_later()
    assert one._thread
    one._thread.join()
    assert taken == [2]


def test_page_says_why_the_registry_is_away_without_its_password_and_statement() -> None:
    looks = list[int]()

    def find() -> SimpleNamespace:
        looks.append(1)
        if len(looks) > 1:
            raise MlflowException("API request to http://ada:a-secret@mlflow.example failed [SQL: SELECT 1]")
        return SimpleNamespace()

    current = SimpleNamespace(number=1, digest="d")
    choice: Any = SimpleNamespace(name="x", follows="champion", find=find, load=lambda _: current)
    one = Follower(choice, 0.01, lambda _: None)
    one.start()
    until(lambda: one.failing)
    assert one.end(PATIENCE)
    body = asyncio.run(ready(OperatorsPages(one, ServerMetrics())))
    assert "mlflow.example failed" in body["problem"]
    assert not {word for word in ("a-secret", "SELECT") if word in str(body)}


async def ready(pages: OperatorsPages) -> dict[str, Any]:
    sent = list[Any]()

    async def send(message: Any) -> None:
        sent.append(message)

    await pages.answer({"path": "/ready", "method": "GET", "headers": []})(send)
    found: dict[str, Any] = json.loads(sent[1]["body"])
    return found
