"""The whole step against complex steps, differences and PyTorch: every parameter of the model. Share: 1 s."""
import itertools

import numpy as np
import pytest

from npdvae import backends, estimators
from npdvae.estimators.base import Draw
from npdvae.latents.categorical import Categorical
from npdvae.model import DiscreteVAE
from npdvae.rng import Generator
from npdvae.step import step
from npdvae.verify.gradients import finite_differences
from tests.checks import close

OPS = backends.load("numpy")
PIXELS, D, K, HIDDEN, B = 6, 2, 3, (5, 4), 3
RNG = np.random.default_rng(8)


def model_of(estimator="exact", prior="learned", activation="tanh", free_bits=0.0, **options):
    made = estimators.get(estimator, **options)
    return DiscreteVAE(PIXELS, HIDDEN, Categorical(D, K, made, prior=prior, free_bits=free_bits), activation=activation)


def parameters(model, dtype=np.float64, spread=1.5):
    """Parameters away from their initialisation, so that nothing cancels; the prior not uniform."""
    rng = np.random.default_rng(9)
    params = model.init(Generator(1), np.float64)
    return {k: (spread * p + 0.3 * rng.normal(size=p.shape)).astype(dtype) for k, p in params.items()}


X = (RNG.random((B, PIXELS)) < 0.4).astype(float)


def enumerated(model, params, x, kl_weight=1.0):
    """Mean over the batch of E_q[cost] + KL, by a loop over all K**D codes; lets complex numbers through."""
    h, _ = model.encoder.forward(params, x)
    log_q = OPS.log_softmax(h.reshape(len(x), D, K))                # [B, D, K]
    prior = params.get("latent.prior", np.zeros((D, K)))
    log_p = OPS.log_softmax(prior)                                  # [D, K]
    total = 0
    for code in itertools.product(range(K), repeat=D):
        log_q_code = sum(log_q[:, d, k] for d, k in enumerate(code))                # [B]
        log_p_code = sum(log_p[d, k] for d, k in enumerate(code))
        row = np.zeros((1, D * K))
        row[0, [d * K + k for d, k in enumerate(code)]] = 1
        logits, _ = model.decoder.forward(params, row)              # [1, P]
        cost = (np.log(1 + np.exp(logits)) - x * logits).sum(1)     # [B]
        total = total + np.exp(log_q_code) * (cost + kl_weight * (log_q_code - log_p_code))
    return total.mean()


def complex_step_of(model, params, x, name, kl_weight=1.0):
    """d enumerated / d params[name], entry by entry."""
    out = np.empty_like(params[name])
    for i in np.ndindex(out.shape):
        moved = params[name].astype(complex)
        moved[i] += 1e-20j
        out[i] = enumerated(model, {**params, name: moved}, x, kl_weight).imag / 1e-20
    return out


@pytest.mark.parametrize("prior", ["uniform", "learned"])
@pytest.mark.parametrize("activation", ["tanh", "relu", "leaky_relu"])
def test_exact_step_is_the_gradient_of_the_enumerated_negative_elbo(prior, activation):
    model = model_of(prior=prior, activation=activation)
    params = parameters(model)
    got = step(model, params, X, None, kl_weight=0.7)
    assert set(got.grads) == set(params)
    largest = max(np.abs(g).max() for g in got.grads.values())
    for name, g in got.grads.items():
        close(g, complex_step_of(model, params, X, name, 0.7), 1e-12, largest)
    close((got.cost + got.kl).mean(), enumerated(model, params, X), 1e-14)


def test_exact_step_agrees_with_five_point_differences():
    model = model_of()
    params = parameters(model)
    got = step(model, params, X, None)
    largest = max(np.abs(g).max() for g in got.grads.values())
    for name, g in got.grads.items():
        close(g, finite_differences(lambda p, n=name: enumerated(model, {**params, n: p}, X), params[name]), 1e-9,
              largest)


@pytest.mark.parametrize("free_bits", [0.05, 0.4, 5.0])
def test_free_bits_stop_the_kl_gradient_of_latents_below_them(free_bits):
    model, plain = model_of(free_bits=free_bits), model_of()
    params = parameters(model)
    h, _ = model.encoder.forward(params, X)
    kl = plain.encode(params, X).kl      # [B, D]
    got = step(model, params, X, None).grads["latent.prior"]
    log_q = OPS.log_softmax(h.reshape(B, D, K))
    log_p = plain.latent.prior.log_rows(params)
    expected = ((kl >= free_bits)[..., None] * (np.exp(log_p) - np.exp(log_q))).sum(0) / B
    close(got, expected, 1e-14, 1)
    assert got.any() == (kl >= free_bits).any()


def test_scale_adds_microbatches_up_to_the_batch():
    model = model_of()
    params = parameters(model)
    whole = step(model, params, X, None).grads
    parts = [step(model, params, X[i:j], None, scale=1 / B).grads for i, j in ((0, 2), (2, 3))]
    for name, g in whole.items():
        close(parts[0][name] + parts[1][name], g, 1e-14, np.abs(g).max() + 0.1)


