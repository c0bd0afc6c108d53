"""Priors over codes: probabilities that sum to one, adjoints, samples, and unbiased steps under them. Share: 2 s."""
import itertools

import numpy as np
import pytest

from npdvae import evaluation, latents, priors, train
from npdvae.config import with_defaults
from npdvae.data.dataset import Dataset
from npdvae.estimators.parts.outcomes import all_codes
from npdvae.latents.categorical import Categorical
from npdvae.model import DiscreteVAE
from npdvae.rng import INIT, PRIOR, Generator
from npdvae.run import Run
from npdvae.settings import resolve
from npdvae.step import step
from tests.checks import close
from tests.test_step import Given

D, K = 3, 4
NOISE = np.random.default_rng(1)
TINY = 1e-20


def made(name, latents=D, categories=K, **options):
    """A prior and parameters away from where they start."""
    prior = priors.get(name, latents=latents, categories=categories, **options)
    start = prior.init(Generator(0, INIT), np.float64)
    return prior, {k: v + 0.6 * NOISE.normal(size=v.shape) for k, v in start.items()}


@pytest.mark.parametrize("name", priors.names())
@pytest.mark.parametrize("latents, categories", [(1, 3), (2, 2), (3, 4)])
def test_probabilities_sum_to_one(name, latents, categories):
    prior, params = made(name, latents, categories)
    codes = all_codes(np, latents, categories)                      # [C, D]
    assert abs(np.exp(prior.log_prob(params, codes)).sum() - 1) <= 1e-12


@pytest.mark.parametrize("name", ["uniform", "autoregressive", "learned"])
def test_priors_start_uniform(name):
    prior = priors.get(name, latents=D, categories=K)
    params = prior.init(Generator(0, INIT), np.float64)
    close(prior.log_prob(params, all_codes(np, D, K)), np.full(K ** D, -D * np.log(K)), 1e-14)


def test_conditionals_see_earlier_latents_alone():
    prior, params = made("autoregressive")
    rows = NOISE.random((2, 5, D, K)).astype(complex)
    seen = np.zeros((D, D))
    for d, k in itertools.product(range(D), range(K)):
        moved = rows.copy()
        moved[..., d, k] += 1j * TINY
        change = np.abs(prior.conditionals(params, moved)[0].imag).sum((0, 1, 3))    # [D]
        seen[d] += change
    assert (seen[np.tril_indices(D)] == 0).all()                    # d and before: exactly nothing
    assert (seen[np.triu_indices(D, 1)] > 0).all()


@pytest.mark.parametrize("latents, categories", [(1, 3), (2, 2), (4, 3)])
def test_every_hidden_unit_is_connected_and_degrees_are_shared_out(latents, categories):
    """Unit j sees the latents up to j mod (D - 1) and serves those after: none is idle but where D = 1."""
    prior = priors.get("autoregressive", latents=latents, categories=categories, hidden=7)
    seen, served = (mask.reshape(shape) for mask, shape in zip(
        prior.net.masks, ((latents, categories, 7), (7, latents, categories))))
    for j in range(7):
        m = j % (latents - 1) if latents > 1 else 0
        assert seen[:, :, j].tolist() == [[d <= m] * categories for d in range(latents)]
        assert served[j].tolist() == [[d > m] * categories for d in range(latents)]
    params = priors.get("autoregressive", latents=latents, categories=categories).init(Generator(0, INIT), np.float64)
    assert params["latent.prior.0.weight"].shape == (latents * categories, 128)
    assert params["latent.prior.0.weight"].any() and not params["latent.prior.1.weight"].any()
    assert not params["latent.prior.1.bias"].any()
    with pytest.raises(ValueError, match="hidden >= 1"):
        priors.get("autoregressive", latents=2, categories=2, hidden=0)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", ["learned", "autoregressive"])
def test_log_prob_backward_is_the_adjoint(name, shared):
    """Random cotangents [S, B] against complex steps of every parameter."""
    prior, params = made(name)
    codes = NOISE.integers(0, K, (2, 1 if shared else 5, D))
    dlog_p = NOISE.normal(size=(2, 5))
    grads = prior.log_prob_backward(params, dlog_p, codes)
    assert grads.keys() == params.keys()
    largest = max(np.abs(g).max() for g in grads.values())
    for k, p in params.items():
        for i in np.ndindex(p.shape):
            moved = {**params, k: p.astype(complex)}
            moved[k][i] += 1j * TINY
            expected = (dlog_p * prior.log_prob(moved, codes).imag).sum() / TINY
            assert abs(grads[k][i] - expected) <= 1e-12 * largest, (k, i)


