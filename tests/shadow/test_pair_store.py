"""What is kept of two versions' answers: exact with several writers, whole after a kill, within its budget and time."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from podium.errors import InputError, PodiumError
from podium.shadow import feedback_labels, pair_schema, pair_summary
from podium.shadow.feedback_labels import Label, Labels
from podium.shadow.pair_store import DAY, Pair, PairStore, Reply, Versions
from shadow.pairs import DIGESTS, MODEL, VERSIONS, digest, kept, pair, reply, versions

WRITER = """
import sys
from pathlib import Path
from shadow.pairs import VERSIONS, pair
from podium.shadow.pair_store import PairStore
store = PairStore(Path(sys.argv[1]), 50, 30)
first = int(sys.argv[2])
for number in range(first, first + int(sys.argv[3])):
    store.add(VERSIONS, [pair(number, "cat", "dog" if number % 4 == 0 else "cat")])
    if number == first + 20:
        print("begun", flush=True)
"""


def rows(folder: Path, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(folder / pair_schema.NAME) as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found


def test_summary_counts_what_was_added(tmp_path: Path) -> None:
    refused = Pair("r9", 1, 1, digest(9), reply("cat"), Reply(None, {}, 0.001), canary=True)
    store = kept(tmp_path, pair(1, "cat", "cat"), pair(2, "cat", "dog"), refused, now=1000.0)
    store.add(VERSIONS, [pair(3, "cat", "dog")], dropped=7, now=2000.0)
    store.add(versions(3, 5, ("cat",)), [pair(3, "cat", "cat")], now=3000.0)
    assert pair_summary.every(tmp_path, MODEL) == [(3, 5), (3, 4)]
    assert pair_summary.every(tmp_path, "another") == []
    found = pair_summary.summary(tmp_path, MODEL, 3, 4)
    assert (found.images, found.agreed, found.failed, found.dropped, found.canary) == (4, 1, 1, 7, 1)
    assert (found.first_at, found.last_at) == (1000.0, 2000.0)
    assert found.changes == [("cat", "dog", 2)]
    assert found.latencies["champion"].median == pytest.approx(0.004, rel=0.1)
    assert found.latencies["challenger"].p95 == pytest.approx(0.008, rel=0.1)
    assert [one.id for one in found.examples] == ["r3", "r9", "r2"]
    assert found.examples[2].champion_each == {"cat": 0.75, "other": 0.25}
    assert found.examples[0].image
    with pytest.raises(InputError, match="versions 3 and 6 of pets were not compared"):
        pair_summary.summary(tmp_path, MODEL, 3, 6)


def test_image_of_an_agreement_is_not_kept(tmp_path: Path) -> None:
    one = pair(1, "cat", "dog")
    agreed = Pair("a", 1, 1, one.digest, one.champion, one.champion, canary=False, image=one.image)
    kept(tmp_path, agreed)
    assert rows(tmp_path, "SELECT image, champion_each FROM pair") == [(None, None)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"request_id": "../../etc/passwd"},
        {"request_id": "=1+1"},
        {"request_id": ""},
        {"digest": "A" * 64},
        {"digest": "../" + "0" * 61},
        {"row": 0},
        {"row": 3},
    ],
)
def test_tables_refuse_what_is_no_pair_and_keep_nothing_of_its_batch(tmp_path: Path, wrong: dict[str, object]) -> None:
    store = kept(tmp_path)
    good = pair(1, "cat", "dog")
    values = {name: getattr(good, name) for name in Pair.__dataclass_fields__}
    with pytest.raises(sqlite3.IntegrityError, match="CHECK constraint failed"):
        store.add(VERSIONS, [good, Pair(**(values | wrong))])
    assert rows(tmp_path, "SELECT images FROM comparison") == [(0,)]
    store.add(VERSIONS, [good])
    assert rows(tmp_path, "SELECT count(*) FROM pair") == [(1,)]


def test_oldest_go_when_the_budget_is_full_and_totals_stay(tmp_path: Path) -> None:
    store = PairStore(tmp_path, 1, 30)
    picture = os.urandom(20_000)
    for start in range(0, 200, 10):
        each = [pair(start + n, "cat", "dog") for n in range(10)]
        store.add(
            VERSIONS, [Pair(p.request_id, 1, 1, p.digest, p.champion, p.challenger, False, picture) for p in each]
        )
        assert store.size() <= 1_000_000
    assert (tmp_path / pair_schema.NAME).stat().st_size <= 1_100_000
    found = pair_summary.summary(tmp_path, MODEL, 3, 4)
    assert found.images == 200
    assert 20 < found.kept < 60
    assert found.examples[0].id == "r199"
    store.close()


def test_what_is_too_old_goes_and_its_bytes_too(tmp_path: Path) -> None:
    store = kept(tmp_path, pair(77, "cat", "dog", "secret-request"), now=0.0)
    assert store.tidy(now=29 * DAY) == 0
    assert store.tidy(now=31 * DAY) == 1
    assert store.tidy(now=31 * DAY) == 0
    store.close()
    assert b"secret-request" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert pair_summary.summary(tmp_path, MODEL, 3, 4).images == 1


def test_file_is_for_its_user_alone(tmp_path: Path) -> None:
    store = kept(tmp_path / "new", pair(1, "cat", "dog"))
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "new").iterdir()} == {0o600}
    store.close()


@pytest.mark.parametrize("content", [b"not a database, but long enough to be read as one" * 20, b"other tables"])
def test_other_files_are_refused_and_stay(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / pair_schema.NAME
    if content == b"other tables":
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE mine (x)")
        connection.close()
        content = path.read_bytes()[100:]
    else:
        path.write_bytes(content)
    with pytest.raises(PodiumError, match=r"pairs\.sqlite can't be used .* move it away"):
        PairStore(tmp_path, 50, 30)
    assert path.read_bytes().endswith(content)


def test_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "victim"
    target.write_bytes(b"")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / pair_schema.NAME).symlink_to(target)
    with pytest.raises(PodiumError, match="can't be used"):
        PairStore(tmp_path / "kept", 50, 30)
    assert target.read_bytes() == b""


def test_several_writers_lose_nothing_and_a_kill_leaves_the_file_whole(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    def writer(first: int, count: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(first), str(count)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)

    steady, killed = writer(0, 60), writer(1000, 10**6)
    assert killed.stdout
    assert killed.stdout.readline() == b"begun\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    steady.communicate()
    assert steady.returncode == 0
    assert rows(tmp_path, "PRAGMA integrity_check") == [("ok",)]
    ((images, agreed),) = rows(tmp_path, "SELECT images, agreed FROM comparison")
    assert rows(tmp_path, "SELECT count(*), sum(champion = challenger) FROM pair") == [(images, agreed)]
    assert rows(tmp_path, "SELECT count(*) FROM pair WHERE length(request) < 4") == [(60,)]
    assert rows(tmp_path, "SELECT count(*) > 20 FROM pair WHERE length(request) > 4") == [(1,)]


def served(folder: Path, digests: tuple[str, str] = DIGESTS) -> pair_summary.Served:
    return pair_summary.served(folder, MODEL, (3, digests[0]), (4, digests[1]))


def test_gate_counts_agreements_without_a_label_and_disagreements_that_never_had_one(tmp_path: Path) -> None:
    store = kept(tmp_path, *[pair(n, "cat", "dog") for n in range(4)], now=0.0)
    store.add(VERSIONS, [pair(n, "cat", "cat") for n in range(10, 15)], now=0.0)
    again = (
        pair(3, "cat", "dog", "again"),
        pair(10, "cat", "cat", "again"),
        pair(20, "cat", None),
        pair(21, "cat", "cat"),
    )
    store.add(VERSIONS, again, now=20 * DAY)
    assert served(tmp_path) == pair_summary.Served(0, 0, 0, 5, 6)
    rows = [Label(0, digest(0), "dog"), Label(0, digest(1), "cat"), Label(0, digest(10), "dog")]
    feedback_labels.remember(tmp_path, MODEL, Labels("digest", rows, 0, ()))
    assert served(tmp_path) == pair_summary.Served(3, 1, 1, 3, 5)
    assert served(tmp_path).equal == 6
    store.tidy(now=31 * DAY)  # 0 to 2 and 10 to 14 go: 2 never had a label
    assert served(tmp_path) == pair_summary.Served(3, 1, 1, 3, 1)


def test_image_that_comes_again_after_its_rows_were_deleted_counts_once(tmp_path: Path) -> None:
    store = kept(tmp_path, pair(1, "cat", "dog"), now=0.0)
    for times in range(1, 4):
        store.tidy(now=40 * DAY * times - 1)
        assert served(tmp_path) == pair_summary.Served(0, 0, 0, 1, 0)
        store.add(VERSIONS, [pair(1, "cat", "dog", f"again{times}")], now=40 * DAY * times)
        assert served(tmp_path) == pair_summary.Served(0, 0, 0, 1, 0)
    feedback_labels.remember(tmp_path, MODEL, Labels("digest", [Label(0, digest(1), "dog")], 0, ()))
    assert served(tmp_path) == pair_summary.Served(1, 1, 0, 0, 0)
    store.tidy(now=400 * DAY)
    assert served(tmp_path) == pair_summary.Served(1, 1, 0, 0, 0)


def test_labels_of_a_deleted_version_do_not_count_for_one_that_has_its_number(tmp_path: Path) -> None:
    store = kept(tmp_path, pair(1, "cat", "dog"), now=1.0)
    feedback_labels.remember(tmp_path, MODEL, Labels("digest", [Label(0, digest(1), "dog")], 0, ()))
    anew = Versions(MODEL, 3, 4, ("cat", "dog"), (DIGESTS[0], "c" * 64))
    store.add(anew, [pair(2, "cat", "cat")], now=2.0)
    assert served(tmp_path).labelled == 1
    assert served(tmp_path, anew.digests) == pair_summary.Served(0, 0, 0, 0, 1)
    assert pair_summary.every(tmp_path, MODEL) == [(3, 4)]
    assert pair_summary.summary(tmp_path, MODEL, 3, 4).labelled.images == 0  # those of the last ones


def test_both_that_fail_do_not_agree(tmp_path: Path) -> None:
    kept(tmp_path, pair(1, None, None), pair(2, "cat", "cat"))
    found = pair_summary.summary(tmp_path, MODEL, 3, 4)
    assert (found.images, found.agreed, found.failed) == (2, 1, 1)
    assert served(tmp_path) == pair_summary.Served(0, 0, 0, 1, 1)
    (one,) = pair_summary.disagreements(tmp_path, MODEL, 3, 4)  # which can have a label
    assert (one.digest, one.champion, one.challenger) == (digest(1), None, None)
    feedback_labels.remember(tmp_path, MODEL, Labels("digest", [Label(0, digest(1), "cat")], 0, ()))
    assert served(tmp_path) == pair_summary.Served(1, 0, 0, 0, 1)
    assert served(tmp_path).equal == 2


def test_both_that_fail_count_when_their_rows_were_deleted(tmp_path: Path) -> None:
    kept(tmp_path, pair(1, None, None), pair(2, "cat", "cat"), now=0.0).tidy(now=31 * DAY)
    assert served(tmp_path) == pair_summary.Served(0, 0, 0, 1, 0)


def test_time_of_a_side_that_failed_does_not_count(tmp_path: Path) -> None:
    kept(tmp_path, pair(1, None, "cat"), pair(2, "cat", None), pair(3, "cat", "cat"), pair(4, "cat", "dog"))
    found = pair_summary.summary(tmp_path, MODEL, 3, 4).latencies
    assert {side: one.images for side, one in found.items()} == {"champion": 3, "challenger": 3}


def test_busy_file_is_called_busy_and_readers_do_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(tmp_path, pair(1, "cat", "dog")).close()
    monkeypatch.setattr(pair_schema, "PATIENCE", 0.05)
    writer = sqlite3.connect(tmp_path / pair_schema.NAME, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert pair_summary.every(tmp_path, MODEL) == [(3, 4)]
    labels = Labels("digest", [Label(0, digest(1), "dog")], 0, ())
    with pytest.raises(PodiumError, match=r"another process has been writing to it for more than 0\.05 s\. Try again$"):
        feedback_labels.remember(tmp_path, MODEL, labels)
    wrong = Labels("digest", [Label(0, digest(1), "god")], 0, ())
    with pytest.raises(InputError, match="no version has a class 'god'"):  # before it needs the lock
        feedback_labels.remember(tmp_path, MODEL, wrong)
    writer.close()


def test_damaged_tables_are_no_bug_of_podium(tmp_path: Path) -> None:
    kept(tmp_path, pair(1, "cat", "dog")).close()
    with sqlite3.connect(tmp_path / pair_schema.NAME) as connection:
        connection.execute("DROP TABLE latency")
    connection.close()
    with pytest.raises(PodiumError, match=r"pairs\.sqlite can't be used .* no such table: latency\. .*move it away$"):
        pair_summary.summary(tmp_path, MODEL, 3, 4)


def test_full_disk_is_no_reason_to_move_the_file_away(tmp_path: Path) -> None:
    kept(tmp_path, pair(1, "cat", "dog")).close()

    def fill() -> None:
        with pair_schema.reading(tmp_path) as connection:
            assert connection is not None
            connection.execute("PRAGMA max_page_count = 1")  # of the file as it is: no page more
            connection.execute("CREATE TABLE more AS SELECT zeroblob(1000000)")

    with pytest.raises(PodiumError, match=r"pairs\.sqlite can't be used .*: database or disk is full$"):
        fill()
