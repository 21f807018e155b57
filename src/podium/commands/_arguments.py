"""Types of arguments that several commands take."""

import argparse


def version_number(text: str) -> int:
    """A version's number, 1 or more."""
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"must be the number of a version, such as 7; got {text!r}")
    return int(text)


def alias_name(text: str) -> str:
    """The name of an alias, which is not empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError("must be the name of an alias, such as challenger; got an empty one")
    return text


def add_break_claim(parser: argparse.ArgumentParser) -> None:
    """For commands that move the champion (podium.promotion.claims)."""
    parser.add_argument(
        "--break-claim",
        action="store_true",
        help="end the claim of a move that was killed on another machine, once it has not changed for 10 s; one of this"
        " machine is ended by itself",
    )
