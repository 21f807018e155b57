"""The verdict in Markdown, for the page of the search's parent run in MLflow."""

from podium.report.page import Page
from podium.tracking.record import HELP

LIMIT = 4500
"""Characters: a tag of MLflow holds 5,000."""


def note(page: Page) -> str:
    """The answers of `page`, and how to compare trials."""
    top = page.verdict
    lines = [f"## {page.title}: {top.headline} {top.of_what}", ""]
    if top.low is not None and top.high is not None:
        lines[0] += f" ({top.interval} {100 * top.low:.2f} to {100 * top.high:.2f} %)"
    for card in top.cards:
        lines.append(f"- **{card.question}** {card.answer}. {' '.join(card.lines)}")
    lines += ["", "**What to try next**", "", *(f"1. {a.do} ({a.why})" for a in page.advice), ""]
    lines += ["The whole page is the artifact `report/index.html`; pictures are in `figures/`.", "", HELP]
    return "\n".join(lines)[:LIMIT]