def test_rows_stand_for_codes_and_have_derivatives():
    prior, params = made("autoregressive")
    codes = NOISE.integers(0, K, (2, 5, D))
    rows = np.eye(K)[codes]
    close(prior.log_prob(params, rows), prior.log_prob(params, codes), 1e-14)
    relaxed = NOISE.dirichlet(np.ones(K), (2, 5, D))
    for at in (rows, relaxed):
        found = prior.dcodes(params, at)
        for d, k in itertools.product(range(D), range(K)):
            moved = at.astype(complex)
            moved[..., d, k] += 1j * TINY
            close(found[..., d, k], prior.log_prob(params, moved).imag / TINY, 1e-12, np.abs(found).max())
    close(prior.dcodes(params, codes), prior.dcodes(params, rows), 1e-14)


@pytest.mark.parametrize("name", ["learned", "autoregressive"])
def test_samples_have_the_priors_frequencies(name):
    prior, params = made(name, 2, 3)
    n = 40_000
    codes = prior.sample(params, Generator(1, PRIOR), n)
    p = np.exp(prior.log_prob(params, all_codes(np, 2, 3)))
    shares = np.bincount(codes @ np.array([3, 1]), minlength=9) / n
    assert (np.abs(shares - p) <= 5 * np.sqrt(p * (1 - p) / n)).all()      # five standard errors; the seed is fixed


@pytest.mark.parametrize("name, options", [("rloo", dict(samples=2)), ("double_cv", dict(samples=2)),
                                           ("reinforce", dict(baseline="none"))])
def test_steps_under_an_autoregressive_prior_are_unbiased(name, options):
    """Sum over all draws of probability times gradient: that of the exact step, for every parameter.

    double_cv reads the derivative of the whole cost at the codes, the prior's part included.
    """
    x = (NOISE.random((1, 4)) < 0.5).astype(float)
    exact = DiscreteVAE(4, (3,), Categorical(2, 2, "exact", prior="autoregressive"), activation="tanh")
    params = {k: v + 0.4 * NOISE.normal(size=v.shape) for k, v in exact.init(Generator(0, INIT), np.float64).items()}
    expected = step(exact, params, x, None)
    model = DiscreteVAE(4, (3,), Categorical(2, 2, name, prior="autoregressive", **options), activation="tanh")
    estimator, mean, kl = model.latent.estimator, {k: 0 for k in params}, 0
    h, _ = model.encoder.forward(params, x)
    for probability, draw in estimator.outcomes(model.latent.logits(params, h)):
        model.latent.estimator = Given(estimator, draw)
        done = step(model, params, x, None)
        mean = {k: mean[k] + probability[0] * done.grads[k] for k in params}
        kl = kl + probability[0] * done.kl
    for k, g in expected.grads.items():
        close(mean[k], g, 1e-12, max(np.abs(e).max() for e in expected.grads.values()))
    close(kl, expected.kl, 1e-13)


def test_reported_kl_is_that_of_the_joint_prior():
    """Enumerated: E_q[-log p(z)] - H(q); by latents, its terms."""
    model = DiscreteVAE(4, (3,), Categorical(2, 3, "exact", prior="autoregressive"))
    params = {k: v + 0.5 * NOISE.normal(size=v.shape) for k, v in model.init(Generator(0, INIT), np.float64).items()}
    x = (NOISE.random((6, 4)) < 0.5).astype(np.float32)
    split = evaluation.Split(Dataset("x", x, x[:1], (2, 2), 1), x, "none", dtype=np.float64)
    q = model.encode(params, x.astype(float))
    codes = all_codes(np, 2, 3)
    log_q = q.log_q[:, 0][:, codes[:, 0]] + q.log_q[:, 1][:, codes[:, 1]]          # [B, C]
    expected = (np.exp(log_q) * (log_q - model.latent.log_prior(params, codes))).sum(1)
    close(step(model, params, x.astype(float), None).kl, expected, 1e-12)
    found = evaluation.cost_and_kl(model, params, split, samples=20_000)[1]
    assert abs(found - expected.mean()) <= 0.02                     # 20,000 draws of about a nat of deviation


