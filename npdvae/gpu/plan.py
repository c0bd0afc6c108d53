"""One training step as kernel launches and matrix products on buffers that never move, so that it can be captured."""
from __future__ import annotations

import numpy as np

from npdvae.gpu.encoder import Encoder
from npdvae.gpu.exact import Exact
from npdvae.gpu.memory import Buffers, Flat
from npdvae.gpu.sampled import Sampled
from npdvae.gpu.streams import Streams
from npdvae.gpu.support import RUNNING, CapturedGradient
from npdvae.gpu.update import Update
from npdvae.kernels.cuda.constants import CLOCK, SETTINGS


class Ground:
    """What every plan stands on: parameters, gradients, moments, the run's buffers, encoder and update.

    For batches of up to `recipe.batch_size` images, `steps` of them in a call; `parts`: shapes of the parameters that
    are no layer's.
    """

    def __init__(self, backend, model, recipe, dataset, needs_dcodes, parts, steps: int):
        xp = backend.cupy
        self.streams = on = Streams(backend, recipe.dtype, needs_dcodes)
        shapes = layer_shapes(model) | parts
        self.params, self.grads = Flat(xp, shapes, recipe.dtype), Flat(xp, shapes, recipe.dtype)
        self.moments = {kind: Flat(xp, shapes, recipe.dtype) for kind in recipe.optimizer.kinds}
        self.buffers = run = Buffers(xp)        # what changes from step to step, and what the host reads
        run.add("order", (steps * recipe.batch_size,), np.int64)
        run.add("settings", (steps, len(SETTINGS)), np.float64)
        run.add("sums", (steps, 2), np.float64)
        run.add("clock", (len(CLOCK),), np.int64)
        run.add("mean", (2,), np.float64)       # of the cost: sum of weighted costs, sum of weights
        self.encoder = Encoder(on, run, model, recipe, dataset, self.params, self.grads)
        self.update = Update(on, run, recipe, self.params, self.grads, self.moments)

    @property
    def nbytes(self):
        """Device memory held, in bytes."""
        flats = (self.params, self.grads, *self.moments.values())
        parts = (self.streams, self.buffers, self.encoder, self.update.buffers)
        return sum(f.array.nbytes for f in flats) + sum(part.nbytes for part in parts)

    def load(self, state):
        """Take over parameters and their moments from a state of host arrays."""
        self.params.load(state.params)
        for kind, flat in self.moments.items():
            flat.load({name: state.moments[f"{kind}.{name}"] for name in flat.shapes})

    def moment_views(self):
        """The moments on the device, by their names in a state."""
        return {f"{kind}.{name}": flat[name] for kind, flat in self.moments.items() for name in flat.shapes}

    def saved_moments(self):
        """The moments as host arrays."""
        return {f"{kind}.{name}": a for kind, flat in self.moments.items() for name, a in flat.save().items()}


class Plan(Ground):
    """The parts of a whole step, for an estimator that has kernels."""

    def __init__(self, backend, model, recipe, dataset, gradient: CapturedGradient, steps: int):
        learned = model.latent.prior.name == "learned"
        prior = {"latent.prior": (model.latent.latents, model.latent.categories)} if learned else {}
        super().__init__(backend, model, recipe, dataset, gradient.needs_dcodes, prior, steps)
        self.gradient, made = gradient, Exact if gradient.shared else Sampled
        self.codes = made(self.streams, self.buffers, model, recipe, self.params, self.grads, gradient)
        self.streams.reserve(max(self.encoder.scratch, self.codes.scratch))

    @property
    def nbytes(self):
        return super().nbytes + self.codes.nbytes

    def enqueue(self, B):
        """The whole step on the next B images, onto the current stream; nothing is allocated, nothing waits."""
        on, encoder, codes, decoder = self.streams, self.encoder, self.codes, self.codes.decoder

        x = encoder.targets(B)                                      # [B, P]
        h = encoder.forward(x)                                      # [B, D K]
        z = codes.sample(h, encoder.bias)                           # codes, or rows [S B, D K]; the KL [B, D]
        logits, bias = decoder.forward(z)                           # [S B or C, P]
        cost, dlogits = codes.cost(logits, bias, x)                 # [S B], [S B or C, P]

        with on.aside(not self.gradient.needs_dcodes):
            codes.decode_backward(dlogits, z, B)
        dh = codes.estimate(h, cost)                                # [B, D K]
        encoder.backward(x, dh)
        on.join()
        mean = self.buffers["mean"] if self.gradient.mean == RUNNING else None
        self.update.finish(cost, codes.latent.kl(B), mean, self.gradient.decay)


def layer_shapes(model):
    """Shapes of the layers' parameters by name, in the order in which one array holds them."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, sizes in (("encoder", model.encoder.sizes), ("decoder", model.decoder.sizes)):
        for i, (n_in, n_out) in enumerate(zip(sizes[:-1], sizes[1:])):
            shapes |= {f"{name}.{i}.weight": (n_in, n_out), f"{name}.{i}.bias": (n_out,)}
    return shapes
