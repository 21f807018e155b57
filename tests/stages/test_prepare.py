import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import idx
import photos
from podium.config.params import DoctorParams, PrepareParams
from podium.data import shards
from podium.data.dataset import DatasetInfo, open_split, open_test_set
from podium.errors import InputError, PodiumError, RefusedError
from podium.stages.prepare import check_classes, prepare

FILES = ("files.csv", "images.npy", "labels.npy", "sizes.npy", "split.json")
SHIPPED = {
    "train/files.csv",
    "val/files.csv",
    "train/images.npy",
    "train/labels.npy",
    "train/sizes.npy",
    "train/split.json",
    "val/images.npy",
    "val/labels.npy",
    "val/sizes.npy",
    "val/split.json",
    "dataset.json",
    "audit.json",
    "audit.csv",
    "audit.md",
    "audit.html",
}


@pytest.fixture
def params(tmp_path: Path) -> PrepareParams:
    """Parameters of a small MNIST that lies in tmp_path/raw."""
    return _params(idx.write(tmp_path / "raw"))


def _params(root: Path, **changes: Any) -> PrepareParams:
    fields = {"source": "torchvision:MNIST", "root": str(root), "min_per_class": 2, "val_fraction": 0.4} | changes
    return PrepareParams(**fields)


def _prepare(params: PrepareParams, out: Path, *, links: bool = False) -> DatasetInfo:
    return prepare(params, DoctorParams(), out / "prepared", out / "sealed", out / ".decoded", links=links)


def _prepared(folder: Path) -> dict[str, bytes]:
    """Every file of the two folders that DVC knows."""
    return {name: content for name, content in _bytes(folder).items() if not name.startswith(".")}


def _inodes(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_ino for name in _prepared(folder)}


