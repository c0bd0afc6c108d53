"""The Numba backend: float32 arrays through the kernels of npdvae.kernels.cpu, everything else as in NumPy.

Other types (float64, complex128) take the reference function, so they agree with it exactly. The kernels run on one
thread; dense products are NumPy's BLAS, the only thread pool.
"""
import functools

import numpy as np

from npdvae import rng
from npdvae.backends import BackendError, Ops, numpy_backend
from npdvae.ops import updates as formulas

try:
    from npdvae.backends import numba_formulas
    from npdvae.backends.numba_arrays import F4, check_codes, common, f4, fits, flat, repeating, rows, written
    from npdvae.kernels.cpu import activations, bernoulli, categorical, codebook, updates
    from npdvae.kernels.cpu import entropy as entropy_kernels
    from npdvae.kernels.cpu import gumbel as gumbel_kernels
    from npdvae.kernels.cpu import linear as linear_kernels
    from npdvae.kernels.cpu import softmax as softmax_kernels
    from npdvae.kernels.cpu import uniform as uniform_kernels
except ImportError as error:                    # numba itself, or a NumPy that it does not support
    raise BackendError(f"the numba backend cannot be loaded: {error}; install numba, or use --backend numpy") from error

REFERENCE = numpy_backend.table()


KERNELS: dict = {}


def table() -> Ops:
    """The Numba op table; functions without a kernel are NumPy's."""
    return REFERENCE._replace(name="numba", uniform=uniform, kernel=numba_formulas.kernel, **KERNELS)


def float32_op(function, other=None):
    """Decorator: enter `function` in the table for arguments that are all float32 (or integers) and not empty.

    `other` serves the rest, if not the reference.
    """
    reference = getattr(REFERENCE, function.__name__)
    rest = other or reference

    @functools.wraps(reference)
    def op(*arguments, **options):
        return function(*arguments, **options) if fits(arguments) else rest(*arguments, **options)

    KERNELS[function.__name__] = op
    return op


def written_out(arrays):
    """Arrays of one shape: those that repeat are copied."""
    if all([a.shape == arrays[0].shape for a in arrays]):
        return arrays
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    return [a if a.shape == shape else np.array(np.broadcast_to(a, shape)) for a in arrays]


def elementwise(kernel, *arrays):
    """A flat kernel of equal shapes: the last argument of the kernel is the result."""
    arrays = written_out(arrays)
    out = np.empty(arrays[0].shape, F4)
    kernel(*map(flat, arrays), out.reshape(-1))
    return out


def by_rows(kernel, *arrays):
    """A kernel of equal shapes [N, K]: the last argument of the kernel is the result."""
    arrays = written_out(arrays)
    out = np.empty(arrays[0].shape, F4)
    kernel(*map(rows, arrays), rows(out))
    return out


@float32_op
def relu(x):
    return elementwise(activations.relu, x)


@float32_op
def relu_backward(dy, y):
    return elementwise(activations.relu_backward, dy, y)


@float32_op
def leaky_relu(x):
    return elementwise(activations.leaky_relu, x)


@float32_op
def leaky_relu_backward(dy, y):
    return elementwise(activations.leaky_relu_backward, dy, y)


@float32_op
def tanh(x):
    return elementwise(activations.tanh, x)


@float32_op
def tanh_backward(dy, y):
    return elementwise(activations.tanh_backward, dy, y)


@float32_op
def softmax(logits):
    return by_rows(softmax_kernels.softmax, logits)


@float32_op
def softmax_backward(dp, p):
    return by_rows(softmax_kernels.softmax_backward, dp, p)


@float32_op
def log_softmax(logits):
    return by_rows(softmax_kernels.log_softmax, logits)


@float32_op
def log_softmax_backward(dlog_p, log_p):
    return by_rows(softmax_kernels.log_softmax_backward, dlog_p, log_p)


@float32_op
def inverse_cdf(p, u):
    shape = common(p.shape[:-1], u.shape)
    codes = np.empty(shape, np.int64)                               # [...]
    categorical.inverse_cdf(repeating(p, shape, 1), flat(written(u, shape)), codes.reshape(-1))
    return codes


