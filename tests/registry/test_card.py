"""What a registered model says of itself."""

from collections.abc import Iterator

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

import tiny
from podium.data.dataset import DatasetInfo
from podium.data.decode import Preprocess
from podium.registry import card
from podium.training.trained import TrainedModel

METRICS = {"accuracy": 0.97, "accuracy_low": 0.95, "accuracy_high": 0.98, "macro_f1": 0.96, "ece": 0.01, "nll": 0.1}
METRICS["count"] = 1234
TAGS = {"git_commit": "c" * 40, "git_dirty": "true", "parity_max_difference": "3e-07"}


def trained(classes: list[str]) -> TrainedModel:
    recipe = tiny.recipe().model_dump()
    return TrainedModel(
        recipe, classes, [3, 8, 8], [0.3] * 3, [0.3] * 3, 5, "cpu", "d" * 64, "podium-x", 17, [1, 2], "r" * 32
    )


def test_markdown_tells_figures_configuration_and_origin() -> None:
    text = card.markdown(trained(["left", "right"]), METRICS, TAGS)
    assert text.startswith("**Accuracy 0.9700** (0.9500 to 0.9800) on 1,234 images of the held-out test set")
    for words in (
        "makes them 3x8x8",
        "left, right",
        "trial 17 of study `podium-x`",
        "seeds 1, 2",
        "| `model.width` | 2 |",
    ):
        assert words in text
    assert "commit `cccccccccccc`, with uncommitted changes" in text


@pytest.mark.parametrize(("count", "above"), [(2, 2), (30, 30), (31, 30), (1000, 30)])
def test_page_of_many_classes_shows_the_weakest_and_at_its_end_all(count: int, above: int) -> None:
    rows = [
        {"class": f"class {k:04}", "support": "3", "precision": "1", "recall": f"{k / count}"} for k in range(count)
    ]
    classes = [row | {"recall_low": "0", "recall_high": "1"} for row in reversed(rows)]
    names = [row["class"] for row in classes]
    info = DatasetInfo("folder:a", names, [3, 8, 8], {"test": dict.fromkeys(names, 3)}, [0.3] * 3, [0.3] * 3, "d" * 64)

    page = card.page(trained(names), Preprocess(3, 8, 8), card.Evaluated(METRICS, classes, info, {}), TAGS)

    figures, rest = page.split("## Limits")
    assert figures.count("| class 0") == above
    assert rest.count("| class 0") == (0 if above == count else count)
    if above < count:
        assert figures.index("class 0000") < figures.index(f"class {above - 1:04}")


def test_page_of_many_classes_shows_those_with_test_images_first() -> None:
    empty = {f"none {k:02}" for k in range(10)}
    rows = [{"class": name, "support": "0", "precision": "0", "recall": "0"} for name in sorted(empty)]
    rows += [{"class": f"class {k:02}", "support": "3", "precision": "1", "recall": f"0.{k:02}"} for k in range(32)]
    classes = [row | {"recall_low": "0", "recall_high": "1"} for row in rows]
    names = [row["class"] for row in classes]
    info = DatasetInfo("folder:a", names, [3, 8, 8], {}, [0.3] * 3, [0.3] * 3, "d" * 64)
    page = card.page(trained(names), Preprocess(3, 8, 8), card.Evaluated(METRICS, classes, info, {}), TAGS)
    figures, rest = page.split("## Limits")
    assert [line.split(" | ")[0] for line in figures.splitlines() if line.startswith("| class ")][1:] == [
        f"| class {k:02}" for k in range(30)
    ]
    assert not any(name in figures for name in empty)
    assert all(name in rest for name in empty)


@pytest.mark.parametrize("count", [1, 10_000])
def test_markdown_of_any_number_of_classes_fits_a_database(count: int) -> None:
    assert len(card.markdown(trained([f"a class with a long name {n}" for n in range(count)]), METRICS, TAGS)) < 4000


def test_markdown_of_many_long_settings_counts_those_that_do_not_fit() -> None:
    model = trained(["left"])
    model.recipe["model"] |= {f"setting_{n}": "a | b\n" * 20 for n in range(100)}
    text = card.markdown(model, METRICS, TAGS)
    assert len(text) < 4000
    assert "longer or further ones are in the model's card.md" in text
    assert all(row.count("|") - row.count("\\|") in (0, 3) for row in text.split("| setting")[1].splitlines()[2:])


def test_page_tells_data_classes_limits_and_choice() -> None:
    rows = [{"class": "left", "support": "30", "precision": "0.9", "recall": "0.8"}]
    rows[0] |= {"recall_low": "0.7", "recall_high": "0.85", "f1": "0.85"}
    info = DatasetInfo("digits", ["left"], [3, 8, 8], {"train": {"left": 60}}, [0.3] * 3, [0.3] * 3, "d" * 64)
    chosen = {"metric": "accuracy", "value": 0.99, "values": [0.97, 0.98]}
    text = card.page(trained(["left"]), Preprocess(3, 8, 8), card.Evaluated(METRICS, rows, info, chosen), TAGS)
    for words in (
        "Source `digits`, images by split: train 60.",
        "| left | 30 | 0.9000 | 0.8000 | 0.7000 to 0.8500 |",
        "at most 33,554,432 bytes",
        "run again on fresh seeds: 0.9700, 0.9800",
        "- git_commit: `cccc",
    ):
        assert words in text


ODD = ("<img src=x onerror=alert(1)>", "a|b", "*bold* _it_ `code` [link](http://x)", "two\nlines", "a_b & c&lt;")


def test_names_of_classes_stand_in_the_cards_as_they_are() -> None:
    rows = [
        {"class": name, "support": "3", "precision": "1", "recall": "1", "recall_low": "0", "recall_high": "1"}
        for name in ODD
    ]
    info = DatasetInfo(f"folder:{ODD[0]}", list(ODD), [3, 8, 8], {}, [0.3] * 3, [0.3] * 3, "d" * 64)
    page = card.page(trained(list(ODD)), Preprocess(3, 8, 8), card.Evaluated(METRICS, rows, info, {}), TAGS)

    for text in (page, card.markdown(trained(list(ODD)), METRICS, TAGS)):
        tokens = list(tokens_of(text))
        assert not [one.content for one in tokens if one.type in ("html_inline", "html_block", "link_open", "em_open")]
        shown = "".join(one.content for one in tokens if one.type == "text")
        assert all(name.replace("\n", "\\n") in shown for name in ODD)
    cells = [one for one in tokens_of(page) if one.type == "td_open"]
    assert len(cells) == 5 * len(ODD)


def tokens_of(text: str) -> Iterator[Token]:
    """What a reader of Markdown that lets HTML through makes of `text`."""
    for token in MarkdownIt("commonmark", {"html": True}).enable("table").parse(text):
        yield token
        yield from token.children or ()


def test_card_in_the_registry_fits_a_database_whatever_the_classes_are_called() -> None:
    text = card.markdown(trained([f"{'&' * 90}{n}" for n in range(50)]), METRICS, TAGS)
    assert len(text) < 4000
    assert "50 classes: &amp;" in text
