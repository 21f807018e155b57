"""What people see of two versions on served images: the terminal's lines, the page, and the two commands."""

import sqlite3
import stat
from pathlib import Path

import pytest

from podium.cli import main
from podium.shadow import compare_page, feedback_labels, pair_schema, pair_store, pair_summary
from podium.shadow.feedback_labels import Label, Labels
from shadow.pairs import MODEL, digest, kept, pair, versions

NAMES = ("<b>cat</b>", "dog", "{{ 7 * 7 }}")
NASTY = versions(3, 4, NAMES, "pets\x1b[31m<script>")


def labelled(folder: Path, won: int, lost: int, equal: int = 0) -> None:
    """So many disagreements that the challenger wins and loses, and images on which both are right."""
    pairs = [pair(n, "cat", "dog") for n in range(won + lost)] + [pair(1000 + n, "cat", "cat") for n in range(equal)]
    kept(folder, *pairs, now=1_800_000_000.0).close()
    rows = [Label(0, digest(n), "dog" if n < won else "cat") for n in range(won + lost)]
    rows += [Label(0, digest(1000 + n), "cat") for n in range(equal)]
    if rows:
        feedback_labels.remember(folder, MODEL, Labels("digest", rows, 0, ()))


@pytest.mark.parametrize(
    ("won", "lost", "equal", "tone", "headline"),
    [
        (12, 0, 3, "fine", "Evidence that version 4 is more accurate than version 3"),
        (0, 12, 3, "refuse", "Evidence that version 4 is less accurate than version 3"),
        (12, 60, 0, "refuse", "Evidence that version 4 is less accurate than version 3"),
        (30, 30, 0, "keep", "No evidence yet"),  # all that it wins come first
        (7, 0, 0, "keep", "No evidence yet"),  # 32: of one question it would be enough
        (3, 2, 0, "keep", "No evidence yet"),
        (0, 0, 5, "keep", "No evidence yet"),
    ],
)
def test_verdict_follows_the_labels(tmp_path: Path, won: int, lost: int, equal: int, tone: str, headline: str) -> None:
    labelled(tmp_path, won, lost, equal)
    found = pair_summary.summary(tmp_path, MODEL, 3, 4)
    said = compare_page.verdict(found, 0.05)
    assert (said.tone, said.headline) == (tone, headline)
    assert said.text[0].isupper()
    assert headline in "\n".join(compare_page.lines(found, 0.05))
    assert headline in compare_page.render(found, 0.05)


def test_page_escapes_everything_and_fetches_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    kept(folder, pair(1, NAMES[0], NAMES[2]), pair(2, None, "dog"), versions=NASTY).close()
    rows = [Label(0, digest(1), NAMES[2])]
    feedback_labels.remember(folder, NASTY.model, Labels("digest", rows, 0, ()))
    found = pair_summary.summary(folder, NASTY.model, 3, 4)
    out = compare_page.write(found, 0.05, tmp_path / "page" / "compare.html")
    page = out.read_text(encoding="utf-8")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    for raw in ("<script", "<b>cat", "\x1b", "http:", "https:", ">49<"):
        assert raw not in page
    assert "&lt;b&gt;cat&lt;/b&gt;" in page
    assert page.count("data:image/png;base64,") == 2
    assert 'class="right"' in page
    assert "<svg" in page
    assert "\x1b" not in "\n".join(compare_page.lines(found, 0.05))


def test_page_without_labels_has_no_chart(tmp_path: Path) -> None:
    labelled(tmp_path, 0, 0)
    kept(tmp_path, pair(1, "cat", "cat")).close()
    page = compare_page.render(pair_summary.summary(tmp_path, MODEL, 3, 4), 0.05)
    assert "No labels yet" in page
    assert "<svg" not in page
    assert "None is stored" in page


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def test_commands_compare_label_and_compare_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(f"register: {{name: {MODEL}}}\n", encoding="utf-8")
    assert run("compare") == 2
    assert "no versions of pets were compared on served images yet" in capsys.readouterr().err
    assert run("feedback", "none.csv") == 2
    kept(pair_store.folder(), *[pair(n, "cat", "dog") for n in range(9)], pair(10, "cat", "cat")).close()
    main(["compare", "--csv", "to_label.csv"])
    shown = capsys.readouterr().out
    for words in (
        "version 4 compared with version 3",
        "1 (10.00%)",
        "9 (90.00%)",
        "mlruns/shadow/compare.html",
        "9 disagreements",
    ):
        assert words in shown
    table = Path("to_label.csv").read_text(encoding="utf-8")
    Path("to_label.csv").write_text(table.replace(",,r", ",dog,r"), encoding="utf-8")
    main(["feedback", "to_label.csv"])
    shown = capsys.readouterr().out
    assert "9 images labelled, 0 had this label, 0 corrected" in shown
    assert "version 4 compared with version 3: Evidence that version 4 is more accurate" in shown
    main(["compare", "4", "--champion", "3"])
    assert "only the challenger right     9" in capsys.readouterr().out
    assert run("compare", "5") == 2
    assert "there are 4 compared with 3" in capsys.readouterr().err


def test_commands_of_a_busy_file_do_what_needs_no_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pair_schema, "PATIENCE", 0.05)
    Path("params.yaml").write_text(f"register: {{name: {MODEL}}}\n", encoding="utf-8")
    folder = pair_store.folder()
    kept(folder, pair(1, "cat", "dog"), now=0.0).close()
    Path("wrong.csv").write_text("digest\n", encoding="utf-8")
    Path("labels.csv").write_text(f"digest,label\n{digest(1)},dog\n", encoding="utf-8")
    writer = sqlite3.connect(folder / pair_schema.NAME, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    main(["compare", "--csv", "to_label.csv"])
    assert "1 disagreement" in capsys.readouterr().out  # too old, but not deleted now
    assert run("feedback", "wrong.csv") == 2
    assert "wrong.csv must have a column `label`" in capsys.readouterr().err
    assert run("feedback", "labels.csv") == 1
    assert "another process has been writing to it for more than 0.05 s. Try again" in capsys.readouterr().err
    writer.close()
    main(["compare"])
    assert pair_summary.summary(folder, MODEL, 3, 4).kept == 0
