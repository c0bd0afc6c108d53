"""The fused engine against the readable one on NumPy: moments, parameters, sums, over several steps. Share: 3 s.

Adam's first step is nearly lr sign(g), so parameters are compared with an error that a flipped sign would exceed only
where a gradient cancels; the moments are the gradients themselves and are compared tightly.
"""
import numpy as np
import pytest

from npdvae import backends, evaluation, optimizers, rng
from npdvae.data.dataset import Dataset
from npdvae.engine import Readable, Recipe
from npdvae.fused import Fused, fours, frame, layers, plan, reason_unsupported, update
from npdvae.kernels.cpu import fused_latent
from npdvae.kernels.cpu.categorical import invert
from npdvae.latents.categorical import Categorical
from npdvae.model import DiscreteVAE
from npdvae.state import TrainState
from tests.kernels import from_python

REFERENCE = backends.load("numpy")
f4 = np.float32
TOLERANCE = 2e-5                                # of the largest entry: sums of up to 200 float32 products, over 3 steps

GROUPS = ((plan, "FEW", 0), (frame, "LONG", 2), (frame, "GROUP", 2), (layers, "COST_TILES", 1), (update, "PANELS", 2),
          (update, "TILES", 2))
WAYS = {                                        # small models, larger ones, and large batches, at sizes of a test
    "chained": (), "stages": ((plan, "FEW", 0),),
    "many rows": (*GROUPS, (fours, "EXAMPLES", 4), (fours, "LEAST_ROWS", 3)),
    "many rows of many pixels": (*GROUPS, (fours, "MOST_INPUTS", 18))}
SUMS = {                                        # the same sums in the same order: threads, images of a call, way
    "of pixels": ((1, 27, "chained"), (2, 10, "chained"), (3, 20, "stages"), (2, 27, "many rows of many pixels")),
    "of fours": ((1, 27, "many rows"), (2, 10, "many rows"), (3, 20, "many rows"))}


def images(pixels, kind, n=60):
    draw = np.random.default_rng(pixels)
    if kind == "bytes":
        rows = (draw.integers(0, 256, (n, pixels)) * (draw.random((n, pixels)) < 0.3)).astype(np.uint8)
        rows[:, ::3] = np.where(rows[:, ::3] > 128, 255, rows[:, ::3])
        return Dataset("bytes", rows, rows[:9], (1, pixels))
    if kind == "sixteen":
        rows = (draw.integers(0, 17, (n, pixels)) * (draw.random((n, pixels)) < 0.3)).astype(np.uint8)
        rows[::3, 4] = 8                        # the threshold itself
        return Dataset("sixteen", rows, rows[:9], (1, pixels), levels=16)
    if kind == "bits":
        rows = (draw.random((n, pixels)) < 0.2).astype(np.uint8)
        return Dataset("bits", rows, rows[:9], (1, pixels), levels=1)
    rows = (draw.random((n, pixels)) * (draw.random((n, pixels)) < 0.5)).astype(f4)
    rows[::3, 4] = 0.5                          # the threshold itself
    return Dataset("floats", rows, rows[:9], (1, pixels), levels=1)


def engines(estimator="reinforce", pixels=19, kind="bytes", binarize="dynamic", hidden=(20, 11), D=3, K=4, batch=10,
            optimizer="adam", activation="relu", prior="uniform", free_bits=0.0, kl_weight=1.0, threads=2,
            way="chained", **options):
    dataset = images(pixels, kind)
    latent = Categorical(D, K, estimator, prior=prior, free_bits=free_bits, **options)
    model = DiscreteVAE(pixels, hidden, latent, activation=activation)
    recipe = Recipe(optimizers.get(optimizer), lambda step: 1e-3 / (step + 1), lambda step: kl_weight, batch,
                    None, None, binarize, 3, np.dtype(f4))
    draw = np.random.default_rng(1)
    params = {k: draw.normal(0, 0.5, v.shape).astype(f4) for k, v in model.init(rng.Generator(0), f4).items()}
    moments = optimizers.get(optimizer).init(params)
    state = TrainState(params, moments, model.latent.init_state(rng.Generator(1), pixels), 4)
    with pytest.MonkeyPatch.context() as patch:
        for setting in WAYS[way]:
            patch.setattr(*setting)
        readable, fused = Readable(model, recipe, dataset), Fused(model, recipe, dataset, threads)
        assert fused.plan.frame.long(1) == (way.startswith("many rows") and batch > 2)
        assert bool(fused.plan.encoder.fours) == (way == "many rows" and batch > 2 and fused.plan.encoder.sparse)
    assert way == "chained" or not fused.plan.frame.chained
    readable.load(state)
    fused.load(state)
    return readable, fused


