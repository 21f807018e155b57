"""The audit's report: JSON and CSV for programs, Markdown and one self-contained page of HTML for people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from podium.data.audit import audit_page
from podium.data.audit.findings import KINDS, Finding
from podium.data.dataset import write_json
from podium.data.sources.item import cell
from podium.text import one_line, write_row

SHOWN = 30
"""Classes, sizes and modes that the pages list; the JSON holds all classes."""
NEAR = {
    "crops": "copies, resizes and crops of up to a tenth at each side",
    "copies": "copies and resizes; crops were not looked for (too many images, or too small ones; see doctor.near)",
    "off": "not looked for (images of less than 16 pixels, or doctor.near is off)",
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
    groups: int = 0
    """Groups that the source names, such as patients or scenes; each is in one split."""
    joined_groups: int = 0
    """What is left of them once those that near-duplicates connect count as one."""
    notes: tuple[str, ...] = ()
    """What the source's reader has to say, such as columns that it did not use."""

    sides: list[list[int]] = field(default_factory=list)
    """Bars of a histogram of the shorter sides: [from, below, images]; 0: no end."""
    resizing: str = ""
    """What resizing cuts off, pads or stretches, a sentence."""
    samples: dict[str, list[int]] = field(default_factory=dict)
    """Rows in the store of some training images by class."""

    def write(self, folder: Path, pixels: audit_page.Pixels, refused: Sequence[str] = ()) -> None:
        """Write audit.json, audit.csv, audit.md and audit.html to `folder`; `pixels`: the image (C, H, W) of a row.

        `refused`: why prepare would refuse the images, beyond the findings' own policies.
        """
        write_json(folder / "audit.json", self.to_dict())
        (folder / "audit.md").write_text(self.markdown(), encoding="utf-8")
        (folder / "audit.html").write_text(audit_page.render(self, pixels, refused), encoding="utf-8")
        with (folder / "audit.csv").open("w", encoding="utf-8", newline="") as file:
            write_row(file, ["kind", "policy", "group", "file", "classes", "why"])
            for finding in self.findings:
                for one in finding.every:
                    write_row(
                        file, [finding.kind, finding.policy, one.group, cell(one.file), cell(one.classes), one.why]
                    )

    def to_dict(self) -> dict[str, Any]:
        """The fields, for JSON. Rows mean something to the store only; audit.csv has every file of the findings."""
        fields = asdict(replace(self, findings=[replace(one, every=()) for one in self.findings]))
        del fields["samples"]
        for finding in fields["findings"]:
            del finding["every"]
            for example in finding["examples"]:
                del example["rows"]
        return fields

    def refusals(self) -> list[Finding]:
        """What a policy says to refuse."""
        return [finding for finding in self.findings if finding.policy == "refuse"]

    def summary(self, *, refused: bool = False) -> list[str]:
        """The report for the console: a line for the images and one for each finding.

        `refused`: whether the images are refused for another reason, so that something is wrong anyway.
        """
        whole = [sum(row.values()) for row in self.counts.values()]
        lines = [
            f"{one_line(self.source)}: {self.used:,} images of {'x'.join(map(str, self.shape))}, {len(whole):,} classes"
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
        if not self.findings and not refused:
            return [*lines, "  nothing wrong was found"]
        return lines

    def markdown(self) -> str:
        """The report for a person."""
        lines = ["# Data audit", "", *(f"- {name}: {_cell(value)}" for name, value in self.numbers()), ""]
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

    def numbers(self) -> list[tuple[str, str]]:
        """What the report says of the set as a whole: names and sentences."""
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


def most_common(counts: Mapping[str, int]) -> dict[str, int]:
    """The most frequent of `counts`, and how many others there are."""
    counted = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
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
