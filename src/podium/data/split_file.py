"""The file that remembers which split each image is in: one sorted line per image, by a digest of what it shows.

    # salt: "podium"
    # drawn: 5f2c0e3a9b1d7c44
    # near-duplicates: crops
    digest,split,look
    00a1b2c3d4e5f607,train,9c3b5e07a1d2f486
    ...
    # end

`look` is what podium.data.audit.replaced compares when files were re-encoded; images on which too little can be seen
have none, nor do lines that were written before there was one, until their image is prepared again.

`prepare` reads it, places the images that it does not know and adds their lines; it never changes where one says that
an image is, and removes none. It
is in git (or in DVC's care, for a large set), so every clone has the same split. The last line says that the file is
whole, and lines of two branches can be merged: sorted by digest they hardly ever meet.
"""

import hashlib
import json
import os
import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from podium.errors import InputError, PodiumError

PLACES = ("train", "val", "test", "none")
"""none: in no split, since it is a near-duplicate of images in several."""
NOWHERE = PLACES.index("none")
SEARCHES = ("off", "copies", "crops")
"""What near-duplicates can be looked for; each finds all that those before it find."""
ABOUT = "# Which split each image is in. Written by `prepare`: keep it in git. See data/split/README.md.\n"
COLUMNS, END = "digest,split", "# end"
LOOK = ",look"
"""The third column, where an image has one."""
LINE = re.compile(rf"([0-9a-f]{{16}}),({'|'.join(PLACES)})(?:,([0-9a-f]{{16}}))?")
HEADER = re.compile(r"# (salt|drawn|near-duplicates): (.+)")
MARKERS = ("<<<<<<<", "|||||||", "=======", ">>>>>>>")
"""What git writes into a file that it could not merge."""
SHOWN = 10
"""Wrong lines that an error names; it counts the rest."""
BATCH = 10_000
"""Lines that are text at the same time."""
MANY = 100_000
"""Lines above which git is the wrong place: the file then has 4 MB."""


@dataclass(frozen=True)
class SplitFile:
    """What the file holds."""

    salt: str
    """prepare.salt, with which images are placed."""
    drawn: str
    """Name of the split, by which accesses to the test set are counted. It follows from the images that were there when
    it was begun, and stays while the set grows; with nothing but new images another begins."""
    near: str
    """The strongest of SEARCHES that was made when images were placed."""
    digests: NDArray[np.uint64]
    """(N,) rising."""
    places: NDArray[np.int8]
    """(N,) index into PLACES."""
    looks: NDArray[np.uint64]
    """(N,) what the images look like; 0: not known."""

    @staticmethod
    def empty(salt: str) -> "SplitFile":
        """What remembers no image yet."""
        return SplitFile(salt, "", SEARCHES[0], np.zeros(0, np.uint64), np.zeros(0, np.int8), np.zeros(0, np.uint64))

    def find(self, contents: NDArray[np.uint64]) -> NDArray[np.int8]:
        """The place of each image by the digest of its content; -1: it is not known."""
        if not len(self.digests):
            return np.full(len(contents), -1, np.int8)
        at = np.minimum(np.searchsorted(self.digests, contents), len(self.digests) - 1)
        return np.where(self.digests[at] == contents, self.places[at], np.int8(-1)).astype(np.int8)

    def place_of(self, contents: NDArray[np.uint64], formers: NDArray[np.uint64]) -> NDArray[np.int8]:
        """The place of each image by either of its digests (podium.data.content), -1: it is not known.

        The former one first: it is that of the file itself where an earlier Podium placed it.
        """
        known = self.find(formers)
        return np.where(known < 0, self.find(contents), known).astype(np.int8)

    def with_looks(self, contents: NDArray[np.uint64], looks: NDArray[np.uint64]) -> "SplitFile":
        """The same with `looks` (N,) of images that it knows by `contents` (N,) and whose look it does not know."""
        known = self.find(contents) >= 0
        found = self.looks.copy()
        found[np.searchsorted(self.digests, contents[known])] = looks[known]
        return replace(self, looks=np.where(self.looks > 0, self.looks, found))

    def with_images(
        self,
        contents: NDArray[np.uint64],
        places: NDArray[np.int8],
        near: str,
        looks: NDArray[np.uint64] | None = None,
        *,
        goes_on: bool = False,
    ) -> "SplitFile":
        """The same with the images that it does not know; those of place -1 are left out.

        `looks` (N,): of the images. `goes_on`: some of them are remembered, though by other digests. Equal images that
        the source gives several splits get the strictest: test, then val.
        """
        looks = np.zeros(len(contents), np.uint64) if looks is None else looks
        known = self.find(contents) >= 0
        new = (places >= 0) & ~known
        order = np.lexsort((np.where(places == NOWHERE, -1, places)[new], contents[new]))
        digests, chosen, seen = contents[new][order], places[new][order], looks[new][order]
        if not len(digests):
            return replace(self, near=max(self.near, near, key=SEARCHES.index))
        last = np.append(digests[1:] != digests[:-1], True)[: len(digests)]
        digests, chosen, seen = digests[last], chosen[last], seen[last]
        drawn = self.drawn if self.drawn and (known.any() or goes_on) else _name(self.salt, digests, chosen)
        whole = np.append(self.digests, digests)
        order = np.argsort(whole)
        chosen = np.append(self.places, chosen)[order].astype(np.int8)
        seen = np.append(self.looks, seen)[order]
        return SplitFile(self.salt, drawn, max(self.near, near, key=SEARCHES.index), whole[order], chosen, seen)

    def lines(self) -> Iterator[str]:
        """The whole file, many lines at a time."""
        head = f"# salt: {json.dumps(self.salt)}\n# drawn: {self.drawn}\n# near-duplicates: {self.near}\n"
        yield f"{ABOUT}{head}{COLUMNS}{LOOK if self.looks.any() else ''}\n"
        for start in range(0, len(self.digests), BATCH):
            some = slice(start, start + BATCH)
            rows = zip(*(column[some].tolist() for column in (self.digests, self.places, self.looks)), strict=True)
            yield "".join(
                f"{digest:016x},{PLACES[place]},{look:016x}\n" if look else f"{digest:016x},{PLACES[place]}\n"
                for digest, place, look in rows
            )
        yield f"{END}\n"


