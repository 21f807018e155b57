"""How the HTML pages are made from their templates: everything is escaped, and a name that is missing is an error."""

from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def page_templates(folder: Path, finalize: Callable[[object], object] | None = None) -> Environment:
    """The templates in `folder`; `finalize` is called with each value before it is written into a page."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
