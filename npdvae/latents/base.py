"""What a latent layer is: sampling, penalty, and the gradient that crosses; in nats, per example."""
from __future__ import annotations

from typing import Any, ClassVar


class Latent:
    """z between the encoder's output h [B, E] and the decoder's input [.., F]; subclasses fill in what is raised here.

    S evaluations of the decoder for each of B examples; D latents of K categories. Parameters are named latent....
    """

    name: ClassVar[str]
    latents: int                                # D
    categories: int | None = None               # K; None where z is continuous
    width: int                                  # E, outputs of the encoder
    features: int                               # F, inputs of the decoder
    samples: int = 1                            # evaluations per example, where that is an option
    needs_dz: bool = True                       # whether `backward` reads d cost / d rows
    relaxed: bool = False                       # whether training decodes other z than evaluation draws: no ELBO
    weighs_kl: bool = True                      # whether `kl_weight` and free bits mean anything
    couples_batch: bool = False                 # whether an example's gradient reads other examples of the batch
    starts_from: int = 0                        # training images whose h `start` reads

    def __init__(self, latents, ops):
        if latents < 1:
            raise ValueError(f"latents must be at least 1, got {latents}")
        self.latents, self.ops = latents, ops

    # ---- what a run holds -----------------------------------------------------------------------------------------

    def init(self, rng, dtype) -> dict[str, Any]:
        """Fresh parameters by name, NumPy arrays of `dtype`."""
        return {}

    def start(self, params, h, rng) -> dict[str, Any]:
        """Parameters fitted to the first encoder outputs h [`starts_from`, E], once."""
        return params

    def init_state(self, rng, context_size=0) -> dict[str, Any] | None:
        """What is remembered or learned besides the parameters: arrays by name, or None."""
        return None

    def check_length(self, steps):
        """Raise ValueError where a run of so many steps leaves an option without effect."""

    def spec(self) -> dict[str, Any]:
        """Entries of `describe.StepSpec` that this latent decides."""
        return {}

    # ---- the training step ----------------------------------------------------------------------------------------

    def forward(self, params, h, rng, state=None, context=None):
        """h [B, E] -> z, kept. `context` [B, *]: what a learned baseline may read."""
        raise NotImplementedError

    def rows(self, params, z):
        """What the decoder reads: int [..., D], or float [..., F]."""
        return z

    def weigh(self, params, kept, cost):
        """Weight of each evaluation in the gradient of the decoder: cost [S, B] -> [S, B or 1]. 1/S for samples."""
        S = len(cost)
        return self.ops.xp.full((S, 1), 1 / S, cost.dtype)

    def shares(self, weights):
        """What averages the reported cost over the evaluations: weights [S, B or 1] -> [S, B or 1], or a number."""
        return weights

    def kl(self, params, kept, weights):
        """What joins the cost in the bound: [B]."""
        raise NotImplementedError

    def backward(self, params, kept, cost, dz, state=None, kl_weight=1.0, scale=1.0):
        """Adjoint of scale * sum_b (expected cost + kl_weight kl): dh [B, E], gradients by name.

        cost [S, B] and dz [S, B, F] (None unless `needs_dz`) are unweighted.
        """
        raise NotImplementedError

    def advance(self, params, kept, cost, dz, state):
        """Gradients of the learned entries of the state (mean over the batch), and the state of the next step."""
        return {}, state

    def refresh(self, params, state) -> dict[str, Any]:
        """The parameters after the optimizer, where the state has a say in them."""
        return params

    # ---- evaluation -----------------------------------------------------------------------------------------------

    def posterior(self, params, h):
        """q(z | x): a NamedTuple whose `kl` is [B, D], or None where `kl_of` needs z."""
        raise NotImplementedError

    def kl_of(self, params, q, z):
        """KL of each latent in the bound, [B, D]: in closed form, or estimated at z [S, B, ...] drawn from q."""
        return q.kl

    def readout(self, q):
        """q for a reader: probabilities [B, D, K] where z is discrete, else arrays by name."""
        return {name: value for name, value in q._asdict().items() if name != "kl"}

    def sample(self, params, q, rng, samples):
        """z as evaluated, never relaxed: [S, B, ...]."""
        raise NotImplementedError

    def mode(self, params, q):
        """The most probable z, for pictures: [B, ...]."""
        raise NotImplementedError

    def log_ratio(self, params, q, z):
        """log p(z) - log q(z | x): [S, B]."""
        raise NotImplementedError

    def codes(self):
        """Every code, int [K**D, D], last latent fastest; None where they cannot be counted."""
        return None

    def log_prior(self, params, codes, dtype=None):
        """log p(z) of shared codes int [C, D]: [C]."""
        raise NotImplementedError

    def sample_prior(self, params, rng, n):
        """z from the prior: [n, ...]."""
        raise NotImplementedError

    def traverse(self, params, z, d):
        """One z [...] with latent d at each of its categories, or at 12 quantiles of the prior: [n, ...]."""
        raise NotImplementedError

    def check_z(self, z):
        """z [N, ...] as given by a user. ValueError where it does not fit."""
        return z
