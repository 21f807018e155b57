"""Words in the names of folders and files that stand for a split: train, test, validation, and what people write."""

import re
from collections.abc import Iterable, Sequence

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
SHORT_SPLITS = {"tr": "train", "trn": "train", "va": "val", "vl": "val", "te": "test", "ts": "test", "tst": "test"}
SHORT_SPLITS |= {"fit": "train", "learn": "train", "tune": "val", "tuning": "val", "check": "val", "final": "test"}
"""How others write splits in a table; as names of folders they would be classes as well."""
NEUTRAL = {"set", "data", "dataset", "image", "images", "imgs", "img", "seg", "split", "splits", "folder", "samples"}
NEUTRAL |= {"jpeg"}
"""Words in names of folders that say nothing."""
MARKS = {"mask", "masks", "label", "labels", "annotation", "annotations", "annots", "trimaps", "boxes", "bboxes"}
MARKS |= {"truth", "groundtruth", "gt", "segmentation", "segmentations", "keypoints", "xml", "xmls"}
"""Words in names of folders that hold what is marked in images."""
OF_MARKS = {"ground", "class", "object", "instance", "semantic", "png"}
"""Words beside these."""
OF_IMAGES = {"image", "images", "img", "imgs", "jpeg"}
"""Words of which one is in the name of a folder of the images that are marked; `data` and `folder` are things."""
BESIDE_MARKS = MARKS | OF_MARKS | {"sets"}
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


def named_split(text: str) -> str | None:
    """The split that a value of a table or a row names; None: it is empty. Raises KeyError where it names none."""
    name = text.strip()
    if not name:
        return None
    found = split_of(name)
    if found is None or found[1] or found[0] == "eval":
        raise KeyError(text)
    return found[0]


def _without_set(word: str) -> str:
    short = OF_SET.sub("", word)
    return short if short in WORDS else word


def split_twins(names: Sequence[str]) -> list[str]:
    """Names that differ by the split in them only, such as train-cat and test-cat, or cattrain and cattest.

    None where such names are classes: `toy train` and `toy test` among others are two, trainer and tester as well. As
    a word of its own a split counts where all names have one, or where most are twins, of several classes; within words
    where all are, of several classes.
    """
    words = {name: {found} if (found := split_of(name)) is not None and found[1] else set() for name in names}
    twins, count = _twins(words)
    if twins and (all(words.values()) or (count > 1 and len(twins) * 2 > len(names))):
        return twins
    twins, count = _twins({name: words[name] | _within(name) for name in names})
    return twins if count > 1 and len(twins) == len(names) else []


def _twins(splits: dict[str, set[tuple[str, str]]]) -> tuple[list[str], int]:
    """Names that say the same beside different splits, and of how many classes they are."""
    found: dict[str, dict[str, list[str]]] = {}
    for name, said in splits.items():
        for split, rest in said:
            found.setdefault(rest, {}).setdefault(split, []).append(name)
    several = [by_split for by_split in found.values() if len(by_split) > 1]
    twins = {name for by_split in several for same in by_split.values() for name in same}
    return [name for name in splits if name in twins], len(several)


def _within(name: str) -> set[tuple[str, str]]:
    """The splits that a name begins or ends with in the middle of a word, each with what else the name says.

    Only whole names of splits count: `contest` has one, but no twin.
    """
    found: set[tuple[str, str]] = set()
    plain = "".join(re.findall(r"[^\W_]+", name.lower()))
    for word, split in WORDS.items():
        found |= {(split, plain.removesuffix(word))} if plain.endswith(word) else set()
        found |= {(split, plain.removeprefix(word))} if plain.startswith(word) else set()
    return {(split, rest) for split, rest in found if rest}


def marks(names: Iterable[str]) -> list[str]:
    """Those of the names of classes that stand for what is marked in images: masks, labels, train_masks, Annotations.

    None unless another one says nothing but that images are in it, such as JPEGImages, or but a split, as these do; and
    none beside a name that says something else: in folder, label and pen these are things.
    """
    said = {name: set(_words_apart(name)) for name in names}
    splits = {name: {word for word in words if _without_set(word) in WORDS} for name, words in said.items()}
    rest = {name: words - splits[name] - NEUTRAL for name, words in said.items()}
    found = [name for name, words in rest.items() if words - OF_MARKS and words - OF_MARKS <= MARKS]
    if any(words - BESIDE_MARKS for words in rest.values()):
        return []
    of_images = {name: words & (splits[name] | OF_IMAGES) for name, words in said.items() if not rest[name]}
    holds = {bool(splits[name]) for name, words in of_images.items() if words}
    return [name for name in found if False in holds or (True in holds and splits[name])]


def _words_apart(name: str) -> list[str]:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return re.findall(r"[^\W\d_]+", apart.lower())


def is_container(name: str) -> bool:
    """Whether a name says nothing but that images are in it."""
    words = re.findall(r"[^\W\d_]+", name.lower())
    return bool(words) and all(word in NEUTRAL for word in words)
