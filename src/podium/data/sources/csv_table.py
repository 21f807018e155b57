"""A CSV file with one line per image: `path`, `label`, and optionally `split` and `group`."""

import difflib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from podium.data.dvcignore import DvcIgnore
from podium.data.sources import ImageSource, several_labels
from podium.data.sources.alike import is_no_value
from podium.data.sources.file_items import FileItems
from podium.data.sources.item import Reject, in_order, is_meant, shown
from podium.data.sources.listed import Listed, why_missing
from podium.data.sources.listing import Hides, none_hidden
from podium.data.sources.source import Source
from podium.data.sources.split_words import NEUTRAL, SHORT_SPLITS, SPLITS, WORDS, named_split, split_of
from podium.data.sources.table_text import MORE, table_of
from podium.errors import InputError
from podium.text import counted

if TYPE_CHECKING:
    from podium.config.params import PrepareParams

COLUMNS = ("path", "label", "split", "group")
"""What is read."""
GROUP_NAMES = {"group", "groups", "groupid", "groupids", "grp", "grps", "grpid", "grouping"}
"""Names of columns, without case and punctuation, that may say of groups what the column `group` says; species_group is
none.
"""
OTHER_NAMES = {
    "path": {"file", "files", "filename", "filepath", "filenames", "image", "imagepath", "imagefile", "img", "imgpath"},
    "label": {"class", "classes", "category", "target", "classname", "y", "choice", "annotation", "tag", "groundtruth"},
    "split": {"set", "subset", "fold", "kfold", "partition", "phase", "usage", "dataset", "traintest", "trainvaltest"},
    "group": GROUP_NAMES,
}
"""How others call these columns, without case and punctuation."""
SEPARATORS = (";", "\t", "|")
FOLD_NAME = re.compile(r"(folds?|foldid|kfolds?|kfoldid|cvfold)\d*|cv|cvid")
"""Names of columns of cross-validation, without case and punctuation; cv_score is none."""
OF_PEOPLE = {"age", "blood", "ethnic", "income", "risk", "control", "muscle", "food", "taxonomic"}
"""Words before `group` in names of columns that describe an image."""
DECIDES = {
    "path": "which file a line is about",
    "label": "the class of each image",
    "split": "the split of each image",
    "group": "which images stay together",
}
TOGETHER = {"patient", "subject", "person", "scene", "burst", "video", "clip", "session", "series", "slide", "case"}
"""Words in names of columns whose images belong together, as the column `group` says."""
MOST_SPLITS = 10
"""Values up to which a column may say of each image in which split it is, in words of somebody's own."""
SHOWN = 10
"""Wrong lines that an error names; it counts the rest."""


class CsvTable(ImageSource):
    """A CSV file of paths and labels, with split and group where there are some."""

    NAME: ClassVar[str] = "csv:"
    HAS_PATH: ClassVar[bool] = True

    def read(self, params: "PrepareParams", *, follow_links: bool) -> Source:
        """Every line of the file."""
        hides = none_hidden if follow_links else DvcIgnore(Path.cwd()).hides_folder
        return read(Path(self.rest), Path(params.root), follow_links=follow_links, hides=hides)


def read(path: Path, root: Path, *, follow_links: bool = False, hides: Hides = none_hidden) -> Source:
    """Every line of the CSV file `path` (UTF-8, with a header), in its order; paths in it start at its own folder.

    Raises InputError naming the lines that are wrong, and for columns that may be meant as one of those that are read.
    Files outside of `root` are rejected unless `follow_links`: DVC would not see them change. Folders that `hides`
    leaves out are not missed in the table.
    """
    names, lines = table_of(path, "prepare.source")
    _check_names(path, names, lines)
    columns = max(at for at, name in enumerate(names, 1) if name.strip())
    problems = [problem for number, line in lines if (problem := _problem(number, line, columns, path.parent))]
    if problems:
        more = [f"and {len(problems) - SHOWN:,} more lines"] if len(problems) > SHOWN else []
        raise InputError(f"prepare.source: {shown(path)} has wrong lines:\n  " + "\n  ".join(problems[:SHOWN] + more))
    if not lines:
        raise InputError(f"prepare.source: {shown(path)} holds no image, only a header")
    _check_values(path, names, [line for _, line in lines])
    classes = in_order({line["label"] for _, line in lines})
    numbers = {name: number for number, name in enumerate(classes)}
    items = FileItems(path.parent)
    rejects: list[Reject] = []
    listed = Listed()
    inside = root.resolve()
    given: set[str | None] = set()
    for _, line in lines:
        file, split = path.parent / line["path"], named_split(line.get("split", ""))
        given.add(split)
        is_outside = not follow_links and not Path(os.path.realpath(file)).is_relative_to(inside)
        is_read = not is_outside and os.path.isfile(file)  # noqa: PTH113 (Path raises where its folder may not be entered)
        listed.add(file, is_read=is_read)
        if is_outside:
            why = f"it lies outside of prepare.root, {shown(root)}"
            rejects.append(Reject("outside", line["path"], why, split=split))
        elif not is_read:
            why = why_missing(line["path"], path.parent) if len(rejects) < SHOWN else "there is no such file"
            rejects.append(Reject("unreadable", line["path"], why, split=split))
        else:
            group = line.get("group", "").strip() or None
            items.append(line["path"], numbers[line["label"]], split, group)
    notes = (
        *_notes(names),
        *listed.notes(path.parent, root, hides),
    )
    return Source(f"csv:{shown(path)}", tuple(classes), items, rejects, notes, frozenset(filter(None, given)))


