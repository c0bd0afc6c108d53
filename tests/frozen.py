"""What tests of quantisers share: the complex step of a surrogate whose stopped parts are numbers; given uniforms."""
import numpy as np

from npdvae import backends
from npdvae.model import DiscreteVAE
from npdvae.rng import INIT, Generator
from tests.checks import close

OPS = backends.load("numpy")
PIXELS, B = 6, 5
X = (np.random.default_rng(8).random((B, PIXELS)) < 0.4).astype(float)


def model_of(latent):
    return DiscreteVAE(PIXELS, (5,), latent, activation="tanh")


def parameters(model, dtype=np.float64, spread=1.5):
    """Parameters away from their initialisation, so that nothing cancels; the prior not uniform."""
    noise = np.random.default_rng(9)
    params = model.init(Generator(1, INIT), np.float64)
    params = {k: spread * p + 0.4 * noise.normal(size=p.shape) for k, p in params.items()}
    return {k: v.astype(dtype) for k, v in model.latent.refresh(params, state_of(model)).items()}


def state_of(model):
    """A state of the latent with as much behind it as ahead."""
    state = model.latent.init_state(Generator(1, INIT), 0)
    if state is None:
        return None
    noise = np.random.default_rng(10)
    return {k: v + noise.uniform(0.2, 0.6, v.shape) for k, v in state.items()}


def softplus(a):
    return np.log(1 + np.exp(a))


def decoded_cost(model, p, z):
    """Sum over pixels of the binary cross-entropy at decoder inputs z [B, F]; complex numbers pass: [B]."""
    a, _ = model.decoder.forward(p, z)
    return (softplus(a) - X * a).sum(-1)


def log_prior(p, codes):
    """log p(code) under rows of logits: int [B, D] -> [B]."""
    rows = p["latent.prior"]
    log_p = rows - np.log(np.exp(rows).sum(-1, keepdims=True))      # [D, K]
    return log_p[np.arange(len(rows)), codes].sum(-1)


def check_gradients(surrogate, params, grads, without=()):
    """Every entry of every gradient is the surrogate's complex step to 1e-12 of the largest; none for `without`."""
    assert set(grads) == set(params) - set(without)
    largest = max(np.abs(g).max() for g in grads.values())
    for name, p in params.items():
        expected = np.zeros(p.shape)
        for i in np.ndindex(p.shape):
            moved = p.astype(complex)
            moved[i] += 1e-20j
            expected[i] = surrogate({**params, name: moved}).imag / 1e-20
        if name in without:
            assert not expected.any(), name
        else:
            close(grads[name], expected, 1e-12, largest)            # measured: 5e-16


class Given:
    """A generator whose uniforms are given."""

    def __init__(self, u):
        self.u = u

    def uniform(self, shape, dtype=np.float64):
        return np.broadcast_to(self.u, shape).astype(dtype)