def read(path: Path, salt: str) -> SplitFile:
    """What `path` remembers; nothing if it is missing. `salt`: prepare.salt.

    Raises InputError naming every line that is wrong, with the remedy, and where the split was drawn with another salt.
    """
    if not path.exists():
        return SplitFile.empty(salt)
    try:
        with path.open("rb") as file:
            found = _Lines().read(file)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}; it remembers which images are test images") from None
    if found.problems:
        raise _damaged(path, found.problems)
    known = found.content()
    if known.salt != salt:
        raise InputError(
            f"prepare.salt: is {salt!r}, and {path} was drawn with {known.salt!r}, which decides where its images are."
            f" Write `salt: {known.salt}`, or, to split all images again, delete the file:\n{consequences(path)}"
        )
    return known


def write(path: Path, content: SplitFile) -> bool:
    """Write the file whole or not at all; returns whether anything in it changed. Raises PodiumError if it can't."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        if not changes(path, content):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.writelines(lines.encode() for lines in content.lines())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise PodiumError(f"{path} can't be written: {error.strerror}. Nothing was prepared") from None
    return True


def changes(path: Path, content: SplitFile) -> bool:
    """Whether `write` would write anything. Raises OSError where the file can't be read."""
    return not (path.is_file() and _holds(path, content))


def _holds(path: Path, content: SplitFile) -> bool:
    """Whether the file is the one of `content`, to the byte."""
    with path.open("rb") as file:
        return all(file.read(len(data)) == data for data in map(str.encode, content.lines())) and not file.read(1)


def consequences(path: Path) -> str:
    """What deleting the file means, for errors that offer it."""
    return (
        f"Without {path} all images are split again: images that were test images are trained on, models trained"
        " before have seen images of the new test set, and accesses to it are counted from zero (those to the old one"
        " stay recorded). Train and promote again then, and compare with no earlier model"
    )


