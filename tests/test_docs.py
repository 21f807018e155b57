"""What README and docs show is true: each command can be typed, each link leads somewhere, nothing is missing."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from podium import cli
from podium.config import params
from podium.config import reference_page as params_page

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md"),
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / "docs/benchmarks/README.md", ROOT / "docs/reference/params.md"),
]
OTHERS = {".", "curl", "docker", "export", "git", "-d", "kubectl", "mkdir", "tensorboard", "mlflow"}
"""Programs that are not ours: they are known, and what is said to them is theirs to check."""


def commands() -> list[tuple[str, str]]:
    """Page and command of every line in a block of shell, and of every `podium ...` in a sentence."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            found += [
                (page.name, line.strip())
                for line in block.replace("\\\n", " ").splitlines()
                if line.strip() and line[0] != "#"
            ]
        prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        found += [(page.name, line) for line in re.findall(r"`((?:podium|dvc|make) [a-z][^`]*)`", prose)]
    return found


def check(line: str) -> None:
    """Raise or exit where the command does not exist or does not take these arguments."""
    words = shlex.split(line, comments=True)
    if ">" in words:
        words = words[: words.index(">")]
    if words[0] == "podium":
        if "--print-completion" in words:
            assert words[2] in ("bash", "zsh", "tcsh")
            return
        cli.command_parser().parse_args(words[1:])
    elif words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(words[1:]) <= set(targets)
    elif words[0] == "dvc":
        from dvc.cli import parse_args

        parse_args(words[1:])
    else:
        assert words[0] in OTHERS, f"{words[0]}: say in this test what checks it"


@pytest.mark.parametrize(("page", "line"), commands())
def test_command_that_is_shown_can_be_typed(page: str, line: str) -> None:
    check(line)


def test_pages_show_every_command() -> None:
    shown = {shlex.split(line, comments=True)[1] for _, line in commands() if line.startswith("podium ")}
    assert {command.NAME for command in cli.commands()} <= shown


@pytest.mark.parametrize("line", ["podium crown", "podium promote one", "make coffee", "dvc brew", "rm -rf data"])
def test_command_that_does_not_exist_would_be_found(line: str) -> None:
    from dvc.cli import DvcParserError

    with pytest.raises((SystemExit, AssertionError, DvcParserError)):
        check(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_pages_lead_to_a_heading(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            text = ((page.parent / target) if target else page).read_text(encoding="utf-8")
            headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            known = [re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings]
            assert anchor in known, f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_are_shown_are_valid(page: Path) -> None:
    for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        assert YAML(typ="safe", pure=True).load(block)
        params.parse(block)


def test_parameters_that_are_named_exist() -> None:
    sections = set(params.Params.model_fields) | {"register"}
    for page in PAGES:
        for name in re.findall(r"`([a-z]+\.[a-z_]+)`", page.read_text(encoding="utf-8")):
            section, field = name.split(".")
            if section in sections and field not in ("py", "yaml"):
                assert name in {*params.known_fields(), "train.poly_epsilon", "model.arguments"}, f"{page.name}: {name}"


def test_component_of_the_how_to_is_one() -> None:
    import torch
    from torch.nn.functional import cross_entropy

    page = (ROOT / "docs/how-to.md").read_text(encoding="utf-8")
    found: dict[str, Any] = {"__name__": "poly"}
    exec(re.findall(r"```python\n# src/podium/(.*?)```", page, re.DOTALL)[0].partition("\n")[2], found)  # noqa: S102
    logits, targets = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])

    plain = found["Poly"](poly_epsilon=0.0).build(None)(logits, targets)

    assert plain == cross_entropy(logits, targets)
    assert found["Poly"]().build(None)(logits, targets) > plain


def test_page_of_figures_lists_the_scripts_that_there_are() -> None:
    page = (ROOT / "docs/benchmarks/README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+\.py)` \|", page, re.MULTILINE)
    assert listed
    assert all((ROOT / "benchmarks" / name).is_file() for name in listed)


def test_entries_of_the_changelog_are_whole() -> None:
    """A merge left the half of one before an older version of the section."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"\n\n +[^| ].*", text) == []
    assert "\n\n### " in text


def test_reference_of_parameters_is_up_to_date() -> None:
    assert params_page.PAGE.read_text(encoding="utf-8") == params_page.page(), "python -m podium.config.reference_page"


def test_examples_in_help_can_be_typed() -> None:
    for command in cli.commands():
        for line in re.findall(r"^  (podium .*?)(?:  |$)", command.EXAMPLES, re.MULTILINE):
            words = shlex.split(line.split(" > ")[0].split(" | ")[0])
            cli.command_parser().parse_args(words[1:])
