"""What an estimator is: a forward (`sample`) and a backward (`backward`), with nothing hidden between them."""
from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from npdvae import backends
from npdvae.rng import Generator
from npdvae.types import Array, State


@dataclass(frozen=True)
class Draw:
    """Where the decoder is to be evaluated, and all that `backward` may depend on.

    codes: int [S, B or 1, D] hard category indices, or float [S, B, D, K] rows.
    logits [B, D, K]; kept: whatever else `sample` hands to `backward`, by name.
    """

    codes: Array
    logits: Array
    kept: dict[str, Any] = field(default_factory=dict)

    def keeping(self, **more: Any) -> Draw:
        """The same draw with more to hand on."""
        return Draw(self.codes, self.logits, {**self.kept, **more})


class Estimator:
    """Estimate of d objective_b / d logits_b; subclasses state what they promise.

    `couples_batch` says that an example's estimate reads other examples of the batch, `noise` by which rule
    `npdvae.verify` integrates noise that is not finite.
    """

    name: ClassVar[str]
    objective: str = "expectation"
    unbiased: bool = False
    exact_for: str | None = None
    needs_dcodes: bool = False
    binary: bool = False                        # K = 2 only
    shared: bool = False                        # one set of codes for the whole batch, [C, 1, D]
    couples_batch: bool = False
    noise: str | None = None
    relaxed: bool = False                       # decodes other rows than hard codes from softmax(logits): no ELBO
    has_kl: bool = False                        # its rows have a KL of their own, which stands for the analytic one
    samples: int = 1                            # S, where that is an option
    from_noise: Callable[..., Draw] | None = None       # (logits, u, v, state, context): the draw that uniforms give
    bounds: Callable[..., Any] | None = None    # (logits, cost_range) -> low, high of the estimate [B, D, K]

    def __init__(self, ops: backends.Ops | None = None):
        self.ops = backends.load("numpy") if ops is None else ops

    @property
    def analytic_kl(self):
        """Whether the objective is the expected cost, beside which the KL is added in closed form."""
        return self.objective == "expectation"

    def settings(self) -> dict[str, Any]:
        """The options in force, by name: with the estimator's own name, all that its numbers depend on."""
        options = [name for name in inspect.signature(type(self)).parameters if name != "ops"]
        return {name: getattr(self, name) for name in options}

    def check(self, latents: int, categories: int) -> None:
        """Raise ValueError where this estimator cannot serve D latents of K categories."""
        if self.binary and categories != 2:
            raise ValueError(f"estimator {self.name} is for binary latents: categories must be 2, got {categories}")

    def check_length(self, steps: int) -> None:
        """Raise ValueError where a run of so many steps leaves an option without effect."""

    def evaluations(self, latents: int, categories: int) -> int:
        """Decoder evaluations per example, of `shared` codes per batch (rows of the draw); backwards not counted."""
        raise NotImplementedError

    def sample(self, logits: Array, rng: Generator, state: State | None = None, context: Array | None = None) -> Draw:
        """Draw codes: logits [B, D, K] -> Draw."""
        raise NotImplementedError

    def outcomes(self, logits: Array, state: State | None = None,
                 context: Array | None = None) -> Iterable[tuple[Array, Draw]] | None:
        """Iterable of (probability [B], Draw) over the estimator's finite noise; None where it is not finite."""
        return None

    def weigh(self, draw: Draw, cost: Array) -> Array:
        """Weight of each evaluation in the decoder's gradient: cost [S, B] -> [S, B or 1]. 1/S for samples."""
        S = cost.shape[0]
        return self.ops.xp.full((S, 1), 1 / S, cost.dtype)

    def prepare(self, draw: Draw, cost: Array, dcodes: Array | None, state: State | None) -> Draw:
        """The draw with what `backward` and `learn` share in its `kept`; both do without."""
        return draw

    def backward(self, draw: Draw, cost: Array, dcodes: Array | None = None, state: State | None = None) -> Array:
        """The estimate: cost [S, B], dcodes [S, B, D, K] or None -> dlogits [B, D, K], no 1/B."""
        raise NotImplementedError

    def rows_kl(self, draw: Draw) -> Array:
        """The KL of each latent where `has_kl`, at the rows drawn: [B, D], nats."""
        raise NotImplementedError

    def rows_kl_backward(self, draw: Draw) -> Array:
        """Its gradient at fixed noise: dlogits [B, D, K]."""
        raise NotImplementedError

    def init(self, rng: Generator, latents: int, categories: int, context_size: int = 0) -> State | None:
        """Learned parameters, running means and annealed settings: a dict of arrays, or None."""
        return None

    def learn(self, draw: Draw, cost: Array, dcodes: Array | None, state: State | None) -> dict[str, Array]:
        """Gradients of the learned entries of the state: a dict, empty for most."""
        return {}

    def advance(self, draw: Draw, cost: Array, state: State | None) -> State | None:
        """The state of the next step: running means and schedules."""
        return state
