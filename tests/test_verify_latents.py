"""python -m npdvae.verify --latent: every registered latent keeps its claims, faults are told apart. Share: 15 s."""
import json
import pathlib
import runpy

import numpy as np
import pytest

from npdvae import latents, verify
from npdvae.latents.categorical import Categorical
from npdvae.latents.families import Laplace as LaplaceDensity
from npdvae.latents.gamma import Gamma
from npdvae.latents.kumaraswamy import Kumaraswamy
from npdvae.latents.location_scale import Gaussian, Uniform
from npdvae.latents.quantiser import Quantiser
from npdvae.latents.scalar import FSQ, LFQ
from npdvae.latents.vq import VQ
from npdvae.priors.autoregressive import Autoregressive
from npdvae.verify import code_claims
from npdvae.verify.__main__ import latent_line, main
from npdvae.verify.latent_layer import Layer
from npdvae.verify.latent_noise import TooMany
from npdvae.verify.latents import cases, claims, proofs, tried
from npdvae.verify.surrogates import of

HERE = "tests.test_verify_latents"
PAGE = runpy.run_path(str(pathlib.Path(__file__).parent.parent / "docs" / "proofs.py"))
AT_NOISE, MEAN, DENSITY = ("gradient at fixed noise", "mean gradient = gradient of the mean cost",
                           "mean gradient = that of its density")
KL, KL_MEAN, PRIOR = "KL = E[log q - log p]", "mean KL gradient = gradient of the KL", "prior drawn has its density"
LAW = "noise has its density"
SURROGATE, NOTHING, EMA = ("gradient = that of its surrogate", "no cost to codebook, no prior to encoder",
                           "EMA = a gradient step on its loss")
POINT, BOUNDS = "nearest code, KL = -log p(code)", "bounds of -log p(x)"


@pytest.mark.parametrize("name", latents.names())
def test_every_registered_latent_keeps_its_claims_as_the_page_shows(name):
    """The words of docs/verification.md, and each error within its tolerance; digits of rounding may differ."""
    shown = [line for line in PAGE["table"]()[1:] if line.split()[0].rstrip(",") == name]
    found = list(proofs(name))
    assert [words(latent_line(row)) for row in found] == [words(line) for line in shown]
    for row in found:
        assert row.verdict == "holds" and 0 <= row.error <= row.tolerance <= 2e-4, row


def words(line):
    """A line of the table without the error."""
    cells = line.split()
    return [cell for cell in cells if not cell[0].isdigit() or "e" not in cell]


def test_the_page_shows_registered_latents_alone():
    assert {line.split()[0].rstrip(",") for line in PAGE["table"]()[1:]} == set(latents.names())


# ---- faults ----------------------------------------------------------------------------------------------------------

class VarianceDropped(Gaussian):
    def kl_gradient(self, kept):
        return kept.q.loc, 0 * kept.q.s - 1


class ScaleForgotten(Gaussian):
    def pathwise(self, kept, drows):
        return drows.mean(0), (drows * kept.e).mean(0)


class NotCentred(Gaussian):
    def score(self, kept, cost):
        dloc, ds = super().score(kept, cost)
        return dloc / 2, ds


class OtherNoise(Gaussian):
    """Draws for evaluation are 1.1 times as wide as its density says."""

    def sample(self, params, q, rng, samples):
        return q.loc + 1.1 * (super().sample(params, q, rng, samples) - q.loc)


class NoEntropy(Gaussian):
    def log_ratio(self, params, q, z):
        return super().log_ratio(params, q, z) - q.s.sum(-1)


class WidePrior(Gaussian):
    def sample_prior(self, params, rng, n):
        return 1.1 * super().sample_prior(params, rng, n)


class OtherLaw(Gaussian):
    """A Laplace density with normal noise."""

    def standard(self):
        family = LaplaceDensity(self.ops)
        family.uniforms, family.noise = 2, self.ops.normal
        return family


class UniformWithoutEnds(Uniform):
    name = "uniform"

    def pathwise(self, kept, drows):
        return 0 * drows.mean(0), 0 * drows.mean(0)


class HalfSlope(Gamma):
    def cost_gradient(self, kept, cost, drows):
        dalpha, ds = super().cost_gradient(kept, cost, drows)
        return dalpha / 2, ds


