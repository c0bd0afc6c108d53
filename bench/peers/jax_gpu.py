"""JAX on a CUDA device: value_and_grad under jit, state donated, float32 products as ours."""
import jax
import jax.numpy as jnp
import numpy as np

from bench.peers.jax_peer import JaxPeer

jax.config.update("jax_default_matmul_precision", "float32")       # on a GPU the default may be TF32


class JaxGPU(JaxPeer):
    """One contestant, as `JaxPeer`; the exact gradient decodes each code once for the batch."""

    def __init__(self, problem, images, params):
        self.problem, self.scan, self.layers = problem, False, len(problem.hidden) + 1
        params = {k: jnp.asarray(v) for k, v in params.items()}
        self.state = (params, jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params),
                      jnp.zeros((), jnp.int32), jax.random.key(0))
        self.images = jnp.asarray(images)
        self.one = jax.jit(self.step, donate_argnums=0)

    def loss(self, params, x, key, codes=None):
        p = self.problem
        if p.estimator != "exact":
            return super().loss(params, x, key, codes)
        log_q = jax.nn.log_softmax(self.mlp(params, "encoder", x).reshape(-1, p.D, p.K))   # [B, D, K]
        kl = p.D * jnp.log(float(p.K)) + (jnp.exp(log_q) * log_q).sum((1, 2))              # [B]
        codes = jnp.stack(jnp.meshgrid(*[jnp.arange(p.K)] * p.D, indexing="ij"), -1).reshape(-1, p.D)
        z = jax.nn.one_hot(codes, p.K).reshape(len(codes), -1)                             # [C, D K]
        logits = self.mlp(params, "decoder", z)                                            # [C, P]
        cost = jax.nn.softplus(logits).sum(1)[:, None] - logits @ x.T                      # [C, B]
        q = jnp.exp(z @ log_q.reshape(len(x), -1).T)                                       # [C, B]
        elbo = ((q * cost).sum(0) + kl).mean()
        return elbo, elbo

    def run(self, order):
        total, B, order = 0.0, self.problem.B, jnp.asarray(np.asarray(order))
        for i in range(0, len(order), B):
            self.state, elbo = self.one(self.state, self.images, order[i:i + B])
            total = total + elbo
        return float(total)

    def memory(self):
        """Most device memory taken so far, in bytes."""
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
