"""Baselines of REINFORCE: what is subtracted from the cost, never a function of the cost it is subtracted from.

Each turns the signal [S, B] (the cost, in nats) into the coefficient [S, B] of the score. What it remembers
or learns is in `state`; no state means a fresh one, whose baseline is 0.
"""
import math


class NoBaseline:
    """coefficient = f (Williams 1992)."""

    options: tuple[str, ...] = ()
    couples_batch = False
    unbiased = True

    def __init__(self, ops):
        self.ops = ops

    def init(self, rng, context_size):
        """Starting state, or None."""
        return None

    def coefficient(self, signal, context, state):
        """signal [S, B], context [B, *] or None -> coefficient [S, B] of the score."""
        return signal

    def learn(self, signal, context, state):
        """Gradients of the learned entries of the state."""
        return {}

    def advance(self, signal, context, state):
        """The state of the next step."""
        return state


class Constant(NoBaseline):
    """coefficient = f - b with a fixed b, in nats; 125 is the tutorial's, for MNIST."""

    options = ("baseline_value",)

    def __init__(self, ops, baseline_value=125.0):
        super().__init__(ops)
        self.baseline_value = float(baseline_value)

    def coefficient(self, signal, context, state):
        return signal - self.baseline_value


class BatchLeaveOneOut(NoBaseline):
    """coefficient = f - mean of the S B - 1 other costs of the batch; an evaluation that is alone has no baseline."""

    couples_batch = True

    def coefficient(self, signal, context, state):
        others = signal.size - 1
        return signal if others == 0 else (signal - signal.mean()) * ((others + 1) / others)


class RunningMean(NoBaseline):
    """coefficient = f - c, c the mean of the costs of past steps with weights decay**age, the current one excluded.

    The weights are normalised as in Adam, so that c is a mean from the second step on.
    """

    options: tuple[str, ...] = ("decay",)

    def __init__(self, ops, decay=0.95):
        super().__init__(ops)
        if not 0 <= decay < 1:
            raise ValueError(f"baseline decay must be at least 0 and below 1, got {decay}")
        self.decay = float(decay)

    def init(self, rng, context_size):
        return {"cost_sum": self.ops.xp.zeros(1), "weight_sum": self.ops.xp.zeros(1)}

    def mean(self, state, key):
        """Weighted mean so far: [1]; 0 before the first step."""
        return state[key] / self.ops.xp.maximum(state["weight_sum"], self.least_weight)

    @property
    def least_weight(self):
        """What the weights sum to after one step: no division by less."""
        return 1 - self.decay

    def append(self, state, key, value):
        """Sum with one more term: [1], [...] -> [1]."""
        return self.decay * state[key] + ((1 - self.decay) * value.mean()).astype(state[key].dtype)

    def coefficient(self, signal, context, state):
        return signal if state is None else signal - self.mean(state, "cost_sum").astype(signal.dtype)

    def advance(self, signal, context, state):
        return {**state, "cost_sum": self.append(state, "cost_sum", signal),
                "weight_sum": self.append(state, "weight_sum", self.ops.xp.ones(1))}


class NVIL(RunningMean):
    """coefficient = (f - b(x) - c) / max(1, sd) (Mnih & Gregor 2014, algorithm 1; c and sd of past steps only).

    b is one hidden tanh layer on the context, fitted by the mean of (f - b - c)^2; c the running mean of f - b.
    sd is 1 unless `normalise`: then it is the running standard deviation of f - b - c, and the gradient is rescaled.
    """

    options = ("decay", "hidden", "normalise")

    def __init__(self, ops, decay=0.95, hidden=100, normalise=False):
        super().__init__(ops, decay)
        if hidden < 1:
            raise ValueError(f"baseline nvil needs hidden >= 1, got {hidden}")
        self.hidden, self.normalise = int(hidden), bool(normalise)
        self.unbiased = not self.normalise

    def init(self, rng, context_size):
        xp, inputs = self.ops.xp, max(context_size, 1)
        w = (2 * rng.uniform((inputs + 1, self.hidden)) - 1) / math.sqrt(inputs)   # [I + 1, H]
        return {"hidden_weight": w[:-1], "hidden_bias": w[-1], "output_weight": xp.zeros((self.hidden, 1)),
                "output_bias": xp.zeros(1), **super().init(rng, context_size), "square_sum": xp.zeros(1)}

    def inputs(self, signal, context, state):
        """What b reads: [B, I]; the number 1 where init was given no context."""
        size = len(state["hidden_weight"])
        if (context is None or context.shape[-1] == 0) and size == 1:
            return self.ops.xp.ones_like(signal[:1].T)              # [B, 1]
        if context is None or context.shape[-1] != size:
            got = "none" if context is None else f"shape {context.shape}"
            raise ValueError(f"baseline nvil reads a context of {size} numbers for each example, got {got}")
        return context

    def layers(self, inputs, state):
        """b(x) and its hidden layer: inputs [B, I] -> [B], [B, H]."""
        h = self.ops.tanh(self.ops.linear(inputs, state["hidden_weight"], state["hidden_bias"]))   # [B, H]
        return self.ops.linear(h, state["output_weight"], state["output_bias"])[:, 0], h

    def centred(self, signal, context, state):
        """f - b(x) - c: [S, B]."""
        b, _ = self.layers(self.inputs(signal, context, state), state)   # [B]
        baseline = b + self.mean(state, "cost_sum")                 # [B]
        return signal - baseline.astype(signal.dtype)

    def coefficient(self, signal, context, state):
        if state is None:
            return signal
        centred = self.centred(signal, context, state)              # [S, B]
        if not self.normalise:
            return centred
        sd = self.ops.xp.sqrt(self.mean(state, "square_sum"))       # [1]
        return centred / self.ops.xp.maximum(sd, 1).astype(signal.dtype)

    def learn(self, signal, context, state):
        inputs = self.inputs(signal, context, state)                # [B, I]
        _, h = self.layers(inputs, state)                           # [B, H]
        db = -2 * self.centred(signal, context, state).sum(0)[:, None] / signal.size   # [B, 1]
        dh, doutput_weight, doutput_bias = self.ops.linear_backward(db, h, state["output_weight"])
        dpre = self.ops.tanh_backward(dh, h)                        # [B, H]
        _, dhidden_weight, dhidden_bias = self.ops.linear_backward(dpre, inputs, state["hidden_weight"], need_dx=False)
        return {"hidden_weight": dhidden_weight, "hidden_bias": dhidden_bias,
                "output_weight": doutput_weight, "output_bias": doutput_bias}

    def advance(self, signal, context, state):
        centred = self.centred(signal, context, state)              # [S, B]
        residual = centred + self.mean(state, "cost_sum").astype(signal.dtype)
        return {**super().advance(residual, context, state),
                "square_sum": self.append(state, "square_sum", centred ** 2)}


BASELINES = {"none": NoBaseline, "constant": Constant, "running_mean": RunningMean,
             "batch_leave_one_out": BatchLeaveOneOut, "nvil": NVIL}


def make(name, ops, **settings):
    """The baseline of a name; settings that are None keep their defaults, one that the baseline lacks is an error."""
    if name not in BASELINES:
        raise ValueError(f"unknown baseline {name!r}: expected one of {', '.join(BASELINES)}")
    given = {key: value for key, value in settings.items() if value is not None}
    for key in given:
        if key not in BASELINES[name].options:
            owners = " or ".join(other for other, cls in BASELINES.items() if key in cls.options)
            raise ValueError(f"baseline {name} has no setting {key}: it belongs to baseline {owners}")
    return BASELINES[name](ops, **given)
