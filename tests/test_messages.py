"""Every message that the source raises for a person: it says a value or what to type, and reads as a sentence."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src/podium"
OURS = {"PodiumError", "InputError", "RefusedError", "InterruptedSearchError", "LockFileError"}


def raised() -> list[tuple[str, str]]:
    """Place and text of every message of our errors that is spelled out where it is raised; a value is {}."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in OURS and node.args:
                place = f"{path.relative_to(SOURCE)}:{node.lineno}"
                if (text := _text(node.args[0])) is not None:
                    found.append((place, text))
    return found


def _text(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    if isinstance(node, ast.BinOp):
        return (_text(node.left) or "{}") + (_text(node.right) or "{}")
    return None


def test_messages_are_found() -> None:
    assert len(raised()) > 50


@pytest.mark.parametrize(("place", "text"), raised())
def test_message_names_a_value_or_what_to_type_and_reads_as_a_sentence(place: str, text: str) -> None:
    assert "{}" in text or "`" in text or "--" in text, "what was got, or what to type"
    assert text == text.strip()
    assert not text.endswith("!")
    assert ". " in text or not text.endswith("."), "one sentence has no full stop, several have theirs"


def test_nothing_raises_a_bare_exception() -> None:
    bare = []
    for path in sorted(SOURCE.rglob("*.py")):
        raises = [n.exc for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Raise)]
        names = [getattr(exc.func, "id", "") for exc in raises if isinstance(exc, ast.Call)]
        bare += [path.name for name in names if name in ("Exception", "BaseException", "AssertionError")]
    assert bare == []