def _check_names(path: Path, names: list[str], lines: Sequence[tuple[int, dict[str, str]]]) -> None:
    """Raise InputError where a column is missing, there twice, or hardly told from one that is read."""
    where = f"prepare.source: {shown(path)} line 1:"
    if names and re.fullmatch(r"(?i)sep=.?", names[0]):
        raise InputError(f"{where} is {','.join(names)!r}, a note to spreadsheets and no header: delete this line")
    for name in names:
        if other := next((one for one in SEPARATORS if one in name and set(name.split(one)) & set(COLUMNS)), ""):
            what = "the columns are" if len(names) == 1 else f"the columns in {name!r} are"
            raise InputError(f"{where} {what} separated by {other!r}; write the file with commas")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{where} has the column {twice[0]!r} {names.count(twice[0])} times")
    close = {name: meant for name in names if name not in COLUMNS and (meant := _meant(name, names))}
    missing = {"path", "label"} - set(names)
    if missing:
        hint = "".join(f"; rename {name!r} to `{meant}`" for name, meant in close.items())
        hint += several_labels.indicators(names, [line for _, line in lines], COLUMNS) if "label" in missing else ""
        raise InputError(
            f"prepare.source: {shown(path)} must begin with a line of names, `path,label` and optionally"
            f" `split` and `group`; got {','.join(names) or 'nothing'}{hint}"
        )
    if close:
        near = [_nearly(name, meant, names) for name, meant in close.items()]
        raise InputError(f"{where} has columns that are nearly those that are read:\n  " + "\n  ".join(near))


def _nearly(name: str, meant: str, names: Sequence[str]) -> str:
    """What to say of a column that may be meant as one that is read."""
    remedy = "there is one of that name, too: delete one of the two" if meant in names else f"rename it to `{meant}`"
    return (
        f"column {name!r} may be meant as `{meant}`, which is what decides {DECIDES[meant]}: {remedy}; or, where it"
        " means something else, give it a name that can't be taken for it"
    )


def _check_values(path: Path, names: list[str], lines: Sequence[dict[str, str]]) -> None:
    """Raise InputError where a column that is not read holds names of splits, and no other gives them."""
    if "split" in names:
        return
    for name in names:
        values = Counter(line.get(name, "").strip() for line in lines)
        del values[""]
        if name not in COLUMNS and (splits := _names_of_splits(values)):
            raise InputError(
                f"prepare.source: {shown(path)} line 1: column {name!r} holds names of splits"
                f" ({', '.join(splits[:3])}), and only the column `split` is read: rename it to `split`, with"
                " the values train, val and test, or, if images are to be split again, delete it"
            )


def _names_of_splits(values: Mapping[str, int]) -> list[str]:
    """Those of a column's `values` that are names of splits, sorted; none where these values say something else.

    `values`: with the number of their lines.

    Whole names of several splits are splits, whatever stands beside them. Short ones (tr, te) among others are as well
    languages, and words such as check and final as well states of work: they count where there is nothing else, and
    either a name for training or all three splits. Values with a word for a split in each, such as Training and
    PublicTest, or train_a and val_a, count where there are few, each in several lines, and none is a file's name.
    """
    splits = {value: split for value in values if (split := _any_split(value))}
    whole = {split for value, split in splits.items() if value.lower() not in SHORT_SPLITS}
    trains = any(split == "train" and value.lower() not in ("fit", "learn") for value, split in splits.items())
    named = set(splits.values())
    if len(values) <= MOST_SPLITS and min(values.values(), default=0) > 1:
        parts = {found[0] if (found := split_of(value)) else "" for value in values}
        if "train" in parts and len(parts) > 1 and "" not in parts and not any(map(_is_file, values)):
            return sorted(values)
    only = len(splits) == len(values) and (len(named) == 3 or (trains and (len(named) > 1 or bool(whole))))
    return sorted(splits) if only or len(whole) > 1 else []


def _is_file(value: str) -> bool:
    return "/" in value or is_meant(value)


def _any_split(value: str) -> str:
    """The split that a value of any column may mean; empty: none."""
    found = split_of(value)
    return found[0] if found is not None and not found[1] else SHORT_SPLITS.get(value.lower(), "")


