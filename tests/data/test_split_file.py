"""The file that remembers splits: what it says is kept, and what can't be right is refused with its line."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from podium.data import split_file
from podium.data.split_file import SplitFile
from podium.errors import InputError

TRAIN, VAL, TEST, NOWHERE, NEW = 0, 1, 2, 3, -1
SMALL = """\
# Which split each image is in. Written by `prepare`: keep it in git. See data/split/README.md.
# salt: "a"
# drawn: 3878f95bbb6d1a2b
# near-duplicates: copies
digest,split
0000000000000001,train
00000000000000ff,test
ffffffffffffffff,none
# end
"""


def _file(pairs: dict[int, int], salt: str = "a", near: str = "copies") -> SplitFile:
    digests = np.array(list(pairs), np.uint64)
    return SplitFile.empty(salt).with_images(digests, np.array(list(pairs.values()), np.int8), near)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that is not there yet."""
    return tmp_path / "split/split.csv"


def test_file_is_sorted_text_that_is_read_as_it_was_written(path: Path) -> None:
    content = _file({2**64 - 1: NOWHERE, 255: TEST, 1: TRAIN, 7: NEW})
    assert split_file.write(path, content)
    assert path.read_text(encoding="utf-8") == SMALL
    found = split_file.read(path, "a")
    assert "".join(found.lines()) == SMALL
    assert found.find(np.array([1, 7, 255, 2**64 - 1], np.uint64)).tolist() == [TRAIN, NEW, TEST, NOWHERE]
    assert not split_file.write(path, found)  # nothing changed


def test_missing_file_remembers_nothing(path: Path) -> None:
    assert split_file.read(path, "a").find(np.arange(3).astype(np.uint64)).tolist() == [NEW] * 3


@pytest.mark.parametrize("change", [lambda text: text.replace("\n", "\r\n"), lambda text: "\ufeff" + text])
def test_file_that_another_system_wrote_anew_says_the_same(path: Path, change: Callable[[str], str]) -> None:
    path.parent.mkdir()
    path.write_bytes(change(SMALL).encode())

    found = split_file.read(path, "a")

    assert "".join(found.lines()) == SMALL
    assert split_file.write(path, found)
    assert path.read_bytes() == SMALL.encode()


def test_images_are_added_and_none_is_changed() -> None:
    before = _file({1: TRAIN, 3: TEST})
    after = before.with_images(np.array([1, 2, 3], np.uint64), np.array([TEST, VAL, TRAIN], np.int8), "off")
    assert after.find(np.array([1, 2, 3], np.uint64)).tolist() == [TRAIN, VAL, TEST]
    assert (after.drawn, after.near) == (before.drawn, "copies")


def test_equal_images_of_several_given_splits_are_remembered_in_the_strictest() -> None:
    for order in ([TRAIN, VAL, TEST, NOWHERE], [NOWHERE, TEST, VAL, TRAIN]):
        found = SplitFile.empty("a").with_images(np.zeros(4, np.uint64), np.array(order, np.int8), "off")
        assert found.places.tolist() == [TEST]


