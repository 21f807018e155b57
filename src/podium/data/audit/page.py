"""The doctor's report as one page of HTML that needs nothing else: style and thumbnails are inside, no script is."""

import base64
import html as escape
import io
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from podium.data.audit.findings import KINDS, Example, Finding

SIDE = 96
"""Pixels of a thumbnail's longer side at most."""
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin:2rem 0 .5rem}
table{border-collapse:collapse;margin:.5rem 2rem .5rem 0}
td,th{padding:.15rem .8rem;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left;padding-left:0}
.tables{display:flex;flex-wrap:wrap}.group{display:flex;flex-wrap:wrap;gap:.6rem;align-items:flex-end;
border-left:3px solid #ddd;padding:.2rem .8rem;margin:.5rem 0}
figure{margin:0;max-width:9rem}img{image-rendering:auto;min-width:48px;max-width:96px;background:#eee}
figcaption,.why{font-size:.8rem;color:#555;overflow-wrap:anywhere}
.refuse{color:#b00020}.skip{color:#a05a00}.keep{color:#2e6b34}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#1b1b1b}td,th,.group{border-color:#444}
figcaption,.why{color:#aaa}.refuse{color:#ff6b7d}.skip{color:#ffb454}.keep{color:#7fd18a}}
"""


def html(
    title: str,
    numbers: Sequence[tuple[str, str]],
    tables: Sequence[tuple[str, list[str], list[list[str]]]],
    findings: Sequence[Finding],
    pixels: Callable[[int], NDArray[np.uint8]],
) -> str:
    """The page. Every text in it, names of files too, is escaped."""
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; style-src'
        " 'unsafe-inline'\">",
        f"<title>{_text(title)}</title><style>{STYLE}</style></head><body><h1>{_text(title)}</h1>",
        "<table>" + "".join(f"<tr><td>{_text(n)}</td><td>{_text(v)}</td></tr>" for n, v in numbers) + "</table>",
        "<h2>Findings</h2>",
        _contents(findings),
        *(_finding(finding, pixels) for finding in findings),
        '<div class="tables">',
        *(_table(*table) for table in tables),
        "</div></body></html>\n",
    ]
    return "\n".join(parts)


def _contents(findings: Sequence[Finding]) -> str:
    if not findings:
        return "<p>Nothing wrong was found.</p>"
    lines = (f'<li><a class="{one.policy}" href="#{one.kind}">{_text(one.sentence())}</a></li>' for one in findings)
    return f"<ul>{''.join(lines)}</ul>"


def _finding(finding: Finding, pixels: Callable[[int], NDArray[np.uint8]]) -> str:
    rest = finding.groups - len(finding.examples)
    lines = [
        f'<h2 id="{finding.kind}">{_text(KINDS[finding.kind].capitalize())}</h2>',
        f'<p class="{finding.policy}">{_text(finding.sentence())} <code>doctor.{finding.kind}</code></p>',
        *(_example(example, pixels) for example in finding.examples),
        f"<p>and {rest:,} more</p>" if rest > 0 else "",
    ]
    return "\n".join(lines)


def _example(example: Example, pixels: Callable[[int], NDArray[np.uint8]]) -> str:
    rows: list[int | None] = [*example.rows] or [None] * len(example.files)
    figures = [
        f"<figure>{'' if row is None else _thumbnail(pixels(row))}<figcaption>{_text(file)}</figcaption></figure>"
        for file, row in zip(example.files, rows, strict=True)
    ]
    said = " ".join([", ".join(example.classes), example.why]).strip()
    return f'<div class="group">{"".join(figures)}<div class="why">{_text(said)}</div></div>'


def _thumbnail(image: NDArray[np.uint8]) -> str:
    picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def _table(title: str, header: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{_text(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div><h2>{_text(title)}</h2><table><tr>{head}</tr>{body}</table></div>"


def _text(text: str) -> str:
    """`text` escaped; what can't be printed is shown as an escape too."""
    return escape.escape("".join(c if c.isprintable() else repr(c)[1:-1] for c in text))
