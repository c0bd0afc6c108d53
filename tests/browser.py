"""A Chromium driven by playwright, and small runs with their pages; where it is missing a skip with its reason."""
import contextlib
import os
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]

SMALL = ["--hidden", "24", "16", "--backend", "numpy", "--batch-size", "100", "--no-figures"]
KINDS = {                                       # options of a run on the digits, one of each way to decode and encode
    "categorical": ["--latents", "3", "--categories", "5"],
    "learned": ["--latents", "2", "--categories", "4", "--prior", "learned", "--activation", "tanh"],
    "autoregressive": ["--latents", "3", "--categories", "3", "--prior", "autoregressive", "--activation",
                       "leaky_relu"],
    "many": ["--latents", "40", "--categories", "20"],
    "soft_vq": ["--latent", "soft_vq", "--latents", "3", "--categories", "6", "--latent-options", "size=5"],
    "vq": ["--latent", "vq", "--latents", "4", "--categories", "6", "--latent-options", "levels=2", "grouped=true"],
    "cosine": ["--latent", "vq", "--latents", "3", "--categories", "6", "--latent-options", "cosine=true"],
    "simvq": ["--latent", "vq", "--latents", "3", "--categories", "300", "--latent-options", "codebook=simvq"],
    "fine": ["--latent", "fsq", "--latents", "1", "--categories", "70001"],
    "fsq": ["--latent", "fsq", "--latents", "4", "--categories", "5"],
    "lfq": ["--latent", "lfq", "--latents", "8"],
    "bsq": ["--latent", "bsq", "--latents", "8", "--likelihood", "gaussian"],
    "grey": ["--latents", "3", "--categories", "4", "--binarize", "none"],
    "gaussian": ["--latent", "gaussian", "--latents", "3"],
    "student_t": ["--latent", "student_t", "--latents", "30", "--latent-options", "transform=sigmoid"],
    "logistic": ["--latent", "logistic", "--latents", "2", "--latent-options", "transform=exp"],
    "gamma": ["--latent", "gamma", "--latents", "3"],
    "kumaraswamy": ["--latent", "kumaraswamy", "--latents", "3", "--likelihood", "continuous_bernoulli"],
    "dirichlet": ["--latent", "dirichlet", "--latents", "4"],
    "normal": ["--latents", "3", "--categories", "4", "--likelihood", "gaussian", "--likelihood-options",
               "learned=true"],
    "continuous": ["--latents", "3", "--categories", "4", "--likelihood", "continuous_bernoulli"],
}


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


@pytest.fixture(scope="session")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def runs(browser, tmp_path_factory):
    """A function: the folder of a run of two epochs by its kind, with its page; made once."""
    made, root = {}, tmp_path_factory.mktemp("runs")

    def run(kind):
        from npdvae import train
        from npdvae.explore import __main__ as explore
        if kind not in made:
            made[kind] = root / kind
            options = [*KINDS[kind], *SMALL, "--epochs", "2", "--out", str(made[kind])]
            assert train.main(options) == 0 and explore.main([str(made[kind]), "--images", "12"]) == 0
        return made[kind]
    return run


@pytest.fixture
def opened(browser, runs):
    """A function that opens the page of a kind; at the end nothing may have gone wrong on any of them."""
    pages = []

    def open_page(kind, script=None, **context):
        page = Page(browser, runs(kind) / "explore.html", **context)
        if script:
            page.context.add_init_script(script)
        pages.append(page)
        return page.__enter__()
    yield open_page
    for page in pages:
        page.__exit__()
        assert page.wrong == []
