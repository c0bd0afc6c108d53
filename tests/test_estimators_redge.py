"""ReDGE: its schedule, its noise, where its codes come from, and the authors' package. Share of the suite: 3 s."""
import importlib

import numpy as np
import pytest

from npdvae import estimators
from npdvae.estimators.parts import denoiser
from npdvae.rng import Generator
from npdvae.verify import costs
from npdvae.verify.continuous import noise_moments


def test_the_schedule_goes_from_noise_to_the_first_time():
    assert np.allclose(denoiser.schedule(2, 0.3), [(0.7, 0.3)], rtol=1e-15)
    for steps, first in ((3, 0.5), (5, 0.9), (6, 0.2)):
        a = np.linspace(1 - first, 1e-4, steps - 1)[::-1]
        assert np.abs(np.array(denoiser.schedule(steps, first)) - np.stack([a, 1 - a], 1)).max() <= 1e-15


def test_a_step_keeps_the_noise_that_the_prediction_leaves():
    """x = a_t x0 + s_t e -> a_{t-1} x0 + s_{t-1} e."""
    times, (x0, e) = denoiser.schedule(5, 0.6), np.random.default_rng(0).normal(size=(2, 7))
    for i in range(3):
        (a, s), (below_a, below_s) = times[i:i + 2]
        ratio, share = denoiser.step(times, i)
        assert np.abs(ratio * (a * x0 + s * e) + share * x0 - below_a * x0 - below_s * e).max() <= 1e-15 * 10


def test_its_noise_is_standard_normal():
    draw = estimators.get("redge").sample(np.zeros((25_000, 2, 2)), Generator(0))
    x = np.sort(draw.kept["normals"].ravel())
    for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):        # five standard errors
        assert abs((x ** power).mean() - moment) <= 5 * np.sqrt(spread / len(x))
    share = np.searchsorted(x, [-2.0, -1.0, 0.5, 1.5]) / len(x)
    assert np.abs(share - [0.02275, 0.15866, 0.69146, 0.93319]).max() <= 5 * 0.5 / np.sqrt(len(x))


def test_noise_and_codes_use_uniforms_of_their_own():
    draw = estimators.get("redge", samples=2).sample(np.zeros((20_000, 1, 2)), Generator(0))
    n, z = (x.transpose(1, 0, *range(2, x.ndim)).reshape(20_000, -1) for x in (draw.kept["normals"], draw.codes))
    assert np.abs(np.corrcoef(n.T) - np.eye(4)).max() <= 5 / np.sqrt(20_000)
    assert abs(np.corrcoef(z.T)[0, 1]) <= 5 / np.sqrt(20_000)
    likely = n[:, 1] > n[:, 0]                                      # at the first sample
    assert 0.05 < np.corrcoef(likely, z[:, 0])[0, 1] < 0.95 and abs(np.corrcoef(likely, z[:, 1])[0, 1]) <= 5 / 141


class Category:
    """The cost 1 for category 0 of the first latent; its gradient is not read."""

    def __call__(self, codes):
        return (codes[..., 0] == 0).astype(float)

    def gradient(self, codes):
        return np.zeros((*codes.shape, 2))


@pytest.mark.parametrize("options", [{}, dict(cov=True), dict(reinmax=True)])
def test_codes_are_not_drawn_from_q(options):
    """So it says that it is relaxed: the marginals by quadrature are off by more than a thousandth."""
    estimator, logits = estimators.get("redge", **options), np.array([[[0.0, 1.2]]])
    t = np.linspace(-8, 8, 161)
    w = np.exp(-t ** 2 / 2)
    w = np.outer(w, w).ravel() / w.sum() ** 2
    normals = np.stack(np.meshgrid(t, t, indexing="ij"), -1).reshape(-1, 1, 1, 2)
    ends = estimator.end(logits, normals)[:, 0, 0]                  # [N, 2]
    marginal = w @ ends
    assert abs(marginal.sum() - 1) <= 1e-12
    assert 1e-3 < abs(marginal[0] - 1 / (1 + np.exp(1.2))) < 0.1 and estimator.relaxed


def test_without_noise_of_the_code_it_is_straight_through_at_the_end():
    """With two points of the schedule only the last softmax moves: J(x0) g."""
    logits, cost = np.random.default_rng(0).normal(size=(2, 2, 3)), costs.make("cubic", 1, 2, 2, 3)
    estimator = estimators.get("redge", steps=2, first=0.4)
    draw = estimator.sample(logits, Generator(0))
    g, ops = cost.gradient(draw.codes), estimator.ops
    x0 = ops.softmax(logits + 0.6 / 0.16 * draw.kept["normals"])
    assert np.abs(estimator.end(logits, draw.kept["normals"]) - x0).max() <= 1e-14
    assert np.abs(estimator.backward(draw, None, g) - ops.softmax_backward(g, x0)[0]).max() <= 1e-12 * np.abs(g).max()


def test_reinmax_in_the_last_step_changes_variance_and_bias_as_measured():
    """On one problem: the bias of the last step's straight-through is what ReinMax takes away."""
    logits, cost = np.random.default_rng(3).normal(size=(2, 1, 2)), costs.make("quadratic", 4, 2, 1, 2)
    plain, second = (noise_moments(estimators.get("redge", reinmax=r, first=0.05), logits, cost, cost.gradient)
                     for r in (False, True))
    assert np.abs(plain.mean - second.mean).max() > 1e-6 * plain.scale.max()


@pytest.mark.parametrize("options", [dict(), dict(cov=True), dict(reinmax=True)])
@pytest.mark.parametrize("steps, first", [(3, 0.5), (5, 0.9), (4, 0.2)])
def test_redge_agrees_with_the_authors_package_for_the_same_noise(options, steps, first, monkeypatch):
    torch, package = pytest.importorskip("torch"), pytest.importorskip("redge")
    rng = np.random.default_rng(0)
    logits, normals, g = rng.normal(size=(3, 7, 2, 4)) * np.array([2, 1, 1])[:, None, None, None]
    phi = torch.tensor(logits, requires_grad=True)
    monkeypatch.setattr(torch, "randn", lambda *a, requires_grad=False, **k: torch.tensor(normals,
                                                                                      requires_grad=requires_grad))
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    name = "redge_cov" if options.get("cov") else "reindge" if options else "redge"
    extra = {"reindge_fn": importlib.import_module("redge.reindge").ddim_mod} if name == "reindge" else {}
    z = getattr(package, name)(phi, n_steps=steps, t_1=first, **extra)
    (z * torch.tensor(g)).sum().backward()
    torch.set_default_dtype(default)
    estimator = estimators.get("redge", steps=steps, first=first, **options)
    draw = estimator.draw(z.detach().numpy().argmax(-1)[None], logits, normals[None])
    found = estimator.backward(draw, None, g[None])
    assert np.abs(found - phi.grad.numpy()).max() <= 1e-12 * np.abs(found).max()        # both float64


@pytest.mark.parametrize(("options", "message"), [
    (dict(samples=0), "samples >= 1, got 0"), (dict(steps=1), "steps >= 2, got 1"),
    (dict(first=0.0), "between 0 and 1"), (dict(first=1.0), "between 0 and 1"),
    (dict(cov=True, reinmax=True), "choose one of cov and reinmax")])
def test_redge_refuses_what_makes_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        estimators.get("redge", **options)
