"""data/ becomes one page."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from podium.report.advice import advice
from podium.report.budget import Outlook, Spent, outlook, spent
from podium.report.gather import Folders, Story, gather
from podium.report.page import Page, dataset_name, render
from podium.report.sections import sections
from podium.report.verdict import verdict

NAME = "index.html"


def build(folders: Folders, out: Path) -> Path:
    """Write the report of `folders` to `out`/index.html, whole or not at all, and return its path.

    A stage that has not run yet is said to be missing, as is one that has not run since the search. Raises InputError
    where not even the search has.
    """
    return write(page_of(gather(folders)), out)


def write(page: Page, out: Path) -> Path:
    """Write `page` to `out`/index.html, whole or not at all, and return its path."""
    text = render(page)
    out.mkdir(parents=True, exist_ok=True)
    path = out / NAME
    temporary = path.with_name(NAME + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return path


def page_of(story: Story) -> Page:
    """Everything that the report says."""
    cost = spent(story.search, story.timing)
    more = outlook(story.search, (story.selected or {}).get("candidates", []))
    return Page(
        title=dataset_name(story),
        subtitle=_subtitle(story),
        verdict=verdict(story, cost, more),
        advice=advice(story.search, cost, more),
        sections=sections(story, cost),
        facts=_facts(story, cost, more),
    )


def _subtitle(story: Story) -> list[str]:
    parts = []
    if story.dataset is not None:
        images = sum(sum(row.values()) for row in story.dataset["counts"].values())
        shape = "x".join(map(str, story.dataset["shape"]))
        parts.append(
            f"{story.dataset['source']}: {images:,} images of {shape}, {len(story.dataset['classes'])} classes"
        )
    parts.append(f"study {story.search.study}")
    if story.timing is not None:
        parts.append(f"search of {story.timing.began}")
    if story.model is not None:
        parts.append(f"trained on {story.model['device']}")
    return parts


def _facts(story: Story, cost: Spent, more: Outlook) -> dict[str, Any]:
    """The numbers of the page for a program: the stores' own, not rounded."""
    search = story.search
    return {
        "study": search.study,
        "parent_run_id": search.parent_run_id,
        "metric": search.metric,
        "trials": [[t.number, t.state, t.value, t.last_value, t.epochs] for t in search.trials],
        "best": {"trial": search.best["trial"], "value": search.best["value"]},
        "importances": search.importances,
        "spent": asdict(cost),
        "outlook": asdict(more),
        "selected": story.selected,
        "metrics": story.evaluated.metrics if story.evaluated else None,
        "registered": story.registered,
        "earlier": story.earlier,
    }