class WrongConstant(Kumaraswamy):
    def posterior(self, params, h):
        q = super().posterior(params, h)
        return q._replace(kl=q.kl + 0.01)


class Unnormalised(Categorical):
    def log_ratio(self, params, q, z):
        return super().log_ratio(params, q, z) + 0.1


class ShortPrior(Categorical):
    """The prior has 0.9 in all; q, as told by both, has one."""

    def log_prior(self, params, codes, dtype=None):
        return super().log_prior(params, codes, dtype) + np.log(0.9)

    def log_ratio(self, params, q, z):
        return super().log_ratio(params, q, z) + np.log(0.9)


class HeavyKL(Categorical):
    def kl(self, params, kept, weights):
        return 1.01 * super().kl(params, kept, weights)


class FirstCode(Categorical):
    def sample(self, params, q, rng, samples):
        return np.minimum(super().sample(params, q, rng, samples), 1)


class Shifted(Categorical):
    """Uniforms that are a few points of the grid too large."""

    def __init__(self, points, **options):
        super().__init__(latents=2, categories=3, estimator="exact", **options)
        self.points = points

    def sample(self, params, q, rng, samples):
        u = rng.uniform((samples, *q.log_q.shape[:2])) + self.points / code_claims.GRID
        return self.ops.inverse_cdf(np.exp(q.log_q), np.minimum(u, 1))


class HalfCommitment(VQ):
    def backward(self, params, kept, cost, dz, state=None, kl_weight=1.0, scale=1.0):
        dh, grads = super().backward(params, kept, cost, dz, state, kl_weight, scale)
        return dh - scale * self.commitment * kept.errors.sum(2).reshape(dh.shape), grads


class CostToCodebook(VQ):
    def backward(self, params, kept, cost, dz, state=None, kl_weight=1.0, scale=1.0):
        dh, grads = super().backward(params, kept, cost, dz, state, kl_weight, scale)
        seen = self.book.sums(dz[0].reshape(*kept.codes.shape, self.size), kept.codes, self.tables)
        return dh, {"latent.codebook": grads["latent.codebook"] + scale * seen}


class PriorToEncoder(VQ):
    def backward(self, params, kept, cost, dz, state=None, kl_weight=1.0, scale=1.0):
        dh, grads = super().backward(params, kept, cost, dz, state, kl_weight, scale)
        return dh + 1e-9 * self.kl(params, kept, None)[:, None], grads


class BatchCounts(VQ):
    """Counts of the batch, not of an example."""

    def advance(self, params, kept, cost, dz, state):
        _, new = super().advance(params, kept, cost, dz, state)
        more = new["size"] - self.book.decay * state["size"]
        return {}, {**new, "size": self.book.decay * state["size"] + len(kept.codes) * more}


class UpdatedFirst(VQ):
    """Quantises with the codebook of the next step."""

    def forward(self, params, h, rng, state=None, context=None):
        _, kept = super().forward(params, h, rng, state, context)
        _, new = super().advance(params, kept, None, None, {**state, "size": 0.01 * state["size"]})
        return super().forward(self.refresh(params, new), h, rng, state, context)


class MeanOfSquares(VQ):
    """The codebook loss as a mean over positions and numbers."""

    def moved(self, kept):
        return super().moved(kept) / kept.v[0].size


class EachLevelOnce(VQ):
    """dz for each of Q levels, as where residuals are not detached."""

    def backward(self, params, kept, cost, dz, state=None, kl_weight=1.0, scale=1.0):
        return super().backward(params, kept, cost, self.levels * dz, state, kl_weight, scale)


class SeesItself(Autoregressive):
    """The mask of the outputs with >= in place of >."""

    def __init__(self, latents, categories, ops):
        super().__init__(latents, categories, ops, hidden=4)
        self.net.masks[1] = self.net.masks[1] | (self.net.masks[0].T & ~self.net.masks[1])


class NoOrder(FSQ):
    def __init__(self, latents, categories, ops=None):
        super().__init__(latents, categories, ops, "autoregressive")
        self.prior = SeesItself(latents, categories, self.ops)


class FarthestCode(VQ):
    def distances(self, params, h):
        return -super().distances(params, h)


