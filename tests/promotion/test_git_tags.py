"""The ledger's entries as git tags, in real repositories: what they notice, and what else goes on beside them."""

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from podium.errors import InputError, PodiumError, RefusedError
from podium.promotion import git_process, ledger, moves
from podium.promotion.git_tags import GitTags
from podium.promotion.ledger import Entry, digest
from podium.tracking.store import Tracking
from waiting import gone

NAME = "tiny"


def git(*arguments: str, root: Path = Path()) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def tracking(four_versions: Tracking) -> Tracking:
    return four_versions


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two commits, in which the test stands (as in `store`); nobody's settings but its own."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    git("config", "user.name", "Ada")
    git("config", "user.email", "ada@example.org")
    for text in ("one", "two"):
        git("commit", "--quiet", "--allow-empty", "-m", text)
    return tmp_path


@pytest.fixture
def tags() -> GitTags:
    return GitTags(Path(), signed=False)


def move(tracking: Tracking, target: int, tags: GitTags | None = None, why: str = "because") -> None:
    book = ledger.read(tracking.client, NAME)
    entry = moves.move(tracking.client, book, Entry("promote", book.champion, target, f"{why} {target}"))
    assert tags is None or tags.write(tracking, NAME, entry, entry.text()) == []


def problems(tracking: Tracking, tags: GitTags) -> list[str]:
    return tags.problems(ledger.read(tracking.client, NAME))


def rewrite_all(client: MlflowClient) -> None:
    """Another history, whole in itself, as one who may write to the registry can make it."""
    for key in client.get_registered_model(NAME).tags:
        client.delete_registered_model_tag(NAME, key)
    for number in "1234":
        client.delete_model_version_tag(NAME, number, ledger.ENTRY)
    client.delete_registered_model_alias(NAME, "champion")


def test_moves_are_tags_of_the_form_of_gto_on_the_commit_of_the_version(tracking: Tracking, tags: GitTags) -> None:
    first = git("rev-parse", "HEAD~").strip()
    tracking.client.set_model_version_tag(NAME, "1", "git_commit", first)
    tracking.client.set_model_version_tag(NAME, "2", "git_commit", "0" * 40)  # of a clone that has not pushed it
    move(tracking, 1, tags)
    move(tracking, 2, tags)
    assert git("tag").split() == ["tiny#champion#1", "tiny#champion#2"]
    assert git("rev-parse", "tiny#champion#1^{commit}", "tiny#champion#2^{commit}").split() == [
        first,
        git("rev-parse", "HEAD").strip(),
    ]
    assert git("cat-file", "-t", "tiny#champion#1").strip() == "tag"
    book = ledger.read(tracking.client, NAME)
    shown = git("tag", "-l", "--format=%(contents)", "tiny#champion#2")
    assert shown.startswith("promote: version 2 of tiny is champion, after version 1\n")
    assert f"Podium-Entry: 2 {digest(book.texts[1])}\n" in shown
    assert book.texts[1] in shown
    assert tags.problems(book) == []


def test_ledger_that_was_written_anew_is_not_what_the_tags_say(tracking: Tracking, tags: GitTags) -> None:
    move(tracking, 1, tags)
    move(tracking, 2, tags)
    rewrite_all(tracking.client)
    move(tracking, 3)
    move(tracking, 4)
    assert ledger.history(tracking, NAME)[1] == []  # nothing within the registry tells
    (problem,) = problems(tracking, tags)
    assert problem.startswith("tiny's ledger does not have the entries of which git has the digests: tiny#champion#1, ")
    with pytest.raises(RefusedError, match="no tag was written, for tags would make this the truth"):
        tags.write_missing(tracking, ledger.read(tracking.client, NAME))


@pytest.mark.parametrize("deleted", ["2", "3"])
def test_tag_that_is_missing_is_said_and_written_when_asked(tracking: Tracking, tags: GitTags, deleted: str) -> None:
    for target in (1, 2, 3):
        move(tracking, target, tags)
    git("tag", "-d", f"tiny#champion#{deleted}")
    (problem,) = problems(tracking, tags)
    assert f"1 entry of tiny's ledger without a git tag in this clone: {deleted}. If another clone" in problem
    assert tags.write_missing(tracking, ledger.read(tracking.client, NAME)) == 1
    assert problems(tracking, tags) == []


