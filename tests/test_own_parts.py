"""Parts that no fused kernel knows, one's own among them: every backend runs the readable step on them. Share: 2 s."""
from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import pytest

from npdvae import backends, build, estimators, likelihoods, optimizers, rng
from npdvae.data.dataset import Dataset
from npdvae.describe import Recipe, describe
from npdvae.engine import Readable
from npdvae.fused import Fused
from npdvae.fused import support as fused
from npdvae.gpu import support as captured
from npdvae.gpu.engine import Captured
from npdvae.latents.base import Latent
from npdvae.latents.categorical import Categorical
from npdvae.likelihoods.bernoulli import Bernoulli
from npdvae.mlp import MLP
from npdvae.model import DiscreteVAE
from npdvae.priors.uniform import Uniform
from tests.cuda.places import place

PIXELS, f4 = 14, np.float32


class TenthOfBCE(Bernoulli):
    """A tenth of the binary cross-entropy: an engine that computes BCE regardless is ten times off."""

    def forward(self, params, a, x):
        return 0.1 * super().forward(params, a, x)

    def backward(self, params, dcost, a, x, weights=None):
        da, grads = super().backward(params, dcost, a, x)
        return 0.1 * da, grads


class Dearer(Uniform):
    """A prior whose KL is a nat more for each latent."""

    name = "dearer"

    def kl(self, params, log_q):
        return super().kl(params, log_q) + 1


class Point(NamedTuple):
    z: Any                                      # [B, D]
    kl: Any                                     # [B, D]


class Squashed(Latent):
    """z = tanh h, no noise, penalty z^2 / 2: the smallest latent that has a gradient."""

    name = "squashed"

    def __init__(self, latents, ops):
        super().__init__(latents, ops)
        self.width = self.features = latents

    def posterior(self, params, h):
        z = self.ops.tanh(h)
        return Point(z, z ** 2 / 2)

    def forward(self, params, h, rng, state=None, context=None):
        q = self.posterior(params, h)
        return q.z[None], q                     # [1, B, D]

    def kl(self, params, kept, weights):
        return kept.kl.sum(-1)

    def backward(self, params, kept, cost, dz, state=None, kl_weight=1.0, scale=1.0):
        return scale * self.ops.tanh_backward(dz[0] + kl_weight * kept.z, kept.z), {}

    def sample(self, params, q, rng, samples):
        return self.ops.xp.repeat(q.z[None], samples, 0)


class Own(Categorical):
    """The categorical under another class: engines cannot know what it changes."""


def model_of(part, ops):
    if part == "latent":
        return DiscreteVAE(PIXELS, (9, 7), Squashed(3, ops))
    if part == "subclass":
        return DiscreteVAE(PIXELS, (9, 7), Own(2, 3, "rloo", ops))
    if part == "autoregressive":
        return DiscreteVAE(PIXELS, (9, 7), Categorical(2, 3, "double_cv", ops, prior=part))
    latent = Categorical(2, 3, "rloo", ops)
    if part in ("gaussian", "continuous_bernoulli"):
        learned = dict(learned=True) if part == "gaussian" else {}
        return DiscreteVAE(PIXELS, (9, 7), latent, likelihoods.get(part, ops=ops, **learned))
    if part == "prior":
        latent.prior = Dearer(2, 3, ops)
    return DiscreteVAE(PIXELS, (9, 7), latent, TenthOfBCE(ops) if part == "likelihood" else None)


def job(part, ops):
    """Model, recipe and data; dynamic binarization, two batches, the second not full."""
    rows = np.random.default_rng(0).integers(0, 256, (16, PIXELS)).astype(np.uint8)
    recipe = Recipe(optimizers.get("adam", ops=ops), lambda s: 1e-2, lambda s: 0.5, 6, None, None, "dynamic", 3,
                    np.dtype(f4))
    return model_of(part, ops), recipe, Dataset("small", rows[6:], rows[:6], (2, 7))


def run(engine):
    """Two steps from fixed parameters: sums, evaluation, state."""
    host = build_state(engine.model, engine.recipe)
    engine.load(host)
    sums = engine.run(np.arange(10))
    return sums, np.asarray(engine.evaluate(engine.dataset.test)), engine.save()


def build_state(model, recipe):
    params = model.init(rng.Generator(3, rng.INIT), recipe.dtype)
    state = model.latent.init_state(rng.Generator(3, rng.INIT), PIXELS)
    state = None if state is None else {k: np.asarray(model.ops.to_host(v)) for k, v in state.items()}
    return build.TrainState(params, optimizers.get(recipe.optimizer.name).init(params), state, 0)


