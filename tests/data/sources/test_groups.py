"""prepare.group: a pattern of the images' paths says what belongs together."""

from pathlib import Path

import pytest

import photos
from podium.config.params import PrepareParams
from podium.data import sources
from podium.errors import InputError


def _params(root: Path, pattern: str, **changes: str) -> PrepareParams:
    return PrepareParams(**{"source": f"folder:{root}", "root": str(root), "group": pattern} | changes)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of images whose names begin with a patient; one image has none."""
    for number, name in enumerate(["a/p1_0", "a/p1_1", "a/p2_0", "b/p2_1", "b/other"]):
        photos.write(tmp_path / f"{name}.png", photos.tiles()[number])
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [
        (r"(p[0-9]+)_", ["p1", "p1", "p2", None, "p2"]),
        (r"^([^/]+/p[0-9]+)_", ["a/p1", "a/p1", "a/p2", None, "b/p2"]),
        (r"_(?:0|1)\.(png)$", ["png", "png", "png", None, "png"]),
        (r"(p[0-9]*)?_", ["p1", "p1", "p2", None, "p2"]),
    ],
)
def test_images_are_in_the_group_that_the_pattern_finds_in_their_path(
    root: Path, pattern: str, groups: list[str | None]
) -> None:
    found = sources.read(_params(root, pattern))
    assert [item.group for item in found.items] == groups
    assert found.notes == ("prepare.group finds no group in 1 of 5 paths, such as 'b/other.png'",)


def test_pattern_that_matches_nothing_is_refused_with_paths(root: Path) -> None:
    with pytest.raises(InputError, match=r"^prepare\.group: '\(q\)' .* in any of 5, such as 'a/p1_0.png', "):
        sources.read(_params(root, "(q)"))


@pytest.mark.parametrize(
    ("one", "other"),
    [("7", "7.0"), ("P1", "p1"), ("a b", "a_b"), ("7", "007"), ("x", " X"), ("\u0661", "1"), ("7.50", "7.5")],
)
def test_groups_that_are_hard_to_tell_apart_are_refused_with_both_readings(root: Path, one: str, other: str) -> None:
    lines = f"a/p1_0.png,a,{one}\na/p1_1.png,a,{other}\nb/other.png,b,\n"
    (root / "images.csv").write_text(f"path,label,group\n{lines}", encoding="utf-8")
    with pytest.raises(InputError, match=r"^doctor\.similar_groups: .* can be one .* or several") as caught:
        sources.read(PrepareParams(source=f"csv:{root}/images.csv", root=str(root)))
    assert f"{one!r} (1 image, such as 'a/p1_0.png') and {other.strip()!r} (1 image" in str(caught.value)


def test_groups_of_a_pattern_or_a_function_are_checked_alike(root: Path) -> None:
    for old, new in (("p1_0", "p07_0"), ("p1_1", "p7_1")):
        (root / f"a/{old}.png").rename(root / f"a/{new}.png")
    with pytest.raises(InputError, match=r"'07' \(1 image, such as 'a/p07_0.png'\) and '7' "):
        sources.read(_params(root, r"p(\d+)_"))
    kept = sources.read(_params(root, r"p(\d+)_"), similar_groups="keep")
    assert kept.notes[-1].startswith("names of groups that are nearly the same are taken as different groups, 1 time,")


@pytest.mark.parametrize("name", ["nan", "None", "unknown", "NA"])
@pytest.mark.parametrize("by_pattern", [False, True])
def test_group_that_stands_for_none_is_refused_where_it_joins_many(root: Path, name: str, by_pattern: bool) -> None:
    made = [f"a/{name}_{number}.png" for number in range(4)]
    for number, path in enumerate(made):
        photos.write(root / path, photos.tiles()[number])
    (root / "images.csv").write_text(
        "path,label,group\n" + "".join(f"{path},a,{name}\n" for path in made), encoding="utf-8"
    )
    params = (
        _params(root, r"/([A-Za-z]+)_\d")
        if by_pattern
        else PrepareParams(source=f"csv:{root}/images.csv", root=str(root))
    )
    begin = r"prepare\.group" if by_pattern else r"prepare\.source"
    remedy = "a pattern that does not match" if by_pattern else "Leave the group empty .*, and each image is its own"
    with pytest.raises(InputError, match=rf"^{begin}: 4 images, such as '{made[0]}', .* '{name}', .*{remedy}"):
        sources.read(params)
    (root / made[0]).unlink()
    assert name in sources.read(params).group_names()


@pytest.mark.parametrize(
    "names",
    [
        [f"{number:x}" for number in range(0x1000)],
        ["1-01", "01-1", "1e5", "100000", "p7", "p07", "1/2", "01/2"],
        ["1" * 40 + "1", "1" * 40 + "2"],
        ["aB3x", "ab3x", *(f"q{number}Z" for number in range(9))],
    ],
    ids=["hex", "codes", "long numbers", "random letters"],
)
def test_groups_of_ordinary_identifiers_are_read(root: Path, names: list[str]) -> None:
    lines = "".join(f"a/p1_0.png,a,{name}\n" for name in names)
    (root / "images.csv").write_text(f"path,label,group\n{lines}", encoding="utf-8")
    found = sources.read(PrepareParams(source=f"csv:{root}/images.csv", root=str(root)))
    assert found.group_names() == names
    assert any("'aB3x' and 'ab3x'" in note for note in found.notes) == ("aB3x" in names)


def test_different_groups_stay_apart(root: Path) -> None:
    lines = "a/p1_0.png,a,p1\na/p1_1.png,a,p10\nb/other.png,b,1.5\na/p2_0.png,a,1.05\nb/p2_1.png,b,p100\n"
    (root / "images.csv").write_text(f"path,label,group\n{lines}", encoding="utf-8")
    assert len(sources.read(PrepareParams(source=f"csv:{root}/images.csv", root=str(root))).group_names()) == 5


def test_pattern_beside_groups_of_the_source_is_refused_with_both(root: Path) -> None:
    (root / "images.csv").write_text("path,label,group\na/p1_0.png,a,1\nb/other.png,b,\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"^prepare\.group: the source names groups itself \('1' of 'a/p1_0.png'\)"):
        sources.read(_params(root, "(p)", source=f"csv:{root}/images.csv"))


@pytest.mark.parametrize(
    ("pattern", "words"), [("(a", "must be a regular expression"), ("a", "got 0 in 'a'"), ("(a)(b)", "got 2 in")]
)
def test_pattern_that_is_none_or_has_not_one_group_is_refused(root: Path, pattern: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        _params(root, pattern)
