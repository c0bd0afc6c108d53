"""The stand-in for CuPy refuses what CuPy or a device would refuse, or get wrong. Share of the suite: 1 s."""
import numpy as np
import pytest

from npdvae import backends, estimators
from tests.cuda import cupy_stand_in, emulator

pytestmark = pytest.mark.skipif(bool(emulator.available()), reason=emulator.available() or "-")
f4 = np.float32


def test_the_stand_in_is_as_strict_as_cupy():
    with cupy_stand_in.installed() as xp:
        a = xp.ones((2, 3))
        for call in (lambda: np.asarray(a), lambda: a + np.ones((2, 3)), lambda: xp.exp(np.ones(3))):
            with pytest.raises(TypeError):
                call()
        for name in ("errstate", "nonsense"):
            with pytest.raises(AttributeError):
                getattr(xp, name)
        assert isinstance(a.sum(), xp.ndarray) and isinstance(a[0, 0], xp.ndarray) and float(a.sum()) == 6
        assert np.isnan(xp.empty(3).get()).all()
        stream = xp.cuda.Stream(non_blocking=True)
        stream.begin_capture()
        for call in (lambda: a + 1, lambda: xp.zeros(3), lambda: a.get(), lambda: float(a[0, 0]), stream.synchronize):
            with pytest.raises(xp.cuda.runtime.CUDARuntimeError, match="while a stream is captured"):
                call()
        assert a[1:].reshape(3).shape == (3,)
        stream.end_capture()


def test_writes_past_an_array_are_seen():
    with cupy_stand_in.installed() as xp:
        ops = backends.load("cupy").softmax.__self__
        x, y = xp.zeros(10, "f4"), xp.empty(10, "f4")
        with pytest.raises(cupy_stand_in.emulator.Fault, match=r"activate wrote outside an array of shape \(10,\)"):
            ops.launchers[np.dtype("f4")]("activate", ((1,), (32,)), x, y, 12, 0)


def test_copies_keep_fortran_order():
    """CuPy's asarray, empty_like and astype have order="K"."""
    with cupy_stand_in.installed() as xp:
        turned = np.arange(6.0).reshape(2, 3).T
        for a in (xp.asarray(turned), xp.empty_like(xp.asarray(turned)), xp.asarray(turned).astype(f4)):
            assert a.strides == (a.itemsize, 3 * a.itemsize) and not a.flags.c_contiguous
        assert np.array_equal(xp.asarray(turned).get(), turned) and xp.asarray(turned).get().flags.c_contiguous
        assert xp.ascontiguousarray(xp.asarray(turned)).flags.c_contiguous


def test_null_and_non_blocking_streams_do_not_wait_for_each_other():
    with cupy_stand_in.installed() as xp:
        a, side, done = xp.zeros(3), xp.cuda.Stream(non_blocking=True), xp.cuda.Event(disable_timing=True)
        xp.cuda.Device().synchronize()
        a.set(np.ones(3))                                           # on the null stream, and not waited for
        with side, pytest.raises(emulator.Fault, match="null stream has unfinished work, for which the non-blocking"):
            a.fill(2)
        done.record()
        side.wait_event(done)
        with side:
            a.fill(2)
        with pytest.raises(emulator.Fault, match="non-blocking stream has unfinished work, for which the null stream"):
            a.get()
        side.synchronize()
        assert (a.get() == 2).all()
        a.fill(3)
        xp.cuda.Stream.null.synchronize()
        with side:
            assert (a.get() == 3).all()


def test_events_time_only_what_lies_between_them_on_one_stream():
    with cupy_stand_in.installed() as xp:
        side, (first, second) = xp.cuda.Stream(non_blocking=True), (xp.cuda.Event() for _ in range(2))
        with pytest.raises(xp.cuda.runtime.CUDARuntimeError, match="InvalidResourceHandle"):
            xp.cuda.get_elapsed_time(first, second)
        first.record(side)
        second.record(side)
        with pytest.raises(xp.cuda.runtime.CUDARuntimeError, match="NotReady"):
            xp.cuda.get_elapsed_time(first, second)
        second.synchronize()
        assert xp.cuda.get_elapsed_time(first, second) > 0
        first.record()
        with pytest.raises(emulator.Fault, match="different streams"):
            xp.cuda.get_elapsed_time(first, second)


def test_shapes_to_broadcast_to_are_tuples():
    with cupy_stand_in.installed() as xp:
        assert xp.broadcast_to(xp.ones(()), (3,)).shape == (3,)
        with pytest.raises(TypeError, match="expected a tuple of lengths, got int"):
            xp.broadcast_to(xp.ones(()), 3)


def test_keywords_that_only_numpy_has_are_refused():
    with cupy_stand_in.installed() as xp:
        a = xp.ones((2, 3))
        assert a.sum(axis=0, keepdims=True).shape == (1, 3) and xp.stack([a, a], axis=1).shape == (2, 2, 3)
        for call in (lambda: a.sum(where=a > 0), lambda: xp.add(a, a, where=a > 0), lambda: xp.sum(a, initial=1.0),
                     lambda: a.sort(order="x"), lambda: np.sum(a, initial=1.0)):
            with pytest.raises(TypeError, match="unexpected keyword argument"):
                call()


@pytest.mark.parametrize("name, options", [("rloo", {}), ("reinforce", dict(baseline="batch_leave_one_out"))])
def test_outcomes_are_enumerated_on_cupy_arrays(name, options):
    """Also where the examples share a baseline, and the batch is enumerated jointly."""
    logits = np.random.default_rng(0).normal(size=(2, 1, 3))
    with cupy_stand_in.installed() as xp:
        found = estimators.get(name, ops=backends.load("cupy"), **options).outcomes(xp.asarray(logits))
        total = sum(probability.get() for probability, _ in found)
    assert total.shape == (2,) and np.abs(total - 1).max() <= 1e-12     # float64 sums of at most 81 terms
