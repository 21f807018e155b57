"""data/ becomes one page: page.html filled with the report's parts, every text escaped, nothing fetched."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from podium.metrics.scores import as_percent
from podium.page_templates import page_templates
from podium.report.cost import Outlook, Spent, outlook, spent
from podium.report.image_advice import image_advice
from podium.report.report_data import Folders, ReportData, gather
from podium.report.sections import Section, sections
from podium.report.summary import Advice, Summary, advice, summarize
from podium.text import counted

NAME = "index.html"
TEMPLATE = Path(__file__).with_name("page.html")
STYLE = Path(__file__).with_name("page.css")
SCRIPT = Path(__file__).with_name("page.js")


@dataclass(frozen=True)
class Page:
    """The content of the report."""

    title: str
    subtitle: list[str]
    summary: Summary
    advice: list[Advice]
    sections: list[Section]
    facts: dict[str, Any]
    """Its numbers, for a program."""
    kind: str = "report"
    """report or drift: the command that writes it."""


def build(folders: Folders, out: Path) -> Path:
    """Write the report of `folders` to `out`/index.html atomically and return its path.

    A stage that has not run since the search is shown as missing. Raises InputError if not even the search has run.
    """
    return write(page_of(gather(folders)), out)


def write(page: Page, out: Path) -> Path:
    """Write `page` to `out`/index.html atomically and return its path."""
    text = render(page)
    out.mkdir(parents=True, exist_ok=True)
    path = out / NAME
    temporary = path.with_name(NAME + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return path


def page_of(data: ReportData) -> Page:
    """The content of the report."""
    cost = spent(data.search, data.timing)
    more = outlook(data.search, (data.selected or {}).get("candidates", []))
    return Page(
        title=dataset_name(data),
        subtitle=_subtitle(data),
        summary=summarize(data, cost, more),
        advice=[*image_advice(data), *advice(data.search, cost, more)],
        sections=sections(data, cost),
        facts=_facts(data, cost, more),
    )


def render(page: Page) -> str:
    """The page as one HTML file."""
    environment = page_templates(TEMPLATE.parent)
    environment.filters |= {"markdown": _markdown, "percent": as_percent}
    figures = {c.key: c.figure() for s in page.sections for c in [*s.charts, *(s.small or [])]}
    return environment.get_template(TEMPLATE.name).render(
        page=page,
        style=Markup(STYLE.read_text(encoding="utf-8")),  # noqa: S704 (our own file)
        script=Markup(SCRIPT.read_text(encoding="utf-8")),  # noqa: S704 (our own file)
        plotly=Markup(get_plotlyjs()),  # noqa: S704 (plotly's own file, which holds no end of a script)
        figures=_json(figures),
        facts=_json(page.facts),
    )


def dataset_name(data: ReportData) -> str:
    """The title of the report."""
    if data.registered is not None:
        return f"{data.registered['name']} version {data.registered['version']}"
    return str((data.dataset or {}).get("source", data.search.study))


def _subtitle(data: ReportData) -> list[str]:
    parts = []
    if data.dataset is not None:
        images = sum(sum(row.values()) for row in data.dataset["counts"].values())
        shape = "x".join(map(str, data.dataset["shape"]))
        classes = counted(len(data.dataset["classes"]), "class")
        parts.append(f"{data.dataset['source']}: {counted(images, 'image')} of {shape}, {classes}")
    parts.append(f"study {data.search.study}")
    if data.timing is not None:
        parts.append(f"search started {data.timing.began}")
    if data.model is not None:
        parts.append(f"trained on {data.model['device']}")
    return parts


def _facts(data: ReportData, cost: Spent, more: Outlook) -> dict[str, Any]:
    """The numbers of the page for a program, as they are stored, not rounded."""
    search = data.search
    return {
        "study": search.study,
        "parent_run_id": search.parent_run_id,
        "metric": search.metric.name,
        "aims": [aim.name for aim in search.aims],
        "front": [t.number for t in search.trials if t.front],
        "trials": [[t.number, t.state, t.value, t.last_value, t.epochs] for t in search.trials],
        "best": {"trial": search.best["trial"], "value": search.best["value"]},
        "importances": search.importances,
        "spent": asdict(cost),
        "outlook": asdict(more),
        "selected": data.selected,
        "metrics": data.evaluated.metrics if data.evaluated else None,
        "registered": data.registered,
        "reference_lines": data.lines.to_dict() if data.lines else None,
        "earlier": data.stale,
    }


def _json(content: Any) -> Markup:
    """JSON that cannot end the script element it is in."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704


def _markdown(text: str) -> Markup:
    return Markup(MarkdownIt("commonmark", {"html": False}).enable("table").render(text))  # noqa: S704 (HTML is off)
