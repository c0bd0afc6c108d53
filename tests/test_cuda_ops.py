"""Every op of the CuPy table, run by the emulator behind a stand-in for CuPy, against NumPy. Share: 20 s for g++."""
import numpy as np
import pytest

from npdvae import backends, data, rng
from npdvae.kernels.cuda import launch
from tests import test_numba_ops
from tests.cuda import emulator

f4, f8 = np.float32, np.float64
EPS = float(np.finfo(f4).eps)
REFERENCE = backends.load("numpy")


draw = np.random.default_rng(11)


def log_p(*shape):
    return REFERENCE.log_softmax(draw.normal(0, 2, shape))


# Besides the Numba table's shapes: rows wider than a warp or a block, strips of sums, chunks of categories.
MORE = {
    "linear": [(draw.normal(size=(3, 4, 33)), draw.normal(size=(33, 65)), draw.normal(size=65))],
    "linear_backward": [(draw.normal(size=(3, 300, 5)), draw.normal(size=(3, 300, 7)), draw.normal(size=(7, 5)),
                         draw.uniform(size=(3, 300)), False)],
    "code_linear": [(draw.integers(0, 40, (7, 3)), draw.normal(size=(120, 9)), draw.normal(size=9))],
    "code_linear_backward": [(draw.normal(size=(600, 35)), draw.integers(0, 40, (600, 3)),
                              draw.normal(size=(120, 35)))],
    "softmax": [(draw.normal(size=(1, 300, 70)) * 5,), (draw.normal(size=(3, 32)),)],
    "softmax_backward": [(draw.normal(size=(2, 9, 70)), REFERENCE.softmax(draw.normal(size=(9, 70))))],
    "log_softmax": [(draw.normal(size=(40, 33)),)],
    "inverse_cdf": [(REFERENCE.softmax(draw.normal(size=(9, 70))), draw.uniform(size=(5, 9))),
                    (REFERENCE.softmax(draw.normal(size=(3, 4))), draw.uniform(size=(9, 3)))],
    "gumbel_max": [(draw.normal(size=(9, 70)), draw.normal(size=(5, 9, 70)))],
    "log_prob": [(log_p(5, 2, 40), draw.integers(0, 40, (6, 5, 2)))],
    "bce": [(draw.normal(size=(3, 5, 700)), draw.uniform(size=(5, 700)))],
    "bce_shared": [(draw.normal(size=(70, 300)), draw.uniform(size=(5, 300)))],
    "bce_shared_backward": [(draw.normal(size=(70, 5)), draw.normal(size=(70, 300)), draw.uniform(size=(5, 300)))],
    "entropy": [(log_p(9, 70),)], "kl_uniform": [(log_p(9, 70),)], "kl_uniform_backward": [(draw.normal(size=9),
                                                                                          log_p(9, 70))],
    "nearest": [(draw.normal(size=(300, 2, 5)), draw.normal(size=(2, 70, 5)))],
    "kl_categorical": [(log_p(9, 4, 70), log_p(4, 70))],
    "kl_categorical_backward": [(draw.normal(size=(9, 4)), log_p(9, 4, 70), log_p(4, 70))],
}
CASES = {name: cases + MORE.get(name, []) for name, cases in test_numba_ops.CASES.items()}
PAIRS = [(name, i) for name, cases in CASES.items() for i in range(len(cases))]


def rounded(a, dtype):
    """A float array as the kernel sees it, in double precision."""
    return a.astype(dtype).astype(f8) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a


def up(cupy, a, dtype):
    if not isinstance(a, np.ndarray):
        return dtype if a is f4 else a
    return cupy.asarray(a.astype(dtype) if a.dtype.kind == "f" else a)


