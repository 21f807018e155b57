"""The audit's report: JSON for programs, Markdown and one self-contained page of HTML for people."""

import base64
import html as escape
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from podium.data.audit.findings import KINDS, Example, Finding
from podium.data.dataset import write_json
from podium.text import one_line

SHOWN = 30
"""Classes, sizes and modes that the pages list; the JSON holds all classes."""
NEAR = {
    "crops": "copies, resizes and crops of up to a tenth at each side",
    "copies": "copies and resizes; crops were not looked for (too many images, or too small ones; see doctor.near)",
    "off": "not looked for (images of less than 16 pixels, or doctor.near is off)",
}
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


@dataclass(frozen=True)
class Report:
    """The report; nothing in it depends on the order in which the source gave the images."""

    source: str
    files: int
    """Of the source, usable or not."""
    usable: int
    """Images that could be decoded."""
    used: int
    """Images that are left once what the policies skip is left out."""
    shape: list[int]
    """Channels, height and width of the prepared images."""
    counts: dict[str, dict[str, int]]
    """Images by class and split."""
    sizes: dict[str, int]
    """The most frequent sizes (width x height) before resizing, with their counts."""
    modes: dict[str, int]
    near: str
    """What near-duplicates were looked for: crops, copies or off."""
    findings: list[Finding]
    groups: int = 0
    """Groups that the source names, such as patients or scenes; each is in one split."""
    joined_groups: int = 0
    """What is left of them once those that near-duplicates connect count as one."""
    notes: tuple[str, ...] = ()
    """What the source's reader has to say, such as columns that it did not use."""

    def write(self, folder: Path, pixels: Callable[[int], NDArray[np.uint8]]) -> None:
        """Write audit.json, audit.md and audit.html to `folder`; `pixels`: the image (C, H, W) of a row."""
        write_json(folder / "audit.json", self.to_dict())
        (folder / "audit.md").write_text(self.markdown(), encoding="utf-8")
        text = _html(f"Data audit: {self.source}", self._numbers(), self._tables(), self.findings, pixels)
        (folder / "audit.html").write_text(text, encoding="utf-8")

    def to_dict(self) -> dict[str, Any]:
        """The fields, for JSON; `rows` mean something to the store only and are left out."""
        fields = asdict(self)
        for finding in fields["findings"]:
            for example in finding["examples"]:
                del example["rows"]
        return fields

    def refusals(self) -> list[Finding]:
        """What a policy says to refuse."""
        return [finding for finding in self.findings if finding.policy == "refuse"]

    def summary(self) -> list[str]:
        """The report for the console: a line for the images and one for each finding."""
        whole = [sum(row.values()) for row in self.counts.values()]
        lines = [
            f"{one_line(self.source)}: {self.used:,} images of {'x'.join(map(str, self.shape))}, {len(whole)} classes"
            f" ({_range(min(whole), max(whole))} images each)"
        ]
        sums = {part: sum(row[part] for row in self.counts.values()) for part in ("train", "val", "test")}
        lines.append("  " + ", ".join(f"{part} {size:,}" for part, size in sums.items()) + " (held out)")
        names = [f"{one_line(name)} {row['train']}/{row['val']}/{row['test']}" for name, row in self.counts.items()]
        more = [f"and {len(names) - SHOWN:,} more classes (see audit.json)"] if len(names) > SHOWN else []
        lines.append(f"  classes (train/val/test): {', '.join(names[:SHOWN] + more)}")
        if self.groups:
            lines.append(f"  {self._about_groups()}")
        lines += [f"  {one_line(note)}" for note in self.notes]
        for finding in self.findings:
            first = next((one_line(file) for one in finding.examples for file in one.files), "")
            lines.append(
                f"  {finding.sentence()}" + (f" ({first[:80]}{', ...' if finding.images > 1 else ''})" if first else "")
            )
        return lines if self.findings else [*lines, "  nothing wrong was found"]

    def markdown(self) -> str:
        """The report for a person."""
        lines = ["# Data audit", "", *(f"- {name}: {_cell(value)}" for name, value in self._numbers()), ""]
        for title, header, rows in self._tables():
            lines += [f"## {title}", "", "| " + " | ".join(header) + " |", "|---" + "|--:" * (len(header) - 1) + "|"]
            lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows] + [""]
        lines += ["## Findings", ""] + ([] if self.findings else ["Nothing wrong was found.", ""])
        for finding in self.findings:
            lines += [
                f"### {KINDS[finding.kind].capitalize()}",
                "",
                f"{finding.sentence()} (`doctor.{finding.kind}`)",
                "",
            ]
            lines += [f"- {_example(one.files, one.classes, one.why)}" for one in finding.examples]
            rest = finding.groups - len(finding.examples)
            lines += [*([f"- and {rest:,} more"] if rest > 0 else []), ""]
        return "\n".join(lines)

    def _numbers(self) -> list[tuple[str, str]]:
        return [
            ("source", self.source),
            ("files", f"{self.files:,}, of which {self.usable:,} are usable images and {self.used:,} are used"),
            ("prepared as", f"{'x'.join(map(str, self.shape))} (channels x height x width)"),
            ("near-duplicates", NEAR[self.near]),
            *([("groups", self._about_groups())] if self.groups else []),
            *(("note", note) for note in self.notes),
        ]

    def _about_groups(self) -> str:
        joined = f"; near-duplicates join them to {self.joined_groups:,}" if self.joined_groups < self.groups else ""
        return f"{self.groups:,} group{'s' if self.groups > 1 else ''} of the source, each within one split{joined}"

    def _tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Title, header and rows."""
        parts = ("train", "val", "test")
        rows = [[name, *(f"{row[part]:,}" for part in parts)] for name, row in self.counts.items()]
        total = ["all", *(f"{sum(row[part] for row in self.counts.values()):,}" for part in parts)]
        more = [[f"and {len(rows) - SHOWN:,} more classes", "", "", ""]] if len(rows) > SHOWN else []
        sizes = [[size, f"{count:,}"] for size, count in self.sizes.items()]
        modes = [[mode, f"{count:,}"] for mode, count in self.modes.items()]
        return [
            ("Classes", ["class", *parts], [*rows[:SHOWN], *more, total]),
            ("Sizes", ["size", "images"], sizes),
            ("Modes", ["mode", "images"], modes),
        ]


def most_common(values: list[str]) -> dict[str, int]:
    """The most frequent of `values` with their counts, and how many others there are."""
    counted = sorted(Counter(values).items(), key=lambda pair: (-pair[1], pair[0]))
    rest = sum(count for _, count in counted[SHOWN:])
    return dict(counted[:SHOWN]) | ({"others": rest} if rest else {})


def _example(files: list[str], classes: list[str], why: str) -> str:
    parts = [", ".join(map(_code, files)), f"({', '.join(map(_cell, classes))})" if classes else "", _cell(why)]
    return " ".join(part for part in parts if part)


def _code(text: str) -> str:
    return f"`{one_line(text).replace('`', chr(0x2019))}`"


def _cell(text: str) -> str:
    """`text` so that it can't break a table, nor be taken for HTML."""
    for character in "\\|<>&*_[]`":
        text = text.replace(character, f"\\{character}")
    return one_line(text)


def _range(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _html(
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
        *(_figures(example, pixels) for example in finding.examples),
        f"<p>and {rest:,} more</p>" if rest > 0 else "",
    ]
    return "\n".join(lines)


def _figures(example: Example, pixels: Callable[[int], NDArray[np.uint8]]) -> str:
    rows: list[int | None] = [*example.rows] or [None] * len(example.files)
    figures = [
        f"<figure>{'' if row is None else _thumbnail(pixels(row))}<figcaption>{_text(file)}</figcaption></figure>"
        for file, row in zip(example.files, rows, strict=True)
    ]
    text = " ".join([", ".join(example.classes), example.why]).strip()
    return f'<div class="group">{"".join(figures)}<div class="why">{_text(text)}</div></div>'


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
    return escape.escape(one_line(text))
