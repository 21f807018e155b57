"""The page itself: sections, tables and charts put into page.html, every text escaped, nothing fetched."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from podium.report.advice import Advice
from podium.report.chart import Chart
from podium.report.gather import Story
from podium.report.verdict import Verdict

TEMPLATE = Path(__file__).with_name("page.html")
STYLE = Path(__file__).with_name("page.css")
SCRIPT = Path(__file__).with_name("page.js")


@dataclass(frozen=True)
class Table:
    """Rows of text."""

    head: list[str]
    rows: list[list[str]]
    numbers: int = 0
    """The last so many columns are numbers, aligned to the right."""
    marked: int | None = None
    """A row that stands out."""
    pairs: bool = False
    """Two columns, set as name and value side by side."""


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    key: str
    title: str
    charts: list[Chart]
    tables: list[tuple[str, Table]]
    """With a title each."""
    text: str = ""
    """Markdown of our own making; HTML in it is shown, not obeyed."""
    small: list[Chart] | None = None
    """Little charts in a grid."""
    small_title: str = ""
    pictures: list[tuple[str, list[dict[str, Any]]]] | None = None
    """Titles and entries of gallery.json."""
    missing: str = ""
    """What to run, where there is nothing to show."""


@dataclass(frozen=True)
class Page:
    """Everything on it."""

    title: str
    subtitle: list[str]
    verdict: Verdict
    advice: list[Advice]
    sections: list[Section]
    facts: dict[str, Any]
    """The numbers behind it, for a program."""


def render(page: Page) -> str:
    """The page as one HTML file."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["markdown"] = _markdown
    figures = {c.key: c.figure() for s in page.sections for c in [*s.charts, *(s.small or [])]}
    return environment.get_template(TEMPLATE.name).render(
        page=page,
        style=Markup(STYLE.read_text(encoding="utf-8")),  # noqa: S704 (our own file)
        script=Markup(SCRIPT.read_text(encoding="utf-8")),  # noqa: S704 (our own file)
        plotly=Markup(get_plotlyjs()),  # noqa: S704 (plotly's own file, which holds no end of a script)
        figures=_json(figures),
        facts=_json(page.facts),
    )


def dataset_name(story: Story) -> str:
    """What the report is about."""
    if story.registered is not None:
        return f"{story.registered['name']} version {story.registered['version']}"
    return str((story.dataset or {}).get("source", story.search.study))


def _json(content: Any) -> Markup:
    """JSON inside of a script element: it can't end it."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704


def _markdown(text: str) -> Markup:
    return Markup(MarkdownIt("commonmark", {"html": False}).enable("table").render(text))  # noqa: S704 (HTML is off)
