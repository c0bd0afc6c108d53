"""The explorer in a real Chromium: its numbers are those of Run, and it answers to mouse, keys and touch. Share: 0 s.

Skipped without playwright and Chromium; .ci/run installs both, and there it takes a minute.
"""
import numpy as np
import pytest

from bench import explorer
from npdvae.run import Run
from tests.browser import KINDS


def targets(run, n=6):
    dataset = run.dataset()
    return run.targets(dataset, dataset.test[:n], run.step)


def wide(run):
    """The same run in float64, whose own rounding counts for nothing."""
    params = {k: a.astype("f8") for k, a in run.params.items()}
    out = Run(run.folder, run.config, params, run.step, run.shape, run.model)
    out.dtype = np.dtype("f8")
    return out


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "fine"])     # levels beyond float32's q
def test_page_decodes_and_encodes_as_the_run_does(kind, runs, opened):
    run, page = wide(Run.load(runs(kind))), opened(kind)
    z = run.sample(5, seed=3)[0]
    shown = np.array([page.run("z => explorer.decode(z)", row.tolist()) for row in z])
    np.testing.assert_allclose(shown, run.decode(z), rtol=0, atol=1e-5)     # float32 in the page
    for x in targets(run):
        q, own = page.run("x => explorer.encode(x)", x.tolist()), run.encode(x[None])
        if run.config.categories:
            np.testing.assert_allclose(np.reshape(q["p"], own[0].shape), own[0], rtol=0, atol=1e-5)
        else:
            mode = run.mode_of(x[None])[0]
            log = run.config.latent in ("gamma", "kumaraswamy", "dirichlet")
            np.testing.assert_allclose(q["mode"], np.exp(mode) if log else mode, rtol=1e-4, atol=1e-5)
            assert all(low < m < high for low, m, high in zip(q["low"], q["mode"], q["high"]))


def test_the_bench_times_what_a_stroke_causes(browser, runs):
    run = Run.load(runs("categorical"))
    simd, times = explorer.measure(browser, runs("categorical") / "explore.html", targets(run).tolist())
    assert simd and set(times) == {"decode_all", "posterior", "update"}
    assert all(set(of) == {"clock", "processor"} and len(t) == 5 and min(t) >= 0
               for of in times.values() for t in of.values())


def enumerated(run, x):
    """log p(x, z) of every code: float64 [C]."""
    codes = run.model.latent.codes()
    cost = run.model.likelihood.forward(run.params, run.decoded(codes)[:, None], x[None])[:, 0]
    return run.model.latent.log_prior(run.params, codes, np.dtype("f8")) - cost


EXACT = [kind for kind in KINDS if kind not in ("many", "simvq", "fine", "grey", "gaussian", "student_t", "logistic",
                                                "gamma", "kumaraswamy", "dirichlet")]


@pytest.mark.parametrize("kind, script", [(kind, None) for kind in EXACT] + [
    ("categorical", "delete window.WebAssembly"), ("learned", "delete window.WebAssembly")])
def test_posterior_and_bounds_are_those_of_enumeration(kind, script, runs, opened):
    run, page = wide(Run.load(runs(kind))), opened(kind, script)
    assert page.run("() => explorer.simd") == (script is None)
    D, K = run.config.latents, run.config.categories
    codes = run.model.latent.codes()
    for x in targets(run, 4):
        found, joint = page.run("x => explorer.posterior(x)", x.tolist()), enumerated(run, x)
        log_prob = run.log_prob(x[None])[0]
        p = np.exp(joint - log_prob)                                # [C]
        np.testing.assert_allclose(found["p"], p, rtol=0, atol=1e-5)
        assert abs(found["logProb"] - log_prob) <= 1e-6 * abs(log_prob) + 1e-5      # a sum of float32 logits
        marginals = [[p[codes[:, d] == k].sum() for k in range(K)] for d in range(D)]
        np.testing.assert_allclose(np.reshape(found["marginals"], (D, K)), marginals, rtol=0, atol=1e-5)
        q = run.encode(x[None])[0]                                  # [D, K]
        of_code = q[np.arange(D), codes].prod(1)                    # [C]
        with np.errstate(divide="ignore", invalid="ignore"):
            elbo = np.nansum(of_code * (joint - np.log(of_code)))
        assert abs(found["elbo"] - elbo) <= 1e-5 * abs(elbo) + 1e-4
        assert found["elbo"] - 1e-6 <= found["family"] <= found["logProb"] + 1e-6