class ConstantOnce(LFQ):
    """D log 2 once for the batch, not for each image."""

    def terms(self, params, codes):
        return super().terms(params, codes) / len(codes)


class Optimistic(FSQ):
    def posterior(self, params, h):
        q = super().posterior(params, h)
        return q._replace(kl=q.kl - 10)


class Floored(FSQ):
    """Dither from 0 to 1 in place of -1/2 to 1/2."""

    def shift(self, rng, y):
        return super().shift(rng, y) + 0.5


class Raised(FSQ):
    """Dither from -1 to 0."""

    def shift(self, rng, y):
        return super().shift(rng, y) - 0.5


class Deaf(FSQ):
    """The cost does not reach the encoder."""

    def squash_backward(self, dy, kept):
        return 0 * dy


class ShortCodes(FSQ):
    """Codes of 0.9 in all."""

    def terms(self, params, codes):
        return super().terms(params, codes) + np.log(0.9) / self.latents

    def log_prior(self, params, codes, dtype=None):
        return super().log_prior(params, codes, dtype) + np.log(0.9)


ONE, VECTORS = dict(latents=1), dict(latents=2, categories=3, size=2)


@pytest.mark.parametrize("cls, options, broken", [
    (VarianceDropped, ONE, {AT_NOISE, KL_MEAN}), (ScaleForgotten, ONE, {AT_NOISE, MEAN, DENSITY}),
    (NotCentred, dict(ONE, gradient="score", samples=2), {MEAN, DENSITY}), (NoEntropy, ONE, {DENSITY, KL, PRIOR}),
    (OtherNoise, ONE, {MEAN, DENSITY, KL, PRIOR}), (WidePrior, ONE, {PRIOR}), (OtherLaw, ONE, {LAW}),
    (UniformWithoutEnds, ONE, {AT_NOISE, MEAN, "score misses the ends alone"}),
    (HalfSlope, ONE, {AT_NOISE, MEAN, DENSITY}), (WrongConstant, ONE, {KL}),
    (Unnormalised, dict(latents=2, categories=3, estimator="exact"), {"q and p sum to one", KL,
                                                                      "gradient = that of the enumerated bound"}),
    (ShortPrior, dict(latents=2, categories=3, estimator="exact"), {"q and p sum to one", KL}),
    (HeavyKL, dict(latents=2, categories=3, estimator="exact"), {KL}),
    (FirstCode, dict(latents=2, categories=3, estimator="exact"), {"codes are drawn as often as q says"}),
    (HalfCommitment, VECTORS, {SURROGATE}), (CostToCodebook, dict(VECTORS, codebook="gradient"), {SURROGATE, NOTHING}),
    (PriorToEncoder, dict(VECTORS, prior="learned"), {SURROGATE, NOTHING}), (BatchCounts, VECTORS, {EMA}),
    (FarthestCode, VECTORS, {POINT}), (UpdatedFirst, VECTORS, {SURROGATE, POINT}),
    (MeanOfSquares, dict(VECTORS, codebook="gradient"), {SURROGATE}), (NoOrder, dict(latents=3, categories=3), {POINT}),
    (EachLevelOnce, dict(VECTORS, levels=2), {SURROGATE}),
    (ConstantOnce, dict(latents=3), {POINT, BOUNDS}), (Optimistic, dict(latents=2, categories=5), {POINT, BOUNDS}),
    (Floored, dict(latents=2, categories=4, dither=True), {"E z = tanh h"}),
    (Raised, dict(latents=2, categories=4, dither=True), {"E z = tanh h"}),
    (Deaf, dict(latents=2, categories=4), {SURROGATE, NOTHING}), (ShortCodes, dict(latents=2, categories=4), {POINT})])
def test_faults_are_found_where_they_are(cls, options, broken):
    found = verify.check_latent(latents.get(f"{HERE}:{cls.__name__}", **options))
    assert {row.claim for row in found if row.verdict == "BROKEN"} == broken, found
    assert {row.verdict for row in found} == {"holds", "BROKEN"}