def _meant(name: str, names: Sequence[str]) -> str:
    """The column that `name` may stand for; empty: none. Other words count where the column itself is missing."""
    plain = re.sub(r"[\W_]+", "", name).lower()
    if name in COLUMNS:
        return ""
    if plain in COLUMNS:  # Label beside label
        return plain
    if "split" not in names and ("split" in _words(name) or FOLD_NAME.fullmatch(plain) or _is_about_splits(name)):
        return "split"
    for column in [one for one in COLUMNS if one not in names]:
        spelled = plain in (column, f"{column}s", f"is{column}", f"{column}id", f"{column}name")
        known = plain in OTHER_NAMES[column] or (column == "split" and plain.removeprefix("is") in WORDS)
        typo = abs(len(plain) - len(column)) <= 1 and difflib.SequenceMatcher(None, plain, column).ratio() >= 0.8
        if known or typo or (spelled and column != "group"):
            return column
    return ""


def _words(name: str) -> list[str]:
    """The words in the name of a column, in lower case: PatientID, patient_id."""
    return re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())


def _may_be_together(name: str) -> bool:
    """Whether a column may say which images belong together: patient_id, study_group; no age_group, group_size."""
    words = _words(name)
    while words and words[-1] in ("id", "no", "nr", "name", "number"):
        words.pop()
    is_group = bool(words) and words[-1] in ("group", "groups", "grp", "grps") and not OF_PEOPLE & set(words)
    return is_group or bool(TOGETHER & set(words))


def _is_about_splits(name: str) -> bool:
    """Whether the name of a column says of which split an image is: test_set, for_testing, train/val."""
    words = set(re.findall(r"[^\W\d_]+", name.lower())) - NEUTRAL - {"is", "in", "for", "or", "of"}
    return bool(words) and all((split_of(word) or ("", word))[1] == "" for word in words)


def _notes(names: Sequence[str]) -> tuple[str, ...]:
    ignored = [
        repr(name) if name.strip() else f"{name!r} (column {at}, without a name, as pandas writes its index)"
        for at, name in enumerate(names, 1)
        if name not in COLUMNS
    ]
    notes = [f"columns that are not used: {', '.join(ignored)}"] if ignored else []
    if "group" not in names:
        notes += [
            f"column {name!r} may say which images belong together: if they do, call it group, and they share a split"
            for name in names
            if _may_be_together(name)
        ]
    if "group" in names:
        notes.append(
            "the column group decides the split: images of a group stay together, so the split is another one than"
            " without that column, or than versions of Podium that did not read it have made"
        )
    return tuple(notes)


def _problem(number: int, line: dict[str, str], columns: int, folder: Path) -> str:
    """What is wrong with a line of a table of so many `columns` that must have a value; empty: nothing."""
    if MORE in line:
        return f"line {number}: has more values than the header has names"
    if len(line) < columns:
        other = next((one for one in SEPARATORS if one in next(iter(line.values()))), "")
        hint = f"; are its values separated by {other!r}? Write commas" if other else ""
        return f"line {number}: has {counted(len(line), 'value')}, the header has {columns} names{hint}"
    if all(name == value for name, value in line.items()):
        return f"line {number}: is the header again, as where files were joined: delete it"
    for name in ("path", "label"):
        if not line[name].strip():
            return f"line {number}: {name} is empty"
    if line["label"] != line["label"].strip():
        return f"line {number}: label begins or ends with a space: {line['label']!r}; write {line['label'].strip()!r}"
    for name in [one for one in COLUMNS if one in line]:
        if any(unicodedata.category(character) == "Cc" for character in line[name]):
            return f"line {number}: {name} holds a control character: {line[name]!r}"
    if is_no_value(line["label"]):
        return (
            f"line {number}: label is {line['label']!r}, as a missing value is written, or one that a spreadsheet could"
            " not compute: write the label or, where it is the name of a class, another word"
        )
    try:
        named_split(line.get("split", ""))
    except KeyError:
        return f"line {number}: split must be one of {', '.join(SPLITS)} or empty; got {line['split']!r}"
    why = _wrong_path(line["path"], folder)
    return f"line {number}: {why}" if why else ""


def _wrong_path(path: str, folder: Path) -> str:
    """Why `path` can't be meant as it stands; empty: it can."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path):
        return f"path is an address, {path!r}: get the file, and write its path from the folder of this table"
    if re.match(r"[A-Za-z]:[\\/]", path):
        return f"path is on a drive of Windows, {path!r}: write it from the folder of this table, with /"
    if "\\" in path and not os.path.exists(folder / path):  # noqa: PTH110 (Path raises where a name is too long)
        return f"path has backslashes, which are part of a name here: write {path.replace(chr(92), '/')!r}"
    exists = os.path.exists
    if path != path.strip() and not exists(folder / path) and exists(folder / path.strip()):
        return f"path begins or ends with a space: {path!r}"
    return ""
