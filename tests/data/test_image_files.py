"""Where prepared images came from, and which of them show the same."""

from pathlib import Path

import numpy as np
import pytest

from podium.data.image_files import ImageFile, names_of, path_of, read_files, read_sizes, write_files, write_sizes
from podium.errors import InputError

FILES = [
    ImageFile("a/1.jpg", "data/raw/a/1.jpg", "g"),
    ImageFile('b/"2",\n.jpg', "", "g"),
    ImageFile("train[3]", "", "h"),
]


def test_files_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_files(tmp_path, FILES)
    assert list(read_files(tmp_path, 3)) == FILES


def test_files_of_an_earlier_podium_or_of_other_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"files\.csv is missing: run `dvc repro prepare`"):
        read_files(tmp_path, 3)
    write_files(tmp_path, FILES)
    with pytest.raises(InputError, match="must have a row for each of 4 images; got 3"):
        read_files(tmp_path, 4)


def test_group_has_one_name_whatever_the_order_of_the_source() -> None:
    prints = np.arange(20, dtype=np.uint64).reshape(5, 4)[::-1].copy()
    groups = np.array([7, 7, 2, 9, 2])
    names = names_of(groups, prints).tolist()
    assert names[0] == names[1]
    assert names[2] == names[4]
    assert len(set(names)) == 3
    order = np.array([3, 1, 4, 0, 2])
    assert names_of(groups[order] + 1, prints[order]).tolist() == [names[n] for n in order]


@pytest.mark.parametrize(
    ("content", "path"),
    [(Path("data/raw/a.jpg"), "data/raw/a.jpg"), (Path("/elsewhere/a.jpg"), ""), (b"bytes", "")],
)
def test_path_is_from_the_project_and_of_files_only(content: Path | bytes, path: str) -> None:
    assert path_of(content, str(Path.cwd())) == path


def test_files_of_another_podium_are_refused(tmp_path: Path) -> None:
    (tmp_path / "files.csv").write_text("origin,path,picture,group\na,b,c,d\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"files\.csv is another Podium's: run `dvc repro prepare`"):
        read_files(tmp_path, 1)


def test_sizes_come_back_as_they_were_written_and_none_are_known_of_an_earlier_podium(tmp_path: Path) -> None:
    assert read_sizes(tmp_path, 2) is None
    write_sizes(tmp_path, np.array([[640, 480], [32, 32]], np.int32))
    found = read_sizes(tmp_path, 2)
    assert found is not None
    assert found.tolist() == [[640, 480], [32, 32]]
    with pytest.raises(InputError, match="must have a width and a height for each of 3 images, "):
        read_sizes(tmp_path, 3)
    (tmp_path / "sizes.npy").write_bytes(b"half")
    with pytest.raises(InputError, match=r"sizes\.npy is damaged: .*run `dvc repro prepare`"):
        read_sizes(tmp_path, 2)


def test_sizes_that_are_an_archive_or_of_another_type_are_refused_by_what_they_are(tmp_path: Path) -> None:
    with (tmp_path / "sizes.npy").open("wb") as file:
        np.savez(file, sizes=np.zeros((2, 2), np.int32))
    with pytest.raises(InputError, match=r"sizes\.npy must be one array .*got an archive of several: run `dvc repro"):
        read_sizes(tmp_path, 2)
    (tmp_path / "sizes.npy").write_bytes(b"PK\x03\x04 half")
    with pytest.raises(InputError, match=r"sizes\.npy is damaged: .*run `dvc repro prepare`"):
        read_sizes(tmp_path, 2)
    np.save(tmp_path / "sizes.npy", np.zeros((2, 2), np.int64))
    with pytest.raises(
        InputError, match=r"\(2, 2\) of type int32; got \(2, 2\) of type int64: run `dvc repro prepare`"
    ):
        read_sizes(tmp_path, 2)
