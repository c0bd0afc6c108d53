"""Arrays as kernels take them; short cuts stand first, since between fused segments code itself is what costs."""
import numpy as np

f4 = np.float32
F4 = np.dtype(f4)


def fits(arguments, kinds="iu"):
    """Whether all arrays are float32 or of these kinds, and none is empty."""
    for a in arguments:
        if isinstance(a, np.ndarray) and (not (a.dtype is F4 or a.dtype.kind in kinds or a.dtype == F4) or not a.size):
            return False
    return True


def flat(a):
    """The array as one contiguous row."""
    return np.ascontiguousarray(a).reshape(-1)


def rows(a, axes=1):
    """[..., K] -> contiguous [N, K]; the last `axes` axes are kept."""
    a = np.ascontiguousarray(a)
    return a.reshape((-1,) + a.shape[a.ndim - axes:])


def common(first, second):
    """The shape that two shapes broadcast to."""
    if first == second[len(second) - len(first):]:
        return second
    return first if second == first[len(first) - len(second):] else np.broadcast_shapes(first, second)


def written(a, shape):
    """The array broadcast to a shape."""
    return a if a.shape == shape else np.broadcast_to(a, shape)


def repeating(a, shape, axes):
    """Rows of `a` that repeat along a result of leading `shape`: [M, ...], row n of the result belonging to n % M."""
    lead = a.shape[:a.ndim - axes]
    if shape[len(shape) - len(lead):] != lead:
        a = np.broadcast_to(a, shape + a.shape[a.ndim - axes:])
    return rows(a, axes)


def check_codes(name, codes, categories):
    """Raise ValueError where a code is no category: kernels index without a check."""
    if codes.view(f"u{codes.itemsize}").max() >= categories:        # negative ones are the largest there
        raise ValueError(f"{name}: codes must be in [0, {categories}), got {codes.min()} to {codes.max()}")