@dataclass
class _Lines:
    """What was read so far."""

    head: dict[str, list[str]] = field(default_factory=dict)
    numbers: "array[int]" = field(default_factory=lambda: array("I"))
    """Of the lines of images; the arrays have one entry for each."""
    digests: "array[int]" = field(default_factory=lambda: array("Q"))
    places: "array[int]" = field(default_factory=lambda: array("b"))
    looks: "array[int]" = field(default_factory=lambda: array("Q"))
    problems: list[str] = field(default_factory=list)
    columns: bool = False

    def read(self, lines: Iterable[bytes]) -> "_Lines":
        """`lines` with their ends; one at a time, since the text of all takes several times what it says."""
        number, last, whole = 0, "", b""
        for number, whole in enumerate(lines, 1):
            try:
                line = whole.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                self.problems.append(f"line {number}: is not UTF-8")
                return self
            if match := LINE.fullmatch(line):
                self.numbers.append(number)
                self.digests.append(int(match[1], 16))
                self.places.append(PLACES.index(match[2]))
                self.looks.append(int(match[3] or "0", 16))
            elif match := HEADER.fullmatch(line):
                self.head.setdefault(match[1], []).append(match[2])
            elif line in (COLUMNS, COLUMNS + LOOK):
                self.columns = True
            elif line and not line.startswith("#"):
                self.problems.append(f"line {number}: {_why(line)}")
            last = line or last
        if last != END or not whole.endswith(b"\n"):
            end = number + whole.endswith(b"\n") if number else 1
            self.problems.append(f"line {end}: the file ends early; its last line must be `{END}`")
        self._check_images()
        self._check_head()
        return self

    def content(self) -> SplitFile:
        """What the lines say."""
        digests, first, image = np.unique(
            np.frombuffer(self.digests, np.uint64), return_index=True, return_inverse=True
        )
        near = max(self.head["near-duplicates"], key=SEARCHES.index)
        places = np.frombuffer(self.places, np.int8)[first]
        looks = np.zeros(len(digests), np.uint64)
        np.maximum.at(looks, image, np.frombuffer(self.looks, np.uint64))  # one of two branches may have none
        return SplitFile(json.loads(self.head["salt"][0]), self.head["drawn"][0], near, digests, places, looks)

    def _check_images(self) -> None:
        """Whether an image has two places."""
        digests, places = np.frombuffer(self.digests, np.uint64), np.frombuffer(self.places, np.int8)
        _, first, image = np.unique(digests, return_index=True, return_inverse=True)
        for row in np.flatnonzero(places != places[first][image]).tolist():
            number, before = self.numbers[row], first[image[row]]
            one, other = PLACES[places[before]], PLACES[places[row]]
            self.problems.append(
                f"line {number}: {self.digests[row]:016x} is in {other}, and in {one} by line {self.numbers[before]}:"
                " two branches placed the image differently; keep the line of the branch whose models you keep, test"
                " if in doubt"
            )

    def _check_head(self) -> None:
        for name in ("salt", "drawn"):
            if (count := len(set(self.head.get(name, [])))) != 1:
                two = "; these are two splits, drawn apart: keep the file of one of them" if count else ""
                self.problems.append(f"line 1: must have one line `# {name}: ...` at the top; got {count}{two}")
        if not self.columns:
            self.problems.append(f"line 1: has no line `{COLUMNS}` above the images")
        if not (near := self.head.get("near-duplicates")) or not set(near) <= set(SEARCHES):
            self.problems.append(f"line 1: must have a line `# near-duplicates: ...`, one of {', '.join(SEARCHES)}")
        try:
            salts = [json.loads(text) for text in self.head.get("salt", [])]
        except ValueError:
            salts = [None]
        if not all(isinstance(salt, str) for salt in salts):
            self.problems.append("line 1: the salt must be text in double quotes")


def _name(salt: str, digests: NDArray[np.uint64], places: NDArray[np.int8]) -> str:
    sha = hashlib.sha256(salt.encode() + b"\x1f" + digests.astype("<u8").tobytes() + places.tobytes())
    return sha.hexdigest()[:16]


def _why(line: str) -> str:
    if line.startswith(MARKERS):
        return (
            f"is a mark of a merge that git could not finish ({line[:20]!r}): keep the lines of both sides, without it"
        )
    return f"must be a digest of 16 hexadecimal digits, a comma and one of {', '.join(PLACES)}; got {line[:40]!r}"


def _damaged(path: Path, problems: list[str]) -> InputError:
    more = [f"and {len(problems) - SHOWN:,} more lines"] if len(problems) > SHOWN else []
    return InputError(
        f"{path} remembers which images are test images, and can't be used as it is:\n  "
        + "\n  ".join(problems[:SHOWN] + more)
        + f"\nFix these lines, or restore the committed file: `git checkout {path}`. Nothing was changed."
    )