def _bytes(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_prepare_of_digits_writes_three_whole_splits_and_an_audit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where the access to the test set is recorded
    info = _prepare(PrepareParams(), tmp_path)

    assert set(_bytes(tmp_path / "prepared")) == SHIPPED
    assert set(_bytes(tmp_path / "sealed")) == {f"test/{name}" for name in FILES}
    train, val = (open_split(tmp_path / "prepared" / name) for name in ("train", "val"))
    test = open_test_set(tmp_path / "sealed/test", "evaluate")
    assert [len(split.labels) for split in (train, val, test)] == [1258, 270, 269]
    assert DatasetInfo.read(tmp_path / "prepared") == info
    assert info.shape == [3, 8, 8]
    assert info.counts["val"] == val.counts()
    assert capsys.readouterr().out.splitlines() == [
        "digits: 1,797 images of 3x8x8, 10 classes (174 to 183 images each)",
        "  train 1,258, val 270, test 269 (held out)",
        f"  classes (train/val/test): {_by_split(info)}",
        "  nothing wrong was found",
        f"{tmp_path / 'split/split.csv'}: 1,797 images added; commit it with git, so that every clone has this split",
    ]


def _by_split(info: DatasetInfo) -> str:
    return ", ".join(f"{k} {'/'.join(str(info.counts[p][k]) for p in ('train', 'val', 'test'))}" for k in info.classes)


def test_prepared_images_stay_with_their_labels(tmp_path: Path) -> None:
    info = _prepare(PrepareParams(), tmp_path)

    from sklearn.datasets import load_digits

    bunch = load_digits()
    known = {
        np.rint(i * (255 / 16)).astype(np.uint8).tobytes(): k for i, k in zip(bunch.images, bunch.target, strict=True)
    }
    train = open_split(tmp_path / "prepared/train")
    assert all(known[image[0].tobytes()] == label for image, label in zip(train.images, train.labels, strict=True))
    pixels = np.asarray(train.images) / 255
    assert info.mean == pytest.approx(pixels.mean(axis=(0, 2, 3)).tolist())
    assert info.std == pytest.approx(pixels.std(axis=(0, 2, 3)).tolist())


def test_prepare_keeps_the_sources_own_test_split_sealed(
    tmp_path: Path, params: PrepareParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where the access to the test set is recorded
    info = _prepare(params, tmp_path)

    images, _ = idx.pixels(4, seed=2)
    sealed = open_test_set(tmp_path / "sealed/test", "evaluate").images
    assert {image.tobytes() for image in sealed} == {image.tobytes() for image in images}
    assert info.counts["test"] == dict.fromkeys(info.classes, 4)


def test_prepare_seals_the_test_split(tmp_path: Path, params: PrepareParams) -> None:
    _prepare(params, tmp_path)

    with pytest.raises(RefusedError, match="is sealed"):
        open_split(tmp_path / "sealed/test")


def test_prepare_again_gives_the_same_bytes(tmp_path: Path, params: PrepareParams) -> None:
    _prepare(params, tmp_path / "a")
    _prepare(params, tmp_path / "b")

    assert _prepared(tmp_path / "a") == _prepared(tmp_path / "b")


def test_prepare_of_images_in_another_order_gives_the_same_bytes(tmp_path: Path, params: PrepareParams) -> None:
    _prepare(params, tmp_path / "a")
    order = np.random.default_rng(0).permutation(200)
    for name, array in zip(idx.NAMES, idx.pixels(20, seed=1), strict=False):
        idx.write_file(tmp_path / "raw" / name, array[order])

    _prepare(params, tmp_path / "b")

    found = [_prepared(tmp_path / name) for name in "ab"]
    for one in found:  # files.csv has the place of each image in its source
        assert [one.pop(name) for name in list(one) if name.endswith("files.csv")]
    assert found[0] == found[1]


@pytest.mark.parametrize("links", [False, True])
def test_images_in_several_files_are_those_of_one_and_one_that_is_added_changes_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    root = photos.folder(tmp_path / "raw", per_class=22)
    params = PrepareParams(source=f"folder:{root}", root=str(root), size=16, min_per_class=2)
    one = _prepare(params, tmp_path)
    single = open_split(tmp_path / "prepared/train").images
    assert isinstance(single, np.memmap)
    kept = single.copy()

    monkeypatch.setattr(shards, "FILE_BYTES", 4096)  # five images
    assert _prepare(params, tmp_path, links=links) == one
    assert np.array_equal(open_split(tmp_path / "prepared/train").images[:], kept)
    before, first = _prepared(tmp_path), _inodes(tmp_path)
    photos.write(root / "cat/new.png", photos.tiles()[47])
    _prepare(params, tmp_path, links=links)
    after, second = _prepared(tmp_path), _inodes(tmp_path)
    shutil.copytree(tmp_path / "split", tmp_path / "again/split")
    again = _prepare(params, tmp_path / "again")

    pixels = [name for name in after if "/images-" in name]
    assert len(pixels) > 8
    assert sum(before[name] != after[name] for name in pixels) == 1
    if links:
        assert {name for name in pixels if first[name] != second[name]} == {n for n in pixels if before[n] != after[n]}
    assert len(list((tmp_path / ".decoded").rglob("linked-*"))) == (len(pixels) if links else 0)
    assert again == DatasetInfo.read(tmp_path / "prepared")
    assert {name: content for name, content in _prepared(tmp_path / "again").items() if name in pixels} == {
        name: after[name] for name in pixels
    }


def test_room_is_asked_for_what_is_not_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = photos.folder(tmp_path / "raw", per_class=22)
    params = PrepareParams(source=f"folder:{root}", root=str(root), size=16, min_per_class=2)
    monkeypatch.setattr(shards, "FILE_BYTES", 4096)
    _prepare(params, tmp_path, links=True)
    photos.write(root / "cat/new.png", photos.tiles()[47])
    for name in ("prepared", "sealed"):  # as DVC does before it runs a stage
        shutil.rmtree(tmp_path / name)
    real = tuple(os.statvfs(tmp_path))
    little = os.statvfs_result((4096, 4096, real[2], 3, 3, *real[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _: little)

    with pytest.raises(PodiumError, match="has room for 0 MB, and the images need"):
        _prepare(params, tmp_path)
    _prepare(params, tmp_path, links=True)
    assert len(open_split(tmp_path / "prepared/train").images)


def _table(folder: Path, *, groups: bool) -> PrepareParams:
    """A table of 60 images of noise in two classes, some with a given test split; every other row repeats its group."""
    lines = ["path,label,split,group"]
    for row in range(60):
        pixels = np.random.default_rng(row).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        photos.write(folder / f"{row}.png", Image.fromarray(pixels))
        lines.append(f"{row}.png,{'ab'[row % 2]},{'test' if row >= 50 else ''},{row // 4 if groups else ''}")
    (folder / "images.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return PrepareParams(source=f"csv:{folder}/images.csv", root=str(folder), val_fraction=0.3, min_per_class=1)


def test_digests_of_splits_are_those_of_earlier_runs(tmp_path: Path) -> None:
    """Another digest would mean another split of a new set, where a clone without a split file makes one."""
    digits = _prepare(PrepareParams(), tmp_path / "digits")
    table = _prepare(_table(tmp_path / "table", groups=False), tmp_path)

    assert digits.digest == "5d837c9d8942fad51422e054df5a832ddb42b5bbdf4cab145914b8f3d864026f"
    assert table.digest == "6508b80d8803c88df34627269a9c88fdd4326b0782f4c99af8c1a346e0e90d35"


def test_prepare_keeps_groups_of_the_source_within_one_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = _table(tmp_path / "table", groups=True)
    info = _prepare(params, tmp_path)

    group = {
        np.asarray(Image.open(tmp_path / f"table/{row}.png")).transpose(2, 0, 1).tobytes(): row // 4
        for row in range(60)
    }
    splits = {
        name: {group[image.tobytes()] for image in np.load(tmp_path / folder / "images.npy")}
        for name, folder in {"train": "prepared/train", "val": "prepared/val", "test": "sealed/test"}.items()
    }
    assert sum(map(len, splits.values())) == 15
    assert sum(info.counts["test"].values()) == 12  # rows 48 and 49 have no split, and that of their group
    assert "  15 groups of the source, each within one split" in capsys.readouterr().out.splitlines()


def test_prepare_with_another_salt_is_another_split_of_a_new_set_only(tmp_path: Path, params: PrepareParams) -> None:
    digests = {
        _prepare(params.model_copy(update={"salt": salt}), tmp_path / str(n)).digest for n, salt in enumerate("aba")
    }
    assert len(digests) == 2

    with pytest.raises(InputError, match=r"^prepare\.salt: is 'b', and .*split\.csv was drawn with 'a'.* `salt: a`"):
        _prepare(params.model_copy(update={"salt": "b"}), tmp_path / "0")


def test_prepare_replaces_what_was_there_and_what_a_killed_one_left(tmp_path: Path, params: PrepareParams) -> None:
    for left in ("prepared/stale.npy", "sealed/stale.npy", ".prepared.partial/train/images.npy", ".prepared.old/x"):
        path = tmp_path / left
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"old")

    _prepare(params, tmp_path)

    assert set(_bytes(tmp_path / "prepared")) == SHIPPED
    assert sorted(path.name for path in tmp_path.iterdir()) == [".decoded", "prepared", "raw", "sealed", "split"]


def test_prepare_reports_duplicates_and_conflicts(
    tmp_path: Path, params: PrepareParams, capsys: pytest.CaptureFixture[str]
) -> None:
    images, _ = idx.pixels(20, seed=1)
    images[10] = images[0]  # the same class
    images[11] = images[2]  # 1 and 2
    idx.write_file(tmp_path / "raw" / idx.NAMES[0], images)
    test, _ = idx.pixels(4, seed=2)
    test[5] = images[5]
    idx.write_file(tmp_path / "raw" / idx.NAMES[2], test)

    _prepare(params, tmp_path)

    report = json.loads((tmp_path / "prepared/audit.json").read_text(encoding="utf-8"))
    found = {finding["kind"]: finding for finding in report["findings"]}
    assert {kind: finding["groups"] for kind, finding in found.items()} == {"duplicates": 1, "conflicts": 1, "leaks": 1}
    assert found["conflicts"]["examples"][0]["classes"] == ["1 - one", "2 - two"]
    assert found["leaks"]["examples"][0]["files"] == ["test[5]", "train[5]"]
    assert "  equal images with different labels: 2 in 1 group, kept (train[11], ...)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changes",
    [{"source": "torchvision:MINST"}, {"root": "nowhere"}, {"min_per_class": 18}],
    ids=["unknown-source", "missing-files", "too-few-images"],
)
def test_prepare_with_bad_input_writes_nothing_and_leaves_what_was_there(
    tmp_path: Path, params: PrepareParams, changes: dict[str, Any]
) -> None:
    _prepare(params, tmp_path)
    before = _bytes(tmp_path)

    with pytest.raises(InputError, match=r"^prepare\."):
        _prepare(params.model_copy(update=changes), tmp_path)

    assert _bytes(tmp_path) == before


@pytest.mark.parametrize("name", ["prepared", "sealed"])
@pytest.mark.parametrize("is_link", [False, True])
def test_file_in_the_place_of_what_is_written_is_refused_until_it_is_moved_away(
    tmp_path: Path, params: PrepareParams, name: str, is_link: bool
) -> None:
    path = tmp_path / name
    path.symlink_to("nowhere") if is_link else path.write_bytes(b"mine")
    what = "a link to nowhere" if is_link else "a file"
    with pytest.raises(PodiumError, match=rf"{name} is {what}, and a folder must be there: move it away"):
        _prepare(params, tmp_path)
    assert os.path.lexists(path)
    path.unlink()
    (tmp_path / f".{name}.old").write_bytes(b"of an earlier Podium")
    (tmp_path / f".{name}.partial").symlink_to("nowhere")
    _prepare(params, tmp_path)
    assert sorted(one.name for one in tmp_path.iterdir()) == [".decoded", "prepared", "raw", "sealed", "split"]


def test_folder_behind_a_link_is_replaced_again_and_again(tmp_path: Path, params: PrepareParams) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "prepared").symlink_to("elsewhere")
    for _ in range(2):
        _prepare(params, tmp_path)
    assert set(_bytes(tmp_path / "prepared")) == SHIPPED
    assert not list(tmp_path.glob(".prepared.*"))


def test_prepare_that_can_not_write_is_an_error_and_leaves_what_was_there(
    tmp_path: Path, params: PrepareParams
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")

    folder = tmp_path / "file"
    with pytest.raises(PodiumError, match=r"is a file, and a folder must be there"):
        prepare(params, DoctorParams(), folder / "prepared", folder / "sealed", tmp_path / ".decoded")

    assert (tmp_path / "file").read_text(encoding="utf-8") == "in the way"


@pytest.mark.parametrize("short", [(4, 1, 1), (9, 0, 1), (9, 1, 0), (0, 0, 0)])
def test_class_with_too_few_images_is_refused_with_its_counts(short: tuple[int, int, int]) -> None:
    counts = {
        name: dict(zip(("train", "val", "test"), row, strict=True))
        for name, row in {"cat": (5, 1, 1), "fox": short}.items()
    }

    with pytest.raises(InputError, match=r"prepare\.min_per_class: .*1 of 2 classes have fewer") as caught:
        check_classes(counts, PrepareParams(min_per_class=5))

    table = str(caught.value).splitlines()[1:-1]
    assert [line.split() for line in table[:2]] == [
        ["class", "train", "val", "test", "groups"],
        ["fox", *map(str, short), "-"],
    ]


def test_many_classes_with_too_few_images_are_counted_beyond_the_first() -> None:
    counts = {f"class-{number}": {"train": 0, "val": 0, "test": 0} for number in range(100)}

    with pytest.raises(InputError, match=r"100 of 100 classes have fewer:(\n.*){22}80 more classes"):
        check_classes(counts, PrepareParams())


def test_prepare_of_digits_does_without_torch() -> None:
    code = "import sys, podium.stages.prepare, podium.data.sources.digits; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_stage_with_a_bad_parameter_exits_with_2_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("prepare: {salt: 3, scource: digits}\n", encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-m", "podium.stages.prepare"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "podium: params.yaml has 2 problems:",
        "  prepare.salt: must be a valid string; got 3",
        "  prepare.scource: is not a parameter; did you mean prepare.source?",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_class_of_fewer_groups_than_splits_is_refused_with_the_remedy_and_nothing_is_remembered(
    tmp_path: Path,
) -> None:
    root = photos.folder(tmp_path / "raw", per_class=12)
    for number in range(12):
        photos.write(root / f"ant/p{number % 2}_{number}.png", photos.tiles()[30 + number])
    params = PrepareParams(source=f"folder:{root}", root=str(root), size=16, min_per_class=2, group="(p[0-9]+)_")

    with pytest.raises(InputError, match=r"1 of 3 classes have fewer") as caught:
        _prepare(params, tmp_path)

    assert str(caught.value).splitlines()[2].split()[0] == "ant"
    assert str(caught.value).splitlines()[2].split()[-1] == "2"
    assert "1 class of fewer than 3 groups can't be in three splits" in str(caught.value)
    assert "salt" not in str(caught.value)
    assert not (tmp_path / "split").exists()


def test_set_split_again_says_how_often_earlier_test_sets_were_accessed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = photos.folder(tmp_path / "raw", per_class=12)
    params = PrepareParams(source=f"folder:{root}", root=str(root), size=16, min_per_class=2)
    _prepare(params, tmp_path)
    for _ in range(3):
        open_test_set(tmp_path / "sealed/test", "gate")
    photos.write(root / "cat/new.png", photos.tiles()[40])
    _prepare(params, tmp_path)
    assert "split again" not in capsys.readouterr().out  # it grew, and accesses are still counted

    (tmp_path / "split/split.csv").unlink()
    _prepare(params, tmp_path)

    assert "the images are split again, after 3 accesses to earlier test sets" in capsys.readouterr().out