@pytest.mark.parametrize("dtype, bound", [(f4, 60 * EPS), (f8, 1e-13)])   # sums of at most 900 terms, in a tree
@pytest.mark.parametrize("name, i", PAIRS)
def test_cupy_op_agrees_with_numpy(ops, cupy, name, i, dtype, bound):
    arguments = CASES[name][i]
    expected = getattr(REFERENCE, name)(*(rounded(a, dtype) for a in arguments))
    found = getattr(ops, name)(*(up(cupy, a, dtype) for a in arguments))
    pairs = zip(*(v if isinstance(v, tuple) else (v,) for v in (found, expected)), strict=True)
    for y, x in pairs:
        assert (y is None) == (x is None)
        if x is None:
            continue
        assert y.shape == x.shape and (y.dtype == dtype or x.dtype.kind in "iu" and y.dtype == np.int64)
        gap = np.abs(y.get().astype(f8) - x).max()
        assert gap <= bound * max(1.0, np.abs(x).max()), f"{name}: {gap:.2e}"


@pytest.mark.parametrize("dtype", [f4, f8])
@pytest.mark.parametrize("kind", ["bytes", "bytes by columns", "floats", "doubles"])
@pytest.mark.parametrize("mode", ["dynamic", "static", "threshold", "none"])
def test_cuda_targets_equal_numpy_bit_for_bit(ops, mode, kind, dtype):
    """At any step, example and draw; 19 pixels: a block of Philox words is cut off."""
    rows = draw.integers(0, 256, (7, 19)).astype(np.uint8)
    if kind == "bytes by columns":
        rows, kind = np.asfortranarray(rows), "bytes"
    if kind != "bytes":
        rows = (rows / 255).astype(f4 if kind == "floats" else f8)
    dataset = data.Dataset("own", rows, rows, (1, 19), 255 if kind == "bytes" else 1)
    ours, reference = (rng.Generator(2 ** 32 - 1, 3).at(2 ** 32 - 1, example=77) for _ in range(2))
    for _ in range(2):                                              # the second is another draw
        found = ops.targets(dataset, rows, mode, ours, dtype)
        expected = REFERENCE.targets(dataset, rows, mode, reference, dtype)
        assert found.dtype == dtype and np.array_equal(found.get(), expected)
    assert ours.draw == reference.draw
    with pytest.raises(ValueError, match="unknown binarization"):
        ops.targets(dataset, rows, "sometimes", ours, dtype)


@pytest.mark.parametrize("dtype", [f4, f8])
@pytest.mark.parametrize("shape", [(1, 3, 2, 1), (3, 2, 2, 1), (2, 2, 1, 3), (5, 70, 3, 7)])
def test_cuda_uniforms_equal_numpy_bit_for_bit(ops, shape, dtype):
    arguments = (2 ** 32 - 1, 3, 2 ** 32 - 1, 77, 5, shape, dtype)
    assert np.array_equal(ops.uniform(*arguments).get(), rng.uniform(*arguments))


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "tanh", "sigmoid", "softplus", "softmax", "log_softmax"])
def test_cuda_op_passes_nan_on_and_stays_finite_at_extremes(ops, cupy, name):
    assert np.isnan(getattr(ops, name)(cupy.asarray(f4([[1, np.nan, 2]]))).get()).any()
    for scale in (88.8, 104, 1e4):
        x = f4([[scale, -scale, 0], [-scale, -scale, scale]])
        y, expected = getattr(ops, name)(cupy.asarray(x)).get(), getattr(REFERENCE, name)(x.astype(f8))
        assert np.abs(y - expected).max() <= 4 * EPS * max(1, scale)


def test_samplers_stay_in_range_on_nan(ops, cupy):
    bad = cupy.asarray(np.full((2, 3), np.nan, f4))
    assert ((ops.gumbel_max(bad, bad).get() >= 0) & (ops.gumbel_max(bad, bad).get() < 3)).all()
    assert ((ops.inverse_cdf(bad, bad[:, 0]).get() >= 0) & (ops.inverse_cdf(bad, bad[:, 0]).get() < 3)).all()