ORDER = np.random.default_rng(2).permutation(60)[:27]
CASES = {
    "constant": dict(baseline="constant", baseline_value=9.0),
    "none": dict(baseline="none"),
    "running mean": dict(baseline="running_mean"),
    "leave one out": dict(baseline="batch_leave_one_out", samples=2),
    "leave one out, alone": dict(baseline="batch_leave_one_out", batch=1),
    "five samples": dict(baseline="none", samples=5),
    "rloo": dict(estimator="rloo", samples=4),
    "straight through": dict(estimator="straight_through", temperature=0.7, divide=True),
    "straight through annealed": dict(estimator="straight_through", samples=3, anneal="exponential", anneal_rate=0.1),
    "reinmax": dict(estimator="reinmax", temperature=1.3, samples=2),
    "bits": dict(kind="bits", binarize="none"),
    "grey bytes": dict(binarize="none"),
    "grey floats": dict(kind="floats", binarize="none"),
    "drawn floats": dict(kind="floats", binarize="dynamic"),
    "threshold": dict(binarize="threshold"),
    "sixteen levels": dict(kind="sixteen"),
    "threshold of sixteen": dict(kind="sixteen", binarize="threshold"),
    "threshold floats": dict(kind="floats", binarize="threshold"),
    "radam": dict(optimizer="radam"),
    "learned prior": dict(prior="learned", free_bits=0.3, kl_weight=0.5),
    "one hidden layer": dict(hidden=(17,)),
    "three hidden layers": dict(hidden=(70, 33, 9), activation="leaky_relu"),
    "tanh": dict(activation="tanh"),
    "batch of one": dict(batch=1),
    "one latent": dict(D=1, K=7, batch=7),
    "one category": dict(D=3, K=1),
    "wide": dict(pixels=131, hidden=(150, 40), D=6, K=12, batch=27),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_fused_steps_equal_readable_steps(name, way):
    readable, fused = engines(**CASES[name], way=way)
    sums, expected = fused.run(ORDER), readable.run(ORDER)
    assert sums.shape == expected.shape
    assert np.abs(sums - expected).max() <= TOLERANCE * np.abs(expected).max()
    a, b = fused.save(), readable.save()
    assert a.step == b.step and set(a.params) == set(b.params) and set(a.moments) == set(b.moments)
    for k, moment in b.moments.items():
        if moment.any() or a.moments[k].any():
            assert np.abs(a.moments[k] - moment).max() <= 2 * TOLERANCE * np.abs(moment).max(), k
    for k, p in b.params.items():
        assert np.abs(a.params[k] - p).max() <= 2e-4, k             # steps are up to 1e-3 each
    for k, v in (b.latent or {}).items():
        assert np.abs(a.latent[k] - v).max() <= TOLERANCE * max(1, np.abs(v).max()), k


@pytest.mark.parametrize("name", ["constant", "rloo", "reinmax", "grey floats"])
@pytest.mark.parametrize("order", SUMS)
def test_fused_results_do_not_depend_on_threads_nor_on_grouping(name, order):
    states = []
    for threads, cut, way in SUMS[order]:
        _, fused = engines(**CASES[name], threads=threads, way=way)
        sums = [fused.run(ORDER[:cut]), fused.run(ORDER[cut:])]
        states.append((np.concatenate(sums), fused.save()))
    for sums, state in states[1:]:
        assert np.array_equal(sums, states[0][0])
        for k, p in {**state.params, **state.moments}.items():
            assert np.array_equal(p, {**states[0][1].params, **states[0][1].moments}[k]), k


def test_evaluation_leaves_no_cost_behind():
    """Of few rows, a row's cost in several parts; steps of many rows have one."""
    sums = []
    for evaluates in (False, True):
        _, fused = engines("rloo", samples=24, pixels=240, batch=27, way="stages")
        assert fused.plan.frame.long(24) and not fused.plan.frame.long(1)
        if evaluates:
            fused.evaluate(fused.dataset.test)
        sums.append(fused.run(ORDER))
    assert np.array_equal(*sums)


def test_fused_state_survives_saving_and_loading():
    _, fused = engines()
    fused.run(ORDER[:20])
    state = fused.save()
    _, other = engines()
    other.load(state)
    assert np.array_equal(other.run(ORDER[20:]), fused.run(ORDER[20:]))
    assert all(np.array_equal(v, other.save().params[k]) for k, v in fused.save().params.items())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["constant", "rloo", "straight through annealed", "grey bytes", "learned prior"])
