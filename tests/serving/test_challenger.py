"""A second version beside the one that answers: what may be asked for, and that it is loaded, followed and recorded."""

import threading
from pathlib import Path

import pytest

from podium import cli
from podium.config.params import ServeParams
from podium.errors import PodiumError
from podium.promotion import ledger
from podium.registry import versions
from podium.serving import challenger
from podium.serving.challenger import Beside, Challenger
from podium.serving.follower import Choice
from podium.serving.observers import Sighting
from podium.serving.predictor import Predictor
from podium.serving.request_body import Rows
from podium.serving.server_metrics import ServerMetrics
from podium.shadow import pair_schema, pair_store, pair_summary
from registered import NAME, Project, reference_images
from starting import free_port
from waiting import PATIENCE, until


def beside(project: Project, which: int | str, *, shadow: bool = True, canary: float = 0.0) -> Beside:
    tracking = project.tracking
    choice = Choice(tracking, NAME, which, lambda version: ledger.check_model(tracking, version))
    return Beside(choice, shadow, canary)


def loaded(project: Project, number: int) -> Predictor:
    version = versions.find(project.tracking, NAME, number)
    return Predictor(versions.load(project.tracking, version), number, versions.digest_of(version))


def test_challenger_is_loaded_asked_and_recorded(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(challenger, "END_SECONDS", PATIENCE)
    champion, metrics = loaded(project, 1), ServerMetrics()
    wanted = beside(project, "challenger", canary=0.5)
    one = Challenger(wanted, lambda: champion, ServeParams(keep="disagreements"), metrics)
    one.start()
    until(lambda: one.follower.current is not None)
    sighting = Sighting("scan", one.observers)
    files = reference_images(project.folder)[:20]
    assert one.canary
    answered = one.canary.beside(champion).answer(Rows("image", files, False), threading.Event(), sighting.keep)
    sighting.offer()
    assert {row["model"] for row in answered} == {f"{NAME}/1", f"{NAME}/3"}
    until(lambda: "shadow_images_total" in metrics.text().decode() and not one.observers[0]._waiting.qsize())
    assert one.end() == []
    found = pair_summary.summary(pair_store.folder(), NAME, 1, 3)
    assert (found.images, found.canary) == (20, sum(row["model"].endswith("/3") for row in answered))
    assert found.agreed + len(found.examples) == 20
    assert found.examples
    digests = [versions.digest_of(versions.find(project.tracking, NAME, number)) for number in (1, 3)]
    assert pair_summary.served(pair_store.folder(), NAME, (1, digests[0]), (3, digests[1])).images > 0
    assert all(example.image for example in found.examples)
    text = metrics.text().decode()
    for name in (
        "podium_canary_images_total{by",
        "podium_observed_images_total{observer",
        "podium_challenger_version{",
    ):
        assert name in text


def test_record_that_can_not_be_used_is_said_before_the_server_answers(project: Project) -> None:
    folder = pair_store.folder()
    folder.mkdir()
    (folder / pair_schema.NAME).write_bytes(b"notes of somebody" * 100)
    with pytest.raises(PodiumError, match=r"pairs\.sqlite can't be used"):
        Challenger(beside(project, "challenger"), lambda: None, ServeParams(), ServerMetrics())
    idle = Challenger(beside(project, 2, shadow=False, canary=0.1), lambda: None, ServeParams(), ServerMetrics())
    assert idle.end() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--shadow", "champion"], "--shadow: champion is served already: name another version"),
        (["--canary", "0.1", "--alias", "challenger"], "--canary: challenger is served already"),
        (["--pin", "2", "--shadow", "2"], "--shadow: 2 is served already"),
        (["--shadow", "nobody"], "no version with the alias 'nobody'"),
        (["--shadow", "77"], "77"),
        (["--shadow", ""], "must be the name of an alias"),
        (["--canary", "0"], "above 0 and below 1, such as 0.05; got '0'"),
        (["--canary", "1"], "got '1'"),
        (["--canary", "nan"], "got 'nan'"),
        (["--canary", "5%"], "got '5%'"),
        (["--canary", "-0.1"], "--canary"),
    ],
)
def test_second_version_that_makes_no_sense_is_refused_before_anything_is_loaded(
    project: Project, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    project.tracking.client.set_registered_model_alias(NAME, "champion", "1")
    port = str(free_port())
    with pytest.raises(SystemExit) as ended:
        cli.main(["serve", "--port", port, *arguments])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
    assert not Path("mlruns/shadow").exists()
