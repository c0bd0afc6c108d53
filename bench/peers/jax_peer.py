"""JAX: value_and_grad under jit, state donated, Adam as optax computes it; step by step, or one lax.scan an epoch."""
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from bench import problem as problems

jax.config.update("jax_default_prng_impl", "rbg")       # faster on a CPU than the default


class JaxPeer:
    """One contestant, as `TorchPeer`."""

    def __init__(self, problem, scan=False):
        self.begin(problem, scan, problems.probabilities(problem), problems.params(problem))
        test = problems.dataset(problem.data)
        self.test = jnp.asarray(test.to_probabilities(test.test))

    def begin(self, problem, scan, images, params):
        """All that training needs: images [N, P], the first parameters."""
        self.problem, self.scan, self.layers = problem, scan, len(problem.hidden) + 1
        params = {k: jnp.asarray(v) for k, v in params.items()}
        zeros = jax.tree.map(jnp.zeros_like, params)
        self.state = (params, zeros, jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.int32), jax.random.key(0))
        self.images = jnp.asarray(images)
        self.codes = None
        if problem.estimator == "exact":
            grid = np.indices((problem.K,) * problem.D).reshape(problem.D, -1).T       # [C, D]
            self.codes = jnp.asarray(np.eye(problem.K, dtype=np.float32)[grid].reshape(len(grid), -1))   # [C, D K]
        self.one = jax.jit(self.step, donate_argnums=0)
        self.many = jax.jit(lambda state, images, order: jax.lax.scan(
            lambda s, index: self.step(s, images, index), state, order), donate_argnums=0)

    def mlp(self, params, name, x):
        for i in range(self.layers):
            x = x @ params[f"{name}.{i}.weight"] + params[f"{name}.{i}.bias"]
            if i < self.layers - 1:
                x = jax.nn.relu(x)
        return x

    def loss(self, params, x, key, codes=None):
        p = self.problem
        log_q = jax.nn.log_softmax(self.mlp(params, "encoder", x).reshape(-1, p.D, p.K))   # [B, D, K]
        kl = p.D * math.log(p.K) + (jnp.exp(log_q) * log_q).sum((1, 2))                    # [B]
        if self.codes is not None:
            elbo = self.exact_cost(params, x, log_q) + kl.mean()
            return elbo, elbo
        x, log_q = (jnp.tile(a, (p.S,) + (1,) * (a.ndim - 1)) for a in (x, log_q))      # sample s of b in row s B + b
        if codes is None:
            codes = jax.random.categorical(key, log_q)                                     # [S B, D]
        z = jax.nn.one_hot(codes, p.K)
        logits = self.mlp(params, "decoder", z.reshape(-1, p.D * p.K))
        cost = (jax.nn.softplus(logits) - x * logits).sum(1)                               # [S B]
        score = (jax.lax.stop_gradient(cost - p.baseline) * (log_q * z).sum((1, 2))).mean()
        elbo = cost.mean() + kl.mean()
        return elbo + score, elbo

    def exact_cost(self, params, x, log_q):
        """E_q[cost] by enumeration, the codes decoded once for the batch."""
        logits = self.mlp(params, "decoder", self.codes)                                   # [C, P]
        cost = jax.nn.softplus(logits).sum(1)[:, None] - logits @ x.T                      # [C, B]
        q = jnp.exp(self.codes @ log_q.reshape(len(x), -1).T)                              # [C, B]
        return (q * cost).sum(0).mean()

    def step(self, state, images, index):
        params, m, v, t, key = state
        key, pixels, latents = jax.random.split(key, 3)
        x = jax.random.bernoulli(pixels, images[index]).astype(jnp.float32)
        (_, elbo), grads = jax.value_and_grad(self.loss, has_aux=True)(params, x, latents)
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
        c1, c2 = 1 - 0.9 ** t, 1 - 0.999 ** t
        params = jax.tree.map(lambda p, m, v: p - problems.LR * (m / c1) / (jnp.sqrt(v / c2) + 1e-8), params, m, v)
        return (params, m, v, t, key), elbo

    def run(self, order):
        B = self.problem.B
        if self.scan:                           # whole batches only: a scan has one shape
            order = order[:len(order) // B * B].reshape(-1, B)
            self.state, elbos = self.many(self.state, self.images, order)
            return float(elbos.sum())
        total = 0.0
        for i in range(0, len(order), B):
            self.state, elbo = self.one(self.state, self.images, order[i:i + B])
            total = total + elbo
        return float(total)

    @functools.cached_property
    def evaluation(self):
        def negative_elbo(params, x, key):
            pixels, latents = jax.random.split(key)
            return self.loss(params, jax.random.bernoulli(pixels, x).astype(jnp.float32), latents)[1]
        return jax.jit(negative_elbo)

    def epoch(self):
        self.run(np.random.default_rng().permutation(len(self.images)))
        total, key = 0.0, jax.random.key(1)
        for i in range(0, len(self.test), 500):
            x = self.test[i:i + 500]
            total += float(self.evaluation(self.state[0], x, jax.random.fold_in(key, i))) * len(x)
        return total / len(self.test)

    def check(self, x, codes):
        gradient = jax.jit(jax.value_and_grad(self.loss, has_aux=True))
        (_, elbo), grads = gradient(self.state[0], x, jax.random.key(0), codes)
        return float(elbo), {k: np.asarray(g) for k, g in grads.items()}
