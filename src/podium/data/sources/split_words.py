"""Words in the names of folders and files that stand for a split: train, test, validation, and what people write."""

import re
from collections.abc import Sequence

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Names of splits in tables and rows, in lower case."""
WORDS = SPLITS | {
    "trn": "train",
    "validate": "val",
    "validating": "val",
    "validierung": "val",
    "dev": "val",
    "devel": "val",
    "development": "val",
    "testing": "test",
    "tst": "test",
    "holdout": "test",
    "heldout": "test",
    "eval": "eval",
    "evaluation": "eval",
}
"""Words in names of folders. eval is what the other folders leave: validation or test."""
NEUTRAL = {"set", "data", "dataset", "image", "images", "imgs", "img", "seg", "split", "splits", "folder", "samples"}
"""Words in names of folders that say nothing."""
OF_SET = re.compile(r"(set|data|images|imgs|s?(daten|satz|sätze|menge|bilder))$")
"""What is written behind a split in one word, in English and in German."""


def split_of(name: str) -> tuple[str, str] | None:
    """The split that a folder's name stands for, and what else the name says; None: it names no split.

    `Training`, `test_set`, `train2017` and `images-val` say nothing else; `flowers_train` says flowers.
    """
    squeezed = re.sub(r"(held|hold)[ _.-]?out", r"\1out", name.strip(), flags=re.IGNORECASE)
    words = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", squeezed).lower())
    found = [word for word in map(_without_set, words) if word in WORDS]
    rest = [word for word in words if _without_set(word) not in WORDS and word not in NEUTRAL]
    return (WORDS[found[0]], " ".join(rest)) if len(found) == 1 else None


def _without_set(word: str) -> str:
    short = OF_SET.sub("", word)
    return short if short in WORDS else word


def split_twins(names: Sequence[str]) -> list[str]:
    """Names that differ by the split in them only, such as train-cat and test-cat, or cattrain and cattest."""
    found: dict[str, dict[str, list[str]]] = {}
    for name in names:
        for split, rest in _splits_in(name):
            found.setdefault(rest, {}).setdefault(split, []).append(name)
    twins = {name for by_split in found.values() if len(by_split) > 1 for same in by_split.values() for name in same}
    return [name for name in names if name in twins]


def _splits_in(name: str) -> set[tuple[str, str]]:
    """The splits that a name may contain, each with what else the name says; those that say nothing else are left out.

    Within a word only whole names of splits count: `contest` has one, but no twin.
    """
    token = split_of(name)
    found = {token} if token is not None else set()
    plain = "".join(re.findall(r"[^\W_]+", name.lower()))
    for word, split in WORDS.items():
        found |= {(split, plain.removesuffix(word))} if plain.endswith(word) else set()
        found |= {(split, plain.removeprefix(word))} if plain.startswith(word) else set()
    return {(split, rest) for split, rest in found if rest}


def is_container(name: str) -> bool:
    """Whether a name says nothing but that images are in it."""
    words = re.findall(r"[^\W\d_]+", name.lower())
    return bool(words) and all(word in NEUTRAL for word in words)
