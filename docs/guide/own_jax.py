"""The same with JAX."""
import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)


def surrogate(phi, codes, advantage):
    """sum advantage * log q, whose gradient is the estimate."""
    log_q = jax.nn.log_softmax(phi)[None]                           # [1, B, D, K]
    chosen = jnp.take_along_axis(log_q, codes[..., None], -1)[..., 0]               # [S, B, D]
    return (advantage * chosen.sum(-1)).sum()


def estimate(logits, rng, cost, leave_one_out=True, samples=4):
    """dlogits [B, D, K]."""
    key = jax.random.key(int(rng.uniform((1, 1))[0, 0] * 2 ** 23))
    codes = jax.random.categorical(key, jnp.asarray(logits), shape=(samples, *logits.shape[:2]))    # [S, B, D]
    f = cost(np.asarray(codes))                                     # [S, B]
    advantage = (f - f.mean(0)) / (samples - leave_one_out)
    return np.asarray(jax.grad(surrogate)(jnp.asarray(logits), codes, advantage))