@float32_op
def gumbel_max(logits, gumbels):
    shape = common(logits.shape, gumbels.shape)
    codes = np.empty(shape[:-1], np.int64)                          # [...]
    categorical.gumbel_max(repeating(logits, shape[:-1], 1), rows(written(gumbels, shape)), codes.reshape(-1))
    return codes


@float32_op
def one_hot(codes, categories, dtype):
    if dtype != F4:
        return REFERENCE.one_hot(codes, categories, dtype)
    found = np.empty((*codes.shape, categories), F4)                # [..., K]
    categorical.one_hot(flat(np.asarray(codes, np.int64)), rows(found))
    return found


@float32_op
def log_prob(log_p, codes):
    log_q = np.empty(codes.shape[:-1], F4)                          # [S, ...]
    check_codes("log_prob", codes, log_p.shape[-1])
    categorical.log_prob(repeating(log_p, codes.shape[:-1], 2), rows(codes), log_q.reshape(-1))
    return log_q


@float32_op
def sigmoid(x):
    return elementwise(bernoulli.sigmoid, x)


@float32_op
def softplus(x):
    return elementwise(bernoulli.softplus, x)


@float32_op
def bce(logits, x):
    if common(logits.shape, x.shape) != logits.shape:
        return REFERENCE.bce(logits, x)
    cost = np.empty(logits.shape[:-1], F4)                          # [...]
    bernoulli.bce(rows(logits), repeating(x, logits.shape[:-1], 1), cost.reshape(-1))
    return cost


@float32_op
def bce_backward(dcost, logits, x):
    if common(logits.shape, x.shape) != logits.shape or dcost.shape != logits.shape[:-1]:
        return REFERENCE.bce_backward(dcost, logits, x)
    dlogits = np.empty(logits.shape, F4)                            # [..., P]
    bernoulli.bce_backward(flat(dcost), rows(logits), repeating(x, logits.shape[:-1], 1), rows(dlogits))
    return dlogits


@float32_op
def bce_shared(logits, x):
    total = np.empty(len(logits), F4)                               # [S]
    bernoulli.softplus_sum(rows(logits), total)
    return total[:, None] - logits @ x.T                            # [S, B]


@float32_op
def bce_shared_backward(dcost, logits, x):
    product = dcost @ x                                             # [S, P]
    bernoulli.shared_backward(dcost.sum(1), rows(logits), product)
    return product


@float32_op
def entropy(log_p):
    h = np.empty(log_p.shape[:-1], F4)                              # [...]
    entropy_kernels.entropy(rows(log_p), h.reshape(-1))
    return h


@float32_op
def entropy_backward(dh, log_p):
    dlogits = np.empty(log_p.shape, F4)                             # [..., K]
    entropy_kernels.entropy_backward(flat(written(dh, log_p.shape[:-1])), rows(log_p), rows(dlogits))
    return dlogits


@float32_op
def kl_uniform(log_q):
    return f4(np.log(log_q.shape[-1])) - entropy(log_q)


@float32_op
def kl_uniform_backward(dkl, log_q):
    return entropy_backward(-dkl, log_q)


@float32_op
def kl_categorical(log_q, log_p):
    kl = np.empty(log_q.shape[:-1], F4)                             # [...]
    entropy_kernels.kl_categorical(rows(log_q), repeating(log_p, log_q.shape[:-1], 1), kl.reshape(-1))
    return kl


@float32_op
def kl_categorical_backward(dkl, log_q, log_p):
    dq, dp = np.empty(log_q.shape, F4), np.empty(log_q.shape, F4)   # [..., K]
    entropy_kernels.kl_categorical_backward(flat(written(dkl, log_q.shape[:-1])), rows(log_q),
                                            repeating(log_p, log_q.shape[:-1], 1), rows(dq), rows(dp))
    return dq, dp


@float32_op
def gumbel(u):
    return elementwise(gumbel_kernels.gumbel, u)


@float32_op
def nearest(h, e):
    codes = np.empty(h.shape[:-1], np.int64)                        # [..., G]
    codebook.nearest(rows(h, 2), np.ascontiguousarray(e), rows(codes))
    return codes


