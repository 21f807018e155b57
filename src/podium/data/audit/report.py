"""The doctor's report: JSON for programs, Markdown and one page of HTML for people."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podium.data.audit import page
from podium.data.audit.findings import KINDS, Finding
from podium.data.dataset import write_json

SHOWN = 30
"""Classes, sizes and modes that the pages list; the JSON holds all classes."""
NEAR = {
    "crops": "copies, resizes and crops of up to a tenth at each side",
    "copies": "copies and resizes; crops were not looked for (too many images, or too small ones; see doctor.near)",
    "off": "none were looked for (images of less than 16 pixels, or doctor.near is off)",
}


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

    def write(self, folder: Path, pixels: Callable[[int], NDArray[np.uint8]]) -> None:
        """Write audit.json, audit.md and audit.html to `folder`; `pixels`: the image (C, H, W) of a row."""
        write_json(folder / "audit.json", self.to_dict())
        (folder / "audit.md").write_text(self.markdown(), encoding="utf-8")
        text = page.html(f"Doctor's report: {self.source}", self._numbers(), self._tables(), self.findings, pixels)
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
            f"{_flat(self.source)}: {self.used:,} images of {'x'.join(map(str, self.shape))}, {len(whole)} classes"
            f" ({_range(min(whole), max(whole))} images each)"
        ]
        sums = {part: sum(row[part] for row in self.counts.values()) for part in ("train", "val", "test")}
        lines.append("  " + ", ".join(f"{part} {size:,}" for part, size in sums.items()) + " (sealed)")
        for finding in self.findings:
            first = next((_flat(file) for one in finding.examples for file in one.files), "")
            lines.append(
                f"  {finding.sentence()}" + (f" ({first[:80]}{', ...' if finding.images > 1 else ''})" if first else "")
            )
        return lines if self.findings else [*lines, "  nothing wrong was found"]

    def markdown(self) -> str:
        """The report for a person."""
        lines = ["# Doctor's report", "", *(f"- {name}: {_cell(value)}" for name, value in self._numbers()), ""]
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
        ]

    def _tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Title, header and rows."""
        parts = ("train", "val", "test")
        rows = [[name, *(f"{row[part]:,}" for part in parts)] for name, row in self.counts.items()]
        total = ["all", *(f"{sum(row[part] for row in self.counts.values()):,}" for part in parts)]
        more = [[f"and {len(rows) - SHOWN:,} classes more", "", "", ""]] if len(rows) > SHOWN else []
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
    return f"`{_flat(text).replace('`', chr(0x2019))}`"


def _cell(text: str) -> str:
    """`text` so that it can't break a table, nor be taken for HTML."""
    for character in "\\|<>&*_[]`":
        text = text.replace(character, f"\\{character}")
    return _flat(text)


def _flat(text: str) -> str:
    """`text` on one line, without what a terminal would obey."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _range(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"
