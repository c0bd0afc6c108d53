"""The CuPy backend: every op of the table by a kernel of npdvae.kernels.cuda or a product of cuBLAS, on one device.

Arrays stay on the device; floats are float32 or float64, codes int64. A kernel's arguments are contiguous: where an
argument repeats along leading axes, the kernel repeats it.
"""
from __future__ import annotations

import functools
import math

import numpy as np

from npdvae.backends import Ops
from npdvae.backends import cuda_device as devices
from npdvae.backends.cublas import Blas
from npdvae.data import binarize
from npdvae.kernels.cuda import launch
from npdvae.kernels.cuda.constants import ACTIVATIONS, IDENTITY, PIXELS
from npdvae.kernels.cuda.launch import strips
from npdvae.ops import updates as formulas

settings = {"device": 0, "matmul_precision": "float32"}


def choose(device=0, matmul_precision="float32"):
    """Which device and which matrix products the next `table()` is for."""
    settings.update(device=device, matmul_precision=matmul_precision)


def table() -> Ops:
    """The op table of the chosen device. BackendError where CUDA cannot run."""
    return ops_of(settings["device"], settings["matmul_precision"]).ops


@functools.cache
def ops_of(index, precision):
    """The opened device with its kernels, handle and table, made once."""
    return CupyOps(devices.find(index), precision)


def backend_of(ops):
    """The CupyOps behind a table."""
    return ops.softmax.__self__


