"""Promotion, rollback and history with real registered models: version 1 fair, 2 poor, 3 the best."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow.exceptions import MlflowException

import registered
import tiny
from podium import cli
from podium.components import Choice
from podium.config.params import GateParams
from podium.data import accesses
from podium.data.dataset import DatasetInfo, write_json, write_split
from podium.errors import InputError, PodiumError, RefusedError
from podium.locks import locked
from podium.metrics import scores
from podium.promotion import ledger, moves, verdict, verdict_files
from podium.promotion.champion import Images, NotPromotedError, Outcome, rollback
from podium.promotion.champion import promote as promote_version
from podium.promotion.git_tags import GitTags
from podium.promotion.ledger import HEAD, Entry, digest
from podium.registry import versions
from podium.registry.loading import digests
from podium.training.device import Kind
from registered import NAME, Project
from starting import free_port

pytestmark = pytest.mark.slow

LOOSE = GateParams(**registered.LOOSE)


def promote(
    project: Project,
    number: int | None = None,
    params: GateParams = LOOSE,
    force: str = "",
    dry_run: bool = False,
    device: Kind = "cpu",
) -> Outcome:
    images = Images(project.path("sealed"), project.path("prepared"), device=device)
    return promote_version(project.tracking, NAME, number, images, params, force=force, dry_run=dry_run)


def champion(project: Project) -> int | None:
    return versions.aliases(project.tracking, NAME).get("champion")


def test_promote_without_a_champion_takes_the_challenger(project: Project) -> None:
    done = promote(project)
    assert (done.version.number, champion(project)) == (3, 3)
    assert done.entry is not None
    assert (done.entry.source, done.entry.target, done.entry.forced) == (None, 3, False)
    assert "there is no champion to compare with" in done.entry.why


def test_promote_of_a_better_version_moves_and_keeps_the_verdict(project: Project, tmp_path: Path) -> None:
    promote(project, 1)
    done = promote(project)
    assert champion(project) == 3
    assert done.verdict is not None
    assert done.verdict.champion is not None
    assert done.verdict.challenger.accuracy > done.verdict.champion.accuracy
    version = versions.find(project.tracking, NAME, 3)
    assert version.tags["gate_decision"] == "promote"
    file = version.tags["gate_verdict"]
    text = Path(project.tracking.client.download_artifacts(version.run_id, file, str(tmp_path))).read_text("utf-8")
    assert json.loads(text) == json.loads(json.dumps(done.verdict.to_dict()))
    assert done.entry is not None
    assert done.entry.verdict is not None
    assert done.entry.verdict["digest"] == version.tags["gate_verdict_digest"] == digest(text)
    stored = {a.path for a in project.tracking.client.list_artifacts(version.run_id, "gate")}
    assert {file, file.replace(".json", ".md")} <= stored


def test_small_losses_do_not_add_up_along_a_chain_of_champions(project: Project) -> None:
    as_good = LOOSE.model_copy(update={"rule": "non_inferior", "margin": 0.99})
    promote(project, 3)
    first = promote(project, 1, as_good)
    assert first.entry is not None
    assert first.entry.verdict is not None
    assert first.entry.verdict["anchor"] == 3
    second = promote(project, 2, as_good, dry_run=True)
    assert second.verdict is not None
    assert second.verdict.champion is not None
    assert second.verdict.champion.version == 3
    assert "version 1 was shown to be no worse than version 3" in " ".join(second.verdict.notes)
    better = promote(project, 2, dry_run=True)  # that has to be better is compared with the champion
    assert better.verdict is not None
    assert better.verdict.champion is not None
    assert better.verdict.champion.version == 1


def test_looser_promise_that_was_allowed_once_is_not_refused_against_the_anchor(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, errors = versions.load, {3: 0.8, 1: 0.9, 2: 0.9}

    def promising(tracking: Any, version: Any) -> Any:
        promise = {"threshold": 0.0, "error": errors[version.number], "confidence": 0.95}
        return replace(load(tracking, version), abstain=promise)

    monkeypatch.setattr(versions, "load", promising)
    as_good = LOOSE.model_copy(update={"rule": "non_inferior", "margin": 0.99})
    promote(project, 3)
    with pytest.raises(NotPromotedError, match="promise"):
        promote(project, 1, as_good)
    promote(project, 1, as_good.model_copy(update={"allow_looser_promise": True}))
    again = promote(project, 2, as_good, dry_run=True).verdict
    assert again is not None
    assert again.champion is not None
    assert (again.champion.version, again.failed) == (3, [])


def test_champion_that_is_better_than_what_it_had_to_match_is_matched_itself(project: Project) -> None:
    loose = LOOSE.model_copy(update={"rule": "non_inferior", "margin": 0.99})
    promote(project, 1)
    promote(project, 3, loose)  # better, though it only had to be no worse
    strict = loose.model_copy(update={"margin": 0.01})
    found = promote(project, 1, strict, dry_run=True).verdict
    assert found is not None
    assert found.champion is not None
    assert (found.decision, found.champion.version) == ("refuse", 3)


def test_promote_of_a_worse_version_is_refused_with_the_figures(project: Project) -> None:
    promote(project, 1)
    with pytest.raises(
        RefusedError, match=r"version 2 was not promoted: accuracy 0\.\d+ against [01]\.\d+ of the champion"
    ):
        promote(project, 2)
    assert champion(project) == 1
    assert len(ledger.read(project.tracking.client, NAME).entries) == 1
    assert versions.find(project.tracking, NAME, 2).tags["gate_decision"] == "refuse"


def test_promote_of_the_champion_does_nothing(project: Project) -> None:
    promote(project)
    done = promote(project)
    assert (done.entry, done.verdict) == (None, None)
    assert len(ledger.read(project.tracking.client, NAME).entries) == 1


def test_promote_of_a_version_that_does_not_exist_is_an_input_error(project: Project) -> None:
    with pytest.raises(InputError, match="has no version 9"):
        promote(project, 9)


def test_promote_without_sealed_images_is_an_input_error(project: Project) -> None:
    shutil.rmtree(project.path("sealed"))
    with pytest.raises(InputError, match="holds no complete split"):
        promote(project)
    assert champion(project) is None


def change_data(project: Project, **changes: str) -> None:
    info = DatasetInfo.read(project.path("prepared"))
    write_json(project.path("prepared") / "dataset.json", vars(info) | changes)


def test_promote_of_a_model_trained_on_other_data_is_refused(project: Project) -> None:
    change_data(project, digest="e" * 64)
    with pytest.raises(NotPromotedError) as refused:
        promote(project)
    (failed,) = refused.value.verdict.failed
    assert failed.name == "data"
    assert "version 3 was trained on other data (digest dddddddddddd) than what is prepared now" in failed.found
    project.tracking.client.set_model_version_tag(NAME, "3", "data_digest", "e" * 64)  # its files say it as well
    with pytest.raises(NotPromotedError, match=r"version 3 was trained on other data \(digest dddddddddddd\)"):
        promote(project)
    assert promote(project, force="the same images, one class renamed").version.number == 3


def test_champion_trained_on_other_data_is_a_note(project: Project) -> None:
    promote(project, 1)
    client = project.tracking.client
    client.set_model_version_tag(NAME, "1", "data_digest", "e" * 64)
    done = promote(project, 3)
    assert done.verdict is not None
    notes = [note[:41] for note in done.verdict.notes if "kept this machine busy" not in note]
    assert notes == ["version 1 was trained on other data (dige"]


def test_sealed_images_of_another_preparation_are_refused(project: Project) -> None:
    change_data(project, sealed="e" * 64)
    with pytest.raises(RefusedError, match="are not of one preparation: `dvc repro prepare`"):
        promote(project)


def test_sealed_labels_that_were_changed_are_refused(project: Project) -> None:
    path = project.path("sealed") / "test/labels.npy"
    labels = np.load(path, allow_pickle=False)
    np.save(path, (labels + 1) % 3, allow_pickle=False)
    with pytest.raises(InputError, match="is damaged: images or labels do not have the digest"):
        promote(project)


@pytest.mark.parametrize("hand", ["2", ""], ids=["moved", "deleted"])
def test_challenger_is_compared_with_the_last_champion_that_the_gate_let_through(project: Project, hand: str) -> None:
    promote(project, 3)
    client = project.tracking.client
    if hand:
        client.set_registered_model_alias(NAME, "champion", hand)
    else:
        client.delete_registered_model_alias(NAME, "champion")
    with pytest.raises(NotPromotedError) as refused:
        promote(project, 1)
    verdict = refused.value.verdict
    assert verdict.champion is not None
    assert verdict.champion.version == 3
    assert "by hand: compared with version 3 instead" in verdict.notes[0]
    assert rollback(project.tracking, NAME, "it was moved by hand").version.number == champion(project) == 3


def test_version_that_was_champion_by_hand_only_is_nothing_to_roll_back_to(project: Project) -> None:
    promote(project, 1)
    project.tracking.client.set_registered_model_alias(NAME, "champion", "2")
    promote(project, 3)
    with pytest.raises(RefusedError, match="version 2 was never made champion by the gate"):
        rollback(project.tracking, NAME, "why not", 2)
    assert rollback(project.tracking, NAME, "the one before").version.number == 1


def test_champion_whose_files_were_replaced_together_with_their_digests_is_found(project: Project) -> None:
    promote(project, 1)
    promote(project, 3)
    other = versions.find(project.tracking, NAME, 1).tags["files"]
    project.tracking.client.set_model_version_tag(NAME, "3", "files", other)
    book, problems = ledger.history(project.tracking, NAME)
    assert problems == []
    (problem,) = verdict_files.check(project.tracking, book)
    assert problem.startswith(f"{NAME} version 3 is not the model that became champion: its digests are not those of")


def test_promote_while_another_is_under_way_is_refused(project: Project) -> None:
    with (
        locked(project.folder / "mlruns" / f"promote-{NAME}.lock"),
        pytest.raises(RefusedError, match=f"a promotion to {NAME}'s champion is already under way"),
    ):
        promote(project)


def test_rollback_does_not_wait_for_a_promotion_that_is_judging(project: Project) -> None:
    promote(project, 1)
    promote(project, 3)
    with locked(project.folder / "mlruns" / f"promote-{NAME}.lock"):
        rollback(project.tracking, NAME, "an emergency")
    assert champion(project) == 1


def test_promote_after_an_interrupted_one_finishes_it_first(project: Project) -> None:
    client = project.tracking.client
    promote(project, 1)
    head = client.get_registered_model(NAME).tags[HEAD]
    promote(project, 3)
    client.set_registered_model_tag(NAME, HEAD, head)
    client.set_registered_model_alias(NAME, "champion", "1")
    assert ledger.history(project.tracking, NAME)[1] == [
        "the last move was interrupted; the next `podium promote` or `podium rollback` finishes it"
    ]
    done = promote(project, 3)
    assert (done.entry, champion(project)) == (None, 3)
    assert done.notes[0].startswith("finished the promote of version 3 that was interrupted")
    assert ledger.history(project.tracking, NAME)[1] == []


def test_rollback_returns_to_the_champion_before_and_then_to_the_one_before_that(project: Project) -> None:
    for number in (2, 1, 3):
        promote(project, number)
    assert rollback(project.tracking, NAME, " too slow ").version.number == 1
    assert rollback(project.tracking, NAME, "worse").version.number == 2
    assert champion(project) == 2
    book, problems = ledger.history(project.tracking, NAME)
    assert [(e.action, e.source, e.target, e.why) for e in book.entries[3:]] == [
        ("rollback", 3, 1, "too slow"),
        ("rollback", 1, 2, "worse"),
    ]
    assert problems == []
    with pytest.raises(RefusedError, match="no earlier champion to go back to"):
        rollback(project.tracking, NAME, "again")


def test_rollback_without_a_reason_is_an_input_error(project: Project) -> None:
    with pytest.raises(InputError, match="--reason must have 1 to 1000 characters; got 0"):
        rollback(project.tracking, NAME, "  ")


def damaged(project: Project, tmp_path: Path, *, tags: bool) -> int:
    """A version that says it is version 1 and whose stored answers are wrong; with `tags`, one that also shows it."""
    client = project.tracking.client
    folder = tmp_path / "damaged"
    shutil.copytree(client.get_model_version_download_uri(NAME, "1").removeprefix("file://"), folder)
    answers = folder / "artifacts/model/answers.json"
    rows = json.loads(answers.read_text(encoding="utf-8"))
    write_json(answers, [row | {"probability": row["probability"] / 2} for row in rows])
    manifest = folder / "artifacts/model/manifest.json"
    from podium.registry.exported import write_manifest

    manifest.unlink()
    write_manifest(manifest.parent)
    kept = versions.find(project.tracking, NAME, 1).tags
    made = client.create_model_version(NAME, folder.as_uri(), tags=kept if tags else {"data_digest": "d" * 64})
    return int(made.version)


@pytest.mark.parametrize(
    ("tags", "sentence"),
    [
        (True, "is not what was registered: artifacts/model/answers.json"),
        (False, "has no digests of its files"),
    ],
)
def test_rollback_to_a_version_that_fails_its_check_moves_nothing(
    project: Project, tmp_path: Path, tags: bool, sentence: str
) -> None:
    number = damaged(project, tmp_path, tags=tags)
    client = project.tracking.client
    for target in (number, 3):
        book = ledger.read(client, NAME)
        moves.move(client, book, Entry("promote", book.champion, target, "arranged"))
    with pytest.raises(RefusedError, match=f"rolled nothing back: {NAME} version {number} .*{sentence}"):
        rollback(project.tracking, NAME, "too slow")
    assert champion(project) == 3
    assert len(ledger.read(client, NAME).entries) == 2


def failing(project: Project, tmp_path: Path) -> int:
    """A version that is as it was registered, and whose code fails when it predicts, as with another torch."""
    client = project.tracking.client
    folder = tmp_path / "failing"
    shutil.copytree(client.get_model_version_download_uri(NAME, "1").removeprefix("file://"), folder)
    code = folder / "served_model.py"
    text = code.read_text(encoding="utf-8")
    assert "        options = params or {}\n" in text
    code.write_text(
        text.replace("        options = params or {}\n", "        raise RuntimeError('no kernel')\n"), "utf-8"
    )
    known = versions.find(project.tracking, NAME, 1)
    tags = known.tags | {versions.FILES: json.dumps(digests(folder))}
    return int(client.create_model_version(NAME, folder.as_uri(), known.run_id, tags=tags).version)


def test_version_that_fails_when_it_predicts_is_no_champion_and_stops_no_promotion(
    project: Project, tmp_path: Path
) -> None:
    number = failing(project, tmp_path)
    with pytest.raises(RefusedError, match="not predict the images that are stored in it: RuntimeError: no kernel"):
        promote(project, number)
    client = project.tracking.client
    assert not any(versions.ACCESSES in key for key in client.get_registered_model(NAME).tags)
    moves.move(client, ledger.read(client, NAME), Entry("promote", None, number, "arranged"))
    with pytest.raises(RefusedError, match="champion .it can be loaded.: .* does not predict the images"):
        promote(project, 3)
    assert promote(project, 3, force="the champion fails").version.number == champion(project) == 3


def test_promote_against_a_champion_that_does_not_load_is_refused(project: Project, tmp_path: Path) -> None:
    number = damaged(project, tmp_path, tags=True)
    client = project.tracking.client
    moves.move(client, ledger.read(client, NAME), Entry("promote", None, number, "arranged"))
    with pytest.raises(RefusedError, match="champion .it can be loaded.: .* is not what was registered"):
        promote(project, 3)
    assert champion(project) == number
    assert promote(project, 3, force="the champion is damaged").version.number == champion(project) == 3


def test_history_after_a_move_by_hand_says_so_and_changes_nothing(project: Project) -> None:
    promote(project, 1)
    project.tracking.client.set_registered_model_alias(NAME, "champion", "2")
    for _ in range(2):
        book, problems = ledger.history(project.tracking, NAME)
        assert len(book.entries) == 1
        assert problems == ["champion is version 2, and the ledger says version 1: moved outside of podium"]
    done = promote(project, 3)
    assert done.notes == ("champion was moved by hand from version 1 to version 2: recorded",)
    assert [entry.action for entry in ledger.history(project.tracking, NAME)[0].entries] == [
        "promote",
        "by hand",
        "promote",
    ]


def test_moves_found_made_and_taken_back_are_git_tags_too(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client, params = project.tracking.client, Path("params.yaml")
    params.write_text(params.read_text("utf-8") + "ledger: {git_tags: annotated}\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        cli.main(["promote", "1"])
    assert "ledger.git_tags: needs a git repository" in capsys.readouterr().err
    assert champion(project) is None
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "ada@example.org")
    for command in ("init --quiet", "commit --quiet --allow-empty -m first"):
        subprocess.run(["git", *command.split()], check=True)
    cli.main(["promote", "1"])
    client.set_registered_model_alias(NAME, "champion", "2")
    cli.main(["promote", "3"])
    cli.main(["rollback", "--reason", "a try"])
    cli.main(["history", "--check"])
    made = subprocess.run(["git", "tag"], check=True, capture_output=True, text=True).stdout.split()
    assert made == [f"{NAME}#champion#{number}" for number in (1, 2, 3, 4)]
    subprocess.run(["git", "tag", "-d", made[3]], check=True)
    with pytest.raises(SystemExit, match="1"):
        cli.main(["history", "--check"])
    assert "1 entry of tiny-classifier's ledger without a git tag in this clone: 4." in capsys.readouterr().err
    cli.main(["history", "--write-tags", "--check"])


@pytest.fixture
def tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GitTags:
    """Those of a repository with one commit."""
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "ada@example.org")
    for command in ("init --quiet", "commit --quiet --allow-empty -m first"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    return GitTags(tmp_path, signed=False)


def away(*arguments: Any) -> Any:
    raise MlflowException("the server is away")


def test_rollback_whose_ledger_can_not_be_read_again_has_moved_and_says_so(
    project: Project, tags: GitTags, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(project, 1)
    promote(project, 3)
    move = moves.move

    def last(*arguments: Any, **options: Any) -> Entry:
        written = move(*arguments, **options)
        monkeypatch.setattr(ledger, "read", away)
        return written

    with monkeypatch.context() as patched:
        patched.setattr(moves, "move", last)
        done = rollback(project.tracking, NAME, "an emergency", tags=tags)
    assert done.version.number == champion(project) == 1
    assert "may have no git tag (ledger.git_tags): it can't be read: MlflowException: the server" in done.notes[-1]


def test_rollback_that_fails_writes_the_tags_of_what_it_had_recorded_and_prints_what_it_can_not(
    project: Project, tags: GitTags, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    promote(project, 1)
    for number, root in (("3", tags.root), ("2", tags.root / "nowhere")):
        project.tracking.client.set_registered_model_alias(NAME, "champion", number)
        with monkeypatch.context() as patched:
            patched.setattr(versions, "load", away)
            with pytest.raises(MlflowException, match="the server is away"):
                rollback(project.tracking, NAME, "an emergency", tags=replace(tags, root=root))
    made = subprocess.run(["git", "tag"], cwd=tags.root, check=True, capture_output=True, text=True).stdout.split()
    assert made == [f"{NAME}#champion#2"]
    assert "podium: warning: entry 3 of the ledger has no git tag (ledger.git_tags): git " in capsys.readouterr().err


def test_promote_that_the_gate_refuses_moves_by_force_and_says_so_permanently(project: Project, tmp_path: Path) -> None:
    promote(project, 3)
    with pytest.raises(NotPromotedError) as refused:
        promote(project, 1)
    assert [check.name for check in refused.value.verdict.failed] == ["accuracy"]
    done = promote(project, 1, force=" the scanner was replaced ")
    assert champion(project) == 1
    assert done.entry is not None
    assert (done.entry.forced, done.entry.why) == (True, "forced: the scanner was replaced")
    tags = versions.find(project.tracking, NAME, 1).tags
    assert tags["gate_forced"].endswith(": the scanner was replaced")
    assert tags["gate_decision"] == "refuse"
    promote(project, 3)
    promote(project, 1, force="again")
    assert versions.find(project.tracking, NAME, 1).tags["gate_forced"].endswith(": again")


def test_promote_by_force_of_what_the_gate_lets_through_is_not_forced(project: Project) -> None:
    done = promote(project, 3, force="to be sure")
    assert done.entry is not None
    assert not done.entry.forced
    assert "gate_forced" not in versions.find(project.tracking, NAME, 3).tags


def test_dry_run_judges_counts_the_access_and_leaves_everything_as_it_was(project: Project) -> None:
    promote(project, 1)
    before = project.tracking.client.get_registered_model(NAME)
    tags = {n: versions.find(project.tracking, NAME, n).tags for n in (1, 2, 3)}
    for number, decision in ((3, "promote"), (2, "refuse")):
        done = promote(project, number, dry_run=True)
        assert (done.entry, done.verdict and done.verdict.decision) == (None, decision)
    after = project.tracking.client.get_registered_model(NAME)
    told = {key: text for key, text in after.tags.items() if key.startswith(versions.ACCESSES)}
    assert len(told) == 3
    assert (after.tags, after.aliases) == (before.tags | told, before.aliases)
    assert {n: versions.find(project.tracking, NAME, n).tags for n in (1, 2, 3)} == tags
    assert done.verdict is not None
    assert done.verdict.accesses == {"gate": 3}


def attempt(project: Project, number: int = 2) -> int:
    """Of a dry run with version `number`."""
    verdict = promote(project, number, dry_run=True).verdict
    assert verdict is not None
    return int(verdict.rule.partition("this is number ")[2].split()[0])


def hold_out(project: Project, drawn: str, images: int = 90) -> None:
    write_split(
        project.path("sealed") / "test", "test", *tiny.pixels(images, seed=6), tiny.CLASSES, sealed=True, drawn=drawn
    )


def evaluate(project: Project, key: str, *numbers: int) -> None:
    """As the stage counts it."""
    for number in numbers:
        accesses.record(key, "evaluate", f"run {versions.find(project.tracking, NAME, number).run_id}")


def test_first_champion_of_an_earlier_ledger_takes_no_attempt_on_its_own_test_set_only(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = verdict.Verdict.short
    monkeypatch.setattr(verdict.Verdict, "short", lambda found: {**short(found), "test_set": ""})
    hold_out(project, "the first")
    evaluate(project, "the first", 1)
    promote(project, 1)
    evaluate(project, "the first", 2)
    assert attempt(project) == 1
    change_data(project, digest="e" * 64)  # images were added, also to the test set
    hold_out(project, "the first", 120)
    assert attempt(project) == 2
    hold_out(project, "newly held out")
    assert [attempt(project), attempt(project)] == [1, 2]
    change_data(project, digest="d" * 64)
    hold_out(project, "the first")
    assert attempt(project) == 3


def test_champion_by_hand_that_was_evaluated_here_gives_no_level_twice(project: Project) -> None:
    evaluate(project, key_of(project), 1, 2)
    project.tracking.client.set_registered_model_alias(NAME, "champion", "1")
    assert [attempt(project), attempt(project)] == [1, 2]


def key_of(project: Project) -> str:
    """By what accesses to its test set are counted."""
    return str(json.loads((project.path("sealed") / "test/split.json").read_text(encoding="utf-8"))["digest"])


def test_accesses_of_every_folder_that_shares_the_registry_count(project: Project) -> None:
    promote(project, 1, dry_run=True)
    mine = project.folder / "mlruns/sealed.jsonl"
    first = mine.read_text(encoding="utf-8")
    another = json.loads(first) | {"reader": "evaluate", "id": "of another folder"}
    mine.write_text(json.dumps(another) + "\n", encoding="utf-8")
    done = promote(project, 1, dry_run=True)
    assert done.verdict is not None
    assert done.verdict.accesses == {"evaluate": 1, "gate": 2}
    mine.write_text(first, encoding="utf-8")  # as that of a copy of the first folder
    done = promote(project, 1, dry_run=True)
    assert done.verdict is not None
    assert done.verdict.accesses == {"evaluate": 1, "gate": 3}


@pytest.mark.skipif(torch.cuda.is_available(), reason="a device that is there is taken")
def test_promote_on_a_device_that_is_not_there_counts_no_access(project: Project) -> None:
    for _ in range(2):
        with pytest.raises(InputError, match=r"runtime\.device: cuda"):
            promote(project, 1, device="cuda")
    assert not Path("mlruns/sealed.jsonl").exists()


def of_two_classes(project: Project) -> None:
    """The test set without the last class, as if that had been taken out of the data."""
    images, labels = tiny.pixels(90, seed=5)
    kept = labels < 2
    write_split(project.path("sealed") / "test", "test", images[kept], labels[kept], tiny.CLASSES[:2], sealed=True)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (
            Choice(name="recall_at_precision", arguments={"class_name": "no", "precision": 0.9}),
            r"gate\.metric: recall_at_precision: class_name must be a class; got 'no', .* was not accessed",
        ),
        (
            Choice(name="MulticlassAccuracy", arguments={"top_k": 99}),
            r"^gate\.metric: MulticlassAccuracy failed: .* not accessed",
        ),
        (Choice(name="accuracy"), rf"version 1 predicts classes that .* does not have: {tiny.CLASSES[2]}"),
    ],
)
def test_metric_or_challenger_that_does_not_fit_the_classes_counts_no_access(
    project: Project, metric: Choice, message: str
) -> None:
    if metric.name == "accuracy":
        of_two_classes(project)
    images = Images(project.path("sealed"), project.path("prepared"))
    with pytest.raises(InputError, match=message):
        promote_version(project.tracking, NAME, 1, images, LOOSE, metric=scores.of(metric))
    assert not Path("mlruns/sealed.jsonl").exists()


def test_more_accesses_than_one_tag_takes_are_all_recorded(project: Project) -> None:
    for number in range(versions.ACCESSES_PER_TAG * 2 + 1):
        accesses.record("of these images", "gate", str(number))
    expected = {"gate": versions.ACCESSES_PER_TAG * 2 + 1}
    assert versions.record_accesses(project.tracking, NAME, "of these images") == expected
    Path("mlruns/sealed.jsonl").unlink()
    assert versions.record_accesses(project.tracking, NAME, "of these images") == expected


def test_damaged_tag_of_accesses_says_so(project: Project) -> None:
    digest = "of these images"
    key = f"{versions.ACCESSES}{digest[:12]}.x"
    project.tracking.client.set_registered_model_tag(NAME, key, "[1]")
    with pytest.raises(PodiumError, match=r"tag podium\.sealed\..* is damaged"):
        versions.record_accesses(project.tracking, NAME, digest)


def test_promote_keeps_a_picture_of_the_disagreements(project: Project) -> None:
    promote(project, 1)
    assert not has_picture(project, 1)
    promote(project, 3)
    assert has_picture(project, 3)


def has_picture(project: Project, number: int) -> bool:
    version = versions.find(project.tracking, NAME, number)
    stored = {a.path for a in project.tracking.client.list_artifacts(version.run_id, "gate")}
    return version.tags["gate_verdict"].replace(".json", ".png") in stored


def test_verdict_that_was_edited_is_found(project: Project) -> None:
    promote(project, 1)
    promote(project, 3)
    book, _ = ledger.history(project.tracking, NAME)
    assert verdict_files.check(project.tracking, book) == []
    version = versions.find(project.tracking, NAME, 3)
    file = version.tags["gate_verdict"]
    project.tracking.client.log_text(version.run_id, "{}", file)
    assert verdict_files.check(project.tracking, book) == [
        f"the verdict of entry 2 of {NAME}'s ledger is not the one that was given: edited"
    ]


def test_origin_that_was_changed_after_the_promotion_is_found(project: Project) -> None:
    promote(project, 1)
    promote(project, 3)
    client = project.tracking.client
    for number in (1, 2, 3):
        ledger.check_origin(project.tracking, versions.find(project.tracking, NAME, number))
    client.set_model_version_tag(NAME, "2", "git_commit", "c" * 40)  # no entry has its origin
    ledger.check_origin(project.tracking, versions.find(project.tracking, NAME, 2))
    client.set_model_version_tag(NAME, "3", versions.LINEAGE_DIGEST, "c" * 64)
    said = "what tiny-classifier version 3 was made from is not what it was when it became champion: its tags lineage"
    for command in ("verify", "reproduce", "lineage"):
        with pytest.raises(RefusedError, match=said):
            cli.command_parser().parse_args([command, "3"]).command.run(cli.command_parser().parse_args([command, "3"]))
    (problem,) = verdict_files.check(project.tracking, ledger.read(client, NAME))
    assert problem.startswith(said)
    versions.load(project.tracking, versions.find(project.tracking, NAME, 3))  # predicting needs none of it


def test_version_whose_run_is_gone_is_refused_before_the_test_set_is_opened(project: Project) -> None:
    known = versions.find(project.tracking, NAME, 3)
    made = project.tracking.client.create_model_version(
        NAME, project.tracking.client.get_model_version_download_uri(NAME, "3"), tags=known.tags
    )
    with pytest.raises(RefusedError, match=r"the run that trained it, .* is gone from MLflow .* was not opened"):
        promote(project, int(made.version))
    assert not [key for key in project.tracking.client.get_registered_model(NAME).tags if versions.ACCESSES in key]


def test_rollback_to_a_version_goes_there_and_only_to_former_champions(project: Project) -> None:
    for number in (2, 1, 3):
        promote(project, number)
    assert rollback(project.tracking, NAME, "back", to=3).entry is None
    assert rollback(project.tracking, NAME, "back", to=2).version.number == champion(project) == 2
    assert rollback(project.tracking, NAME, "and forth", to=3).version.number == champion(project) == 3


def test_rollback_to_a_version_that_never_was_champion_is_refused(project: Project) -> None:
    promote(project, 1)
    promote(project, 3)
    with pytest.raises(RefusedError, match="version 2 was never made champion by the gate: `podium promote 2` does it"):
        rollback(project.tracking, NAME, "back", to=2)
    assert champion(project) == 3


def test_rollback_to_a_version_that_fails_offers_the_one_before(project: Project, tmp_path: Path) -> None:
    number = damaged(project, tmp_path, tags=True)
    client = project.tracking.client
    for target in (1, number, 3):
        book = ledger.read(client, NAME)
        moves.move(client, book, Entry("promote", book.champion, target, "arranged"))
    with pytest.raises(
        RefusedError, match='Version 1 was champion too and passes its check: `podium rollback --to 1 --reason "..."`'
    ):
        rollback(project.tracking, NAME, "too slow", to=number)
    assert champion(project) == 3
    done = rollback(project.tracking, NAME, "too slow")
    assert done.version.number == champion(project) == 1
    (note,) = done.notes
    assert note.startswith(f"skipped {NAME} version {number} is not what was registered: ")


def test_rollback_from_a_champion_that_was_deleted_goes_to_the_last_good_one(project: Project) -> None:
    for number in (2, 1, 3):
        promote(project, number)
    client = project.tracking.client
    client.delete_model_version(NAME, "3")
    client.delete_model_version(NAME, "1")
    done = rollback(project.tracking, NAME, "3 is gone")
    assert done.version.number == champion(project) == 2
    assert [note.split(",")[0] for note in done.notes if note.startswith("skipped")] == [
        f"skipped {NAME} has no version 3",
        f"skipped {NAME} has no version 1",
    ]
    client.delete_model_version(NAME, "2")
    with pytest.raises(RefusedError, match="rolled nothing back: .* No earlier champion works"):
        rollback(project.tracking, NAME, "all are gone")


def test_files_and_their_digests_changed_together_are_not_the_champion(project: Project) -> None:
    promote(project, 1)
    promote(project, 3)
    client = project.tracking.client
    files = json.loads(client.get_model_version(NAME, "1").tags["files"])
    client.set_model_version_tag(NAME, "3", "files", json.dumps(files))
    with pytest.raises(RefusedError, match="version 3 is not the model that became champion: .* entry 2 of the ledger"):
        ledger.check_model(project.tracking, versions.find(project.tracking, NAME, 3))
    assert rollback(project.tracking, NAME, "not what it was").version.number == 1
    ledger.check_model(project.tracking, versions.find(project.tracking, NAME, 1))


def test_nobody_loads_a_champion_whose_ledger_was_taken_away_with_its_digests_replaced(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    promote(project, 1)
    client = project.tracking.client
    for key in client.get_registered_model(NAME).tags:
        if key.startswith(ledger.PREFIX):
            client.delete_registered_model_tag(NAME, key)
    client.set_model_version_tag(NAME, "1", versions.FILES, json.dumps({"model.pt2": "0" * 64}))
    Path("a.png").write_bytes(registered.reference_images(project.folder)[0])
    port = str(free_port())
    for command in (
        *(["predict", "a.png"], ["predict", "--version", "1", "a.png"], ["serve", "--port", port], ["verify"]),
        *(["serve", "--pin", "3", "--shadow", "1", "--port", port], ["reproduce"], ["drift"]),
        ["export", "1", "--format", "pt2", "model.pt2"],
    ):
        with pytest.raises(SystemExit, match="2" if command[0] == "drift" else "1"):  # its 1 is a drift
            cli.main(command)
        said = capsys.readouterr().err
        assert "entry 1 of tiny-classifier's ledger, by which version 1 became champion, was edited or cut" in said
    for _ in range(2):  # the first one records that the champion is there by hand
        with pytest.raises(NotPromotedError, match="can't be compared with the ledger: entry 1"):
            promote(project, 3)


TWICE = json.dumps({"a": "0" * 64})[:-1] + f', "a": "{"1" * 64}"}}'


@pytest.mark.parametrize(
    "files", ["null", "[]", "{}", '"x"', "3", '{"a": null}', '{"a": "x"}', "[" * 100_000, "not json", "", TWICE]
)
def test_digests_that_are_none_load_nothing(project: Project, files: str) -> None:
    project.tracking.client.set_model_version_tag(NAME, "3", "files", files[:5000])
    with pytest.raises(RefusedError, match="version 3 has no digests of its files"):
        versions.load(project.tracking, versions.find(project.tracking, NAME, 3))


WRITTEN: dict[str, Any] = json.loads(Entry("promote", None, 3, "x", at="2026-11-29T10:00:00Z").text())
CHANGES: list[dict[str, Any]] = [
    {"to": "3"},
    {"to": 10**20},
    {"from": -1},
    {"at": "yesterday"},
    {"at": "2026-11-29T10:00:00"},
    {"extra": 1},
    {"verdict": []},
]


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "null", '"x"', "3", "{}", '{"from": null}', "[" * 4000),
        *(json.dumps(WRITTEN | change) for change in CHANGES),
    ],
)
def test_ledger_with_an_entry_that_is_none_is_refused(project: Project, text: str) -> None:
    project.tracking.client.set_registered_model_tag(NAME, "podium.ledger.000001", text)
    with pytest.raises(
        RefusedError, match=f"the ledger of {NAME} .* holds what nobody here wrote: .*; restore the tag"
    ):
        ledger.history(project.tracking, NAME)


def test_champion_that_was_deleted_or_lost_its_digests_is_found(project: Project) -> None:
    promote(project, 1)
    promote(project, 3)
    client = project.tracking.client
    client.delete_model_version_tag(NAME, "1", "files")
    book, _ = ledger.history(project.tracking, NAME)
    (problem,) = verdict_files.check(project.tracking, book)
    assert "version 1 has no digests of its files" in problem
    client.delete_model_version(NAME, "1")
    problems = verdict_files.check(project.tracking, book)
    assert any("has no version 1" in problem for problem in problems)