@pytest.mark.parametrize("arguments, message", [
    (["--free-bits", "0.1"], "free bits cannot apply"), (["--kl-weight", "0.5"], "--kl-weight"),
    (["--prior", "gauss"], "unknown prior 'gauss'"), (["--prior-options", "hidden=0"], "needs hidden >= 1, got 0"),
    (["--prior-options", "hidden=x"], "option hidden must be a whole number, got 'x'"),
    (["--prior-options", "name=x"], "prior autoregressive has no option 'name' (it has: hidden)"),
    (["--prior-options", "categories=2"], "--prior-options: categories is not an option here, see --categories"),
    (["--prior", "uniform", "--prior-options", "hidden=3"], "prior uniform has no option 'hidden' (it has: none)")])
def test_what_an_autoregressive_prior_cannot_use_is_one_line(arguments, message, capsys, tmp_path):
    assert train.main(["--prior", "autoregressive", *arguments, "--epochs", "1", "--out", str(tmp_path / "r")]) == 2
    assert message in capsys.readouterr().err


def test_a_run_with_an_autoregressive_prior_resumes_to_the_same_bits(tmp_path):
    options = ["--prior", "autoregressive", "--prior-options", "hidden=7", "--backend", "numpy", "--hidden", "8",
               "--latents", "3", "--categories", "3", "--no-figures", "--estimator", "straight_through"]
    assert train.main([*options, "--epochs", "2", "--out", str(tmp_path / "a")]) == 0
    assert train.main([*options, "--epochs", "1", "--out", str(tmp_path / "b")]) == 0
    assert train.main(["--resume", str(tmp_path / "b"), "--epochs", "2"]) == 0
    a, b = Run.load(tmp_path / "a"), Run.load(tmp_path / "b")
    assert a.params.keys() == b.params.keys() and all(np.array_equal(a.params[k], b.params[k]) for k in a.params)
    assert a.sample(5)[0].shape == (5, 3) and a.params["latent.prior.0.weight"].shape == (9, 7)


@pytest.mark.parametrize("name", [n for n in latents.names() if "prior" in latents.registry.takes(n)])
def test_every_latent_of_codes_takes_options_of_its_prior(name):
    config = resolve({"latent": name, "latents": 3, "prior": "autoregressive", "prior_options": ["hidden=5"]})
    made = latents.get(name, latents=3, **with_defaults(config).latent_arguments())
    assert made.init(Generator(0, INIT), np.float64)["latent.prior.0.bias"].shape == (5,)


def test_options_of_a_prior_stay_with_it(tmp_path):
    """Not with a latent that has none, nor with another prior than the file's."""
    with pytest.raises(ValueError, match="--prior-options: latent gaussian cannot use it"):
        resolve({"latent": "gaussian", "prior_options": ["hidden=5"]}).latent_arguments()
    (tmp_path / "c.toml").write_text('prior = "autoregressive"\nprior_options = {hidden = 5}\n')
    assert resolve({}, file=tmp_path / "c.toml").latent_arguments()["prior"].keywords == {"hidden": 5}
    assert resolve({"prior": "learned"}, file=tmp_path / "c.toml").latent_arguments() == {"prior": "learned"}


def test_product_prior_gain_is_sum_kl():
    """Against the best product prior, E KL(q || uniform) falls by sum_d KL(q_d || uniform), q_d the aggregate's rows;

    against the aggregate itself by the total correlation sum_d H(q_d) - H(q) more. By enumeration.
    """
    log_q = np.log(NOISE.dirichlet(np.ones(K), (6, D)))             # [B, D, K]
    codes = all_codes(np, D, K)                                     # [C, D]
    joint = np.exp(log_q[:, np.arange(D), codes].sum(-1))           # [B, C]
    rows, whole = np.exp(log_q).mean(0), joint.mean(0)              # the aggregate: [D, K], [C]
    learned, uniform = (priors.get(name, latents=D, categories=K) for name in ("learned", "uniform"))
    by_product = learned.kl({"latent.prior": np.log(rows)}, log_q).sum(-1).mean()
    gain = uniform.kl({}, log_q).sum(-1).mean() - by_product
    close(gain, (rows * np.log(K * rows)).sum(), 1e-12)
    nearby = learned.kl({"latent.prior": np.log(rows) + 0.1 * NOISE.normal(size=(D, K))}, log_q).sum(-1).mean()
    assert nearby > by_product                                      # the best product, as it were
    by_joint = (joint * np.log(joint / whole)).sum(-1).mean()
    close(by_product - by_joint, (whole * np.log(whole)).sum() - (rows * np.log(rows)).sum(), 1e-12, by_product)
