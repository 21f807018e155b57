"""A key that stands twice in a mapping, as after pasting: where, and what to do."""

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode


def repeated(error: DuplicateKeyError) -> str:
    """The key with its sections, both lines, and which of the two has to go. `error` is of a text, not of a file."""
    mark: Any = error.problem_mark
    text = mark.buffer.rstrip("\0")
    path, mapping, place = _found(YAML(typ="safe", pure=True).compose(text), (mark.line, mark.column))
    key, value = mapping.value[place]
    written = text[key.start_mark.index : key.end_mark.index].strip()
    first = next((one for one, _ in mapping.value[:place] if (one.tag, one.value) == (key.tag, key.value)), None)
    before = "" if first is None else f"in line {first.start_mark.line + 1} and "
    remedy = "delete one"
    if isinstance(value, MappingNode):
        remedy = "move what it holds there to the first, and delete it"
    return f"{'.'.join([*path, written])} is there twice, {before}again in line {mark.line + 1}: {remedy}"


def _found(root: Node, place: tuple[int, int]) -> tuple[list[str], MappingNode, int]:
    """The mapping in which a key begins at `place` (line, column): its path, itself, and the number of the key."""
    waiting: list[tuple[list[str], Node]] = [([], root)]
    seen: set[int] = set()
    while waiting:
        path, node = waiting.pop()
        if id(node) in seen:  # an anchor that is named again
            continue
        seen.add(id(node))
        if isinstance(node, MappingNode):
            for number, (key, value) in enumerate(node.value):
                if (key.start_mark.line, key.start_mark.column) == place:
                    return path, node, number
                waiting.append(([*path, str(key.value)], value))
        elif isinstance(node, SequenceNode):
            waiting += [([*path, str(number)], one) for number, one in enumerate(node.value)]
    raise LookupError(f"no key begins at {place}")
