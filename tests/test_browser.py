"""What people look at, in a real browser: Debian's chromium, driven by Playwright, with no network but this machine.

The report (light, dark, phone, paper), MLflow's pages on what Podium recorded, and the profiler's page of TensorBoard.
"""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

import photos
from finished import Finished
from podium import paths
from podium.config.params import DoctorParams, PrepareParams
from podium.data.audit.data_audit import audited
from podium.report.render import build
from podium.shadow import compare_page, feedback_labels, pair_summary
from podium.shadow.feedback_labels import Label, Labels
from podium.tracking.store import connect
from podium.tracking.trial_runs import runs_of
from report import sample
from shadow.pairs import digest, kept, pair, versions
from starting import free_port
from waiting import PATIENCE, until

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
QUIET: tuple[str, ...] = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
QUIET += ("--disable-component-update", "--disable-sync")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run of 40 trials, moved to a folder of its own as an attachment would be."""
    root = tmp_path_factory.mktemp("browser")
    sample.write_search(root, 40)
    sample.write_rest(root)
    sample.write_abstain(root)
    return build(sample.folders(root), root / "mail")


@contextmanager
def opened(browser: Browser, path: Path, **context: object) -> Iterator[Page]:
    """The report, every chart drawn. Fails where the page says something on its console or asks for anything."""
    complaints: list[str] = []
    held = browser.new_context(offline=True, **context)  # type: ignore[arg-type]
    page = held.new_page()
    page.set_default_timeout(1000 * PATIENCE)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: complaints.append(request.url) if not request.url.startswith(("file:", "data:")) else None,
    )
    page.goto(path.as_uri(), timeout=1000 * PATIENCE)
    page.evaluate("podiumReport.drawAll()")
    yield page
    assert complaints == []
    held.close()


@pytest.mark.parametrize(
    ("scheme", "width", "mobile"), [("light", 1200, False), ("dark", 1200, False), ("light", 390, True)]
)
def test_report_is_drawn_whole_and_no_wider_than_the_screen(
    browser: Browser, page_file: Path, scheme: str, width: int, mobile: bool
) -> None:
    size = {"width": width, "height": 844}
    with opened(browser, page_file, color_scheme=scheme, viewport=size, is_mobile=mobile) as page:
        charts = page.evaluate("podiumReport.charts")
        assert charts > 10
        assert page.locator("[data-chart] .main-svg").count() >= charts
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(15, 19, 26)") is (scheme == "dark")
        pictures = page.evaluate("[...document.images].every((i) => i.complete && i.naturalWidth === 8)")
        assert pictures


def test_report_answers_the_mouse(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file, viewport={"width": 1200, "height": 900}) as page:
        chart = page.locator('[data-chart="history"]')
        chart.scroll_into_view_if_needed()
        chart.locator(".points path").last.hover(force=True)
        text = page.locator(".hoverlayer .hovertext").first.text_content()
        assert text is not None
        assert text.startswith("trial ")


def test_report_on_paper_has_every_chart(browser: Browser, page_file: Path, tmp_path: Path) -> None:
    with opened(browser, page_file, color_scheme="dark") as page:
        page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").stat().st_size > 50_000


@pytest.fixture(scope="module")
def audit_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The audit of 60 classes with long names, some of their files damaged or there twice."""
    root = tmp_path_factory.mktemp("audit")
    tiles = photos.tiles()
    for number in range(60):
        name = f"a class with quite a long name {number}"
        for index in range(4):
            tile = tiles[(number + index) % 48].rotate(90 * (number // 48 + index)).resize((96, 64 + number))
            photos.write(root / "photos" / name / f"{'long ' * 20}{index}.png", tile)
        (root / "photos" / name / "empty.png").touch()
    params = PrepareParams(source=f"folder:{root}/photos", root=str(root / "photos"), size=64, resize="crop")
    with audited(params, DoctorParams(), root / "decoded") as data:
        data.report.write(root, data.pixels, ["prepare.min_per_class: too few images"])
    return root / "audit.html"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_audit_is_no_wider_than_the_screen_and_shows_every_image(
    browser: Browser, audit_page: Path, scheme: Literal["light", "dark"], width: int
) -> None:
    complaints: list[str] = []
    size: ViewportSize = {"width": width, "height": 844}
    held = browser.new_context(offline=True, color_scheme=scheme, viewport=size, is_mobile=width < 500)
    page = held.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("request", lambda one: complaints.append(one.url) if not one.url.startswith(("file:", "data:")) else None)
    page.goto(audit_page.as_uri(), timeout=1000 * PATIENCE)
    page.locator("summary").first.click()

    assert complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every((one) => one.complete && one.naturalWidth > 0)")
    assert page.locator(".verdict.refuse").is_visible()
    assert page.locator(".bars > div").count() == 60
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(15, 19, 26)") is (scheme == "dark")
    held.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_comparison_of_versions_is_no_wider_than_the_screen_and_shows_every_image(
    browser: Browser, tmp_path: Path, scheme: Literal["light", "dark"], width: int
) -> None:
    labels = ["a class with quite a long name " * 3, "unbroken" * 12]
    compared = versions(3, 4, tuple(labels))
    kept(
        tmp_path, *[pair(n, labels[0], labels[1]) for n in range(9)], pair(9, labels[0], None), versions=compared
    ).close()
    rows = [Label(0, digest(n), labels[1]) for n in range(9)]
    feedback_labels.remember(tmp_path, "pets", Labels("digest", rows, 0, ()))
    file = compare_page.write(pair_summary.summary(tmp_path, "pets", 3, 4), 0.05, tmp_path / "compare.html")
    complaints: list[str] = []
    size: ViewportSize = {"width": width, "height": 844}
    held = browser.new_context(offline=True, color_scheme=scheme, viewport=size, is_mobile=width < 500)
    page = held.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(file.as_uri(), timeout=1000 * PATIENCE)
    assert complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every((one) => one.complete && one.naturalWidth > 0)")
    assert page.locator(".pictures img").count() == 10
    assert page.locator(".verdict.fine").is_visible()
    assert page.locator("polyline").count() == 2
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(15, 19, 26)") is (scheme == "dark")
    held.close()


@contextmanager
def served(command: list[str], port: int, folder: Path) -> Iterator[str]:
    """A server of this machine until the block ends; its address."""
    with (folder / "server.log").open("w") as log:
        environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True, env=environment)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(address, server, folder / "server.log")
        yield address
    finally:
        os.killpg(server.pid, 15)
        server.wait(PATIENCE)


def _wait_for(address: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    def answers() -> bool:
        try:
            urllib.request.urlopen(address, timeout=60).close()  # noqa: S310 (our own server)
            return True
        except OSError:
            return False

    until(answers, server, log.read_text)


@pytest.fixture
def ui(finished: Finished, tmp_path: Path) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", finished.params.tracking.uri]
    with served([*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"], port, tmp_path) as address:
        yield address


def test_mlflow_pages_tell_the_story_compare_ten_trials_and_show_the_alias(
    browser: Browser, ui: str, finished: Finished
) -> None:
    tracking = connect(finished.params.tracking)
    study = json.loads((paths.SEARCH / "best.json").read_text(encoding="utf-8"))
    page = browser.new_page(viewport={"width": 1500, "height": 1000})
    page.set_default_timeout(1000 * PATIENCE)

    page.goto(f"{ui}/#/experiments/{tracking.experiment_id}/runs")
    title = tracking.client.get_run(study["parent_run_id"]).info.run_name
    page.get_by_text(title).first.wait_for()
    page.get_by_text("tiny (" + "0" * 10).first.wait_for()  # the images with their digest, as a column

    page.goto(f"{ui}/#/experiments/{tracking.experiment_id}/runs/{study['parent_run_id']}")
    page.get_by_text("14 trials").first.wait_for()

    runs = [run.info.run_id for run in runs_of(tracking, study["study"])][:10]
    query = f"runs={quote(json.dumps(runs))}&experiments={quote(json.dumps([tracking.experiment_id]))}"
    page.goto(f"{ui}/#/compare-runs?{query}")
    page.get_by_text("Comparing 10 Runs from 1 Experiment").wait_for()
    page.get_by_text("train.learning_rate").first.wait_for(state="attached")

    page.goto(f"{ui}/#/models/{finished.params.register_.name}")
    page.get_by_text("challenger").first.wait_for()
    page.goto(f"{ui}/#/models/{finished.params.register_.name}/versions/1")
    page.get_by_text("images of the held-out test set").first.wait_for()  # the card
    page.close()


def test_tensorboard_profiler_answers_and_shows_the_trace(browser: Browser, finished: Finished, tmp_path: Path) -> None:
    port = free_port()
    trace = str(finished.folder / paths.RETRAINED / "profile")
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", trace, "--host", "127.0.0.1", "--port", str(port)]
    with served(command, port, tmp_path) as address:
        plugin = f"{address}/data/plugin/pytorch_profiler"
        until(lambda: _json(f"{plugin}/runs")["runs"])
        (run,) = _json(f"{plugin}/runs")["runs"]
        views = _json(f"{plugin}/views?run={quote(run)}")
        assert {"Overview", "Operator", "Trace", "Memory"} <= set(views)
        (worker,) = _json(f"{plugin}/workers?run={quote(run)}&view=Operator")
        which = f"run={quote(run)}&worker={quote(worker)}"
        (span,) = _json(f"{plugin}/spans?{which}")
        which += f"&span={quote(span)}"
        operators = _json(f"{plugin}/operation/table?{which}&view=Operator&group_by=Operation")
        assert _json(f"{plugin}/overview?{which}&view=Overview")["performance"]
        assert any("aten::" in row["name"] for row in operators["data"])
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.set_default_timeout(1000 * PATIENCE)
        page.goto(f"{address}/#pytorch_profiler")
        frame = page.frame_locator("iframe")
        frame.get_by_text("Views", exact=False).first.wait_for()
        page.close()


def _json(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=60) as answer:  # noqa: S310 (our own server)
        return json.loads(answer.read())
