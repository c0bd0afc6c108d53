"""The captured CUDA step against the readable step on NumPy, by the emulator or (-m gpu) on a device. Share: 9 s.

Moments are compared, not parameters: the first step of Adam is nearly lr * sign(gradient), which magnifies rounding.
"""
import gc

import numpy as np
import pytest

from npdvae import backends, describe
from npdvae.engine import Readable
from npdvae.gpu import replayed, update
from npdvae.gpu.engine import Captured, engine
from npdvae.gpu.segmented import Segmented
from npdvae.gpu.streams import Streams
from npdvae.kernels.cuda import launch
from tests import strategies
from tests.cuda import cupy_stand_in, emulator, problem

f4, f8 = np.float32, np.float64
NUMPY = backends.load("numpy")


# estimator, its options, other settings: every kernel, every branch of the plan
CASES = [
    ("rloo", {}, {}),
    ("rloo", dict(samples=3), dict(dtype=f4, data="floats", optimizer="radam")),
    ("rloo", {}, dict(hidden=(), prior="learned", activation="leaky_relu")),
    ("rloo", {}, dict(hidden=(40,), categories=40, latents=3, batch=23, data="binary", binarize="none")),
    ("rloo", dict(samples=30), dict(batch=23)),                     # sums over rows in two strips
    ("reinforce", dict(baseline="none"), dict(binarize="none", batch=7)),
    ("reinforce", dict(baseline="constant", baseline_value=4.0), dict(optimizer="sgd", dtype=f4)),
    ("reinforce", dict(baseline="running_mean", decay=0.8), dict(dtype=f4)),
    ("reinforce", dict(baseline="running_mean", samples=2), dict(prior="learned", free_bits=0.2)),
    ("reinforce", dict(baseline="batch_leave_one_out", samples=2), {}),
    ("reinforce", dict(baseline="batch_leave_one_out"), dict(batch=1)),
    ("straight_through", {}, dict(activation="tanh")),
    ("straight_through", dict(samples=2, temperature=1.3, divide=True), dict(dtype=f4, binarize="threshold")),
    ("straight_through", dict(anneal="linear", anneal_rate=0.05, anneal_every=3), dict(clip=0.05)),
    ("reinmax", dict(temperature=1.3, samples=2), dict(optimizer="radam", prior="learned")),
    ("reinmax", {}, dict(categories=33, dtype=f4)),
    ("zgr", dict(samples=2), {}),
    ("darn", {}, dict(free_bits=0.3)),
    ("darn", dict(samples=2, centre="probabilities"), dict(dtype=f4)),
    ("straight_through_gumbel", dict(samples=2), dict(clip=0.1, categories=5)),
    ("exact", {}, {}),
    ("exact", {}, dict(hidden=(), dtype=f4, latents=3, categories=8, free_bits=0.1, batch=23)),
    ("exact", {}, dict(hidden=(40,), prior="learned", categories=17)),
    ("gumbel_softmax", dict(samples=2), dict(prior="learned", dtype=f4)),
    ("gumbel_softmax", dict(anneal="exponential", anneal_rate=0.1), dict(hidden=(), categories=35)),
]
IDS = [f"{i}-{name}" for i, (name, _, _) in enumerate(CASES)]
# Of the largest entry: rounding, 10 steps deep. Measured with products summed in seven orders: 1.1e-5 and 4e-14.
TOLERANCE = {f4: 3e-5, f8: 2e-12}


def gap(found, expected):
    """Largest difference of arrays by name, each over the largest entry of the expected one."""
    assert set(found) == set(expected)
    return max(float(np.abs(np.asarray(found[k], f8) - expected[k]).max() / max(np.abs(expected[k]).max(), 1e-30))
               for k in expected if expected[k].size)


@pytest.mark.parametrize("name, options, settings", CASES, ids=IDS)
def test_captured_steps_agree_with_the_readable_ones(ops, name, options, settings):
    dtype = settings.get("dtype", f8)
    expected = problem.engine(NUMPY, name, options, **settings)
    found = problem.engine(ops, name, options, kind=Captured, **settings)
    for seed in (1, 2):                                             # two epochs: fresh graphs, then replays
        order = problem.order(seed)
        x, y = expected.run(order), found.run(order)
        assert y.shape == x.shape and np.abs(y - x).max() <= TOLERANCE[dtype] * np.abs(x).max()
    a, b = found.save(), expected.save()
    assert a.step == b.step and gap(a.moments, b.moments) <= TOLERANCE[dtype]
    assert gap(a.params, b.params) <= 100 * TOLERANCE[dtype]
    assert (a.latent is None) == (b.latent is None)
    if b.latent is not None:
        assert gap(a.latent, b.latent) <= TOLERANCE[dtype]
        assert all(a.latent[k].shape == v.shape and a.latent[k].dtype == v.dtype for k, v in b.latent.items())
    loss = expected.evaluate(expected.dataset.test)
    assert np.abs(np.subtract(found.evaluate(found.dataset.test), loss)).max() <= 100 * TOLERANCE[dtype] * sum(loss)
    batches = {min(found.recipe.batch_size, problem.IMAGES - i) for i in range(0, problem.IMAGES,
                                                                              found.recipe.batch_size)}
    assert set(found.graphs) == batches and found.capturing


