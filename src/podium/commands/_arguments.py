"""Types of arguments that several commands take."""

import argparse


def version_number(text: str) -> int:
    """A version's number, 1 or more."""
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"must be the number of a version, such as 7; got {text!r}")
    return int(text)
