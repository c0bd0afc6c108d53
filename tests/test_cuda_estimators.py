"""Every estimator on the CuPy table: one training step by the emulator or (-m gpu) on a device. Share: 4 s."""
import numpy as np
import pytest

from npdvae import backends, estimators, optimizers, rng
from npdvae.latents.categorical import Categorical
from npdvae.model import DiscreteVAE
from npdvae.state import learned, take_back
from npdvae.step import step
from tests.cuda.places import PLACES, place
from tests.strategies import CASES


@pytest.fixture(params=PLACES)
def cupy(request):
    with place(request.param) as module:
        yield module


def two_steps(backend, case):
    """Gradients, state and updated parameters of two float64 steps, as NumPy arrays by name."""
    ops = backends.load(backend)
    estimator = estimators.get(case.name, ops=ops, **case.options)
    B, D, K, P = 3, 2, 2 if estimator.binary else 3, 4
    model = DiscreteVAE(P, [5], Categorical(D, K, estimator))
    optimizer, generator = optimizers.get("adam", ops=ops), rng.Generator(0, rng.INIT)
    params = {k: ops.xp.asarray(v) for k, v in model.init(generator, np.float64).items()}
    state = estimator.init(generator, D, K, P)
    state = None if state is None else {k: ops.xp.asarray(ops.to_host(v)) for k, v in state.items()}
    x = ops.xp.asarray(np.random.default_rng(0).integers(0, 2, (B, P)).astype(float))
    moments, found = optimizer.init(params), {}
    for t in range(2):
        latent = rng.Generator(1, draw_uniform=ops.uniform).at(t)
        done = step(model, params, x, latent, state)
        params, moments = optimizer.update({**params, **learned(state, done.grads)}, done.grads, moments, t + 1, 0.01)
        state, params = take_back(done.state, params)
        found |= {f"{t}.{k}": v for k, v in {**done.grads, **params, **(state or {}), "cost": done.cost}.items()}
    return {k: ops.to_host(v) for k, v in found.items()}


@pytest.mark.parametrize("case", CASES)
def test_steps_on_cupy_are_the_steps_on_numpy(cupy, case):
    """Also that estimators use nothing that CuPy lacks, and keep arrays where they are."""
    reference, found = two_steps("numpy", CASES[case]), two_steps("cupy", CASES[case])
    assert found.keys() == reference.keys()
    for k, expected in reference.items():       # sums in another order, magnified by Adam's division in the second step
        assert found[k].dtype == np.asarray(expected).dtype and found[k].shape == np.shape(expected), k
        assert np.abs(found[k] - expected).max(initial=0) <= 1e-9 * max(1, np.abs(expected).max(initial=0)), k