def test_results_do_not_depend_on_how_steps_are_grouped(ops):
    whole = problem.engine(ops, "reinforce", dict(baseline="running_mean"), dtype=f4, kind=Captured)
    parts = problem.engine(ops, "reinforce", dict(baseline="running_mean"), dtype=f4, kind=Captured)
    order = problem.order()
    sums = whole.run(order)
    assert np.array_equal(np.concatenate([parts.run(order[:5]), parts.run(order[5:15]), parts.run(order[15:])]), sums)
    a, b = whole.save(), parts.save()
    assert all(np.array_equal(a.params[k], b.params[k]) for k in a.params)
    assert all(np.array_equal(a.latent[k], b.latent[k]) for k in a.latent)


@pytest.mark.parametrize("kind", [Captured, Segmented])
def test_results_do_not_depend_on_when_the_schedule_is_made(ops, monkeypatch, kind):
    """Of the first steps of a call, then, while they are under way, of the others."""
    made = []
    for head in (replayed.HEAD, 2):
        monkeypatch.setattr(replayed, "HEAD", head)
        options = dict(anneal="linear", anneal_rate=0.01) if kind is Captured else {}
        made.append(problem.engine(ops, "reinmax", options, dtype=f4, kind=kind))
        made[-1].run(problem.order())
        made[-1].run(problem.order(1))
    assert made[0].state.step == 10 > 2 * head                      # five steps a call
    a, b = (engine.save() for engine in made)
    assert all(np.array_equal(a.params[k], b.params[k]) for k in a.params) and a.latent == b.latent


@pytest.mark.parametrize("kind", [Captured, Segmented])
def test_an_exception_leaves_the_state_of_the_last_step_that_had_begun(ops, monkeypatch, kind):
    """A schedule of one's own that raises while steps are under way: going on ends in the same bits."""
    straight, stopped = (problem.engine(ops, "rloo", dtype=f4, kind=kind) for _ in range(2))
    order, scalars = problem.order(), describe.scalars
    straight.run(order)

    def raising(recipe, step, examples):
        if step == 3:
            raise ZeroDivisionError
        return scalars(recipe, step, examples)

    monkeypatch.setattr(replayed, "HEAD", 2)
    with monkeypatch.context() as here, pytest.raises(ZeroDivisionError):
        here.setattr(describe, "scalars", raising)
        stopped.run(order)
    assert stopped.state.step == 2
    stopped.run(order[10:])
    a, b = straight.save(), stopped.save()
    assert b.step == 5 and all(np.array_equal(a.params[k], b.params[k]) for k in a.params)


@pytest.mark.parametrize("kind", [Captured, Segmented])
@pytest.mark.parametrize("name, options", [("reinforce", dict(baseline="running_mean", samples=2)), ("darn", {})])
def test_sums_of_many_costs_are_shared_by_blocks(ops, monkeypatch, name, options, kind):
    """Within rounding of the sums by one block, float64; the parameters are the same to the bit."""
    one = problem.engine(ops, name, options, batch=23, kind=kind)
    expected = one.run(problem.order())
    for blocks in (1, 5):
        monkeypatch.setattr(update, "SUM_BLOCKS", blocks)
        monkeypatch.setattr(update, "MANY", 0)
        many = problem.engine(ops, name, options, batch=23, kind=kind)
        found = many.run(problem.order())
        assert np.abs(found - expected).max() <= 1e-13 * np.abs(expected).max() and (found > 0).all()
        a, b = one.save(), many.save()
        assert all(np.array_equal(a.params[k], b.params[k]) for k in a.params)
        if name == "reinforce":
            assert gap(b.latent, a.latent) <= 1e-13


def test_a_saved_state_goes_on_to_the_same_bits(ops):
    straight = problem.engine(ops, "reinmax", dict(anneal="linear", anneal_rate=0.01), dtype=f4, kind=Captured)
    first = problem.engine(ops, "reinmax", dict(anneal="linear", anneal_rate=0.01), dtype=f4, kind=Captured)
    second = problem.engine(ops, "reinmax", dict(anneal="linear", anneal_rate=0.01), dtype=f4, kind=Captured)
    order = problem.order()
    straight.run(order)
    first.run(order[:10])
    second.load(first.save())
    second.run(order[10:])
    a, b = straight.save(), second.save()
    assert all(np.array_equal(a.params[k], b.params[k]) for k in a.params) and a.latent == b.latent


