"""The comments of params.yaml and of the presets follow from the declarations."""

from pathlib import Path

import pytest

from podium.config import reference_page

WIDTH = 120
FILES = reference_page.yaml_files()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_comments_are_what_is_declared_and_fit_a_line(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert reference_page.with_comments(text) == text, "make reference"
    assert [line for line in text.splitlines() if len(line) > WIDTH] == []


def test_comment_behind_a_parameter_is_replaced_and_all_else_stays() -> None:
    text = """\
# A line of its own.
prepare:  # of the section
  background: "#ffffff"   # old
  # A reason.
  salt: podium
train:
  momentum: 0.9  # old
  flip: false
  own: 3  # nothing is declared of it
search:
  space:
    train.momentum: {low: 0.0, high: 0.9}  # of a dimension
"""
    assert (
        reference_page.with_comments(text)
        == """\
# A line of its own.
prepare:  # of the section
  background: "#ffffff"   # Colour below transparent pixels and around padded images: a name or #rrggbb
  # A reason.
  salt: podium            # Another salt gives another split of a new set
train:
  momentum: 0.9           # muon, sgd: Momentum (0: none)
  flip: false             # Mirror half of the images left to right; only if a mirrored image is of the same class
  own: 3  # nothing is declared of it
search:
  space:                  # Dimensions by the field that they replace: a range, or choices
    train.momentum: {low: 0.0, high: 0.9}  # of a dimension
"""
    )
