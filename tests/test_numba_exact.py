"""Fused steps of the exact gradient against readable ones in float64, over several steps. Share: 15 s.

Sums of up to 4000 float32 products differ from float64 by some 1e-6 of the largest; the moments are the gradients and
are compared tightly, parameters only where Adam's first steps do not amplify a gradient that cancels.
"""
import numpy as np
import pytest
from numba import njit

from npdvae.engine import Readable
from npdvae.fused import exact, reason_unsupported, update
from npdvae.fused.engine import Fused
from npdvae.kernels.cpu import code_choice
from npdvae.kernels.cpu import gradient_sums as sums_of_blocks
from npdvae.kernels.cpu.target import GRADIENT_ROWS, PANEL
from npdvae.latents.categorical import Categorical
from npdvae.model import DiscreteVAE
from tests.test_numba_fused import ORDER, engines

TOLERANCE = 2e-5                                # of the largest entry
CASES = {                                       # the last batch is short in all but one
    "bytes": dict(D=2, K=3),
    "bits": dict(kind="bits", binarize="none"),
    "grey bytes": dict(binarize="none"),
    "grey floats": dict(kind="floats", binarize="none", D=2, K=3),
    "dense ones": dict(dense=True),
    "one category": dict(D=3, K=1),
    "one latent": dict(D=1, K=7, batch=7),
    "batch of one": dict(batch=1),
    "odd": dict(D=5, K=3, batch=17, pixels=45),
    "odd and grey": dict(D=5, K=3, batch=17, pixels=45, binarize="none"),
    "tanh": dict(activation="tanh", D=2, K=3),
    "leaky": dict(activation="leaky_relu", hidden=(70, 33, 9)),
    "one hidden layer": dict(hidden=(17,)),
    "learned prior": dict(prior="learned", free_bits=0.3, kl_weight=0.5, D=2, K=3),
    "radam": dict(optimizer="radam"),
    "small chunks": dict(chunks=(24, 2, 3)),
    "small chunks, tanh": dict(chunks=(24, 1, 2), activation="tanh", binarize="none"),
    "wide": dict(pixels=131, hidden=(150, 140), D=4, K=5, batch=27),
    "peaked": dict(D=4, K=5, scale=2.5),          # most codes weigh too little to be decoded
    "peaked and grey": dict(D=4, K=5, scale=2.5, binarize="none", chunks=(24, 2, 3)),
}


def pair(dense=False, scale=1.0, chunks=None, **options):
    """The readable engine in float64 and the fused one, in the same state; weights times `scale`.

    chunks: codes of one chunk, panels and tiles of one chunk of a weight gradient.
    """
    with pytest.MonkeyPatch.context() as patch:
        if dense:
            patch.setattr(Fused, "sparse", lambda self: False)
        for place, value in zip(((exact, "CODES"), (update, "PANELS"), (update, "TILES")), chunks or ()):
            patch.setattr(*place, value)
        readable, fused = engines("exact", **options)
    state = readable.save()
    state = state._replace(params={k: np.float32(scale) * v for k, v in state.params.items()})
    fused.load(state)
    wide = Readable(readable.model, readable.recipe._replace(dtype=np.dtype("f8")), readable.dataset)
    wide.load(state._replace(**{part: {k: v.astype("f8") for k, v in getattr(state, part).items()}
                                for part in ("params", "moments")}))
    return wide, fused


def error(found, expected):
    return np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30)


@pytest.mark.parametrize("name", CASES)
def test_fused_exact_steps_equal_readable_steps(name):
    readable, fused = pair(**CASES[name])
    sums, expected = fused.run(ORDER), readable.run(ORDER)
    assert sums.shape == expected.shape and error(sums, expected) <= TOLERANCE
    a, b = fused.save(), readable.save()
    assert a.step == b.step and set(a.params) == set(b.params) and set(a.moments) == set(b.moments)
    for k, moment in b.moments.items():
        if np.abs(moment).max() > 1e-12 or np.abs(a.moments[k]).max() > 1e-9:     # a single category has no gradient
            assert error(a.moments[k], moment) <= 2 * TOLERANCE, k
    for k, p in b.params.items():
        clear = np.abs(b.moments[f"m.{k}"]) >= 1e-2 * np.abs(b.moments[f"m.{k}"]).max()
        assert np.abs(a.params[k] - p)[clear].max() <= 1e-5, k      # steps are up to 1e-3 each