def test_split_has_another_name_once_all_its_images_are_others() -> None:
    before = _file({1: TRAIN, 2: TEST})
    grown = before.with_images(np.array([2, 5], np.uint64), np.array([TEST, VAL], np.int8), "off")
    other = before.with_images(np.array([8, 9], np.uint64), np.array([TEST, VAL], np.int8), "off")
    assert before.drawn == grown.drawn != other.drawn
    assert other.find(np.array([1, 2], np.uint64)).tolist() == [TRAIN, TEST]  # and they are still remembered
    assert _file({1: TRAIN, 2: TEST}, salt="b").drawn != before.drawn


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        (
            "00ff,test",
            "00ff,train\n00000000000000ff,test",
            "line 8: 00000000000000ff is in test, and in train by line 7:",
        ),
        (
            "00ff,test",
            "00ff,tset",
            "line 7: must be a digest of 16 hex.* one of train, val, test, none; got '0.*ff,tset'",
        ),
        ("0001,train", "001,train", "line 6: must be a digest"),
        ("0001,train", "0001;train", "line 6: must be a digest"),
        ("0000000000000001,train", "<<<<<<< HEAD", "line 6: is a mark of a merge that git could not finish"),
        ("0000000000000001,train", ">>>>>>> other", "line 6: is a mark of a merge"),
        ("0000000000000001,train", "=======", "line 6: is a mark of a merge"),
        ("# end\n", "", "line 9: the file ends early; its last line must be `# end`"),
        ("# end\n", "# end", "line 9: the file ends early"),
        ("ffffffffffffffff,none\n# end\n", "ffffff", "line 8: must be a digest.*\n  line 8: the file ends early"),
        ("digest,split\n", "", "line 1: has no line `digest,split`"),
        ('# salt: "a"\n', "", "line 1: must have one line `# salt: ...` at the top; got 0"),
        ('# salt: "a"', "# salt: a", "line 1: the salt must be text in double quotes"),
        ("# drawn: ", "# drawn: 1\n# drawn: ", "one line `# drawn: ...` at the top; got 2; these are two splits"),
        ("duplicates: copies", "duplicates: all", "line 1: must have a line `# near-duplicates: ...`"),
    ],
)
def test_damaged_file_is_refused_with_its_line_and_the_remedy_and_stays(
    path: Path, before: str, after: str, problem: str
) -> None:
    path.parent.mkdir()
    text = SMALL.replace(before, after)
    assert text != SMALL
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=f"(?s)split.csv remembers .* can't be used as it is:\n.*{problem}") as caught:
        split_file.read(path, "a")
    assert f"restore the committed file: `git checkout {path}`. Nothing was changed." in str(caught.value)
    assert path.read_text(encoding="utf-8") == text


def test_every_wrong_line_is_counted_and_bytes_that_are_no_text_are_named(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(SMALL.replace("# end\n", "x\n" * 30 + "# end\n"), encoding="utf-8")
    with pytest.raises(InputError, match=r"(\n  line .*){10}\n  and 20 more lines\n"):
        split_file.read(path, "a")
    path.write_bytes(SMALL.encode().replace(b"00ff", b"\xff0ff"))
    with pytest.raises(InputError, match="line 7: is not UTF-8"):
        split_file.read(path, "a")


def test_another_salt_is_refused_with_both_ways_and_what_deleting_the_file_means(path: Path) -> None:
    split_file.write(path, _file({1: TRAIN}))
    with pytest.raises(InputError, match=r"^prepare\.salt: is 'b', and .* drawn with 'a'") as caught:
        split_file.read(path, "b")
    for word in ("Write `salt: a`", "delete the file", "are trained on", "counted from zero"):
        assert word in str(caught.value)


@pytest.mark.parametrize("clash", [False, True])
def test_lines_of_two_branches_are_merged_by_git_and_a_clash_is_refused(tmp_path: Path, clash: bool) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=tmp_path, check=True)

    path = tmp_path / "data/split/split.csv"
    (tmp_path / ".gitattributes").write_bytes((Path(__file__).parents[2] / ".gitattributes").read_bytes())
    numbers = np.random.default_rng(0).integers(0, 2**63, 60).astype(np.uint64)
    begun = SplitFile.empty("a").with_images(numbers[:20], np.zeros(20, np.int8), "copies")
    git("init", "--quiet", "--initial-branch=main")
    for branch, rows, place, near in (("one", slice(20, 40), TRAIN, "copies"), ("two", slice(40, 60), TEST, "crops")):
        split_file.write(path, begun)
        git("add", ".")
        git("commit", "--quiet", "--allow-empty", "--message=begun")
        git("checkout", "--quiet", "-b", branch)
        new = numbers[rows] if not clash or branch == "one" else numbers[[20, *range(41, 60)]]
        places = np.append(begun.find(numbers[:20]), np.full(20, place)).astype(np.int8)
        split_file.write(path, begun.with_images(np.append(numbers[:20], new), places, near))
        git("commit", "--quiet", "--all", f"--message={branch}")
        git("checkout", "--quiet", "main")
    git("merge", "--quiet", "one")
    git("merge", "--quiet", "--no-edit", "two")
    if clash:
        with pytest.raises(InputError, match=f"{numbers[20]:016x} is in test, and in train by line .*: two branches"):
            split_file.read(path, "a")
        return
    merged = split_file.read(path, "a")
    assert merged.find(numbers).tolist() == [TRAIN] * 40 + [TEST] * 20
    assert (merged.drawn, merged.near) == (begun.drawn, "crops")
