from pathlib import Path

import pytest

from podium.closure import code_digest, import_closure
from podium.errors import InputError

PROJECT = {
    "app/__init__.py": '"""The package."""\n',
    "app/main.py": "import json\nimport numpy\n\nfrom app import direct\nfrom app.deep.leaf import VALUE\n",
    "app/direct.py": "def run():\n    from app import lazy\n    return lazy\n",
    "app/lazy.py": 'FILE = __import__("pathlib").Path(__file__).with_name("beside.py")\nFILE.with_name("page.html")\n',
    "app/beside.py": "BESIDE = 1\n",
    "app/page.html": "<p>",
    "app/deep/__init__.py": "",
    "app/deep/leaf.py": "from . import sibling\nfrom ..typed import Kind\n\nVALUE = 1\n",
    "app/deep/sibling.py": "from app.deep import leaf\n",
    "app/typed.py": "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import app.only_types\n\nKind = int\n",
    "app/only_types.py": "",
    "app/unrelated.py": "from app import main\n",
}


NOT_REACHED = ("app/unrelated.py", "app/only_types.py")
"""Nobody imports the first; only type checkers see the other."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name, text in PROJECT.items():
        path = tmp_path / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "src"


def test_closure_of_a_module_is_every_project_file_that_it_imports(source: Path) -> None:
    found = [path.as_posix() for path in import_closure("app.main", source)]

    assert found == sorted(f"src/{name}" for name in PROJECT if name not in NOT_REACHED)


def test_closure_of_a_package_is_its_init(source: Path) -> None:
    found = [path.as_posix() for path in import_closure("app.deep", source)]

    assert found == ["src/app/__init__.py", "src/app/deep/__init__.py"]


def test_closure_of_an_unknown_module_is_refused(source: Path) -> None:
    with pytest.raises(InputError, match=r"app\.mian is no module below"):
        import_closure("app.mian", source)


def test_closure_of_the_loop_holds_what_decides_a_result_and_neither_search_nor_tracking() -> None:
    names = {path.as_posix().removeprefix("src/podium/") for path in import_closure("podium.training.loop")}

    own = {f"training/{name}.py" for name in ("loop", "optimization", "batches", "seeds")}
    assert own | {"models/build.py", "config/recipe.py"} <= names
    assert "config/params.py" not in names
    assert not any(name.startswith(("tuning/", "stages/", "tracking/")) for name in names)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        pytest.param("app/deep/leaf.py", "VALUE = 1", "# why\n\nVALUE = 1  # the reason", id="comment"),
        pytest.param("app/deep/leaf.py", "VALUE = 1", 'VALUE = 1\n"""What it is."""', id="docstring-of-a-field"),
        pytest.param("app/direct.py", "def run():", 'def run():\n    """Run."""', id="docstring-of-a-function"),
        pytest.param("app/__init__.py", "The package.", "Another sentence.", id="docstring-of-a-module"),
        pytest.param("app/beside.py", "BESIDE = 1", "BESIDE = (\n    1\n)", id="layout"),
        pytest.param("app/unrelated.py", "main", "main, direct", id="file-that-is-not-imported"),
    ],
)
def test_digest_after_a_change_without_meaning_stays(source: Path, name: str, before: str, after: str) -> None:
    old = code_digest("app.main", source)

    _edit(source / name, before, after)

    assert code_digest("app.main", source) == old


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        pytest.param("app/deep/leaf.py", "VALUE = 1", "VALUE = 2", id="number"),
        pytest.param("app/deep/leaf.py", "VALUE = 1", "VALUE = 1.0", id="type-of-a-number"),
        pytest.param("app/deep/leaf.py", "VALUE = 1", "VALUE = None", id="none"),
        pytest.param("app/beside.py", "BESIDE", "OTHER", id="name"),
        pytest.param("app/page.html", "<p>", "<b>", id="template"),
        pytest.param("app/direct.py", "return lazy", "return [lazy]", id="structure"),
        pytest.param("app/lazy.py", "FILE", "from app import unrelated\nFILE", id="new-import"),
    ],
)
def test_digest_after_a_change_of_meaning_differs(source: Path, name: str, before: str, after: str) -> None:
    old = code_digest("app.main", source)

    _edit(source / name, before, after)

    assert code_digest("app.main", source) != old


def test_digest_of_a_project_that_was_moved_stays(source: Path, tmp_path: Path) -> None:
    old = code_digest("app.main", source)

    moved = source.parent.rename(tmp_path.with_name(f"{tmp_path.name}-moved")) / "src"

    assert code_digest("app.main", moved) == old


def _edit(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


ENCODINGS = {
    "with a byte order mark": b"\xef\xbb\xbfVALUE = '\xc3\xa9'\n",
    "in latin-1": b"# -*- coding: latin-1 -*-\nVALUE = '\xe9'\n",
    "in cp1252, said in its second line": b"\n# vim: set fileencoding=cp1252 :\nVALUE = '\xe9'\n",
    "with the line ends of Windows": b"VALUE = '\xc3\xa9'\r\n",
}


@pytest.mark.parametrize("content", ENCODINGS.values(), ids=ENCODINGS)
def test_file_that_python_imports_is_read_as_python_reads_it(source: Path, content: bytes) -> None:
    (source / "app/lazy.py").write_text("VALUE = 'é'\n", encoding="utf-8")
    expected = code_digest("app.main", source)
    (source / "app/lazy.py").write_bytes(content)
    assert code_digest("app.main", source) == expected


BROKEN = {
    "a syntax error": (b"VALUE = 1\ndef f(:\n", r"lazy.py, line 2: SyntaxError: invalid syntax\. This file belongs"),
    "a null byte": (b"VALUE = 1\0\n", r"lazy.py.*: (SyntaxError|ValueError): source code .* null bytes\. "),
    "another encoding": (b"VALUE = '\xe9'\n", r"lazy.py.*: (UnicodeDecodeError|SyntaxError): .*(utf-8|encoding)"),
    "an unknown encoding": (b"# coding: utf-99\n", r"lazy.py.*: SyntaxError: unknown encoding"),
}


@pytest.mark.parametrize(("content", "problem"), BROKEN.values(), ids=BROKEN)
def test_file_that_is_no_python_is_refused_by_its_name(source: Path, content: bytes, problem: str) -> None:
    (source / "app/lazy.py").write_bytes(content)
    with pytest.raises(InputError, match=problem):
        code_digest("app.main", source)