@pytest.mark.parametrize("batch", [10, 4])
def test_fused_evaluation_equals_readable_evaluation(name, batch, way, monkeypatch):
    """Of nine images, one sample each: in one batch, or in three, whose random numbers are those of the whole."""
    readable, fused = engines(**CASES[name], batch=batch, way=way)
    rows = readable.dataset.test
    expected = readable.evaluate(rows)
    monkeypatch.setattr(evaluation, "cost_and_kl", None)            # which the workers do without
    assert np.abs(fused.evaluate(rows) - expected).max() <= TOLERANCE * 20
    before = fused.run(ORDER)
    assert np.array_equal(before, engines(**CASES[name], batch=batch, way=way)[1].run(ORDER))


def test_posteriors_of_extreme_logits_are_those_of_their_own_latent():
    """Latents whose logits lie hundreds apart: each is shifted by its own largest, wherever that one stands."""
    D, K, G = 3, 4, 16
    h = np.random.default_rng(6).normal(0, 300, (D, K, G)) + 900 * np.arange(1, -2, -1)[:, None, None]
    h = h.astype(f4)
    expected = REFERENCE.log_softmax(np.moveaxis(h, 1, 2).astype("f8"))     # [D, G, K]
    log_q, q, top = h.ravel().copy(), np.full(h.size, np.nan, f4), np.empty(G, f4)
    from_python(fused_latent.posterior)(log_q, q, top, D, K, G)
    for i in range(G):
        row, p = np.full(D * K, np.nan, f4), np.full(D * K, np.nan, f4)
        from_python(fused_latent.normalise)(np.ascontiguousarray(h[:, :, i]).ravel(), row, p, D, K)
        for found, shares in ((row, p), (log_q.reshape(D, K, G)[:, :, i].ravel(), q.reshape(D, K, G)[:, :, i].ravel())):
            assert np.abs(found - expected[:, i].ravel()).max() <= 1e-3     # of up to 2000, with 24 bits
            assert np.abs(shares - np.exp(expected[:, i].ravel())).max() <= 1e-3


def test_side_by_side_sampling_picks_what_one_row_would():
    """Categories of probability zero at the end too, with u up to the last float below 1."""
    draw, D, K, G = np.random.default_rng(4), 2, 5, 16
    p = draw.random((D, K, G)).astype(f4)
    p[1, 3:, ::2], p[0, :, 3] = 0, [0, 0, 1, 0, 0]
    p /= p.sum(1, keepdims=True)
    for u in (draw.random(G).astype(f4), np.full(G, 1 - 2.0 ** -24, f4), np.full(G, 2.0 ** -24, f4)):
        for d in range(D):
            code, work = np.zeros(G, f4), np.zeros((2, G), f4)
            from_python(fused_latent.invert_all)(p.ravel(), u, work[0], code, work[1], d, K, G)
            assert code.tolist() == [from_python(invert)(np.ascontiguousarray(p[d, :, i]), u[i]) for i in range(G)]


def test_fused_refuses_what_it_cannot_do():
    _, fused = engines()
    model, recipe = fused.model, fused.recipe
    assert reason_unsupported(model, recipe) is None
    assert "float64" in reason_unsupported(model, recipe._replace(dtype=np.dtype("f8")))
    assert "clipping" in reason_unsupported(model, recipe._replace(clip_norm=1.0))
    assert "microbatches" in reason_unsupported(model, recipe._replace(microbatch=3))
    assert "sgd" in reason_unsupported(model, recipe._replace(optimizer=optimizers.get("sgd")))
    other = DiscreteVAE(model.pixels, model.hidden, Categorical(3, 4, "gumbel_softmax"))
    assert "estimator gumbel_softmax" in reason_unsupported(other, recipe)
    for bad in ([60], [-1], [[0, 1]]):
        with pytest.raises(ValueError, match="order must be indices"):
            fused.run(np.array(bad))
    with pytest.raises(ValueError, match="do not fit"):
        state = fused.save()
        fused.load(state._replace(params={**state.params, "encoder.0.bias": np.zeros(3, f4)}))
