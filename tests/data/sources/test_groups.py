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
