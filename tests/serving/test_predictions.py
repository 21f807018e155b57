"""Many files at once: folders, bad ones among good ones, and predictions as CSV."""

import csv
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import registered
from podium import cli
from podium.errors import InputError, RefusedError
from podium.registry import graph_export, versions
from podium.registry.loading import LoadedModel
from podium.serving import prediction_table, predictions
from podium.serving.predictions import expand
from registered import Project
from waiting import PATIENCE


@pytest.fixture
def scans(project: Project) -> Path:
    """A folder of ten images below each other, one of them damaged, and a text."""
    folder = Path("scans")
    (folder / "below").mkdir(parents=True)
    for number, data in enumerate(registered.reference_images(project.folder)[:10]):
        (folder / ("below" if number % 2 else "") / f"{number}.png").write_bytes(data if number != 4 else data[:60])
    (folder / "notes.txt").write_text("hello", encoding="utf-8")
    return folder


def test_expand_takes_the_images_of_a_folder_and_named_files_as_they_are(scans: Path) -> None:
    assert [p.as_posix() for p in expand([Path("params.yaml"), scans])][:3] == [
        "params.yaml",
        "scans/0.png",
        "scans/2.png",
    ]
    assert len(expand([scans])) == 10


def test_expand_leaves_out_a_link_that_leads_out_of_the_folder(scans: Path) -> None:
    (scans / "out.png").symlink_to(Path("params.yaml").absolute())
    (scans / "in.png").symlink_to((scans / "0.png").absolute())
    names = [path.name for path in expand([scans])]
    assert "in.png" in names
    assert "out.png" not in names


def test_expand_says_what_it_leaves_out_and_takes_images_of_any_name(scans: Path) -> None:
    (scans / "out.png").symlink_to(Path("params.yaml").absolute())
    (scans / "nowhere.png").symlink_to("gone")
    for name in ("photo", "photo.pgm", "photo.jfif", "photo.heic"):
        (scans / name).write_bytes((scans / "0.png").read_bytes())
    said: list[tuple[str, str]] = []

    names = {path.name for path in expand([scans], lambda name, why: said.append((name, why)))}

    assert {"photo", "photo.pgm", "photo.jfif", "photo.heic"} <= names
    assert [name for name, _ in said] == ["scans/notes.txt", "scans/nowhere.png", "scans/out.png"]


PIXELS = (
    *(b"P5\n3 2\n255\n......", b"P2 3 2 255 0 0 0 0 0 0", b"P1\n# a scan\n#\n3 2\n101010", b"P6\r\n3\n2\n255\n"),
    *(b"PF\n3 2\n-1.0\n", b"Pf 3 2 1.0\n", b"P4\n#" + b"-" * 3000 + b"\n3 2\n..", b"P5 3 # wide\n2 255\n"),
    *(b"BM" + bytes(12) + bytes([size, 0, 0, 0]) + bytes(9) for size in (12, 40, 124)),
)
TEXTS = (
    *(b"PFAS samples of 2026", b"Pflichtangaben nach TMG", b"P1 is the first patient", b"P1\nP2\nP3\n", b"P2: 3 4"),
    *(
        b"P3 5 mm, left",
        b"PF 12.5 kV",
        b"P6 # a heading",
        b"P5",
        b"BMI of all patients, by age\n",
        b"BM",
        b"GIF89 it is not",
    ),
)


def test_expand_tells_images_from_texts_that_begin_with_the_same_letters(tmp_path: Path) -> None:
    for number, data in enumerate((*PIXELS, *TEXTS)):
        (tmp_path / f"{number:02}").write_bytes(data)
    left_out: list[str] = []
    taken = expand([tmp_path], lambda name, _: left_out.append(name))
    assert [int(path.name) for path in taken] == list(range(len(PIXELS)))
    assert len(left_out) == len(TEXTS)


def test_predict_writes_names_that_are_no_text(scans: Path) -> None:
    Path(os.fsdecode(b"scans/\xff.png")).write_bytes((scans / "0.png").read_bytes())
    with pytest.raises(SystemExit):  # one of the others is damaged
        cli.main(["predict", "--version", "3", "scans", "--out", "predictions.csv"])
    assert "scans/\\xff.png" in Path("predictions.csv").read_text(encoding="utf-8")


