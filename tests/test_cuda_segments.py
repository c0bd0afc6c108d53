"""Segments on CUDA against the readable step on NumPy, by the emulator or (-m gpu) on a device. Share: 10 s.

As in test_cuda_step: moments within rounding, parameters less strictly, since Adam magnifies it.
"""
import numpy as np
import pytest

from npdvae import backends, build
from npdvae.engine import Readable
from npdvae.gpu.segmented import Segmented
from tests import strategies
from tests.cuda import cupy_stand_in, emulator, problem
from tests.test_cuda_step import Uncapturable, gap
from tests.test_numba_segments import CASES, ORDER, Squashed, assert_same_bits, make

f4, f8 = np.float32, np.float64
NUMPY = backends.load("numpy")
# Of the largest entry: rounding over 6 to 10 steps; float32 by test_cuda_step, float64 by its sums in another order.
TOLERANCE = {f4: 1e-4, f8: 1e-11}


def agree(found, expected, dtype, *orders):
    """Two engines over the same orders: sums, moments, parameters, state."""
    for order in orders:
        x, y = expected.run(order), found.run(order)
        assert y.shape == x.shape and np.abs(y - x).max() <= TOLERANCE[dtype] * np.abs(x).max()
    a, b = found.save(), expected.save()
    assert a.step == b.step and gap(a.moments, b.moments) <= TOLERANCE[dtype]
    assert gap(a.params, b.params) <= 100 * TOLERANCE[dtype]
    assert (a.latent is None) == (b.latent is None)
    if b.latent is not None:
        assert gap(a.latent, b.latent) <= 1e-6 if dtype is f8 else 1e-3     # learned entries: Adam once more
        assert all(np.asarray(a.latent[k]).dtype == np.asarray(v).dtype for k, v in b.latent.items())
    return found


@pytest.mark.parametrize("key", sorted(strategies.CASES))
def test_every_estimator_in_segments_is_the_readable_step(ops, key):
    case = strategies.CASES[key]
    settings = dict(categories=2 if case.make().binary else 3)
    expected = problem.engine(NUMPY, case.name, case.options, kind=Readable, **settings)
    found = problem.engine(ops, case.name, case.options, kind=Segmented, **settings)
    agree(found, expected, f8, problem.order()[:13], problem.order(2)[:10])
    assert found.capturing and len(found.graphs) == 5                # encode, decode, their adjoints, the update


UNSERVED = [name for name, options in CASES.items() if "microbatch" in options or ":" in options.get("optimizer", "")]


@pytest.mark.parametrize("name", UNSERVED)
def test_microbatches_and_rules_without_a_kernel_are_left_to_the_readable_engine(ops, name):
    with pytest.raises(ValueError, match="microbatches are added up|optimizer .* has no captured kernel"):
        make(Segmented, f8, ops, **CASES[name])


@pytest.mark.parametrize("name", [name for name in CASES if name not in UNSERVED])
def test_segments_serve_every_layer_likelihood_prior_and_part_of_ones_own(ops, name):
    expected, found = (make(kind, f8, table, **CASES[name]) for kind, table in ((Readable, NUMPY), (Segmented, ops)))
    agree(found, expected, f8, ORDER)


@pytest.mark.parametrize("estimator, options", [("rebar", {}), ("vimco", dict(prior="learned", dtype=f4)),
                                                ("gumbel_softmax", dict(learned=True))])
def test_clipped_gradients_are_those_of_the_readable_step(ops, estimator, options):
    """Learned entries of the state count in the norm."""
    learned = dict(anneal="learned") if options.pop("learned", False) else {}
    expected, found = (problem.engine(table, estimator, learned, clip=0.05, kind=kind, **options)
                       for kind, table in ((Readable, NUMPY), (Segmented, ops)))
    agree(found, expected, options.get("dtype", f8), problem.order())


@pytest.mark.parametrize("name", ["learned prior", "own latent", "gaussian, gradient at the codes"])
def test_bits_depend_neither_on_grouping_nor_on_resuming(ops, name):
    found = []
    for cuts in ((), (10,), (20,)):
        engine, sums = make(Segmented, f4, ops, **CASES[name]), []
        for part in np.split(ORDER, cuts):
            sums.append(engine.run(part))
            state = engine.save()
            engine = make(Segmented, f4, ops, **CASES[name])
            engine.load(state)
        found.append((np.concatenate(sums), engine.save()))
    for sums, state in found[1:]:
        assert np.array_equal(sums, found[0][0])
        assert_same_bits(state, found[0][1])


