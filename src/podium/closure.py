"""Which files of the project a module is made of, and a digest of what they mean.

dvc.yaml lists the first (DVC does not follow imports), and a study is named after the second: a changed comment does
not start another study, a changed number does. `python -m podium.closure` updates the lists in dvc.yaml.
"""

import ast
import hashlib
import json
import re
import textwrap
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

from podium import components, own_code, process
from podium.errors import InputError

SOURCE = Path(__file__).resolve().parents[1]
"""The folder that packages are imported from."""


def import_closure(module: str, source: Path = SOURCE) -> list[Path]:
    """The project's files that `module` imports, itself included, however deep; sorted, relative to `source`'s parent.

    Imports inside functions count, and so does the `__init__` of every package on the way; imports for type checkers do
    not. `path.with_name("other.py")`, how a module names a file that is loaded later, counts as an import of that file;
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
        sha.update(f"{path.as_posix()}\n{_text(source.parent / path)}\n".encode())
    return sha.hexdigest()


@dataclass(frozen=True)
class Code:
    """What is read of a file of code."""

    meaning: str
    """Its syntax, without comments, docstrings and lines."""
    imports: tuple[ast.Import | ast.ImportFrom, ...]
    """Those that are executed, within functions too."""
    neighbours: frozenset[str]
    """The names of files that it names as its neighbours."""


def _text(path: Path) -> str:
    """A file as its digest takes it: of code the meaning, of anything else the text."""
    return _read(path).meaning if path.suffix == ".py" else path.read_text(encoding="utf-8")


def _read(path: Path) -> Code:
    """The code in `path`, which is decoded as Python does it: UTF-8, or as its first lines say.

    Raises InputError where that is no Python, in a file that is perhaps never imported.
    """
    try:
        with tokenize.open(path) as file:
            return _parsed(file.read())
    except (SyntaxError, ValueError) as error:  # ValueError: bytes of another encoding, a null byte
        place = f"{path}, line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else f"{path}"
        what = error.msg if isinstance(error, SyntaxError) else str(error)
        raise InputError(
            f"{place}: {type(error).__name__}: {what}. This file belongs to what is imported by the code that"
            " params.yaml names (imports within functions count): correct it, or remove its import"
        ) from None


@lru_cache(maxsize=512)
def _parsed(text: str) -> Code:
    """Components share most of their files: each is read for every one, and parsed once."""
    tree = ast.parse(text)
    nodes = list(_executed(tree))
    imports = tuple(node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom))
    return Code(_meaning(tree), imports, frozenset(name for node in nodes if (name := _neighbour(node))))


STAGE = re.compile(
    r"(?P<head>cmd: python -m podium\.stages\.(?P<stage>\w+)\n(?:    params: .*\n)?    deps: )"
    r"\[(?P<deps>[^\]]*src/podium/[^\]]*)\]"
)
"""A stage of dvc.yaml that lists code of Podium's."""
WIDTH = 108
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


LIBRARIES = ("timm", "torchvision")
"""What a training may go through besides torch."""


def versions_of(chosen: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The versions of the libraries that decide the results of a training with the components `chosen`, (kind, name).

    Of torch, and of those that one of them names or whose module imports them. Builds of one version (`+cpu`) are told
    apart by the device.
    """
    found = {"torch": version("torch").partition("+")[0]}
    for kind, name in chosen:
        own = components.find(kind, name)
        files = import_closure(own.__module__) if own else []
        text = "".join((SOURCE.parent / path).read_text(encoding="utf-8") for path in files if path.stem != "__init__")
        for library in LIBRARIES:
            named = name.partition(":")[0] == library
            if named or re.search(rf"^\s*(?:import|from) {library}\b", text, re.MULTILINE):
                found[library] = version(library).partition("+")[0]
    return dict(sorted(found.items()))


def own_files(names: Iterable[str]) -> list[Path]:
    """The files of the project's `src/` that people's own objects `names` (module:object) are made of, sorted."""
    source, found = own_code.source_folder(), set[Path]()
    for name in names:
        module = name.partition(":")[0]
        if _files(module, source):
            found |= set(import_closure(module, source))
    return sorted(path for path in found if path.parts[1:2] != ("podium",))


def digests_of(names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of what each file of `own_files` means; of objects from installed packages the packages' versions."""
    source = own_code.source_folder()
    found: dict[str, str] = {}
    for name in names:
        files = own_files([name])
        if not files:
            found[name.partition(":")[0]] = version_of(name.partition(":")[0])
        for path in files:
            found[path.as_posix()] = hashlib.sha256(_text(source.parent / path).encode()).hexdigest()
    return dict(sorted(found.items()))


def _own_digest(kind: str, name: str) -> str:
    if not own_code.is_name(name):
        return version_of(components.KINDS[kind].library)
    return hashlib.sha256(json.dumps(digests_of([name])).encode()).hexdigest()


def version_of(module: str) -> str:
    """The installed package that `module` comes in, and its version, such as `timm 1.0.31`."""
    top = module.partition(".")[0]
    names = sorted(set(packages_distributions().get(top, [])))
    return ", ".join(f"{name} {version(name)}" for name in names) or f"{top} (unknown version)"


def folders_of(stage: str) -> list[str]:
    """What the stage's module is made of, as dvc.yaml lists it: its own file, and packages and modules of podium."""
    own = f"src/podium/stages/{stage}.py"
    found = {own}
    for path in import_closure(f"podium.stages.{stage}"):
        top = path.parts[2]
        if top not in ("stages", "__init__.py"):
            found.add(f"src/podium/{top}")
    return sorted(found)


def with_code(pipeline: str) -> str:
    """The text of dvc.yaml with what each stage's module is made of, in the place of what is listed."""

    def listed(match: re.Match[str]) -> str:
        data = [one for one in re.split(r",\s*", match["deps"]) if not one.startswith("src/podium/")]
        return match["head"] + _wrapped([*data, *folders_of(match["stage"])])

    return STAGE.sub(listed, pipeline)


def _wrapped(names: list[str]) -> str:
    """A list in YAML's short form, wrapped."""
    lines = textwrap.wrap(", ".join(names), WIDTH, break_long_words=False, break_on_hyphens=False)
    return "[" + ("\n" + " " * 11).join(lines) + "]"


def main() -> None:
    """Update the lists of code in dvc.yaml."""
    path = SOURCE.parent / "dvc.yaml"
    before = path.read_text(encoding="utf-8")
    after = with_code(before)
    if after != before:
        path.write_text(after, encoding="utf-8")
    print(f"{path}: {'up to date' if after == before else 'updated'}")


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
    package, code = file.relative_to(source).parent.parts, _read(file)
    modules = {name for node in code.imports for name in _names(node, package)}
    beside = {file.parent / name for name in code.neighbours}
    return set().union(*(_files(name, source) for name in modules)) | {path for path in beside if path.is_file()}


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Every statement and expression below `tree`, without what only type checkers read."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [child for child in ast.iter_child_nodes(node) if not _is_for_type_checkers(child)]


def _is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _names(node: ast.Import | ast.ImportFrom, package: tuple[str, ...]) -> Iterator[str]:
    """The modules that one statement may import: `from a import b` names a, and a.b if that is a module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    else:
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