@pytest.mark.parametrize("backend", ["numpy", "numba", "cupy"])
@pytest.mark.parametrize("part, word", [("likelihood", "TenthOfBCE"), ("latent", "Squashed"), ("prior", "Dearer"),
                                        ("subclass", "Own"), ("autoregressive", "prior autoregressive"),
                                        ("gaussian", "likelihood gaussian"),
                                        ("continuous_bernoulli", "likelihood continuous_bernoulli")])
def test_a_part_that_is_not_fused_gets_the_readable_steps_numbers(part, word, backend):
    """And one line says which engine serves and why. Costs: 1e-5, sums of a dozen float32 products; gradients: 1e-4,
    since RLOO takes costs of 9 nats from their mean, which leaves some tenths."""
    expected = run(Readable(*job(part, backends.load("numpy"))))
    if backend == "cupy":
        with place("emulator"):
            made = build.choose_engine(*job(part, backends.load("cupy")))
            found = run(made)
    else:
        made = build.choose_engine(*job(part, backends.load(backend)))
        found = run(made)
    assert made.name == ("readable" if backend == "numpy" else "segmented")
    assert word in made.why or backend == "numpy"
    for a, b in ((found[0], expected[0]), (found[1], expected[1])):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()
    for k, v in expected[2].moments.items():
        if k.startswith("m."):                  # the gradients: parameters after Adam magnify rounding
            assert np.abs(found[2].moments[k] - v).max() <= 1e-4 * np.abs(v).max() + 1e-9, k


@pytest.mark.parametrize("part", ["likelihood", "latent", "prior", "subclass"])
def test_fast_engines_refuse_what_they_cannot_compute(part):
    model, recipe, dataset = job(part, backends.load("numba"))
    with pytest.raises(ValueError, match="the fused engine cannot run this"):
        Fused(model, recipe, dataset)
    assert captured.unsupported(describe(model, recipe)) is not None
    with place("emulator"):
        model, recipe, dataset = job(part, backends.load("cupy"))
        with pytest.raises(ValueError, match="the captured engine cannot run this"):
            Captured(model, recipe, dataset)


class OwnMLP(MLP):
    """Another encoder under the same interface."""


def test_fast_engines_refuse_an_encoder_of_ones_own():
    model, recipe, dataset = job("none", backends.load("numba"))
    assert describe(model, recipe).network == "mlp" and build.choose_engine(model, recipe, dataset).name == "fused"
    model.encoder = OwnMLP("encoder", model.encoder.sizes, "relu", model.ops)
    assert describe(model, recipe).network.endswith("OwnMLP")
    assert captured.unsupported(describe(model, recipe)).startswith("network")
    with pytest.raises(ValueError, match="network"):
        Fused(model, recipe, dataset)


def test_a_registered_name_is_not_given_away():
    """Else a formula of one's own under a built-in name would pass for the built-in one."""
    for package in (estimators, likelihoods):
        name = package.names()[0]
        before = package.find(name)
        with pytest.raises(ValueError, match="another name"):
            package.register(type("Impostor", (), {"name": name}))
        assert package.find(name) is before
    class Impostor(type(estimators.get("rloo"))):
        pass                                    # its name is inherited, and it was not registered
    assert estimators.registry.name_of(Impostor()).endswith("Impostor")


def test_a_class_from_elsewhere_never_passes_for_a_built_in_one():
    """Even under a registered name, as when it came before the built-in classes were loaded."""
    class First(type(estimators.get("rloo"))):
        pass

    held = estimators.registry.classes["rloo"]
    estimators.registry.classes["rloo"] = First
    try:
        assert estimators.registry.name_of(First()).endswith("First")
    finally:
        estimators.registry.classes["rloo"] = held
    assert estimators.registry.name_of(estimators.get("rloo")) == "rloo"


def test_an_option_that_no_kernel_knows_is_refused():
    model, recipe, _ = job("none", backends.load("numpy"))
    spec = describe(model, recipe)
    assert fused.unsupported(spec) is None and captured.unsupported(spec) is None
    other = dataclasses.replace(spec, settings={**spec.settings, "clipped": True})
    assert "clipped=True" in fused.unsupported(other) and "clipped=True" in captured.unsupported(other)


def test_the_tenth_is_a_tenth():
    """What the fused engine once computed for this likelihood was ten times as much."""
    plain, own = (run(build.choose_engine(*job(part, backends.load("numba")))) for part in ("none", "likelihood"))
    assert abs(own[0][0, 0] / plain[0][0, 0] - 0.1) < 1e-5         # the cost of the first step: the same parameters
