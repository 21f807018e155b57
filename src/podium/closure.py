"""Which files of the project a module is made of, and a digest of what they mean.

dvc.yaml lists the first (DVC does not follow imports), and a study is named after the second: a changed comment does
not start another study, a changed number does. `python -m podium.closure` brings the lists in dvc.yaml up to date.
"""

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

from podium import components, entry, own_code
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


MAKES = {
    "podium.models.build": ("network",),
    "podium.training.loop": ("network", "loss", "optimizer", "schedule", "augmentation", "metric"),
    "podium.tuning.sampling": ("sampler", "pruner", "metric"),
}
"""Which modules make components by their names: no import shows it."""


def stage_closure(module: str, source: Path = SOURCE) -> list[Path]:
    """What a stage's results depend on: its import closure, and the components that it may be told to make."""
    found = set(import_closure(module, source))
    for maker, kinds in MAKES.items():
        if _files(maker, source) and Path(source.name, *maker.split(".")).with_suffix(".py") in found:
            for package in (components.KINDS[kind].package for kind in kinds):
                for file in source.joinpath(*package.split(".")).glob("*.py"):
                    found |= set(import_closure(f"{package}.{file.stem}", source))
    return sorted(found)


def code_digest(module: str, source: Path = SOURCE) -> str:
    """SHA-256 over the meaning of `module`'s import closure: names of files and syntax, no comment, docstring or line.

    It is the same under every version of Python that parses the code alike.
    """
    sha = hashlib.sha256()
    for path in import_closure(module, source):
        sha.update(f"{path.as_posix()}\n{_text(source.parent / path)}\n".encode())
    return sha.hexdigest()


def _text(path: Path) -> str:
    """A file as its digest takes it: of code the meaning, of anything else the text."""
    text = path.read_text(encoding="utf-8")
    return _meaning(ast.parse(text)) if path.suffix == ".py" else text


LOOP = "podium.training.loop"
"""What every training runs through."""


def code_of(chosen: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What decides the result of a training that goes through the components `chosen`, (kind, name): digests by name.

    `loop` is what every training goes through; then each component's own file with all that it imports. Of people's own
    code it is the files in the project's `src/`, or the version of the package that it comes in. So another network, or
    a changed one that no configuration reaches, leaves a study as it is.
    """
    found = {"loop": code_digest(LOOP)}
    for kind, name in sorted(set(chosen)):
        own = components.find(kind, name)
        found[f"{kind} {name}"] = code_digest(own.__module__) if own else _own_digest(kind, name)
    return found


def own_files(names: Iterable[str]) -> list[Path]:
    """The files of the project's `src/` that people's own objects `names` (module:object) are made of, sorted."""
    source, found = own_code.source_folder(), set[Path]()
    for name in names:
        module = name.partition(":")[0]
        if _files(module, source):
            found |= set(import_closure(module, source))
    return sorted(path for path in found if path.parts[1:2] != ("podium",))


def _own_digest(kind: str, name: str) -> str:
    source = own_code.source_folder()
    if not own_code.is_name(name):
        return version_of(components.KINDS[kind].library)
    files = own_files([name])
    if not files:
        return version_of(name.partition(":")[0])
    sha = hashlib.sha256()
    for path in files:
        sha.update(f"{path.as_posix()}\n{_text(source.parent / path)}\n".encode())
    return sha.hexdigest()


def version_of(module: str) -> str:
    """The installed package that `module` comes in, and its version, such as `timm 1.0.31`."""
    top = module.partition(".")[0]
    names = sorted(set(packages_distributions().get(top, [])))
    return ", ".join(f"{name} {version(name)}" for name in names) or f"{top} (unknown version)"


def with_code(pipeline: str) -> str:
    """The text of dvc.yaml with the files that each stage's module is made of, in the place of those listed."""
    lines: list[str] = []
    missing: list[str] = []
    for line in pipeline.splitlines():
        if stage := re.fullmatch(r" +cmd: python -m (podium\.stages\.\w+)", line):
            missing = [f"      - {path.as_posix()}" for path in stage_closure(stage[1])]
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
    entry.run(main)
