"""Two runs, their report, and a browser to open it in."""

import os
import shutil

import pytest
from fake_runs import write_run
from report_pages import make_report, synthetic_config
from shared import import_or_skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs with different noise, so that they disagree."""
    folder = tmp_path_factory.mktemp("runs")
    config = synthetic_config()
    return [
        write_run(folder / "base", "base", 1, 2.5, config),
        write_run(folder / "rpcl", "rpcl", 2, 3.5, config),
    ]


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    make_report(*runs, "--out", path)
    return path


@pytest.fixture(scope="module")
def browser():
    playwright_api = import_or_skip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None and "RPCL_RUN_ALL_TESTS" not in os.environ:
        pytest.skip("needs Chromium (Debian: chromium)")
    with playwright_api.sync_playwright() as playwright:
        # Chromium has no sandbox under root, which CI is; it loads nothing but the file.
        flags = ["--no-sandbox", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens a file; afterwards there must be no error and no request except for the file."""
    pages, complaints, requests = [], [], []

    def open_file(path, width=1280, height=900, fragment="", touch=False):
        page = browser.new_page(viewport={"width": width, "height": height}, has_touch=touch)
        pages.append(page)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(f"file://{path}{fragment}")
        return page

    yield open_file
    for page in pages:
        page.close()
    assert complaints == []
    assert all(url.startswith(("file://", "data:")) for url in requests)
