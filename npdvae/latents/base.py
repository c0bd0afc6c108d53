"""What a latent layer is: sampling, penalty, and the gradient that crosses; in nats, per example."""
from __future__ import annotations

from typing import Any, ClassVar

from npdvae.ops.table import Ops
from npdvae.rng import Generator
from npdvae.types import Array, DType, Params, State


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
    divisible: bool = True                      # whether microbatches may make up a batch
    one_codebook: bool = False                  # whether a category means the same in every latent
    starts_from: int = 0                        # training images whose h `start` reads

    def __init__(self, latents: int, ops: Ops):
        if latents < 1:
            raise ValueError(f"latents must be at least 1, got {latents}")
        self.latents, self.ops = latents, ops

    # ---- what a run holds -----------------------------------------------------------------------------------------

    def init(self, rng: Generator, dtype: DType) -> Params:
        """Fresh parameters by name, NumPy arrays of `dtype`."""
        return {}

    def start(self, params: Params, h: Array, rng: Generator) -> Params:
        """Parameters fitted to the first encoder outputs h [`starts_from`, E], once."""
        return params

    def init_state(self, rng: Generator, context_size: int) -> State | None:
        """What is remembered or learned besides the parameters: arrays by name, or None."""
        return None

    def check_length(self, steps: int) -> None:
        """Raise ValueError where a run of so many steps leaves an option without effect."""

    def spec(self) -> dict[str, Any]:
        """Entries of `describe.StepSpec` that this latent decides."""
        return {}

    # ---- the training step ----------------------------------------------------------------------------------------

    def forward(self, params: Params, h: Array, rng: Generator, state: State | None = None,
                context: Array | None = None) -> tuple[Array, Any]:
        """h [B, E] -> z, kept. `context` [B, *]: what a learned baseline may read."""
        raise NotImplementedError

    def rows(self, params: Params, z: Array) -> Array:
        """What the decoder reads: int [..., D], or float [..., F].

        Where parameters have a part in it, their gradients are `backward`'s, from dz and the weights of `weigh`.
        """
        return z

    def weigh(self, params: Params, kept: Any, cost: Array) -> Array:
        """Weight of each evaluation in the gradient of the decoder: cost [S, B] -> [S, B or 1]. 1/S for samples."""
        S = len(cost)
        return self.ops.xp.full((S, 1), 1 / S, cost.dtype)

    def shares(self, weights: Array) -> Array | float:
        """What averages the reported cost over the evaluations: weights [S, B or 1] -> [S, B or 1], or a number."""
        return weights

    def kl(self, params: Params, kept: Any, weights: Array) -> Array:
        """What joins the cost in the bound: [B]."""
        raise NotImplementedError

    def backward(self, params: Params, kept: Any, cost: Array, dz: Array | None, state: State | None,
                 kl_weight: float, scale: float) -> tuple[Array, Params]:
        """Adjoint of scale * sum_b (expected cost + kl_weight kl): dh [B, E], gradients by name (see `advance`).

        cost [S, B] and dz, d cost / d rows (None unless `needs_dz`), are unweighted: [S, B, F], or [S, B, D, K] where
        rows are int. Rows shared by the batch [S, 1, ...] go without dz. kl_weight is 1 unless `weighs_kl`.
        """
        raise NotImplementedError

    def advance(self, params: Params, kept: Any, cost: Array, dz: Array | None,
                state: State | None) -> tuple[Params, State | None]:
        """Gradients of the learned entries of the state (mean over the batch), and the state of the next step.

        Those that `backward` has found already it gives itself, B * scale times, behind `npdvae.state.LEARNED`.
        """
        return {}, state

    def refresh(self, params: Params, state: State | None) -> Params:
        """The parameters after the optimizer, where the state has a say in them."""
        return params

    # ---- evaluation -----------------------------------------------------------------------------------------------

    def posterior(self, params: Params, h: Array) -> Any:
        """q(z | x): a NamedTuple whose `kl` is [B, D], or None where `kl_of` needs z."""
        raise NotImplementedError

    def kl_of(self, params: Params, q: Any, z: Array) -> Array:
        """KL of each latent in the bound, [B, D]: in closed form, or estimated at z [S, B, ...] drawn from q."""
        return q.kl

    def readout(self, q: Any) -> Array | dict[str, Array]:
        """q for a reader: probabilities [B, D, K] where z is discrete, else arrays by name."""
        return {name: value for name, value in q._asdict().items() if name != "kl"}

    def sample(self, params: Params, q: Any, rng: Generator, samples: int) -> Array:
        """z as evaluated, never relaxed: [S, B, ...]."""
        raise NotImplementedError

    def mode(self, params: Params, q: Any) -> Array:
        """The most probable z, for pictures: [B, ...]."""
        raise NotImplementedError

    def log_ratio(self, params: Params, q: Any, z: Array) -> Array:
        """log p(z) - log q(z | x): [S, B]."""
        raise NotImplementedError

    def soft(self, temperature: float) -> Latent | None:
        """A latent of spread posterior for the importance-weighted bound, where q is a point; else None."""
        return None

    def code_count(self) -> int | None:
        """How many codes there are, K**D; None where they cannot be counted."""
        return None

    def codes(self) -> Array | None:
        """Every code, int [K**D, D], last latent fastest; None where there are none, or too many to enumerate."""
        return None

    def log_prior(self, params: Params, codes: Array, dtype: DType | None = None) -> Array:
        """log p(z) of shared codes int [C, D]: [C]."""
        raise NotImplementedError

    def sample_prior(self, params: Params, rng: Generator, n: int) -> Array:
        """z from the prior: [n, ...]."""
        raise NotImplementedError

    def traverse(self, params: Params, z: Array, d: int) -> Array:
        """One z [...] with latent d at each of its categories, or at 12 quantiles of the prior: [n, ...]."""
        raise NotImplementedError

    def check_z(self, z: Array) -> Array:
        """z [N, ...] as given by a user. ValueError where it does not fit."""
        return z