def test_tags_begin_where_the_parameter_was_set(tracking: Tracking, tags: GitTags) -> None:
    move(tracking, 1)
    (problem,) = problems(tracking, tags)
    assert "1 entry of tiny's ledger without a git tag" in problem
    move(tracking, 2, tags)
    assert problems(tracking, tags) == []
    rewrite_all(tracking.client)  # the one tag holds the entries before it too
    move(tracking, 1, why="rather")  # in the same second the same moves are the same history
    move(tracking, 2)
    assert "tiny#champion#2" in problems(tracking, tags)[0]


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (["tag", "-f", "tiny#champion#2", "HEAD~"], "without a git tag in this clone: 2"),
        (["tag", "-f", "-a", "-m", "mine", "tiny#champion#2", "HEAD~"], "without a git tag in this clone: 2"),
        (["update-ref", "refs/tags/tiny#champion#2", "refs/tags/tiny#champion#1"], "is the tag tiny#champion#1 under"),
        (["update-ref", "refs/tags/tiny#champion#9", "refs/tags/tiny#champion#1"], "is the tag tiny#champion#1 under"),
    ],
)
def test_tag_that_was_moved_is_said(tracking: Tracking, tags: GitTags, spoil: list[str], problem: str) -> None:
    for target in (1, 2):
        move(tracking, target, tags)
    git(*spoil)
    assert problem in " ".join(problems(tracking, tags))


def test_tag_with_the_same_message_on_another_commit_is_said(tracking: Tracking, tags: GitTags) -> None:
    move(tracking, 1, tags)
    message = git("tag", "-l", "--format=%(contents)", "tiny#champion#1")
    git("tag", "-f", "-a", "--cleanup=verbatim", "-m", message, "tiny#champion#1", "HEAD~")
    assert "git tag tiny#champion#1 was moved to the commit" in problems(tracking, tags)[0]


def test_tags_of_others_are_left_alone(tracking: Tracking, tags: GitTags) -> None:
    git("tag", "tiny#champion#1")
    git("tag", "-a", "-m", "Assigning stage champion to artifact tiny", "tiny#champion#2")
    for name in ("tiny@v1.0.0", "tiny#prod#1", "other#champion#3", "tiny#champion#x", "v1", "tiny-2#champion#7"):
        git("tag", name)
    before = set(git("tag").split())
    move(tracking, 1, tags)
    move(tracking, 2, tags)
    assert set(git("tag").split()) - before == {"tiny#champion#3", "tiny#champion#4"}
    assert problems(tracking, tags) == []


def test_fresh_clone_compares_with_the_tags_that_were_pushed(tracking: Tracking, tags: GitTags, tmp_path: Path) -> None:
    move(tracking, 1, tags)
    source, shallow, plain = f"file://{Path().absolute()}", tmp_path / "shallow", tmp_path / "plain"
    git("clone", "--quiet", "--depth", "1", "--no-tags", source, str(shallow))
    git("clone", "--quiet", source, str(plain))
    git("checkout", "--quiet", "--detach", root=plain)
    assert problems(tracking, GitTags(plain, signed=False)) == []
    assert "without a git tag in this clone: 1. If another" in problems(tracking, GitTags(shallow, signed=False))[0]
    git("fetch", "--quiet", "--tags", root=shallow)
    assert problems(tracking, GitTags(shallow, signed=False)) == []


@pytest.mark.parametrize("name", ["my model", "-x", "a..b", "what?", "a~1"])
def test_name_that_no_tag_can_have_is_refused_before_the_move(tags: GitTags, name: str) -> None:
    with pytest.raises(InputError, match=r"ledger.git_tags: needs a register.name that git allows .* git_tags: none"):
        tags.check_ready(name)
    tags.check_ready("digits-classifier")


