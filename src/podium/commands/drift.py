"""`podium drift [VERSION] [--hours H] [--out PAGE] [--open] [--json]`."""

import argparse
import sys
import time
import traceback
import webbrowser
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from podium import process
from podium.commands._arguments import version_number
from podium.commands._project import opened
from podium.errors import InputError, RefusedError
from podium.text import counted

if TYPE_CHECKING:
    from podium.drift.window_verdict import Verdict
    from podium.drift.windows import Windows
    from podium.registry.versions import Version

NAME = "drift"
HELP = "test whether served images are still like those of the training set"
ORDER = 66
EXAMPLE = "podium drift", "are served images still like those of the training set?"
EXAMPLES = """\
  podium drift                    the champion's newest complete window of served images
  podium drift --hours 24         every window that ended in the last 24 hours, such as for a daily cron job
  podium drift 7 --open           version 7; a page with charts, shown in the browser
  podium drift --out drift.html   the page as this file
  podium drift --json             windows with every test, as a JSON list

`podium serve` stores statistics of what it serves, no image: brightness, contrast, sharpness, noise, colours, size, and
the model's outputs. A window is drift.window images. `drift` in params.yaml has the limits.

Exit codes: 0 no drift, or no complete window yet; 1 drift; 2 whatever else, such as a version without statistics."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The version, the windows, and the form of the answer."""
    parser.add_argument("version", metavar="VERSION", nargs="?", type=version_number, help="default: the champion")
    parser.add_argument("--hours", type=_hours, metavar="H", help="windows that ended in the last H hours")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a page with charts to this file")
    parser.add_argument("--open", action="store_true", help="show the page in the browser")
    parser.add_argument("--json", action="store_true", help="the windows as a JSON list")


def run(arguments: argparse.Namespace) -> None:
    """Test the windows, and print what they say. Raises RefusedError where there is drift, InputError where unknown."""
    try:
        drift = _looked_at(arguments)
    except Exception as error:  # exit code 1 would say that there is drift, and 0 that there is none
        message = process.message_of(error)
        if not message:
            with process.unread_output():
                traceback.print_exc()
            name = type(error).__name__
            message = f"whether there is drift is not known: {name} (above) is a bug of Podium, please report it"
        raise InputError(message) from None
    if drift:
        raise RefusedError(drift)


def _looked_at(arguments: argparse.Namespace) -> str:
    """Print what the windows say; the sentence about drift, empty where there is none, also where the reader left."""
    version, windows = _windows(arguments.version)
    verdicts = windows.settle()
    if not windows.folder.is_dir():
        raise InputError(
            f"no server has stored statistics of what {version} served, in {windows.folder}: start `podium serve` with"
            " drift.window in params.yaml (it was switched off, or drift.folder is another one)"
        )
    since = time.time() - 3600 * arguments.hours if arguments.hours else float("-inf")
    looked = [one for one in verdicts if one.ended >= since] if arguments.hours else verdicts[-1:]
    drift = _drift(version, [one for one in looked if one.drifted])
    with process.unread_output():
        _print(arguments, version, windows, looked)
    if arguments.out or arguments.open:
        with process.unread_output():
            _page(arguments, version, windows, verdicts)
    return drift


def _drift(version: "Version", drifted: "list[Verdict]") -> str:
    """The sentence about windows that drifted, the oldest first; empty without any."""
    if not drifted:
        return ""
    more = f", and in {counted(len(drifted) - 1, 'window')} before it" if len(drifted) > 1 else ""
    return f"{version}: drift in window {drifted[-1].window}{more}: {drifted[-1].words}"


def _hours(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of hours above 0, such as 24; got {text!r}")
    return found


def _windows(number: int | None) -> "tuple[Version, Windows]":
    """The version and its windows. Raises PodiumError where there is nothing to compare with."""
    from podium import paths
    from podium.config.params import load
    from podium.drift.reference import NAME as FILE
    from podium.drift.reference import Reference
    from podium.drift.windows import Rules, Windows, folder_of
    from podium.promotion import ledger
    from podium.registry import versions

    params = load(paths.PARAMS).drift
    with opened() as (tracking, name):
        version = versions.find(tracking, name, number or versions.CHAMPION)
        ledger.check_model(tracking, version)
        with versions.checked(tracking, version) as files:
            path = files / "artifacts/model" / FILE
            if not path.is_file():
                raise InputError(
                    f"{version} was registered by an earlier Podium and holds no statistics of its training images:"
                    " `dvc repro -f register` makes a version that has them"
                )
            reference = Reference.from_bytes(path.read_bytes(), f"{FILE} of {version}")
        folder = folder_of(params, name, version.number, versions.digest_of(version))
    return version, Windows(folder, reference, Rules.of(params))


def _print(arguments: argparse.Namespace, version: "Version", windows: "Windows", looked: "list[Verdict]") -> None:
    if arguments.json:
        import json
        from dataclasses import asdict

        rows = [asdict(one) | {"drifted": one.drifted, "words": one.words} for one in looked]
        print(json.dumps(rows, indent=2, ensure_ascii=False), flush=True)
        return
    waiting, rules = windows.opened().count, windows.rules
    until = f" of {rules.images:,}" if rules.images else ""
    print(f"{version}: {counted(waiting, 'image')}{until} in the open window", flush=True)
    if not looked:
        which = f"ended in the last {arguments.hours:g} hours" if arguments.hours else "is complete yet"
        print(f"no window {which}: nothing is compared", flush=True)
    for one in looked:
        print(_table(one), flush=True)


def _table(verdict: "Verdict") -> str:
    """A window's tests for a person."""
    from podium.text import one_line

    times = " to ".join(f"{datetime.fromtimestamp(at):%Y-%m-%d %H:%M}" for at in (verdict.began, verdict.ended))
    lines = [f"window {verdict.window}: {counted(verdict.count, 'image')}, {times}: {verdict.words or 'no drift'}"]
    rows = [["feature", "effect", "p", "training", "window", ""]]
    rows += [
        [
            *(one.feature, f"{one.effect:.3f}", f"{one.adjusted:.2g}"),
            *("" if value is None else f"{value:.4g}" for value in (one.before, one.now)),
            one.words if one.drifted else "",
        ]
        for one in verdict.changes
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines += [
        ("  " + "  ".join([f"{cell:<{w}}" for cell, w in zip(row, widths, strict=False)] + [row[-1]])).rstrip()
        for row in rows
    ]
    lines.append(f"  drift: effect {verdict.min_effect:g} or more and p {verdict.level:.2g} or less")
    return "\n".join(one_line(line) for line in lines)


def _page(arguments: argparse.Namespace, version: "Version", windows: "Windows", verdicts: "list[Verdict]") -> None:
    from podium.report import drift_page

    path = arguments.out or windows.folder / drift_page.NAME
    try:
        drift_page.build(str(version), windows, verdicts, path)
    except OSError as error:
        raise InputError(f"--out: {path} can't be written: {error.strerror}") from None
    aside = sys.stderr if arguments.json else sys.stdout  # of JSON nothing else is in the output
    print(path, file=aside, flush=True)
    if arguments.open and not webbrowser.open(path.resolve().as_uri()):
        print("no browser was found: open that file in one", file=aside, flush=True)
