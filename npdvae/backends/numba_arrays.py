"""Arrays as kernels take them."""
import numpy as np

f4 = np.float32


def rows(a, axes=1):
    """[..., K] -> contiguous [N, K]; the last `axes` axes are kept."""
    a = np.ascontiguousarray(a)
    return a.reshape((-1,) + a.shape[a.ndim - axes:])


def check_codes(name, codes, categories):
    """Raise ValueError where a code is no category: kernels index without a check."""
    if codes.min() < 0 or codes.max() >= categories:
        raise ValueError(f"{name}: codes must be in [0, {categories}), got {codes.min()} to {codes.max()}")