@pytest.mark.parametrize("estimator", ["rebar", "vimco"])           # with gradients at the codes, and without
def test_a_second_stream_that_is_early_or_late_changes_no_bit(cupy, monkeypatch, estimator):
    if cupy is not cupy_stand_in:
        pytest.skip("needs the CUDA emulator, not a GPU")
    results = []
    for lazy in (False, True):
        monkeypatch.setattr(cupy.state, "lazy", lazy)
        made = problem.engine(backends.load("cupy"), estimator, dtype=f4, categories=2, kind=Segmented)
        made.run(problem.order())
        assert made.graphs and made.capturing
        results.append(made.save())
    assert_same_bits(*results)


def test_results_do_not_depend_on_the_schedule(cupy):
    """Bit for bit under every order in which the emulator may run lanes, warps and blocks: no races."""
    if cupy is not cupy_stand_in:
        pytest.skip("needs the CUDA emulator, not a GPU")
    results = []
    for schedule in emulator.SCHEDULES:
        cupy.state.fixed = schedule
        made = problem.engine(backends.load("cupy"), "rebar", dtype=f4, hidden=(70,), latents=3, categories=5, batch=12,
                              kind=Segmented)
        made.run(problem.order())
        results.append(made.save())
    cupy.state.fixed = None
    for other in results[1:]:
        assert_same_bits(other, results[0])


class Growing(Squashed):
    """More samples in the third forward pass alone: buffers must move, and the graphs of the first two are void."""

    def forward(self, params, h, rng, state=None, context=None):
        self.calls = getattr(self, "calls", 0) + 1
        self.samples = 3 if self.calls == 3 else 1
        return super().forward(params, h, rng, state, context)


def test_rows_that_outgrow_their_buffers_get_new_ones(ops):
    expected, found = (make(kind, f8, table, latent=lambda table: Growing(3, table))
                       for kind, table in ((Readable, NUMPY), (Segmented, ops)))
    agree(found, expected, f8, *[ORDER[:10]] * 3, ORDER[10:20], ORDER[:10])
    assert found.plan.capacity == 30 and found.graphs


def test_rows_that_no_decoder_reads_are_refused(ops):
    class Wrong(Squashed):
        def rows(self, params, z):
            return z[..., :2]

    with pytest.raises(ValueError, match=r"rows float64 \[1, 10, 2\], the decoder reads codes .* \[S, 10 or 1, 3\]"):
        make(Segmented, f8, ops, latent=lambda table: Wrong(3, table)).run(ORDER)


def test_a_segment_that_cannot_be_captured_runs_all_the_same(ops, monkeypatch):
    expected, found, said = problem.engine(NUMPY, "rebar"), problem.engine(ops, "rebar", kind=Segmented), []

    def refuse():
        raise RuntimeError("not today")
    found.say = said.append
    monkeypatch.setattr(found, "stream", Uncapturable(found.stream, refuse))
    agree(found, expected, f8, problem.order(), problem.order(2))
    assert len(said) == 1 and "could not be captured (not today)" in said[0] and not found.graphs


def test_what_serves_is_chosen_and_said(ops, capsys):
    made, asked = problem.engine(NUMPY, "gr_mc"), problem.engine(NUMPY, "rloo")
    for estimator, wanted, kind, said in (("gr_mc", "auto", "segmented", "estimator gr_mc"),
                                          ("rloo", "auto", "captured", "MiB of device memory"),
                                          ("rloo", "segmented", "segmented", "as asked for"),
                                          ("rloo", "readable", "readable", "")):
        model = problem.engine(ops, estimator).model
        engine = build.choose_engine(model, (made if estimator == "gr_mc" else asked).recipe, made.dataset,
                                     wanted=wanted)
        assert engine.name == kind and said in capsys.readouterr().err
    split = made.recipe._replace(microbatch=2)
    model = problem.engine(ops, "gr_mc").model
    assert build.choose_engine(model, split, made.dataset).name == "readable"
    assert "microbatches" in capsys.readouterr().err
    for wrong in (lambda: build.choose_engine(model, split, made.dataset, wanted="segmented"),
                  lambda: Segmented(model, split, made.dataset)):
        with pytest.raises(ValueError, match="cannot run this: microbatches"):
            wrong()