class CupyOps:
    """The table's functions, bound to one device; shapes and signatures are those of `npdvae.ops`."""

    def __init__(self, device, precision):
        self.device, self.cupy = device, device.cupy
        self.launchers = {np.dtype(t): launch.Launcher(device.cupy, t) for t in (np.float32, np.float64)}
        with devices.clear_errors(device.cupy):
            self.blas = Blas(device.cupy, precision)
        own = {name: getattr(self, name) for name in Ops._fields if hasattr(self, name)}
        self.ops = Ops(**{**own, "name": "cupy", "xp": device.cupy, "to_host": device.cupy.asnumpy})

    # ---- arguments ------------------------------------------------------------------------------------------------

    def run(self, dtype, name, shape, *arguments):
        """Launch a kernel of the given float type."""
        if dtype not in self.launchers:
            raise TypeError(f"backend cupy: {name} takes float32 or float64, got {dtype}")
        launcher = self.launchers[dtype]
        if name not in launcher.functions:
            with devices.clear_errors(self.cupy):
                launcher.function(name)
        launcher(name, shape, *arguments)

    def floats(self, *arrays):
        """Contiguous arrays of their common float type."""
        dtype = np.result_type(*(a.dtype for a in arrays))
        return [self.cupy.ascontiguousarray(a.astype(dtype, copy=False)).reshape(a.shape) for a in arrays]   # keeps 0-d

    def codes(self, codes):
        """Contiguous int64 codes."""
        return self.cupy.ascontiguousarray(codes.astype(np.int64, copy=False))

    def repeated(self, a, shape):
        """An array that repeats along the leading axes of `shape`: it, contiguous, and its own leading size.

        The last axis is whole; a repetition of another kind is written out.
        """
        own = a.shape
        while own and len(own) > 1 and own[0] == 1:
            own = own[1:]
        if own != shape[len(shape) - len(own):]:
            a, own = self.cupy.broadcast_to(a, shape), shape
        return self.cupy.ascontiguousarray(a), math.prod(own[:-1])

    def matmul(self, a, b, transpose_a=False, transpose_b=False):
        """The product of two matrices, in a new array."""
        a, b = self.floats(a, b)
        shape = (a.shape[1] if transpose_a else a.shape[0], b.shape[0] if transpose_b else b.shape[1])
        if 0 in a.shape:
            return self.cupy.zeros(shape, a.dtype)
        return self.blas.matmul(a, b, self.cupy.empty(shape, a.dtype), transpose_a, transpose_b)

    def each(self, name, x, *more):
        """An elementwise kernel y = f(x)."""
        x = self.cupy.ascontiguousarray(x)
        y = self.cupy.empty_like(x)
        self.run(x.dtype, name, launch.elementwise(x.size), x, y, x.size, *more)
        return y

    # ---- linear ---------------------------------------------------------------------------------------------------

    def linear(self, x, weight, bias):
        x, weight, bias = self.floats(x, weight, bias)
        y = self.matmul(x.reshape(-1, x.shape[-1]), weight)         # [N, O]
        self.run(y.dtype, "bias_activation", launch.elementwise(y.size), y, bias, *y.shape, IDENTITY)
        return y.reshape(*x.shape[:-1], weight.shape[1])

    def linear_backward(self, dy, x, weight, weights=None, need_dx=True):
        dy, x, weight = self.floats(dy, x, weight)
        flat = dy.reshape(-1, dy.shape[-1])                         # [N, O]
        dx = self.matmul(flat, weight, transpose_b=True).reshape(x.shape) if need_dx else None
        if weights is not None:
            flat = flat * weights.astype(dy.dtype, copy=False).reshape(-1, 1)
        return dx, self.matmul(x.reshape(len(flat), -1), flat, transpose_a=True), self.column_sums(flat)

    def column_sums(self, dy):
        """Sums over rows in a fixed order: [N, O] -> [O]."""
        (N, O), R = dy.shape, strips(len(dy))
        part = self.cupy.empty((R, O), dy.dtype)
        self.run(dy.dtype, "bias_activation_backward", launch.column_sums(O, R), dy, None, None, part, N, O,
                 IDENTITY, 1.0)
        return self.sum_strips(part)

    def sum_strips(self, part):
        """Sum over the first axis, in order."""
        out = self.cupy.empty(part.shape[1:], part.dtype)
        self.run(part.dtype, "sum_strips", launch.elementwise(out.size), part, out, len(part), out.size)
        return out

    def code_linear(self, codes, weight, bias):
        (weight, bias), codes = self.floats(weight, bias), self.codes(codes)
        D, O = codes.shape[-1], weight.shape[1]
        y = self.cupy.empty((*codes.shape[:-1], O), weight.dtype)
        self.run(y.dtype, "code_linear", launch.elementwise(y.size), codes, weight, bias, y, codes.size // D, D,
                 len(weight) // D, O, IDENTITY)
        return y

    def code_linear_backward(self, dy, codes, weight, weights=None, need_dx=False):
        (dy, weight), codes = self.floats(dy, weight), self.codes(codes)
        D, O = codes.shape[-1], weight.shape[1]
        K, N = len(weight) // D, codes.size // D
        flat = dy.reshape(-1, O)                                    # [N, O]
        dcodes = self.matmul(flat, weight, transpose_b=True).reshape(*dy.shape[:-1], D, K) if need_dx else None
        if weights is not None:
            flat = flat * weights.astype(dy.dtype, copy=False).reshape(-1, 1)
        part = self.cupy.empty((strips(N), D * K, O), dy.dtype)
        self.run(dy.dtype, "code_linear_backward", launch.code_bins(O, D, K, len(part)), flat, codes, None, part, N, D,
                 K, O, 1.0)
        return dcodes, self.sum_strips(part), self.column_sums(flat)

    # ---- activations ----------------------------------------------------------------------------------------------

    def activation_backward(self, dy, y, kind):
        dy, y = self.floats(dy, y)
        dx = self.cupy.empty_like(dy)
        self.run(dy.dtype, "activate_backward", launch.elementwise(dy.size), dy, y, dx, dy.size, kind)
        return dx

    def relu(self, x):
        return self.each("activate", x, ACTIVATIONS["relu"])

    def relu_backward(self, dy, y):
        return self.activation_backward(dy, y, ACTIVATIONS["relu"])

    def leaky_relu(self, x):
        return self.each("activate", x, ACTIVATIONS["leaky_relu"])

    def leaky_relu_backward(self, dy, y):
        return self.activation_backward(dy, y, ACTIVATIONS["leaky_relu"])

    def tanh(self, x):
        return self.each("activate", x, ACTIVATIONS["tanh"])

    def tanh_backward(self, dy, y):
        return self.activation_backward(dy, y, ACTIVATIONS["tanh"])

    # ---- softmax --------------------------------------------------------------------------------------------------

    def row_op(self, name, x):
        """A kernel over rows: [..., K] -> [..., K]."""
        x = self.cupy.ascontiguousarray(x)
        out, K = self.cupy.empty_like(x), x.shape[-1]
        self.run(x.dtype, name, launch.row_groups(x.size // K, K), x, out, x.size // K, K)
        return out

    def row_backward(self, name, d, kept):
        """A kernel over rows with a kept array that may repeat: [..., K] -> [..., K]."""
        d, kept = self.floats(d, kept)
        d = self.cupy.ascontiguousarray(self.cupy.broadcast_to(d, np.broadcast_shapes(d.shape, kept.shape)))
        kept, kept_rows = self.repeated(kept, d.shape)
        out, K = self.cupy.empty_like(d), d.shape[-1]
        self.run(d.dtype, name, launch.row_groups(d.size // K, K), d, kept, out, d.size // K, kept_rows, K)
        return out

    def softmax(self, logits):
        return self.row_op("softmax", logits)

    def softmax_backward(self, dp, p):
        return self.row_backward("softmax_backward", dp, p)

    def log_softmax(self, logits):
        return self.row_op("log_softmax", logits)

    def log_softmax_backward(self, dlog_p, log_p):
        return self.row_backward("log_softmax_backward", dlog_p, log_p)

    # ---- categorical ----------------------------------------------------------------------------------------------

    def inverse_cdf(self, p, u):
        (p, u), K = self.floats(p, u), p.shape[-1]
        shape = np.broadcast_shapes(p.shape[:-1], u.shape)
        u = self.cupy.ascontiguousarray(self.cupy.broadcast_to(u, shape))
        p, p_rows = self.repeated(p, (*shape, K))
        codes = self.cupy.empty(shape, np.int64)
        self.run(p.dtype, "inverse_cdf", launch.row_groups(u.size, K), p, u, codes, u.size, p_rows, K)
        return codes

    def gumbel_max(self, logits, gumbels):
        logits, gumbels = self.floats(logits, gumbels)
        shape, K = np.broadcast_shapes(logits.shape, gumbels.shape), logits.shape[-1]
        gumbels = self.cupy.ascontiguousarray(self.cupy.broadcast_to(gumbels, shape))
        logits, rows = self.repeated(logits, shape)
        codes = self.cupy.empty(shape[:-1], np.int64)
        self.run(logits.dtype, "gumbel_max", launch.row_groups(codes.size, K), logits, gumbels, codes, codes.size, rows,
                 K)
        return codes

    def one_hot(self, codes, categories, dtype):
        codes = self.codes(codes)
        z = self.cupy.empty((*codes.shape, categories), dtype)
        self.run(z.dtype, "one_hot", launch.elementwise(z.size), codes, z, codes.size, categories)
        return z

    def log_prob(self, log_p, codes):
        codes, K = self.codes(codes), log_p.shape[-1]
        D = codes.shape[-1]
        log_p, rows = self.repeated(log_p, (*codes.shape, K))
        total = self.cupy.empty(codes.shape[:-1], log_p.dtype)
        self.run(log_p.dtype, "log_prob", launch.elementwise(total.size), log_p, codes, total, total.size, rows, D, K)
        return total

    def log_prob_backward(self, dlog_q, codes, categories):
        codes = self.codes(codes)
        dlog_q = self.cupy.ascontiguousarray(self.cupy.broadcast_to(dlog_q, codes.shape[:-1]))
        out = self.cupy.empty((*codes.shape, categories), dlog_q.dtype)
        self.run(out.dtype, "log_prob_backward", launch.elementwise(out.size), dlog_q, codes, out, dlog_q.size,
                 codes.shape[-1], categories)
        return out

    # ---- bernoulli ------------------------------------------------------------------------------------------------

    def sigmoid(self, x):
        return self.each("sigmoid", x)

    def softplus(self, x):
        return self.each("softplus", x)

    def logits_and_targets(self, logits, x):
        """Logits written out to the common shape, and the targets with their number of rows."""
        logits, x = self.floats(logits, x)
        shape = np.broadcast_shapes(logits.shape, x.shape)
        logits = self.cupy.ascontiguousarray(self.cupy.broadcast_to(logits, shape))
        return logits, *self.repeated(x, shape)

    def bce(self, logits, x):
        logits, x, x_rows = self.logits_and_targets(logits, x)
        P, cost = logits.shape[-1], self.cupy.empty(logits.shape[:-1], logits.dtype)
        self.run(cost.dtype, "bce", launch.one_block_each(cost.size), logits, None, x, cost, None,
                 cost.size, x_rows, P)
        return cost

    def bce_backward(self, dcost, logits, x):
        logits, x, x_rows = self.logits_and_targets(logits, x)
        P = logits.shape[-1]
        dcost = self.cupy.ascontiguousarray(self.cupy.broadcast_to(dcost, logits.shape[:-1]).astype(logits.dtype,
                                                                                                   copy=False))
        dlogits = self.cupy.empty_like(logits)
        self.run(logits.dtype, "bce_backward", launch.elementwise(logits.size), dcost, logits, x, dlogits, dcost.size,
                 x_rows, P)
        return dlogits

    def bce_shared(self, logits, x):
        logits, x = self.floats(logits, x)
        cost, (S, P) = self.matmul(logits, x, transpose_b=True), logits.shape   # [S, B]
        self.run(cost.dtype, "bce_shared", launch.one_block_each(S), logits, cost, S, len(x), P)
        return cost

    def bce_shared_backward(self, dcost, logits, x):
        dcost, logits, x = self.floats(dcost, logits, x)
        dlogits, (S, P) = self.matmul(dcost, x), logits.shape       # [S, P]
        self.run(dlogits.dtype, "bce_shared_backward", launch.one_block_each(S), dcost, logits, dlogits,
                 S, len(x), P)
        return dlogits

    # ---- entropy --------------------------------------------------------------------------------------------------

    def entropy_or_kl(self, log_p, kl):
        log_p = self.cupy.ascontiguousarray(log_p)
        K, h = log_p.shape[-1], self.cupy.empty(log_p.shape[:-1], log_p.dtype)
        self.run(h.dtype, "entropy", launch.row_groups(h.size, K), log_p, h, h.size, K, kl)
        return h

    def entropy_gradient(self, dh, log_p, sign):
        dh, log_p = self.floats(dh, log_p)
        K, out = log_p.shape[-1], self.cupy.empty_like(log_p)
        dh = self.cupy.ascontiguousarray(self.cupy.broadcast_to(dh, log_p.shape[:-1]))
        self.run(out.dtype, "entropy_backward", launch.row_groups(dh.size, K), dh, log_p, out, dh.size, K, sign)
        return out

    def entropy(self, log_p):
        return self.entropy_or_kl(log_p, 0)

    def entropy_backward(self, dh, log_p):
        return self.entropy_gradient(dh, log_p, 1.0)

    def kl_uniform(self, log_q):
        return self.entropy_or_kl(log_q, 1)

    def kl_uniform_backward(self, dkl, log_q):
        return self.entropy_gradient(dkl, log_q, -1.0)

    def kl_categorical(self, log_q, log_p):
        log_q, log_p = self.floats(log_q, log_p)
        log_p, rows = self.repeated(log_p, log_q.shape)
        K, kl = log_q.shape[-1], self.cupy.empty(log_q.shape[:-1], log_q.dtype)
        self.run(kl.dtype, "kl_categorical", launch.row_groups(kl.size, K), log_q, log_p, kl, kl.size, rows, K)
        return kl

    def kl_categorical_backward(self, dkl, log_q, log_p):
        dkl, log_q, log_p = self.floats(dkl, log_q, log_p)
        log_p, rows = self.repeated(log_p, log_q.shape)
        dkl = self.cupy.ascontiguousarray(self.cupy.broadcast_to(dkl, log_q.shape[:-1]))
        dq, dp, K = self.cupy.empty_like(log_q), self.cupy.empty_like(log_q), log_q.shape[-1]
        self.run(dq.dtype, "kl_categorical_backward", launch.row_groups(dkl.size, K), dkl, log_q, log_p, dq, dp,
                 dkl.size, rows, K)
        return dq, dp

    def gumbel(self, u):
        return self.each("gumbel", u)

    def normal(self, u):
        u = self.cupy.ascontiguousarray(u)
        e = self.cupy.empty(u.shape[:-1], u.dtype)                  # [...]
        self.run(u.dtype, "normal", launch.elementwise(e.size), u, e, e.size)
        return e

    # ---- codebook -------------------------------------------------------------------------------------------------

    def nearest(self, h, e):
        h, e = self.floats(h, e)
        vectors = h.reshape(-1, *h.shape[-2:])                      # [N, G, C]
        codes = [self.gumbel_max(-(book * book).sum(-1) / 2, self.matmul(vectors[:, g], book, transpose_b=True))
                 for g, book in enumerate(e)]
        return self.cupy.stack(codes, -1).reshape(h.shape[:-1])     # [..., G]

    # ---- updates --------------------------------------------------------------------------------------------------

    def sgd(self, p, g, m, lr, momentum=0.9):
        p, g, m = self.floats(p, g, m)
        new_p, new_m = self.cupy.empty_like(p), self.cupy.empty_like(p)
        self.run(p.dtype, "sgd", launch.elementwise(p.size), p, g, m, new_p, new_m, p.size, lr, momentum)
        return new_p, new_m

    def adaptive(self, name, p, g, m, v, rate, scale, beta1, beta2, eps):
        """Adam or RAdam."""
        p, g, m, v = self.floats(p, g, m, v)
        new = [self.cupy.empty_like(p) for _ in range(3)]
        self.run(p.dtype, name, launch.elementwise(p.size), p, g, m, v, *new, p.size, rate, scale, 1 - beta1, 1 - beta2,
                 eps)
        return tuple(new)

    def adam(self, p, g, m, v, t, lr, beta1=0.9, beta2=0.999, eps=1e-8):
        scalars = formulas.adam_scalars(t, lr, beta1, beta2)
        return self.adaptive("adam", p, g, m, v, *adam_numbers(*scalars, 1.0), beta1, beta2, eps)

    def radam(self, p, g, m, v, t, lr, beta1=0.9, beta2=0.999, eps=1e-8):
        scalars = *formulas.adam_scalars(t, lr, beta1, beta2), formulas.radam_rectifier(t, beta2)
        return self.adaptive("radam", p, g, m, v, *radam_numbers(*scalars), beta1, beta2, eps)

    def uniform(self, seed, stream, step, example, draw, shape, dtype=np.float64):
        S, B, D, N = shape
        u = self.cupy.empty(shape, dtype)
        self.run(u.dtype, "philox_uniform", launch.elementwise(B * D * -(-S * N // 4)), u, seed, stream, step, example,
                 draw, S, B, D, N)
        return u

    def targets(self, dataset, rows, mode, rng, dtype=np.float32):
        binarize.check_mode(mode)
        if rows.dtype not in GATHER:            # of a data set of one's own
            return self.cupy.asarray(binarize.targets(dataset, rows, mode, rng, dtype))
        (B, P), bytes_ = rows.shape, rows.dtype == np.uint8
        images, x = self.cupy.asarray(np.ascontiguousarray(rows)), self.cupy.empty((B, P), dtype)
        clock = self.cupy.asarray(np.array([rng.step, 0, rng.seed], np.int64))
        self.run(x.dtype, GATHER[rows.dtype], launch.elementwise(B * -(-P // 4)), images, None, clock, x,
                 dataset.levels if bytes_ else 1, MODES[mode], rng.stream, rng.example, rng.draw, B, B, P)
        rng.draw += MODES[mode] == PIXELS["drawn"]
        return x


def sgd_numbers(rate, root, rectifier) -> tuple[float, float]:
    """What an update depends on besides the arrays: rate and scale of updates.cuh."""
    return rate, 1.0


def adam_numbers(rate, root, rectifier) -> tuple[float, float]:
    """The same for Adam."""
    return rate, root


def radam_numbers(rate, root, rectifier) -> tuple[float, float]:
    """The same for RAdam; a negative scale says that the variance is not tractable yet."""
    return rate, -1.0 if rectifier is None else rectifier * root


MODES = {"none": PIXELS["grey"], "dynamic": PIXELS["drawn"], "static": PIXELS["drawn"],
         "threshold": PIXELS["thresholded"]}    # static images are 0 and 1 already: a draw leaves them
GATHER = {np.dtype(np.uint8): "binarize_bytes", np.dtype(np.float32): "binarize_floats"}
NUMBERS = {"sgd": sgd_numbers, "adam": adam_numbers, "radam": radam_numbers}