def test_results_do_not_depend_on_the_schedule(cupy):
    """Bit for bit under every order in which the emulator may run lanes, warps and blocks: no races."""
    if cupy is not cupy_stand_in:
        pytest.skip("needs the CUDA emulator, not a GPU")
    results = []
    for schedule in (0, 1, 2, 3):
        cupy.state.fixed = schedule
        made = problem.engine(backends.load("cupy"), "straight_through_gumbel", dict(samples=2), dtype=f4, hidden=(70,),
                              latents=3, categories=19, batch=12, kind=Captured, clip=0.5)
        made.run(problem.order())
        results.append(made.save())
    cupy.state.fixed = None
    for other in results[1:]:
        for part in ("params", "moments"):
            a, b = getattr(results[0], part), getattr(other, part)
            assert all(np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("name", ["rloo", "reinmax", "exact"])
def test_a_second_stream_that_is_early_or_late_changes_no_bit(cupy, monkeypatch, name):
    """The stand-in does the second stream's work at once, or as late as a wait allows; without the wait it shows."""
    if cupy is not cupy_stand_in:
        pytest.skip("needs the CUDA emulator, not a GPU")
    results = []
    for lazy, join in ((False, True), (True, True), (True, False)):
        monkeypatch.setattr(cupy.state, "lazy", lazy)
        if not join:
            monkeypatch.setattr(Streams, "join", lambda streams: None)
        made = problem.engine(backends.load("cupy"), name, dtype=f4, kind=Captured)
        made.say = lambda text: None
        made.run(problem.order())
        assert bool(made.graphs) == join                            # a fork that is not joined cannot be captured
        if not join:
            with pytest.raises(emulator.Fault, match="non-blocking stream has unfinished work"):
                made.save()
            cupy.cuda.Device().synchronize()
        results.append(made.save().params)
    early, late, unjoined = results
    assert all(np.array_equal(early[k], late[k]) for k in early)
    assert not all(np.array_equal(early[k], unjoined[k]) for k in early)


@pytest.mark.parametrize("key", sorted(strategies.CASES))
def test_every_estimator_trains_on_cupy_arrays(ops, key):
    """Op by op: the same code as on NumPy, here on arrays that are not NumPy's."""
    case = strategies.CASES[key]
    settings = dict(categories=2 if case.make().binary else 3, kind=Readable)
    expected = problem.engine(NUMPY, case.name, case.options, **settings)
    found = problem.engine(ops, case.name, case.options, **settings)
    order = problem.order()[:10]
    x, y = expected.run(order), found.run(order)
    assert np.abs(y - x).max() <= 1e-12 * np.abs(x).max()
    a, b = found.save(), expected.save()
    assert gap(a.moments, b.moments) <= 1e-11                       # measured 1.2e-13, float64
    assert b.latent is None or gap(a.latent, b.latent) <= 1e-6   # Adam again, where a gradient is all rounding


def test_the_engine_is_said_once(ops):
    made, said = problem.engine(NUMPY, "rloo"), []
    model, split = problem.engine(ops, "rloo").model, made.recipe._replace(microbatch=2)
    assert type(engine(model, split, made.dataset, said.append)) is Readable
    assert len(said) == 1 and "microbatches" in said[0] and "without a CUDA graph" in said[0]
    said.clear()
    model = problem.engine(ops, "rloo").model
    assert type(engine(model, made.recipe, made.dataset, said.append)) is Captured
    assert len(said) == 1 and "MiB of device memory" in said[0] and "float32 matrix products" in said[0]
    with pytest.raises(ValueError, match="microbatches"):
        problem.engine(ops, "rloo", microbatch=2, kind=Captured)


def test_a_step_that_cannot_be_captured_runs_all_the_same(ops, monkeypatch):
    made, said = problem.engine(ops, "rloo", kind=Captured), []
    made.say = said.append
    expected = problem.engine(NUMPY, "rloo")

    def refuse():
        raise RuntimeError("cudaErrorStreamCaptureUnsupported:\n not today")
    monkeypatch.setattr(made, "stream", Uncapturable(made.stream, refuse))
    for seed in (1, 2):
        x, y = expected.run(problem.order(seed)), made.run(problem.order(seed))
        assert np.abs(y - x).max() <= 2e-12 * np.abs(x).max()
    assert len(said) == 1 and "could not be captured (cudaErrorStreamCaptureUnsupported: not today)" in said[0]


class Uncapturable:
    """A stream whose capture cannot begin."""

    def __init__(self, stream, refuse):
        self.stream, self.begin_capture = stream, refuse

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def __enter__(self):
        return self.stream.__enter__()

    def __exit__(self, *error):
        return self.stream.__exit__(*error)


def test_orders_that_are_no_indices_are_refused(ops):
    made = problem.engine(ops, "rloo", kind=Captured)
    for bad in ([problem.IMAGES], [-1], [[0]]):
        with pytest.raises(ValueError, match=r"order must be indices in \[0, 23\)"):
            made.run(np.array(bad))
    assert made.run(np.array([], int)).shape == (0, 2)


@pytest.mark.parametrize("batch", [5, 23, 30])
def test_an_order_of_several_epochs_is_cut_between_batches(ops, batch):
    """As the readable engine cuts it: only the last batch of all is smaller."""
    order = np.concatenate([problem.order(seed) for seed in (1, 2, 3)])
    expected = problem.engine(NUMPY, "rloo", batch=batch)
    found = problem.engine(ops, "rloo", batch=batch, kind=Captured)
    x, y = expected.run(order), found.run(order)
    assert y.shape == x.shape and np.abs(y - x).max() <= 2e-12 * np.abs(x).max()    # float64, as TOLERANCE
    assert found.warm <= {batch, len(order) % batch} and gap(found.save().moments, expected.save().moments) <= 2e-12


@pytest.mark.parametrize("dtype", [f4, f8])
@pytest.mark.parametrize("data", ["bytes", "floats"])
@pytest.mark.parametrize("batch", [1, 6])
def test_targets_equal_those_of_the_cpu_bit_for_bit(ops, dtype, data, batch):
    from npdvae.data.binarize import binarize
    made = problem.engine(ops, "rloo", dtype=dtype, data=data, batch=batch, kind=Captured)
    made.state = made.state._replace(step=7)
    order = problem.order()[:batch]
    made.run(order)
    images = made.dataset.to_probabilities(made.dataset.train[order], dtype)
    expected = binarize(images, "dynamic", made.pixel_rng.at(7))
    assert 0.1 < expected.mean() < 0.9 and np.array_equal(made.plan.encoder.buffers["x"].get()[:batch], expected)


def test_codes_equal_those_of_the_cpu_but_within_rounding_of_an_edge(ops):
    """float32 codes of 6000 rows against the reference's; a code may differ only where u is at an edge of the CDF."""
    B, D, K, S = 1500, 4, 8, 2
    made = problem.engine(ops, "rloo", dict(samples=S), latents=D, categories=K, dtype=f4, hidden=(), kind=Captured)
    xp, generator = made.cupy, np.random.default_rng(2)
    h, bias = generator.normal(0, 2, (B, D * K)).astype(f4), generator.normal(size=D * K).astype(f4)
    codes, kl = xp.empty((S * B, D), np.int64), xp.empty((B, D), f4)
    clock = xp.asarray(np.array([5, 0, made.recipe.seed]))
    logits = xp.asarray(h)
    made.plan.streams.launch("latent_hard", launch.row_groups(B * D, K), logits, xp.asarray(bias), None, clock,
                             codes, kl, 3, S, B, D, K)
    p = NUMPY.softmax((h + bias).reshape(B, D, K))
    u = made.latent_rng.at(5).draw_uniform(made.recipe.seed, 3, 5, 0, 0, (S, B, D, 1), f4)
    u = np.asarray(made.ops.to_host(u))[..., 0]
    expected, found = NUMPY.inverse_cdf(p, u), codes.get().reshape(S, B, D)
    edges = np.cumsum(p.astype(f8), -1)[..., :-1]
    distance = np.abs(edges - u[..., None]).min(-1)                 # [S, B, D]
    differ = found != expected
    assert differ.sum() <= 3 and (distance[differ] <= 1e-6).all()   # measured: 0 of 12000
    assert np.abs(kl.get() - NUMPY.kl_uniform(NUMPY.log_softmax((h + bias).astype(f8).reshape(B, D, K)))).max() < 1e-5


def test_handles_end_with_their_engine_and_never_during_a_capture(cupy, ops, monkeypatch):
    """cublasDestroy waits for the device, which a stream that is captured does not stand."""
    if cupy is not cupy_stand_in:
        pytest.skip("needs the CUDA emulator, not a GPU")
    gc.collect()
    before = len(cupy.state.handles)
    old, made = (problem.engine(ops, "rloo", kind=Captured) for _ in range(2))
    assert len(cupy.state.handles) == before + 2                    # of the second stream, one each
    old.itself = old                                                # so that only the collector ends it
    del old
    enqueue = made.plan.enqueue
    monkeypatch.setattr(made.plan, "enqueue", lambda B: gc.collect() and None or enqueue(B))
    gc.disable()
    try:
        made.run(problem.order()[:5])
        again = problem.engine(ops, "rloo", kind=Captured)
        again.itself = again
        del again
        made.run(problem.order())
    finally:
        gc.enable()
    assert made.graphs and made.capturing and len(cupy.state.handles) == before + 1