ODD = [
    b"new\nline.png",
    b"cr\rx.png",
    b"\x1b[31mred.png",
    b"=1+1.png",
    b"@x.png",
    b"-x.png",
    b'quo"te,.png',
    b"\xff.png",
]
ODD += ["\u202egnp.exe".encode(), "\u00fc\u2028.png".encode(), b" a.png", b"a.png "]


@pytest.fixture
def odd(scans: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Images with odd names in the folder in which the test stands; a pipe, a hidden image and a text among them."""
    for name in ODD:
        Path(os.fsdecode(b"odd/" + name)).parent.mkdir(exist_ok=True)
        Path(os.fsdecode(b"odd/" + name)).write_bytes((scans / "0.png").read_bytes())
    os.mkfifo("odd/pipe.png")
    Path("odd/.hidden.png").write_bytes(b"x")
    Path("odd/notes").write_text("hello", encoding="utf-8")
    return ODD


def test_predict_answers_or_names_every_file_of_a_folder(odd: list[bytes], capsys: pytest.CaptureFixture[str]) -> None:
    cli_run("predict", "--version", "3", "odd", "--out", "predictions.csv")

    with Path("predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["file"] for row in rows} == {f"odd/{name.decode('utf-8', 'backslashreplace')}" for name in odd}
    assert {row["label"] for row in rows} <= {"left", "right", "top"}
    said = capsys.readouterr().err
    assert [line.split(": ")[1] for line in said.splitlines()] == ["odd/notes", "odd/pipe.png", "odd/.hidden.png"]


def test_predict_in_a_locale_of_ascii_shows_every_name_on_one_line(odd: list[bytes]) -> None:
    code = "import sys; from podium.cli import main; main(sys.argv[1:])"
    plain = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", code, "predict", "--version", "3", "odd"]
    done = subprocess.run(command, env=plain, capture_output=True, check=False)

    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 + len(odd)
    assert done.stdout.decode("utf-8").replace("\n", "").isprintable()  # Python's UTF-8 mode, whatever the locale
    for name in (
        rb"new\nline.png",
        rb"cr\rx.png",
        rb"\x1b[31mred.png",
        rb"\xff.png",
        rb"\u202egnp.exe",
        "\u00fc".encode() + rb"\u2028.png",
    ):
        assert b"odd/" + name in done.stdout


def test_predict_writes_no_formula_into_its_table(odd: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    inside = [f"odd/{name}" for name in ("=1+1.png", "@x.png", "-x.png")]
    for name in inside:
        Path(name).rename(Path(name).name)
    cli_run("predict", "--version", "3", "--out", "predictions.csv", "--", *(Path(name).name for name in inside))

    lines = Path("predictions.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == ["./=1+1.png", "./@x.png", "./-x.png"]


def cli_run(*arguments: str) -> None:
    """Run a command that ends well."""
    cli.main(arguments)


def test_expand_of_a_folder_without_images_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no image file"):
        expand([tmp_path])


def test_predict_in_any_batches_is_in_order(project: Project, scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model: LoadedModel = versions.load(project.tracking, versions.find(project.tracking, registered.NAME, 3))
    whole = list(predictions.predict(model, expand([scans])))
    monkeypatch.setattr(predictions, "BATCH", 3)
    for one, other in zip(whole, predictions.predict(model, expand([scans])), strict=True):
        assert (one.file, one.label, one.error) == (other.file, other.label, other.error)
    assert [one.file.name for one in whole if one.error] == ["4.png"]


def test_file_larger_than_is_taken_is_not_read(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    model: LoadedModel = versions.load(project.tracking, versions.find(project.tracking, registered.NAME, 3))
    with Path("huge.png").open("wb") as file:
        file.truncate(50_000_000)
    (found,) = predictions.predict(model, [Path("huge.png")])
    assert found.error == "it has 50,000,000 bytes; at most 33,554,432 are taken"


@pytest.mark.parametrize("probabilities", [True, False])
def test_predict_folder_writes_a_row_a_file(
    scans: Path, probabilities: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = ["--probabilities"] if probabilities else []
    with pytest.raises(SystemExit) as end:
        cli.main(["predict", "--version", "3", "scans", "--out", "predictions.csv", *extra])
    assert end.value.code == 1
    shown = capsys.readouterr()
    assert "9 predictions of tiny-classifier version 3 in predictions.csv" in shown.out
    assert "1 of 10 files could not be predicted" in shown.err
    with Path("predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    bad = [row for row in rows if row["error"]]
    assert [(row["file"], row["label"], row["probability"]) for row in bad] == [("scans/4.png", "", "")]
    assert bad[0]["error"].startswith("it can't be decoded")
    assert {row["model"] for row in rows if row["label"]} == {"tiny-classifier/3"}
    assert ("probability_left" in rows[0]) == probabilities


def test_predict_that_may_abstain_writes_the_reason(
    scans: Path, project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    able = versions.load(project.tracking, versions.find(project.tracking, registered.NAME, 3))
    inside = able.model.unwrap_python_model()  # type: ignore[no-untyped-call]
    inside.threshold = 1.1  # unsure of every image
    able = replace(able, abstain={"threshold": 1.1, "error": 0.1, "confidence": 0.95})
    monkeypatch.setattr(versions, "load", lambda *_: able)
    with pytest.raises(SystemExit):
        cli.main(["predict", "--version", "3", "scans", "--out", "predictions.csv", "--abstain", "--probabilities"])
    rows = [row for row in table("predictions.csv") if not row["error"]]
    assert {(row["label"], row["reason"], row["model"]) for row in rows} == {("", "unsure", "tiny-classifier/3")}
    assert all(row["probability"] and row["probability_left"] for row in rows)
    with pytest.raises(SystemExit):
        cli.main(["predict", "--version", "3", "scans", "--abstain"])
    assert capsys.readouterr().out.count("(unsure)") == len(rows)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--probabilities"], "--probabilities needs --out"),
        (["--abstain"], "tiny-classifier version 3 can't abstain: it has no threshold from which it answers"),
        (["--out", "absent/predictions.csv"], "absent/predictions.csv can't be written: No such file or directory"),
    ],
)
def test_predict_with_an_output_that_can_not_be_exits_2(
    scans: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["predict", "--version", "3", "scans", *arguments])
    assert end.value.code == 2
    assert sentence in capsys.readouterr().err


def table(path: str = "predictions.csv") -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_predict_follows_a_link_to_its_file(scans: Path) -> None:
    (scans / "4.png").unlink()
    Path("elsewhere").mkdir()
    Path("elsewhere/real.csv").write_text("old", encoding="utf-8")
    for name, target in (("link.csv", "elsewhere/real.csv"), ("new.csv", "elsewhere/new.csv")):
        Path(name).symlink_to(target)
        cli_run("predict", "--version", "3", "scans", "--out", name)
        assert Path(name).is_symlink()
        assert len(table(target)) == 9
    assert sorted(path.name for path in Path("elsewhere").iterdir()) == ["new.csv", "real.csv"]


PREDICTING = """
import sys

from podium.cli import main

for out in sys.argv[1:]:
    try:
        main(["predict", "--version", "3", "scans", "--out", out])
    except SystemExit as end:
        print("exit", end.code, file=sys.stderr)
"""


def test_predict_writes_to_what_is_no_file_and_leaves_it(scans: Path) -> None:
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)  # the pipe holds the rows until they are read
    command = [sys.executable, "-c", PREDICTING, "pipe", "/dev/null", "/dev/stdout"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)
    said, problems, rows = done.stdout, done.stderr, os.read(reader, 2**16).decode()
    os.close(reader)
    assert problems.count("exit 1\n") == 3, problems  # one of the files is damaged
    summary = "9 predictions of tiny-classifier version 3 in "
    assert said == f"{summary}pipe\n{summary}/dev/null\n{rows}"
    assert rows.count("\n") == 11
    assert problems.count(f"{summary}/dev/stdout\n") == 1
    assert Path("pipe").is_fifo()
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    ("label", "shown"),
    [("=1+1", "'=1+1"), ("@x", "'@x"), ("+cmd", "'+cmd"), ("-1", "-1"), ("+1.5e3", "+1.5e3"), ("a", "a")],
)
def test_table_holds_no_label_that_a_spreadsheet_would_compute(label: str, shown: str, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    found = [predictions.Prediction(file, label, 0.5, "m/1", {label: 0.5})]
    assert prediction_table.write(tmp_path / "out.csv", [file], SOURCE, [label], lambda _: found) == (0, 0)
    assert table(str(tmp_path / "out.csv"))[0]["label"] == shown


SOURCE = prediction_table.Source("m/1", "d" * 64)


ENDS = ("\n", "\x85", "\u2028", "\x0c", "\r", '"', ",", "\x1c", "'", ";")
"""Characters in the names of files, some of which Python takes for the end of a line."""


def stopped(tmp_path: Path, count: int) -> tuple[list[Path], Path]:
    """Ten files, and what a run leaves that was stopped after `count` of them."""
    files = [tmp_path / f"{number}{odd}.png" for number, odd in enumerate(ENDS)]
    for file in files:
        file.touch()
        os.utime(file, (1, 1))

    def until(left: Sequence[Path]) -> Iterator[predictions.Prediction]:
        yield from answers(left[:count])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prediction_table.write(tmp_path / "out.csv", files, SOURCE, [], until)
    return files, tmp_path / "out.csv"


def answers(files: Sequence[Path]) -> list[predictions.Prediction]:
    return [
        predictions.Prediction(file, error="damaged")
        if "3" in file.name
        else predictions.Prediction(file, "a", 1.0, "m/1")
        for file in files
    ]


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ("nothing", 6),
        ("another version", 3),
        ("another model", 0),
        ("another column", 0),
        ("a file has changed", 2),
        ("another file of the same age", 2),
        ("a file is new", 0),
        ("cut within a row", 5),
        ("no text", 0),
    ],
)
def test_stopped_run_goes_on_where_what_is_there_is_still_true(tmp_path: Path, change: str, kept: int) -> None:
    files, out = stopped(tmp_path, 6)
    partial = out.with_name(f"out.csv.{SOURCE.digest[:16]}.tmp")
    source, classes = SOURCE, []
    if change == "another version":
        text = partial.read_text(encoding="utf-8").splitlines(keepends=True)
        partial.write_text("".join(text[:7]) + "".join(text[7:]).replace("m/1", "m/2"), encoding="utf-8")
    elif change == "another model":
        source = replace(SOURCE, digest="e" * 64)
    elif change == "another column":
        classes = ["a"]
    elif change == "a file has changed":
        files[2].write_bytes(b"x")
        os.utime(files[2], (1, 1))
    elif change == "another file of the same age":
        new = tmp_path / "new"
        new.touch()
        os.utime(new, (1, 1))
        new.replace(files[2])
    elif change == "a file is new":
        files.insert(0, tmp_path / "!.png")
    elif change == "cut within a row":
        partial.write_bytes(partial.read_bytes()[:-15])
    elif change == "no text":
        partial.write_bytes(b"\xff\x00\n")
    asked: list[Path] = []

    def rest(left: Sequence[Path]) -> list[predictions.Prediction]:
        asked.extend(left)
        return [replace(one, probabilities={"a": 1.0}) for one in answers(left)]

    bad, found = prediction_table.write(out, files, source, classes, rest)
    assert (bad, found) == (1, kept)
    assert asked == files[kept:]
    assert [row["file"] for row in table(str(out))] == [str(file) for file in files]
    others = [partial.name] if change == "another model" else []
    assert [path.name for path in tmp_path.iterdir() if "tmp" in path.name] == others


def test_row_of_a_file_that_changed_after_it_was_predicted_is_not_kept(tmp_path: Path) -> None:
    files, changed = [tmp_path / f"{number}.png" for number in range(4)], b"other"
    for file in files:
        file.touch()

    def until(left: Sequence[Path]) -> Iterator[predictions.Prediction]:
        yield from answers(left[:2])
        left[0].write_bytes(changed)  # while the run goes on, and writes its table after it
        yield from answers(left[2:3])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prediction_table.write(tmp_path / "out.csv", files, SOURCE, [], until)
    assert prediction_table.write(tmp_path / "out.csv", files, SOURCE, [], answers) == (1, 0)


def test_table_that_another_run_is_writing_is_left_to_it(tmp_path: Path) -> None:
    files, out = stopped(tmp_path, 6)

    def meanwhile(left: Sequence[Path]) -> Iterator[predictions.Prediction]:
        yield from answers(left[:1])
        with pytest.raises(RefusedError, match="another process is writing"):
            prediction_table.write(out, files, SOURCE, [], answers)
        yield from answers(left[1:])

    assert prediction_table.write(out, files, SOURCE, [], meanwhile) == (1, 6)
    assert [row["file"] for row in table(str(out))] == [str(file) for file in files]
    assert prediction_table.write(out, files, SOURCE, [], answers) == (1, 0)


def test_names_that_lead_nowhere_are_said_in_a_sentence(tmp_path: Path) -> None:
    loop, long = tmp_path / "loop.pt2", tmp_path / ("x" * 300)
    loop.symlink_to(loop)
    for path, why in ((loop, "Too many levels of symbolic links"), (long, "File name too long")):
        with pytest.raises(InputError, match=f"can't be written: {why}"):
            prediction_table.write(path, [], SOURCE, [], answers)
        with pytest.raises(InputError, match=f"can't be written: {why}"):
            graph_export.check_destination(path)
        assert expand([path]) == [path]
        assert [one.error for one in predictions.predict(Sizes([]), [path])] == [f"it can't be read: {why}"]


class Sizes(LoadedModel):
    """A model that notes how many bytes it is asked about at once."""

    def __init__(self, asked: list[list[int]]) -> None:
        super().__init__("m", None, [], 0, [])  # type: ignore[arg-type]
        object.__setattr__(self, "asked", asked)

    def predict(self, images: Sequence[bytes], **_: bool) -> pd.DataFrame:
        self.asked.append([len(one) for one in images])  # type: ignore[attr-defined]
        return pd.DataFrame({"label": ["a"] * len(images), "probability": 1.0, "model": "m/1"})


def test_large_files_are_read_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "BATCH", 3)
    monkeypatch.setattr(predictions, "BATCH_BYTES", 10)
    sizes = [4, 4, 4, 12, 2, 2, 2, 2]
    files = [tmp_path / str(number) for number in range(len(sizes))]
    for file, size in zip(files, sizes, strict=True):
        file.write_bytes(bytes(size))
    asked: list[list[int]] = []
    assert [one.file for one in predictions.predict(Sizes(asked), files)] == files
    assert asked == [[4, 4], [4], [12], [2, 2, 2], [2]]


def test_predict_whose_reader_has_seen_enough_ends_quietly(scans: Path) -> None:
    read, written = os.pipe()
    os.close(read)
    code = "import sys; from podium.process import run; from podium.cli import main; run(lambda: main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "predict", "--version", "3", "scans", "--out", "/dev/stdout"]
    done = subprocess.run(command, stdout=written, stderr=subprocess.PIPE, check=False)
    os.close(written)
    assert (done.returncode, done.stderr) == (0, b"podium: scans/notes.txt: it is no image; left out\n")


@pytest.mark.parametrize("out", ["a.png", "link.csv", "hard.csv", "scans/../a.png"])
def test_table_that_would_replace_an_image_is_refused(out: str, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"pixels")
    (tmp_path / "scans").mkdir()
    (tmp_path / "link.csv").symlink_to(image)
    (tmp_path / "hard.csv").hardlink_to(image)
    with pytest.raises(InputError, match="one of the images: name another file"):
        prediction_table.write(tmp_path / out, [tmp_path / "gone.png", image], SOURCE, [], answers)
    assert image.read_bytes() == b"pixels"
    assert not [*tmp_path.glob("*.tmp*")]
