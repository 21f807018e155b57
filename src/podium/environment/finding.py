"""One thing that was looked at."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """What was found, and what to do where it is not as it should be."""

    subject: str
    level: Literal["ok", "note", "fail"]
    """note: worth knowing, nothing fails because of it."""
    found: str
    remedy: str = ""


def ok(subject: str, found: str) -> Finding:
    """As it should be."""
    return Finding(subject, "ok", found)


def note(subject: str, found: str, remedy: str) -> Finding:
    """Worth knowing."""
    return Finding(subject, "note", found, remedy)


def fail(subject: str, found: str, remedy: str) -> Finding:
    """Something would fail."""
    return Finding(subject, "fail", found, remedy)


def table(findings: list[Finding]) -> str:
    """For a person: a line each, the remedy below."""
    width = max(len(f.subject) for f in findings)
    lines = []
    for f in findings:
        lines.append(f"{f.level:<4}  {f.subject:<{width}}  {f.found}")
        if f.remedy:
            lines.append(f"{'':<4}  {'':<{width}}  -> {f.remedy}")
    return "\n".join(lines)