def test_learned_gradients_of_microbatches_add_up_to_the_batchs():
    model = model_of("reinforce", baseline="nvil")
    params, generator = parameters(model), Generator(4)
    state = model.latent.estimator.init(generator, D, K, PIXELS)
    whole = step(model, params, X, generator.at(7), state).grads
    parts = [step(model, params, X[i:j], generator.at(7, example=i), state, scale=1 / B).grads
             for i, j in ((0, 2), (2, 3))]
    learned = [name for name in whole if name.startswith("estimator.")]
    assert learned and any(whole[name].any() for name in learned)
    for name in learned:                        # sums of three terms, float64
        close(parts[0][name] + parts[1][name], whole[name], 1e-14, np.abs(whole[name]).max() + 0.1)


@pytest.mark.parametrize("name", ["rloo", "reinforce", "straight_through"])
def test_sampled_step_is_the_mean_over_its_samples_in_the_decoder(name):
    """Decoder and KL terms are the gradient at the codes drawn; the estimator's term is its own backward."""
    options = {} if name == "reinforce" else {"samples": 3}
    model = model_of(name, **options)
    params, x = parameters(model), X
    state = model.latent.estimator.init(Generator(2), D, K, PIXELS)
    got = step(model, params, x, Generator(4), state)
    h, _ = model.encoder.forward(params, x)
    draw = model.latent.estimator.sample(h.reshape(B, D, K), Generator(4), state, x)

    def at_codes(p):
        logits, _ = model.decode(p, draw.codes)                     # [S, B, P]
        return (np.log(1 + np.exp(logits)) - x * logits).sum(-1).mean()

    for key in (k for k in params if k.startswith("decoder")):
        expected = np.empty_like(params[key])
        for i in np.ndindex(expected.shape):
            moved = params[key].astype(complex)
            moved[i] += 1e-20j
            expected[i] = at_codes({**params, key: moved}).imag / 1e-20
        close(got.grads[key], expected, 1e-12, np.abs(expected).max())
    logits, _ = model.decode(params, draw.codes)
    close(got.cost, OPS.bce(logits, x).mean(0), 1e-14)


class Given:
    """Stands in for an estimator's sample: the draw, or the codes of an RLOO draw, are given."""

    def __init__(self, estimator, given):
        self.estimator, self.given = estimator, given

    def __getattr__(self, name):
        return getattr(self.estimator, name)

    def sample(self, logits, rng, state=None, context=None):
        if isinstance(self.given, Draw):
            return self.given
        return Draw(self.given, logits, {"p": OPS.softmax(logits)})


def importance_weighted(model, params, x, samples=2):
    """-E log mean_s p(x, z_s) / q(z_s) for one image, by a loop over tuples of codes; complex numbers pass."""
    h, _ = model.encoder.forward(params, x)
    log_q = OPS.log_softmax(h.reshape(D, K))
    log_p = OPS.log_softmax(params["latent.prior"])
    terms = []
    for code in itertools.product(range(K), repeat=D):
        row = np.zeros((1, D * K))
        row[0, [d * K + k for d, k in enumerate(code)]] = 1
        logits, _ = model.decoder.forward(params, row)              # [1, P]
        log_joint = (x * logits - np.log(1 + np.exp(logits))).sum() + sum(log_p[d, k] for d, k in enumerate(code))
        log_q_code = sum(log_q[d, k] for d, k in enumerate(code))
        terms.append((np.exp(log_q_code), np.exp(log_joint - log_q_code)))
    return -sum(np.prod([q for q, _ in chosen]) * np.log(sum(w for _, w in chosen) / samples)
                for chosen in itertools.product(terms, repeat=samples))


@pytest.mark.parametrize("name, options, objective", [
    ("reinforce_sampled_kl", {"baseline": "constant", "baseline_value": 2.0}, enumerated),
    ("vimco", {"samples": 2}, importance_weighted)])
def test_step_without_analytic_kl_has_the_gradient_of_its_objective_in_the_mean(name, options, objective):
    """Sum over all draws of probability times gradient, learned prior included."""
    model, x = model_of(name, **options), X[:1]
    params, estimator = parameters(model), model.latent.estimator
    h, _ = model.encoder.forward(params, x)
    mean = {k: np.zeros_like(p) for k, p in params.items()}
    for probability, draw in estimator.outcomes(h.reshape(1, D, K)):
        model.latent.estimator = Given(estimator, draw)
        grads = step(model, params, x, None).grads
        mean = {k: m + probability[0] * grads[k] for k, m in mean.items()}
    largest = max(np.abs(m).max() for m in mean.values())
    for key, m in mean.items():
        expected = np.empty_like(m)
        for i in np.ndindex(m.shape):
            moved = params[key].astype(complex)
            moved[i] += 1e-20j
            expected[i] = objective(model, {**params, key: moved}, x).imag / 1e-20
        close(m, expected, 1e-12, largest)