def test_categories_of_probability_zero_are_never_drawn(ops, cupy):
    p = f4([[0, 0.5, 0.5, 0], [0.25, 0.75, 0, 0], [1, 0, 0, 0]])
    for u in (f4(2 ** -24), f4(1 - 2 ** -24)):
        codes = ops.inverse_cdf(cupy.asarray(p), cupy.asarray(np.full(3, u))).get()
        assert (np.take_along_axis(p, codes[:, None], 1) > 0).all()


def test_empty_arrays_and_views_are_served(ops, cupy):
    x = cupy.asarray(draw.normal(size=(6, 8)).astype(f4))
    assert np.array_equal(ops.sigmoid(x[::2, ::3]).get(), ops.sigmoid(x).get()[::2, ::3])
    assert np.array_equal(ops.relu(x.T).get(), ops.relu(x).get().T)
    assert ops.softmax(cupy.empty((0, 3), f4)).shape == (0, 3)
    assert ops.bce(cupy.empty((0, 3), f4), cupy.empty((0, 3), f4)).shape == (0,)


def test_launches_are_checked_against_signatures(cupy):
    run = launch.Launcher(cupy, f4)
    y, bias = cupy.empty((4, 5), f4), cupy.empty(5, f4)
    shape = launch.elementwise(20)
    for arguments, error, message in [
            ((y, bias, 4, 5), TypeError, "takes 5 arguments, got 4"),
            ((y.astype(f8), bias, 4, 5, 3), TypeError, "parameter y: expected float32, got float64"),
            ((y.T, bias, 4, 5, 3), ValueError, "parameter y: expected a contiguous array"),
            ((y.get(), bias, 4, 5, 3), TypeError, "parameter y: expected a device array, got ndarray"),
            ((y, bias, bias, 5, 3), TypeError, "parameter rows: expected a number"),
            ((y, bias, 2 ** 31, 5, 3), ValueError, "parameter rows: 2147483648 does not fit in int")]:
        with pytest.raises(error, match=message):
            run("bias_activation", shape, *arguments)
    with pytest.raises(ValueError, match="bounded to 256 threads, got a block of"):
        run("bias_activation", ((1,), (257,)), y, bias, 4, 5, 3)


@pytest.mark.skipif(bool(emulator.available()), reason=emulator.available() or "-")
def test_parsed_signatures_are_those_of_the_compiler():
    """Every kernel: the parser of launch.py and the C++ types of the built source agree, for both float types."""
    letters = {"int": "i", "unsigned": "u", "long long": "q", "unsigned char": "b", "float": "f", "double": "d"}
    for dtype, real in ((f4, "f"), (f8, "d")):
        for stem in launch.stems():
            library = emulator.build(launch.source(stem, dtype))
            for name, codes in library.codes.items():
                parsed = launch.kernels()[name]
                assert parsed.stem == stem
                assert codes == [(".", "*")[p.pointer] + (real if p.ctype == "real" else letters[p.ctype])
                                 for p in parsed.parameters], name


@pytest.mark.parametrize("n", [0, 1, 255, 256, 257, 10 ** 6, 2 ** 31 - 1])
def test_grids_cover_every_size(n):
    (blocks,), (threads,) = launch.elementwise(n)
    assert 1 <= blocks <= launch.MOST_BLOCKS and threads == launch.THREADS
    assert blocks == launch.MOST_BLOCKS or blocks * threads >= n
    for width in (1, 2, 3, 8, 31, 32, 33, 1000):
        lanes = launch.lanes(width)
        assert lanes in (1, 2, 4, 8, 16, 32) and (lanes >= width or lanes == 32) and (lanes < 2 * width)


def test_more_elements_than_a_kernel_counts_are_refused():
    with pytest.raises(ValueError, match="an array of 2147483648 elements on the device, and kernels count up to"):
        launch.elementwise(2 ** 31)
    assert launch.row_groups(2 ** 28, 32) == ((launch.MOST_BLOCKS,), (launch.THREADS,))      # rows are counted in 64
