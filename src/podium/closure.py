"""Which files of the project a module is made of, and a digest of what they mean.

dvc.yaml lists the first (DVC does not follow imports), and a study is named after the second: a changed comment does
not start another study, a changed number does. `python -m podium.closure` brings the lists in dvc.yaml up to date.
"""

import ast
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from podium import process
from podium.errors import InputError

SOURCE = Path(__file__).resolve().parents[1]
"""The folder that packages are imported from."""


def import_closure(module: str, source: Path = SOURCE) -> list[Path]:
    """The project's files that `module` imports, itself included, however deep; sorted, relative to `source`'s parent.

    Imports inside functions and for type checks count, and so does the `__init__` of every package on the way.
    `path.with_name("other.py")`, how a module names a file that is loaded later, counts as an import of that file;
    so does the name of one that is no code, such as a page's template.
    Raises InputError where there is no such module.
    """
    found: set[Path] = set()
    waiting = _files(module, source)
    if not waiting:
        raise InputError(f"{module} is no module below {source}")
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting |= _imported(file, source) if file.suffix == ".py" else set()
    return sorted(file.relative_to(source.parent) for file in found)


def code_digest(module: str, source: Path = SOURCE) -> str:
    """SHA-256 over the meaning of `module`'s import closure: names of files and syntax, no comment, docstring or line.

    It is the same under every version of Python that parses the code alike.
    """
    sha = hashlib.sha256()
    for path in import_closure(module, source):
        text = (source.parent / path).read_text(encoding="utf-8")
        meaning = _meaning(ast.parse(text)) if path.suffix == ".py" else text
        sha.update(f"{path.as_posix()}\n{meaning}\n".encode())
    return sha.hexdigest()


def with_code(pipeline: str) -> str:
    """The text of dvc.yaml with the files that each stage's module is made of, in the place of those listed."""
    lines: list[str] = []
    missing: list[str] = []
    for line in pipeline.splitlines():
        if stage := re.fullmatch(r" +cmd: python -m (podium\.stages\.\w+)", line):
            missing = [f"      - {path.as_posix()}" for path in import_closure(stage[1])]
        if line.startswith("      - src/"):
            lines += missing
            missing = []
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Bring the lists of code in dvc.yaml up to date."""
    path = SOURCE.parent / "dvc.yaml"
    before = path.read_text(encoding="utf-8")
    after = with_code(before)
    if after != before:
        path.write_text(after, encoding="utf-8")
    print(f"{path}: {'up to date' if after == before else 'brought up to date'}")


def _files(module: str, source: Path) -> set[Path]:
    """The file of `module` and those of the packages it is in; empty where it is not the project's."""
    parts = module.split(".")
    base = source.joinpath(*parts)
    file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    if not file.is_file():
        return set()
    packages = (source.joinpath(*parts[:depth]) / "__init__.py" for depth in range(1, len(parts)))
    return {file, *(package for package in packages if package.is_file())}


def _imported(file: Path, source: Path) -> set[Path]:
    """The project's files that `file` names itself."""
    files: set[Path] = set()
    package = file.relative_to(source).parent.parts
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        for name in _names(node, package):
            files |= _files(name, source)
        if (neighbour := _neighbour(node)) and (file.parent / neighbour).is_file():
            files.add(file.parent / neighbour)
    return files


def _names(node: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    """The modules that one statement may import: `from a import b` names a, and a.b if that is a module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package[: len(package) + 1 - node.level] if node.level else ()
        base = ".".join([*above, *([node.module] if node.module else [])])
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)


def _neighbour(node: ast.AST) -> str | None:
    match node:
        case ast.Call(func=ast.Attribute(attr="with_name"), args=[ast.Constant(value=str(name))]):
            return name
    return None


def _meaning(node: Any) -> str:
    """`node` as text. Empty fields are left out, since each version of Python adds some (ast.dump shows them)."""
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
        return f"{type(node).__name__}({','.join(f'{name}={_meaning(value)}' for name, value in fields)})"
    if isinstance(node, list):
        return f"[{','.join(_meaning(item) for item in node if not _is_docstring(item))}]"
    return repr(node)


def _is_docstring(node: Any) -> bool:
    """A string that is a statement: the docstring of a module, class, function or field."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


if __name__ == "__main__":
    process.run(main)