def test_folder_without_git_is_refused_before_the_move_and_noted_after_it(
    tracking: Tracking, tags: GitTags, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    move(tracking, 1, tags)
    book = ledger.read(tracking.client, NAME)
    outside = GitTags(tmp_path_factory.mktemp("outside"), signed=False)
    with pytest.raises(InputError, match="needs a git repository with a commit"):
        outside.check_ready(NAME)
    (note,) = outside.write(tracking, NAME, book.entries[0], book.texts[0])
    assert note.startswith("warning: entry 1 of the ledger has no git tag")
    assert "can't be compared with git's tags here" in outside.problems(book)[0]
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"git can't be run"):
        tags.check_ready(NAME)


def test_repository_without_a_name_of_a_person_is_refused_before_the_move(tags: GitTags) -> None:
    git("config", "--unset", "user.name")
    git("config", "user.useConfigOnly", "true")
    with pytest.raises(InputError, match=r"and git's user.name and user.email: .*identity"):
        tags.check_ready(NAME)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A key with which git signs in the repository; `allowed` beside it says whose it is."""
    key = tmp_path / "key"
    if subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=False).returncode:
        raise PodiumError("ssh-keygen is needed")
    (tmp_path / "allowed").write_text(f"ada@example.org {key.with_suffix('.pub').read_text()}")
    git("config", "gpg.format", "ssh")
    git("config", "user.signingKey", str(key))
    git("config", "gpg.ssh.allowedSignersFile", str(tmp_path / "allowed"))
    return key


def test_signed_tags_are_verified_from_the_first_one_on(tracking: Tracking, tags: GitTags, key: Path) -> None:
    signed = GitTags(Path(), signed=True)
    move(tracking, 1, tags)
    assert "git tag tiny#champion#1 has no signature, and none before" in problems(tracking, signed)[0]
    move(tracking, 2, signed)
    assert problems(tracking, signed) == []
    key.with_name("allowed").write_text("")
    assert "git tag tiny#champion#2 has no signature that git verifies here" in problems(tracking, signed)[0]
    assert problems(tracking, tags) == []


@pytest.mark.usefixtures("key")
def test_tag_from_before_they_were_signed_is_signed_by_what_is_advised(tracking: Tracking, tags: GitTags) -> None:
    git("init", "--quiet", "--bare", "remote.git")
    git("remote", "add", "REMOTE", "remote.git")
    signed = GitTags(Path(), signed=True)
    for target in (1, 2, 3):
        move(tracking, target, tags)
    git("push", "--quiet", "--tags", "REMOTE")
    (problem,) = problems(tracking, signed)
    advice = re.findall("`(git [^`]+)`", problem)
    assert len(advice) == 2
    for command in advice:
        git(*shlex.split(command)[1:])
    git("fetch", "--quiet", "--tags", "REMOTE")  # nothing brings it back
    assert signed.write_missing(tracking, ledger.read(tracking.client, NAME)) == 1
    assert problems(tracking, signed) == []
    move(tracking, 4, tags)  # by a clone that does not sign
    assert "It was never signed, after others were: delete it here" in problems(tracking, signed)[0]


def test_signed_tags_need_a_key_before_the_move_and_the_question_leaves_no_trace(
    tags: GitTags, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for setting, name in (("user.name", "GIT_COMMITTER_NAME"), ("user.email", "GIT_COMMITTER_EMAIL")):
        monkeypatch.setenv(name, git("config", "--unset", setting) or "ada@example.org")  # all that a tag needs
    git("config", "user.useConfigOnly", "true")
    signed = GitTags(Path(), signed=True)
    before = git("for-each-ref"), git("status", "--porcelain")
    signed.check_ready(NAME)
    assert (git("for-each-ref"), git("status", "--porcelain")) == before
    key.unlink()
    with pytest.raises(
        InputError, match=r"ledger.git_tags: signed needs a key with which git signs here: .*annotated$"
    ):
        signed.check_ready(NAME)
    tags.check_ready(NAME)


def program(path: Path, text: str) -> Path:
    """A shell script, such as a hook of git; it may leave its number beside itself."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return path


HOOK = Path(".git/hooks/reference-transaction")
HANGS = 'echo $$ > "$0.number"; exec sleep 600'