def code_lists(codes, width):
    """Codes int [..., D] as lists (index, count) of rows of a weight [width, O]; ValueError at what is no category."""
    D = codes.shape[-1]
    index = np.empty((codes.size // D, D), np.int32)
    count = np.empty(len(index), np.int32)
    if width % D or not linear_kernels.code_rows(rows(codes), width // D, index, count):
        raise ValueError(f"code_linear: codes must be in [0, {width // D}) for {D} latents and {width} weight rows, "
                         f"got {codes.min()} to {codes.max()}")
    return index, count


@float32_op
def code_linear(codes, weight, bias):
    lists = code_lists(codes, len(weight))
    y = np.empty((len(lists[1]), weight.shape[1]), F4)              # [N, O]
    linear_kernels.add_rows(*lists, np.ascontiguousarray(weight), bias, y)
    return y.reshape(*codes.shape[:-1], weight.shape[1])            # [..., O]


@float32_op
def code_linear_backward(dy, codes, weight, weights=None, need_dx=False):
    lists = code_lists(codes, len(weight))
    D = codes.shape[-1]
    dcodes = (dy @ weight.T).reshape(*dy.shape[:-1], D, -1) if need_dx else None   # [..., D, K]
    if weights is not None:
        dy = weights[..., None] * dy                                # [..., O]
    dy = rows(dy)                                                   # [N, O]
    dweight = np.empty(weight.shape, F4)                            # [D*K, O]
    linear_kernels.add_rows_backward(*lists, dy, dweight)
    return dcodes, dweight, dy.sum(0)


@float32_op
def sgd(p, g, m, lr, momentum=0.9):
    p, m = p.copy(), m.copy()
    updates.momentum(p.reshape(-1), flat(g), m.reshape(-1), f4(lr), f4(momentum))
    return p, m


def adam(p, g, m, v, t, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    return adaptive(p, g, m, v, adam_numbers(*formulas.adam_scalars(t, lr, beta1, beta2), 1.0, beta1, beta2, eps))


@float32_op
def radam(p, g, m, v, t, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    scalars = *formulas.adam_scalars(t, lr, beta1, beta2), formulas.radam_rectifier(t, beta2)
    return adaptive(p, g, m, v, radam_numbers(*scalars, beta1, beta2, eps))


def adaptive(p, g, m, v, scalars):
    p, m, v = p.copy(), m.copy(), v.copy()
    updates.adaptive(p.reshape(-1), flat(g), m.reshape(-1), v.reshape(-1), scalars)
    return p, m, v


def adam_of_doubles(p, g, m, v, t, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    """REFERENCE.adam to the bit where parameters and moments are float64, in one pass over them."""
    if not all(a.dtype == np.float64 and a.shape == g.shape for a in (p, m, v)) or g.dtype.kind != "f":
        return REFERENCE.adam(p, g, m, v, t, lr, beta1, beta2, eps)
    new = np.empty((3, *p.shape))
    updates.adam(flat(p), flat(g), flat(m), flat(v), *formulas.adam_scalars(t, lr, beta1, beta2), 1 - beta1, 1 - beta2,
                 eps, *(a.reshape(-1) for a in new))
    return tuple(new)


adam = float32_op(adam, adam_of_doubles)


def adam_numbers(rate, root, rectifier, beta1=0.9, beta2=0.999, eps=1e-8):
    """Adam as m += s1 (g - m), v += s2 (g g - v), p -= s0 m / (s3 sqrt(v) + s4): s float32 [5]."""
    return np.array([rate, 1 - beta1, 1 - beta2, 1 / root, eps], f4)


def radam_numbers(rate, root, rectifier, beta1=0.9, beta2=0.999, eps=1e-8):
    """RAdam in the form of `adam_numbers`; momentum alone while the variance is not tractable."""
    if rectifier is None:
        return np.array([rate, 1 - beta1, 1 - beta2, 0, 1], f4)
    return np.array([rate * rectifier * root, 1 - beta1, 1 - beta2, 1, eps], f4)


NUMBERS = {"adam": adam_numbers, "radam": radam_numbers}            # what kernels.cpu.updates.adaptive reads


def uniform(seed, stream, step, example, draw, shape, dtype=np.float64):
    """Uniforms of npdvae.rng.uniform, bit for bit."""
    if np.dtype(dtype) not in (np.dtype(f4), np.dtype(np.float64)):
        return rng.uniform(seed, stream, step, example, draw, shape, dtype)
    out = np.empty(shape, dtype)                                    # [S, B, D, N]
    uniform_kernels.uniform(seed, stream, step, example, draw, out)
    return out
