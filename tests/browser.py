"""A real Chromium, driven by playwright, for tests of pages; a skip with its reason where one of them is missing."""
import contextlib
import os
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]


def program():
    """The path of Chromium, $NPDVAE_CHROMIUM first; None where there is none."""
    return os.environ.get("NPDVAE_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def launched():
    """A Chromium without a window."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install .[browser])")
    if program() is None:
        pytest.skip("needs Chromium (apt-get install chromium)")
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program(), args=FLAGS)
        yield browser
        browser.close()


class Page:
    """A page from the disk, ready; `wrong` collects console errors, exceptions, and requests that leave the file."""

    def __init__(self, browser, path, **context):
        self.context = browser.new_context(**context)
        self.page, self.wrong = self.context.new_page(), []
        self.page.on("console", lambda m: self.wrong.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda r: None if r.url.startswith("file:") else self.wrong.append(r.url))
        self.path = path

    def __enter__(self):
        self.page.goto(self.path.as_uri())
        self.page.wait_for_selector("body[data-ready]", timeout=60_000)
        return self

    def __exit__(self, *_):
        self.context.close()

    def run(self, script, argument=None):
        """The value of a JavaScript function of one argument, after the frame in which it is drawn."""
        value = self.page.evaluate(script, argument)
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return value