def number_of(path: Path) -> int:
    """The number that a program left beside itself; 0: none yet."""
    left = path.with_name(f"{path.name}.number")
    return int(left.read_text() or 0) if left.is_file() else 0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[subprocess.Popen[bytes]], object]], None]:
    """Ends the patience with a call of git when a condition of it is true, however long that takes."""
    communicate = subprocess.Popen.communicate

    def end(when: Callable[[subprocess.Popen[bytes]], object]) -> None:
        def until_then(self: Any, given: Any = None, timeout: float | None = None) -> Any:
            while True:
                try:
                    return communicate(self, given, timeout and 0.05)
                except subprocess.TimeoutExpired:
                    given = None
                    if when(self):
                        raise

        monkeypatch.setattr(subprocess.Popen, "communicate", until_then)

    return end


@pytest.mark.usefixtures("key")
def test_key_that_waits_for_its_passphrase_is_not_waited_for_without_end(
    tracking: Tracking, impatient: Any, tmp_path: Path
) -> None:
    asks = program(tmp_path / "asks", HANGS)
    git("config", "gpg.ssh.program", str(asks))
    numbers = list[int]()
    impatient(lambda _: number_of(asks) not in {0, *numbers})
    signed = GitTags(Path(), signed=True)
    with pytest.raises(RefusedError, match=r"git_tags: nothing was moved: `git commit-tree` did not end within 120 s"):
        signed.check_ready(NAME)
    numbers.append(number_of(asks))
    move(tracking, 1)
    book = ledger.read(tracking.client, NAME)
    (note,) = signed.write(tracking, NAME, book.entries[0], book.texts[0])
    assert "entry 1 of the ledger has no git tag (ledger.git_tags): `git tag` did not end within" in note
    assert "`podium history --write-tags` writes it" in note
    numbers.append(number_of(asks))
    assert [gone(number) for number in numbers] == [True, True]
    assert git("tag") == ""


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize("ends", ["kill -TERM $$", "kill -KILL $$"])
def test_signing_program_that_was_ended_leaves_no_tag_without_a_signature(
    tracking: Tracking, tmp_path: Path, ends: str
) -> None:
    git("config", "gpg.ssh.program", str(program(tmp_path / "asks", ends)))
    move(tracking, 1)
    book = ledger.read(tracking.client, NAME)
    (note,) = GitTags(Path(), signed=True).write(tracking, NAME, book.entries[0], book.texts[0])
    assert "warning: entry 1 of the ledger has no git tag (ledger.git_tags)" in note
    assert git("tag") == ""


def test_tag_that_was_written_before_its_hook_hung_is_written_once(
    tracking: Tracking, tags: GitTags, impatient: Any
) -> None:
    move(tracking, 1)
    book = ledger.read(tracking.client, NAME)
    program(HOOK, f'[ "$1" != committed ] || {{ {HANGS}; }}')
    impatient(lambda _: number_of(HOOK))
    (note,) = tags.write(tracking, NAME, book.entries[0], book.texts[0])
    assert "warning: entry 1 of the ledger has its git tag (ledger.git_tags), but `git tag` did not end within" in note
    assert gone(number_of(HOOK))
    assert git("tag").split() == ["tiny#champion#1"]


def test_what_a_hook_leaves_behind_does_not_undo_what_git_did(
    tracking: Tracking, tags: GitTags, impatient: Any
) -> None:
    program(HOOK, '[ "$1" != committed ] || { sleep 600 & echo $! > "$0.number"; }')
    impatient(lambda process: process.poll() is not None)
    try:
        move(tracking, 1, tags)
    finally:
        psutil.Process(number_of(HOOK)).kill()
    assert git("tag").split() == ["tiny#champion#1"]


def test_move_that_two_processes_finish_at_once_has_one_tag(
    tracking: Tracking, tags: GitTags, monkeypatch: pytest.MonkeyPatch
) -> None:
    move(tracking, 1)
    book, run, others = ledger.read(tracking.client, NAME), git_process.run, [tags]

    def beaten(root: Path, *arguments: str, stdin: str) -> bytes:
        if arguments[0] == "tag" and others:
            assert others.pop().write(tracking, NAME, book.entries[0], book.texts[0]) == []
        return run(root, *arguments, stdin=stdin)

    monkeypatch.setattr(git_process, "run", beaten)
    assert tags.write(tracking, NAME, book.entries[0], book.texts[0]) == []
    assert others == []
    assert git("tag").split() == ["tiny#champion#1"]


