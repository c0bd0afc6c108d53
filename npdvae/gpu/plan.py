"""One training step as kernel launches and matrix products on buffers that never move, so that it can be captured.

`npdvae.step` line by line, with what follows each product fused behind it. Rows of sample s and example b are s B + b;
where codes are shared by the batch, the decoder's rows are the codes. The decoder's backward is unweighted, for dcodes:
1/(S B), or 1/B for shared codes, multiplies its parameter gradients. What the longest chain of kernels does not wait
for runs on a second stream: the decoder's backward where the estimator needs no dcodes, else the weights' gradients.
"""
from __future__ import annotations

import contextlib

import numpy as np

from npdvae import rng
from npdvae.backends.cublas import Blas
from npdvae.backends.cupy_backend import BINS, COLUMNS, IDENTITY, STRIPS, strips
from npdvae.estimators.parts.outcomes import all_codes
from npdvae.gpu.memory import Buffers, Flat
from npdvae.gpu.support import ACTIVATIONS, BATCH, MEAN, MODES, RUNNING, CapturedGradient
from npdvae.kernels.cuda.launch import THREADS, elementwise, one_block_each, row_groups

SETTINGS = 4                                    # columns of the schedule, as schedule.cuh numbers them
NORM_BLOCKS = 256


class Plan:
    """The buffers of a model for batches of up to `batch` images, and the step on them."""

    def __init__(self, backend, model, recipe, dataset, gradient: CapturedGradient, steps: int):
        self.xp, self.blas, self.recipe, self.gradient = backend.cupy, backend.blas, recipe, gradient
        self.side, self.blas_aside = self.xp.cuda.Stream(non_blocking=True), Blas(self.xp, backend.blas.precision)
        self.fork, self.joined = (self.xp.cuda.Event(disable_timing=True) for _ in range(2))
        self.scratch = "part"
        self.launch = backend.launchers[np.dtype(recipe.dtype)]
        self.batch, self.D, self.K = recipe.batch_size, model.latent.latents, model.latent.categories
        self.free_bits, self.shared = model.latent.free_bits, gradient.shared
        self.codes = self.xp.asarray(all_codes(np, self.D, self.K)) if self.shared else None   # [C, D]
        self.encoder, self.decoder = model.encoder.sizes, model.decoder.sizes
        self.kind = ACTIVATIONS[model.encoder.activation]
        self.bytes = dataset.train.dtype == np.uint8
        self.levels = dataset.levels if self.bytes else 1
        shapes: dict[str, tuple[int, ...]] = {}
        for name, sizes in (("encoder", self.encoder), ("decoder", self.decoder)):
            for i, (n_in, n_out) in enumerate(zip(sizes[:-1], sizes[1:])):
                shapes |= {f"{name}.{i}.weight": (n_in, n_out), f"{name}.{i}.bias": (n_out,)}
        self.prior = model.latent.prior.name == "learned"
        if self.prior:
            shapes["latent.prior"] = (self.D, self.K)
        self.params, self.grads = Flat(self.xp, shapes, recipe.dtype), Flat(self.xp, shapes, recipe.dtype)
        self.moments = {kind: Flat(self.xp, shapes, recipe.dtype) for kind in recipe.optimizer.kinds}
        self.images = self.xp.asarray(np.ascontiguousarray(dataset.train))
        self.buffers = Buffers(self.xp)
        self.allocate(len(dataset.train), steps)

    def allocate(self, images, steps):
        """All buffers of the step, for the largest batch."""
        add, B, S, DK = self.buffers.add, self.batch, self.gradient.samples, self.D * self.K
        N, real = self.decoded(B), np.dtype(self.recipe.dtype)
        add("order", (images,), np.int64)
        add("settings", (steps, SETTINGS), np.float64)
        add("sums", (steps, 2), np.float64)
        add("clock", (3,), np.int64)                                # step, batch of this run, seed
        add("mean", (2,), np.float64)
        add("norm", (NORM_BLOCKS,), np.float64)
        add("clip", (1,), np.float64)
        add("x", (B, self.encoder[0]), real)
        for i, width in enumerate(self.encoder[1:]):
            add(f"encoder.{i}", (B, width), real)                   # outputs; the last are the logits
            add(f"dencoder.{i}", (B, width), real)
        for i, width in enumerate(self.decoder[1:]):
            add(f"decoder.{i}", (N, width), real)                   # outputs; the last become their gradient
            add(f"ddecoder.{i}", (N if i < len(self.decoder) - 2 else 0, width), real)
        add("codes", (0 if self.shared else N, self.D), np.int64)
        add("kl", (B, self.D), real)
        add("cost", (S * B,), real)
        for name in ("costs", "weights", "values") if self.shared else ():
            add(name, (N * B,), real)                               # [C, B]
        for name, width in (("log_q", DK), ("sums_by_code", DK)) if self.shared else ():
            add(name, (B, width), real)
        if self.shared:
            add("dpixels", (N, self.decoder[-1]), real)
        add("dcodes", (N if self.gradient.needs_dcodes else 0, DK), real)
        add("gumbels", (N if self.gradient.gumbel else 0, DK), real)
        add("relaxed", (N if self.gradient.relaxed else 0, DK), real)
        add("dprior", (B if self.prior else 0, DK), real)
        widest = max(*self.encoder[1:], *self.decoder[1:])
        parts = [strips(B) * widest, strips(N) * widest, strips(N) * DK * max(self.decoder[1], B if self.shared else 0)]
        add("part", (max(parts),), real)
        add("part_aside", (max(parts),), real)                      # the second stream's

    @property
    def nbytes(self):
        """Device memory held, in bytes."""
        flats = (self.params, self.grads, *self.moments.values())
        return self.buffers.nbytes + self.images.nbytes + sum(f.array.nbytes for f in flats)

    def decoded(self, B):
        """Rows that the decoder evaluates for B images."""
        return self.K ** self.D if self.shared else self.gradient.samples * B

    # ---- the step -------------------------------------------------------------------------------------------------

    def enqueue(self, B):
        """The whole step on the next B images, onto the current stream; nothing is allocated, nothing waits."""
        x = self.draw_targets(B)
        logits = self.encode(x, B)
        self.sample(logits, B)
        dlogits = self.compare_all(self.decode(B), x, B) if self.shared else self.compare(self.decode(B), x, B)
        if self.gradient.mean == BATCH:
            self.launch("batch_mean", one_block_each(1), self.rows("cost", self.gradient.samples * B),
                        self.buffers["mean"], self.gradient.samples * B)
        with contextlib.nullcontext() if self.gradient.needs_dcodes else self.aside():
            self.decode_backward(dlogits, B)
        self.estimate(logits, B)
        self.encode_backward(x, B)
        self.join()
        self.update()
        g = self.gradient
        self.launch("advance", one_block_each(1), self.rows("cost", g.samples * B), self.rows("kl", B),
                    self.buffers["sums"], self.buffers["mean"] if g.mean == RUNNING else None, self.buffers["clock"],
                    g.samples, B, self.D, g.decay)

    @contextlib.contextmanager
    def aside(self):
        """Work on the second stream, behind all that the current one has done so far; `join` waits for it."""
        self.fork.record(self.xp.cuda.get_current_stream())
        self.side.wait_event(self.fork)
        before = self.blas, self.scratch
        self.blas, self.scratch = self.blas_aside, "part_aside"
        try:
            with self.side:
                yield
        finally:
            self.blas, self.scratch = before

    def beside(self):
        """Where gradients of weights are formed: aside, unless the second stream has the decoder's backward to do."""
        return self.aside() if self.gradient.needs_dcodes else contextlib.nullcontext()

    def join(self):
        """The current stream waits for the second one."""
        self.joined.record(self.side)
        self.xp.cuda.get_current_stream().wait_event(self.joined)

    def rows(self, name, n):
        return self.buffers.rows(name, n)

    def draw_targets(self, B):
        """x [B, P] from the resident images."""
        x, P = self.rows("x", B), self.encoder[0]
        self.launch("binarize_bytes" if self.bytes else "binarize_floats", elementwise(B * -(-P // 4)), self.images,
                    self.buffers["order"], self.buffers["clock"], x, self.levels, MODES[self.recipe.binarize],
                    rng.BINARIZE, self.batch, B, P)
        return x

    def encode(self, x, B):
        """Encoder up to the last product, whose bias the latent layer adds: [B, D K]."""
        last = len(self.encoder) - 2
        for i in range(last + 1):
            y = self.blas.matmul(x, self.params[f"encoder.{i}.weight"], self.rows(f"encoder.{i}", B))
            if i < last:
                self.launch("bias_activation", elementwise(y.size), y, self.params[f"encoder.{i}.bias"], *y.shape,
                            self.kind)
            x = y
        return x

    def latent_prior(self):
        return self.params["latent.prior"] if self.prior else None

    def sample(self, logits, B):
        """Bias, KL and codes."""
        g, last = self.gradient, len(self.encoder) - 2
        bias, clock, kl = self.params[f"encoder.{last}.bias"], self.buffers["clock"], self.rows("kl", B)
        if self.shared:
            log_q, C = self.rows("log_q", B), self.decoded(B)
            self.launch("latent_exact", row_groups(B * self.D, self.K), logits, bias, self.latent_prior(), log_q, kl, B,
                        self.D, self.K)
            self.launch("exact_weights", elementwise(C * B), log_q, self.codes, self.rows("weights", C * B), C, B,
                        self.D, self.K)
            return
        codes, sizes = self.rows("codes", g.samples * B), (g.samples, B, self.D, self.K)
        if g.gumbel:
            self.launch("latent_gumbel", row_groups(B * self.D, self.K), logits, bias, self.latent_prior(), clock,
                        self.buffers["settings"], codes, self.rows("gumbels", g.samples * B),
                        self.rows("relaxed", g.samples * B) if g.relaxed else None, kl, rng.LATENT, *sizes)
        else:
            self.launch("latent_hard", row_groups(B * self.D, self.K), logits, bias, self.latent_prior(), clock, codes,
                        kl, rng.LATENT, *sizes)

    def decode(self, B):
        """Pixel logits [N, P] of the codes, and the bias that they still lack, or None."""
        N, last, bias = self.decoded(B), len(self.decoder) - 2, None
        y = self.rows("relaxed", N)
        for i in range(last + 1):
            weight, bias = self.params[f"decoder.{i}.weight"], self.params[f"decoder.{i}.bias"]
            out = self.rows(f"decoder.{i}", N)
            if i == 0 and not self.gradient.relaxed:
                self.launch("code_linear", elementwise(out.size), self.drawn(N), weight, bias, out, N, self.D, self.K,
                            out.shape[1], self.kind if i < last else IDENTITY)
                bias = None                                         # is in already
            else:
                self.blas.matmul(y, weight, out)
                if i < last:
                    self.launch("bias_activation", elementwise(out.size), out, bias, *out.shape, self.kind)
            y = out
        return y, bias

    def drawn(self, N):
        """Codes [N, D] that the decoder sees."""
        return self.codes if self.shared else self.rows("codes", N)

    def compare(self, decoded, x, B):
        """Cost [S B], and its gradient w.r.t. the pixel logits [S B, P] in their place."""
        (y, bias), N = decoded, self.decoded(B)
        self.launch("bce", one_block_each(N), y, bias, x, self.rows("cost", N), y, N, B, y.shape[1])
        return y

    def compare_all(self, decoded, x, B):
        """Cost [C, B] of every code for every image, and the gradient of its expectation w.r.t. the pixel logits."""
        (y, bias), (C, P) = decoded, decoded[0].shape
        if bias is not None:
            self.launch("bias_activation", elementwise(y.size), y, bias, C, P, IDENTITY)
        costs, weights = (self.rows(name, C * B).reshape(C, B) for name in ("costs", "weights"))
        self.blas.matmul(y, x, costs, transpose_b=True)
        self.launch("bce_shared", one_block_each(C), y, costs, C, B, P)
        dlogits = self.blas.matmul(weights, x, self.rows("dpixels", C))
        self.launch("bce_shared_backward", one_block_each(C), weights, y, dlogits, C, B, P)
        return dlogits

    def estimate(self, logits, B):
        """d objective / d logits [B, D K] in nats, times 1/B, KL included."""
        g, S = self.gradient, self.gradient.samples
        N, last = S * B, len(self.encoder) - 2
        prior, kl, settings, clock = (self.latent_prior(), self.rows("kl", B), self.buffers["settings"],
                                      self.buffers["clock"])
        out = (self.rows(f"dencoder.{last}", B), self.rows("dprior", B) if self.prior else None)
        sizes, ends = (S, B, self.D, self.K), (self.free_bits, 1 / B)
        shape = row_groups(B * self.D, self.K)
        if self.shared:
            self.estimate_all(logits, out, B)
            return
        if g.kernel == "reinforce":
            kind, value, least = g.option, g.value, 1.0
            if g.mean == RUNNING:
                value, least = 1.0, 1 - g.decay
            if g.mean == BATCH:                                     # a single evaluation has no baseline
                kind, value = (MEAN, N / (N - 1)) if N > 1 else (0, 0.0)
            self.launch("reinforce", shape, logits, prior, self.rows("codes", N), self.rows("cost", N), kl,
                        self.buffers["mean"], settings, clock, *out, *sizes, kind, value, least, *ends)
            return
        noise = {"straight_through": (), "gumbel_softmax": (self.rows("gumbels", N),)}.get(
            g.kernel, (self.rows("codes", N),))
        option = () if g.option is None else (g.option,)
        self.launch(g.kernel, shape, logits, prior, *noise, self.rows("dcodes", N), kl, settings, clock, *out, *sizes,
                    *option, *ends)

    def estimate_all(self, logits, out, B):
        """The same from every code: what the costs [C, B] add up to over the codes with z_d = k."""
        C, DK = self.decoded(B), self.D * self.K
        weights, costs, values = (self.rows(name, C * B) for name in ("weights", "costs", "values"))
        sums = self.rows("sums_by_code", B).reshape(DK, B)
        self.launch("exact_product", elementwise(C * B), weights, costs, values, C, B)
        self.codes_backward(values.reshape(C, B), sums, C, 1.0)
        self.launch("exact_backward", row_groups(B * self.D, self.K), logits, self.latent_prior(), sums, costs,
                    self.rows("kl", B), self.buffers["settings"], self.buffers["clock"], *out, self.rows("cost", B), B,
                    self.D, self.K, self.free_bits, 1 / B)

    def decode_backward(self, dy, B):
        """Decoder gradients, and dcodes [S B, D K] where the estimator reads them."""
        N, last, share = self.decoded(B), len(self.decoder) - 2, 1 / (self.gradient.samples * B)
        for i in reversed(range(last + 1)):
            weight, grad = self.params[f"decoder.{i}.weight"], self.grads[f"decoder.{i}.weight"]
            y = None if i == last else self.rows(f"decoder.{i}", N)
            self.bias_backward(dy, y, self.grads[f"decoder.{i}.bias"], share)
            with self.beside():
                if i == 0 and not self.gradient.relaxed:
                    self.codes_backward(dy, grad, N, share)
                else:
                    below = self.rows(f"decoder.{i - 1}" if i else "relaxed", N)
                    self.blas.matmul(below, dy, grad, transpose_a=True, alpha=share)
            if i == 0 and not self.gradient.needs_dcodes:
                break
            dx = self.rows(f"ddecoder.{i - 1}" if i else "dcodes", N)
            dy = self.blas.matmul(dy, weight, dx, transpose_b=True)

    def encode_backward(self, x, B):
        """Encoder gradients from dlogits, and the prior's."""
        last = len(self.encoder) - 2
        dy = self.rows(f"dencoder.{last}", B)
        for i in reversed(range(last + 1)):
            y = None if i == last else self.rows(f"encoder.{i}", B)
            self.bias_backward(dy, y, self.grads[f"encoder.{i}.bias"], 1.0)
            below = self.rows(f"encoder.{i - 1}", B) if i else x
            with self.beside():
                self.blas.matmul(below, dy, self.grads[f"encoder.{i}.weight"], transpose_a=True)
            if i:
                dy = self.blas.matmul(dy, self.params[f"encoder.{i}.weight"], self.rows(f"dencoder.{i - 1}", B),
                                      transpose_b=True)
        if self.prior:
            dprior = self.rows("dprior", B)
            self.bias_backward(dprior, None, self.grads["latent.prior"].reshape(-1), 1.0)

    def bias_backward(self, dy, y, grad, alpha):
        """dy [n, O] times the activation's derivative at y, in place; grad [O] = alpha times its sum over rows."""
        n, O = dy.shape
        R = strips(n)
        part = self.buffers[self.scratch] if R > 1 else grad
        self.launch("bias_activation_backward", ((-(-O // COLUMNS), R), (COLUMNS, STRIPS)), dy, y, None, part, n, O,
                    IDENTITY if y is None else self.kind, alpha)
        if R > 1:
            self.launch("sum_strips", elementwise(O), part, grad, R, O)

    def codes_backward(self, dy, grad, N, alpha):
        """Gradient of the code layer's weight [D K, O]: rows of dy [N, O] added to the bins of their codes."""
        R, O = strips(N), dy.shape[1]
        part = self.buffers[self.scratch] if R > 1 else grad
        self.launch("code_linear_backward", ((-(-O // COLUMNS), self.D * -(-self.K // BINS), R), (COLUMNS, STRIPS)), dy,
                    self.drawn(N), None, part, N, self.D, self.K, O, alpha)
        if R > 1:
            self.launch("sum_strips", elementwise(grad.size), part, grad, R, grad.size)

    def update(self):
        """The optimizer on all parameters at once, with the gradient clipped where asked."""
        p, g, b, n = self.params.array, self.grads.array, self.buffers, self.params.size
        clip = None
        if self.recipe.clip_norm is not None:
            clip = b["clip"]
            self.launch("squares", ((NORM_BLOCKS,), (THREADS,)), g, b["norm"], n)
            self.launch("clip_factor", one_block_each(1), b["norm"], clip, NORM_BLOCKS, self.recipe.clip_norm)
        moments, name = [f.array for f in self.moments.values()], self.recipe.optimizer.name
        constants = (self.recipe.optimizer.momentum,) if name == "sgd" else (1 - 0.9, 1 - 0.999, 1e-8)
        self.launch(f"{name}_scheduled", elementwise(n), p, g, *moments, n, b["settings"], b["clock"], clip, *constants)