@pytest.mark.parametrize("points", [-4, -1, 0, 1, 4])
def test_frequencies_are_counted_to_a_point_at_either_end(points):
    found = code_claims.frequencies(Layer(Shifted(points)))
    assert found.verdict == ("holds" if abs(points) <= 1 else "BROKEN") and found.tolerance == 2 / 2 ** 14
    assert abs(found.error - abs(points) / 2 ** 14) <= 1 / 2 ** 14
    u = code_claims.midpoints(3)
    assert u.shape == (2 ** 14, 3) and (u[:, :1] == u).all() and u[0, 0] == 2.0 ** -15 and u[-1, 0] == 1 - 2.0 ** -15
    assert (np.diff(u[:, 0]) == 2.0 ** -14).all()


def test_a_quantiser_of_ones_own_says_its_surrogate():
    latent = latents.get("fsq", latents=2, categories=3)
    wrong = verify.check_latent(latent, surrogate=lambda h, params: (h ** 2).sum())
    assert {row.claim for row in wrong if row.verdict == "BROKEN"} == {SURROGATE}
    real = verify.check_latent(latent, surrogate=lambda h, params: h.astype(float).sum())[0]
    assert real.verdict == "BROKEN" and np.isnan(real.error)
    layer = Layer(latent)
    layer.latent = Quantiser(2, 3, latent.ops)
    with pytest.raises(ValueError, match="latent fsq: no surrogate is known; say which loss its gradient is of"):
        of(layer, None)


def test_what_quadrature_cannot_take_is_not_tried():
    found = verify.check_latent(latents.get("gamma", latents=3))
    assert [row.verdict for row in found] == ["holds"] + ["not tried"] * 5
    assert "3 numbers of noise" in found[1].note and found[0].claim == AT_NOISE


@pytest.mark.parametrize("given, said", [("gaussian", "'gaussian'"), (Quantiser, "the class Quantiser"), (3, "3")])
def test_what_is_no_latent_is_refused(given, said):
    with pytest.raises(ValueError, match=rf"^latent must be an object, as latents.get\(.*\) makes one, got {said}$"):
        verify.check_latent(given)


def test_what_is_not_tried_has_no_error():
    def a_claim(layer):
        raise TooMany("too many")
    found = tried(a_claim, Layer(latents.get("fsq", latents=1, categories=3), "mine"))
    assert found[:4] == ("mine", "a claim", "1x3", "quadrature") and found[5:] == (0, "not tried", "too many")
    assert np.isnan(found.error)


def test_a_penalty_of_parameters_stands_for_the_gradient_of_the_kl():
    for kl, last in (("parameters", "penalty"), ("analytic", "kl_gradient")):
        names = [claim.__name__ for claim in claims(Layer(latents.get("gaussian", latents=1, kl=kl)))]
        assert names == ["fixed_noise", "mean_is_gradient", "density", "kl", last, "law", "prior"]


@pytest.mark.parametrize("name, shapes", [
    ("vq", 7 * [(2, 3)] + [(4, 3)] + 2 * [(2, 3)]), ("fsq", [(2, 5), (2, 4)]), ("categorical", 4 * [(2, 3)]),
    ("soft_vq", 4 * [(2, 3)]), ("lfq", [(3, 2)]), ("bsq", [(3, 2)]), (f"{HERE}:Deaf", [(2, 8)]),
    ("dirichlet", [(3, None), (2, None)]), ("gamma", [(3, None), (1, None)])])
def test_cases_are_small_enough_to_enumerate(name, shapes):
    """D and K of each; a code vector has two numbers."""
    found = [latent for latent, _, _ in cases(name)]
    assert sorted((latent.latents, latent.categories) for latent in found) == sorted(shapes)
    assert all(getattr(latent, "size", 2) == 2 for latent in found)


def test_command_proves_latents_alone_and_both(capsys):
    assert main(["--latent", "fsq", f"{HERE}:WidePrior"]) == 1
    out = capsys.readouterr().out
    assert f"2 latents, 1 broken claim: {HERE}:WidePrior; " in out and "rel. bias" not in out
    assert main(["--latent", "lfq", "--estimator", "rloo", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row.get("estimator") or row["latent"] for row in rows] == ["rloo"] + ["lfq"] * 4
    assert main(["--latent", "gausian"]) == 2
    assert "unknown latent 'gausian'; did you mean gaussian" in capsys.readouterr().err