@pytest.mark.parametrize("word", ["config", "var", "check-ref-format", "rev-parse", "verify-tag", "--quiet"])
def test_git_that_does_not_answer_has_not_said_no(
    tracking: Tracking, key: Path, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed, run = GitTags(Path(), signed=True), git_process.run
    tracking.client.set_model_version_tag(NAME, "2", "git_commit", git("rev-parse", "HEAD~").strip())
    move(tracking, 1, signed)
    move(tracking, 2)
    book = ledger.read(tracking.client, NAME)

    def silent(root: Path, *arguments: str, stdin: str) -> bytes:
        if word in arguments:
            raise git_process.UnansweredError("git is silent")
        return run(root, *arguments, stdin=stdin)

    monkeypatch.setattr(git_process, "run", silent)
    if word == "verify-tag":
        said = "ledger.git_tags: the ledger can't be compared with git's tags here: git is silent"
        assert signed.problems(book) == [said]
    elif word == "--quiet":  # the commit is not another one for that
        assert (
            "has no git tag (ledger.git_tags): git is silent."
            in signed.write(tracking, NAME, book.entries[1], book.texts[1])[0]
        )
    else:
        key.unlink() if word == "config" else None
        with pytest.raises(RefusedError, match="ledger.git_tags: nothing was moved: git is silent"):
            signed.check_ready(NAME)


def test_registry_that_fails_after_the_move_is_a_note(
    tracking: Tracking, tags: GitTags, monkeypatch: pytest.MonkeyPatch
) -> None:
    move(tracking, 1)
    book = ledger.read(tracking.client, NAME)

    def away(*arguments: Any) -> None:
        raise MlflowException("the server is away")

    monkeypatch.setattr(MlflowClient, "get_model_version", away)
    (note,) = tags.write(tracking, NAME, book.entries[0], book.texts[0])
    assert "entry 1 of the ledger has no git tag (ledger.git_tags): MlflowException: the server is away." in note


def test_key_with_a_passphrase_and_nobody_to_type_it_is_refused_before_the_move(key: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "a secret", "-f", str(key)], check=True)
    signed = GitTags(Path(), signed=True)
    with pytest.raises(InputError, match=r"signed needs a key with which git signs here: .*passphrase"):
        signed.check_ready(NAME)


def test_git_that_signs_every_tag_is_asked_before_the_move(tags: GitTags, key: Path) -> None:
    git("config", "tag.gpgSign", "true")
    tags.check_ready(NAME)
    key.unlink()
    with pytest.raises(
        InputError, match=r"annotated, with git's tag.gpgSign, needs a key .*config tag.gpgSign false`\), .*: none$"
    ):
        tags.check_ready(NAME)
    with pytest.raises(InputError, match=r"signed needs a key .*write git_tags: none$"):  # annotated would sign, too
        GitTags(Path(), signed=True).check_ready(NAME)
    git("config", "tag.gpgSign", "false")  # as advised
    tags.check_ready(NAME)


def test_hook_that_refuses_a_tag_is_a_note(tracking: Tracking, tags: GitTags) -> None:
    program(HOOK, "exit 1")
    move(tracking, 1)
    book = ledger.read(tracking.client, NAME)
    (note,) = tags.write(tracking, NAME, book.entries[0], book.texts[0])
    assert "has no git tag (ledger.git_tags): fatal: ref updates aborted by hook" in note


def test_tag_that_another_process_is_writing_is_waited_for(
    tracking: Tracking, tags: GitTags, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lock = tmp_path / ".git/refs/tags/tiny#champion#1.lock"
    lock.touch()
    waited = list[float]()

    def elapse(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            lock.unlink()

    monkeypatch.setattr("podium.promotion.git_tags.time", SimpleNamespace(sleep=elapse))
    move(tracking, 1, tags)
    assert len(waited) == 2
    book = ledger.read(tracking.client, NAME)
    assert tags.write(tracking, NAME, book.entries[0], book.texts[0]) == []  # another one that found the move finished
    assert git("tag").split() == ["tiny#champion#1"]
