"""JAX on a CUDA device: as on a CPU, with float32 products as ours; the order lies on the device too."""
import jax
import jax.numpy as jnp
import numpy as np

from bench.peers.jax_peer import JaxPeer

jax.config.update("jax_default_matmul_precision", "float32")       # on a GPU the default may be TF32


class JaxGPU(JaxPeer):
    """One contestant, as `JaxPeer`: step by step, each one dispatch, or a lax.scan of a turn."""

    def __init__(self, problem, name, images, params):
        self.begin(problem, name == "jax.scan", images, params)
        self.one = jax.jit(self.next, donate_argnums=0)

    def next(self, progress, images, order):
        """State, the sum of negative ELBOs and the place in the order [steps B], after a step."""
        state, total, place = progress
        index = jax.lax.dynamic_slice_in_dim(order, place, self.problem.B)
        state, elbo = self.step(state, images, index)
        return state, total + elbo, place + self.problem.B

    def run(self, order):
        order = jnp.asarray(np.asarray(order, np.int32))
        if self.scan:
            return super().run(order)
        progress = self.state, jnp.zeros(()), jnp.zeros((), jnp.int32)
        for _ in range(len(order) // self.problem.B):
            progress = self.one(progress, self.images, order)
        self.state, total, _ = progress
        return float(total)

    def memory(self):
        """Most device memory taken so far, in bytes."""
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