@pytest.mark.parametrize("name", ["bytes", "odd", "odd and grey", "wide"])
def test_fused_exact_results_do_not_depend_on_threads_nor_on_grouping(name):
    states = []
    for threads, cut in ((1, 27), (2, CASES[name].get("batch", 10)), (3, 0)):
        _, fused = pair(threads=threads, chunks=(24, 2, 3), **CASES[name])
        sums = [fused.run(ORDER[:cut]), fused.run(ORDER[cut:])]
        states.append((np.concatenate(sums), fused.save()))
    for sums, state in states[1:]:
        assert np.array_equal(sums, states[0][0])
        for k, p in {**state.params, **state.moments}.items():
            assert np.array_equal(p, {**states[0][1].params, **states[0][1].moments}[k]), k


def test_only_codes_that_weigh_something_are_decoded():
    """Those whose sum of q(z|x) over the batch is not under LEAST, in order; all of them while q is broad."""
    counts = []
    for scale in (1.0, 2.5):
        readable, fused = pair(D=4, K=5, scale=scale, binarize="none")
        fused.run(ORDER[:10])
        x = readable.dataset.to_probabilities(readable.dataset.train[ORDER[:10]], np.dtype("f8"))
        h, _ = readable.model.encoder.forward(readable.state.params, x)
        q = np.exp(readable.model.latent.posterior(readable.state.params, h.reshape(-1, 4, 5)).log_q)
        weights = np.einsum("bi,bj,bk,bl->ijkl", *q.transpose(1, 0, 2))
        decoder, ints = fused.plan.exact, fused.ints
        n, group = ints[decoder.extent:decoder.extent + 2]
        kept = ints[decoder.codes:decoder.codes + 4 * n].reshape(n, 4) - 5 * np.arange(4)
        assert np.array_equal(kept, np.argwhere(weights >= code_choice.LEAST))
        assert group % exact.UNIT == 0 and group * decoder.chunks >= n
        counts.append(n)
    assert counts[0] == 625 and 0 < counts[1] < 400


@pytest.mark.parametrize("dense, outlier", [(False, False), (True, False), (True, True)])
def test_costs_of_codes_that_differ_little_keep_their_digits(dense, outlier):
    """As at the start of training: costs of 1500 nats that differ by hundredths, as do the encoder's gradients.

    Nor do they lose them where the first code, of next to no probability, costs thousands of nats more.
    """
    readable, fused = pair(pixels=2200, D=2, K=5, hidden=(20, 11), scale=0.05, dense=dense)
    if outlier:
        state = fused.save()
        state.params["encoder.2.bias"][0] = -25
        state.params["decoder.0.weight"][0] *= 1e4
        for engine in (readable, fused):
            engine.load(state)
        readable.state = readable.state._replace(params={k: v.astype("f8") for k, v in state.params.items()})
    readable.run(ORDER[:10])
    fused.run(ORDER[:10])
    a, b = fused.save(), readable.save()
    for k in a.moments:
        if k.startswith("m.encoder"):
            assert error(a.moments[k], b.moments[k]) <= 2e-4, k


@pytest.mark.parametrize("name", ["bytes", "grey bytes", "learned prior"])
def test_fused_evaluation_after_exact_training_equals_readable_evaluation(name):
    readable, fused = engines("exact", **CASES[name])
    rows = readable.dataset.test
    assert np.abs(fused.evaluate(rows) - readable.evaluate(rows)).max() <= 20 * TOLERANCE
    fused.run(ORDER)
    readable.load(fused.save())
    assert np.abs(fused.evaluate(rows) - readable.evaluate(rows)).max() <= 20 * TOLERANCE


def test_too_many_codes_take_the_readable_step():
    _, fused = engines("exact", D=2, K=3)
    assert reason_unsupported(fused.model, fused.recipe) is None
    model = DiscreteVAE(19, (20,), Categorical(7, 4, "exact"))
    assert "16384 codes, more than 8192" in reason_unsupported(model, fused.recipe)


@pytest.mark.parametrize("n", [0, 1, 37])
def test_gradient_sums_equal_their_twin(n):
    tile = sums_of_blocks.gradient_sums

    def call(mem, a, stride, dy, dy_stride, sums, count):
        tile(mem, a, stride, dy, dy_stride, sums, count)

    mem = np.random.default_rng(0).normal(0, 1, 9000).astype(np.float32)
    expected, before = mem.copy(), mem.copy()
    arguments = (0, 51, 3000, 131, 8000, n)
    njit(call)(mem, *arguments)
    sums_of_blocks.gradient_sums_twin(expected, *arguments)
    assert np.abs(mem - expected).max() <= 1e-5
    end = 8000 + GRADIENT_ROWS * PANEL
    assert np.array_equal(mem[:8000], before[:8000]) and np.array_equal(mem[end:], before[end:])
    assert (n == 0) == np.array_equal(mem[8000:end], before[8000:end])
