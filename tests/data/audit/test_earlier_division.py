"""A set that grows after images were sealed: none of them is trained on, or the division is refused."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import photos
from podium.config.params import DoctorParams, PrepareParams
from podium.data import sources
from podium.data.audit.data_audit import audited
from podium.data.dataset import open_test_set
from podium.errors import InputError
from podium.stages.prepare import prepare

SIZE = 32


class Project:
    """A folder of photographs that is prepared again and again."""

    def __init__(self, folder: Path) -> None:
        self.root = photos.folder(folder / "photos", per_class=16)
        self.folder = folder

    def params(self, **changes: Any) -> PrepareParams:
        fields = {"source": f"folder:{self.root}", "root": str(self.root), "size": SIZE, "min_per_class": 1}
        return PrepareParams(**(fields | {"test_fraction": 0.4, "val_fraction": 0.2} | changes))

    def prepare(self, audit: DoctorParams, **changes: Any) -> None:
        prepare(
            self.params(**changes), audit, self.folder / "prepared", self.folder / "sealed", self.folder / "decoded"
        )

    def parts(self, audit: DoctorParams, **changes: Any) -> dict[str, set[str]]:
        """Names of files by part, of what preparing now would give."""
        params = self.params(**changes)
        with audited(params, audit, self.folder / "decoded", self.folder / "split/split.csv") as data:
            names = [item.origin for item in sources.read(params).items]
            assert len(names) == len(data.labels)
            return {name: {names[row] for row in rows} for name, rows in data.division.parts().items()}

    def add_crops(self) -> None:
        """A crop of every photograph."""
        for path in sorted(self.root.rglob("*.png")):
            tile = photos.tiles()[int(path.stem) + (16 if path.parent.name == "dog" else 0)]
            photos.write(path.with_name(f"{path.stem}-crop.png"), tile.crop((5, 5, 91, 91)))

    def add_small(self, side: int, count: int = 80) -> None:
        """So many small pictures that the median side is theirs."""
        draw = np.random.default_rng(0)
        for number in range(count):
            tile = photos.tiles()[40 + number % 8].resize((side, side))
            noise = draw.integers(0, 256, (side, side, 3), dtype=np.uint8)
            photos.write(self.root / "cat" / f"small-{number:03}.png", Image.blend(tile, Image.fromarray(noise), 0.7))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)  # where test set accesses are recorded
    return Project(tmp_path)


@pytest.fixture
def cropped(project: Project) -> Project:
    """The same with a crop of each photograph."""
    project.add_crops()
    return project


AUTO = DoctorParams()


def test_auto_that_would_dissolve_groups_is_refused_with_both_remedies(cropped: Project) -> None:
    cropped.prepare(AUTO)
    sealed = cropped.parts(AUTO)["test"]
    cropped.add_small(48)
    with pytest.raises(
        InputError, match=r"^doctor\.near: auto looked for crops .* 144 images of 48 pixels .*"
    ) as caught:
        cropped.prepare(AUTO)
    assert "Either write `near: crops`, which looks as before, or write `near: copies`" in str(caught.value)
    crops = DoctorParams(near="crops")
    cropped.prepare(crops)
    assert sealed <= cropped.parts(crops)["test"]
    assert sealed <= cropped.parts(DoctorParams(near="copies"))["test"]


def test_crop_of_a_test_image_is_test_only_where_crops_are_looked_for(project: Project) -> None:
    """What the refusal is for."""
    project.prepare(AUTO)
    sealed = project.parts(AUTO)["test"]
    project.add_crops()
    crops = {name.replace(".png", "-crop.png") for name in sealed}
    assert len(crops - project.parts(AUTO)["test"]) <= 2  # pieces of sky, on which little can be seen
    assert len(crops - project.parts(DoctorParams(near="copies"))["test"]) > 5
    assert crops & project.parts(DoctorParams(near="copies"))["train"]


def test_weaker_look_that_params_say_is_let_through_with_a_warning(
    cropped: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    cropped.prepare(AUTO)
    cropped.prepare(DoctorParams(near="copies"))
    assert "doctor.near: crops were looked for when images were split before, copies are now" in (
        capsys.readouterr().out
    )


def test_images_too_small_to_be_looked_at_can_be_taken_out_again(cropped: Project) -> None:
    cropped.prepare(AUTO)
    cropped.add_small(12)
    with pytest.raises(InputError, match="Either take the small images out again, or write `near: off`"):
        cropped.prepare(AUTO)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_other_size_channels_or_resizing_moves_no_image(cropped: Project, resize: str, channels: int) -> None:
    cropped.prepare(AUTO)
    before = cropped.parts(AUTO)
    for size in (8, 16, 24, 48, 64):
        changes = {"size": size, "resize": resize, "channels": channels, "background": "black"}
        cropped.prepare(AUTO, **changes)
        assert cropped.parts(AUTO, **changes) == before


def test_clone_that_has_the_split_file_has_the_split_and_one_without_it_the_same_for_a_set_that_never_grew(
    cropped: Project,
) -> None:
    cropped.prepare(AUTO)
    before = cropped.parts(AUTO)
    shutil.rmtree(cropped.folder / "decoded")
    assert cropped.parts(AUTO) == before
    (cropped.folder / "split/split.csv").unlink()
    assert cropped.parts(AUTO) == before


def test_split_file_remembers_the_strongest_look(cropped: Project) -> None:
    cropped.prepare(DoctorParams(near="copies"))
    cropped.prepare(AUTO)
    cropped.prepare(DoctorParams(near="copies"))
    assert "# near-duplicates: crops\n" in (cropped.folder / "split/split.csv").read_text(encoding="utf-8")


def test_test_image_that_was_taken_out_is_one_again_when_it_comes_back_by_another_name(cropped: Project) -> None:
    cropped.prepare(AUTO)
    before = cropped.parts(AUTO)
    name = sorted(before["test"])[0]
    data = (cropped.root / name).read_bytes()
    (cropped.root / name).unlink()
    cropped.prepare(AUTO)
    (cropped.root / "cat/another name.png").write_bytes(data)
    assert "cat/another name.png" in cropped.parts(AUTO)["test"]


def test_sealed_image_is_not_trained_on_where_its_group_is_left_out_but_for_a_larger_copy(project: Project) -> None:
    """A re-encoded, larger copy is the one of its group that `near_duplicates: skip` keeps: it goes where all would."""
    keep, skip = DoctorParams(), DoctorParams(near_duplicates="skip")
    project.prepare(keep)
    before = project.parts(keep)
    for path in sorted(project.root.rglob("*.png")):
        tile = photos.tiles()[int(path.stem) + (16 if path.parent.name == "dog" else 0)]
        photos.write(path.with_suffix(".jpg"), tile.resize((200, 200)), "JPEG", quality=70)
    both, one = project.parts(keep), project.parts(skip)
    copies = {name.replace(".png", ".jpg") for name in before["test"]}
    assert len(copies - both["test"]) <= 1  # a piece of sky, on which nothing can be seen
    for name, names in before.items():  # what is left of a group goes where the group is
        elsewhere = set().union(*(one[other] for other in one if other != name))
        assert len({each.replace(".png", ".jpg") for each in names} & elsewhere) <= 2  # sky again
    assert sum(map(len, one.values())) < sum(map(len, both.values()))


def test_test_split_of_a_refused_division_stays(cropped: Project) -> None:
    cropped.prepare(AUTO)
    before = open_test_set(cropped.folder / "sealed/test", "evaluate").digest
    cropped.add_small(48)
    with pytest.raises(InputError):
        cropped.prepare(AUTO)
    assert open_test_set(cropped.folder / "sealed/test", "evaluate").digest == before
