"""python -m bench.explorer [RUN]: how fast the explorer's page is in Chromium, into bench/results/explorer.json.

Without RUN: a model of MNIST's size, 784-512-256, D = 4, K = 8, with random weights, which the speed does not depend
on. Needs playwright (pip install ".[browser]") and Chromium. All 4,096 codes should be decoded in under 0.5 s, and the
posterior of an image found in under 16 ms, on a quiet machine; processor time is that of the page's one thread.
"""
import argparse
import json
import pathlib
import statistics
import tempfile

import numpy as np

from bench.contest import save
from npdvae import backends, build, rng
from npdvae.config import Config, with_defaults
from npdvae.data import Dataset
from npdvae.explore import model, page
from npdvae.run import Run
from tests.browser import Page, launched

WORK = {"decode_all": 1, "posterior": 20, "update": 20}     # what is timed, and its calls in a round
ROUNDS = 5
TIMED = """([name, calls, images]) => {
    const began = performance.now();
    for (let n = 0; n < calls; n++) explorer[name.replace("_all", "All")](images[n % images.length]);
    return performance.now() - began;
}"""


def made():
    """A run with fresh weights and a data set of noise, of MNIST's size."""
    config = with_defaults(Config(data="mnist", hidden=[512, 256]))
    network = build.build_model(config, 784, backends.load("numpy"))
    pixels = (np.random.default_rng(0).random((40, 784)) < 0.2).astype(np.uint8)
    run = Run(pathlib.Path("mnist"), config, network.init(rng.Generator(0, rng.INIT), np.float32), 0, (28, 28), network)
    return run, Dataset("noise", pixels, pixels, (28, 28), 1)


def processor(session):
    """Milliseconds of processor time that the page's thread has used."""
    found = session.send("Performance.getMetrics")["metrics"]
    return 1e3 * next(one["value"] for one in found if one["name"] == "ThreadTime")


def measure(browser, path, images, script=None):
    """Whether the kernel serves, and milliseconds a call, of the clock and of the processor, every round."""
    shown, times = Page(browser, path), {}
    if script:
        shown.context.add_init_script(script)
    with shown:
        session = shown.context.new_cdp_session(shown.page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        for name, calls in WORK.items():
            rounds = []
            for _ in range(ROUNDS):
                before = processor(session)
                clock = shown.page.evaluate(TIMED, [name, calls, images])
                rounds.append((clock / calls, (processor(session) - before) / calls))
            times[name] = dict(zip(("clock", "processor"), zip(*rounds)))
        return shown.page.evaluate("() => explorer.simd"), times


def main():
    """Measure with the kernel and without it; print and write what came out."""
    p = argparse.ArgumentParser(prog="python -m bench.explorer", description=__doc__)
    p.add_argument("run", nargs="?", metavar="RUN")
    args = p.parse_args()
    run = Run.load(args.run) if args.run else None
    run, dataset = (run, run.dataset()) if run else made()
    results = {"model": f"{run.pixels}-{'-'.join(map(str, run.config.hidden))}, {run.config.sizes}", "unit": "ms"}
    with launched() as browser, tempfile.TemporaryDirectory() as folder:
        contents = model.contents(run, dataset, 10, 24, 0)
        path = pathlib.Path(folder) / "explore.html"
        path.write_text(page.html(contents))
        results |= {"page_megabytes": round(path.stat().st_size / 1e6, 1), "browser": f"Chromium {browser.version}"}
        images = run.targets(dataset, dataset.test[:10]).tolist()
        for name, script in (("kernel", None), ("plain", "delete window.WebAssembly")):
            simd, times = measure(browser, path, images, script)
            assert simd == (script is None)
            results[name] = {what: {kind: round(statistics.median(t), 2) for kind, t in of.items()}
                             for what, of in times.items()}
    print(json.dumps(results, indent=1))
    save("explorer", results)


if __name__ == "__main__":
    main()
