"""Temperatures that stay, fall by a schedule or are learned; the current value is an array of the state."""
from npdvae.estimators.base import Estimator

ANNEALINGS = ("constant", "exponential", "linear")


class Tempered(Estimator):
    """Mixin: a temperature tau > 0, set once by `set_temperature`.

    After i steps, i counted in whole intervals of anneal_every steps (Jang et al. 2017, section 4):
    exponential max(tau exp(-anneal_rate i), anneal_min), linear max(tau - anneal_rate i, anneal_min).
    Without a state tau is the `temperature` of the constructor.
    """

    annealings: tuple[str, ...] = ANNEALINGS

    def set_temperature(self, temperature, anneal, anneal_rate, anneal_min, anneal_every):
        """Options of the temperature; ValueError where they contradict each other or do nothing."""
        if not 0 < temperature < float("inf"):
            raise ValueError(f"estimator {self.name} needs a positive temperature, got {temperature}")
        if anneal not in self.annealings:
            raise ValueError(f"estimator {self.name}: anneal must be one of {', '.join(self.annealings)}, "
                             f"got {anneal!r}")
        self.temperature, self.anneal, self.anneal_rate = float(temperature), anneal, float(anneal_rate)
        self.anneal_min, self.anneal_every = float(anneal_min), anneal_every
        self._check_annealing()

    def _check_annealing(self):
        if not self.anneals:
            if self.anneal_rate:
                raise ValueError(f"estimator {self.name}: anneal_rate {self.anneal_rate} does nothing when anneal is "
                                 f"{self.anneal}; set anneal to exponential or linear")
            return
        if not 0 < self.anneal_rate < float("inf"):
            raise ValueError(f"estimator {self.name}: {self.anneal} annealing needs anneal_rate > 0, or it does "
                             f"nothing; got {self.anneal_rate}")
        if not 0 < self.anneal_min < self.temperature:
            raise ValueError(f"estimator {self.name}: anneal_min must be positive and below the temperature "
                             f"{self.temperature}, or annealing does nothing; got {self.anneal_min}")
        if self.anneal_every < 1:
            raise ValueError(f"estimator {self.name}: anneal_every must be at least 1 step, got {self.anneal_every}")

    def check_length(self, steps):
        if self.anneals and self.anneal_every >= steps:
            raise ValueError(f"estimator {self.name}: annealing every {self.anneal_every} steps does nothing in a run "
                             f"of {steps} steps; lower anneal_every")

    @property
    def untempered(self):
        """Whether tau is 1 now and always."""
        return self.temperature == 1 and self.anneal == "constant"

    def tau(self, state, dtype):
        """The current temperature: an array of the given dtype, or a number without a state."""
        return self.temperature if state is None else state["temperature"].astype(dtype)

    def keep(self, logits, state):
        """What `backward` needs besides codes and logits."""
        return {"tau": self.tau(state, logits.dtype)}

    def init(self, rng, latents, categories, context_size=0):
        xp = self.ops.xp
        return {"temperature": xp.asarray(self.temperature, xp.float64), "step": xp.asarray(0, xp.int64)}

    def advance(self, draw, cost, state):
        xp = self.ops.xp
        step = state["step"] + 1
        tau = self.annealed(step, xp) if self.anneals else state["temperature"]
        return {**state, "temperature": xp.asarray(tau), "step": xp.asarray(step)}

    @property
    def anneals(self):
        """Whether tau is a function of the step."""
        return self.anneal in ("exponential", "linear")

    def annealed(self, step, xp):
        """tau after `step` steps."""
        i = step // self.anneal_every * self.anneal_every
        if self.anneal == "exponential":
            return xp.maximum(self.temperature * xp.exp(-self.anneal_rate * i), self.anneal_min)
        return xp.maximum(self.temperature - self.anneal_rate * i, self.anneal_min)