def test_step_without_analytic_kl_sums_over_the_batch():
    model = model_of("vimco", samples=2)
    params, codes = parameters(model), np.random.default_rng(3).integers(0, K, (2, B, D))
    estimator = model.latent.estimator
    h, _ = model.encoder.forward(params, X)
    total = {k: 0 for k in params}
    for b in range(B):
        model.latent.estimator = Given(estimator, Draw(codes[:, b:b + 1], h.reshape(B, D, K)[b:b + 1], {}))
        grads = step(model, params, X[b:b + 1], None, scale=1 / B).grads
        total = {k: total[k] + grads[k] for k in params}
    model.latent.estimator = Given(estimator, Draw(codes, h.reshape(B, D, K), {}))
    got = step(model, params, X, None).grads
    for key, g in got.items():
        close(g, total[key], 1e-13, np.abs(g).max() + 0.1)


def test_latent_layer_by_itself_has_no_weights_and_no_free_bits():
    model = model_of()
    params, latent = parameters(model), model.latent
    assert not latent.init(None, np.float32)["latent.prior"].any()
    assert latent.init(None, np.float32)["latent.prior"].dtype == "f4"
    assert type(latent)(D, K, latent.estimator).free_bits == 0
    _, kept = latent.forward(params, RNG.normal(size=(B, D * K)), None)
    cost = RNG.normal(size=(K ** D, B))
    got, expected = latent.backward(params, kept, cost, None), latent.backward(params, kept, cost, None, None, 1.0, 1.0)
    assert (got[0] == expected[0]).all() and (got[1]["latent.prior"] == expected[1]["latent.prior"]).all()


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("prior", ["uniform", "learned"])
@pytest.mark.parametrize("estimator", ["exact", "rloo"])
def test_step_agrees_with_torch_autograd(torch, estimator, prior, dtype, tolerance):
    """Same weights, batch and codes; each tensor to `tolerance` of its largest entry."""
    model = model_of(estimator, prior, "relu", **({"samples": 4} if estimator == "rloo" else {}))
    params, x = parameters(model, dtype), X.astype(dtype)
    codes = np.random.default_rng(1).integers(0, K, (4, B, D))
    if estimator == "rloo":
        model.latent.estimator = Given(model.latent.estimator, codes)
    else:
        codes = np.array(list(itertools.product(range(K), repeat=D)))[:, None].repeat(B, 1)   # [C, B, D]
    got = step(model, params, x, None)

    t = {k: torch.tensor(p, requires_grad=True) for k, p in params.items()}
    relu, tx = torch.nn.functional.relu, torch.tensor(x)

    def mlp(name, h):
        for i in range(3):
            h = h @ t[f"{name}.{i}.weight"] + t[f"{name}.{i}.bias"]
            h = relu(h) if i < 2 else h
        return h

    log_q = torch.log_softmax(mlp("encoder", tx).reshape(B, D, K), -1)
    prior_logits = t.get("latent.prior", torch.zeros((D, K), dtype=tx.dtype))
    kl = (log_q.exp() * (log_q - torch.log_softmax(prior_logits, -1))).sum((1, 2))
    rows = torch.nn.functional.one_hot(torch.tensor(codes), K).to(tx.dtype)         # [S, B, D, K]
    logits = mlp("decoder", rows.reshape(*codes.shape[:2], D * K))
    cost = torch.nn.functional.binary_cross_entropy_with_logits(logits, tx.expand(logits.shape),
                                                                reduction="none").sum(-1)   # [S, B]
    log_q_codes = (rows * log_q).sum((2, 3))                        # [S, B]
    if estimator == "exact":
        loss = (log_q_codes.exp() * cost).sum(0)
        close(got.cost, loss.detach().numpy(), tolerance)
    else:
        advantage = (cost - cost.mean(0)).detach() / 3
        loss = cost.mean(0) + (advantage * log_q_codes).sum(0)
        close(got.cost, cost.mean(0).detach().numpy(), tolerance)
    (loss + kl).mean().backward()
    close(got.kl, kl.detach().numpy(), tolerance)
    for name, g in got.grads.items():
        assert g.dtype == dtype
        close(g, t[name].grad.numpy(), tolerance)


@pytest.mark.parametrize("scale", [None, 0.5])
def test_what_a_latent_learns_is_handed_on_as_the_mean_that_the_rest_is(scale, monkeypatch):
    """A gradient of the batch's mean, B scale times it, under a name of its own; by default scale = 1/B."""
    model = model_of()
    monkeypatch.setattr(model.latent, "advance", lambda *arguments: ({"t": np.array([2.0, -3.0])}, {"n": 1}))
    made = step(model, parameters(model), X, Generator(0), scale=scale)
    assert set(made.grads) == {*parameters(model), "estimator.t"} and made.state == {"n": 1}
    assert np.allclose(made.grads["estimator.t"], np.array([2.0, -3.0]) * (B * scale if scale else 1), rtol=1e-15)
