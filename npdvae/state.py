"""The state of a run: what a checkpoint holds and an engine changes."""
from __future__ import annotations

from typing import Any, NamedTuple

LEARNED = "estimator."                          # before names that a latent learns besides its parameters


class TrainState(NamedTuple):
    """All that the trajectory depends on besides the configuration and the data; host arrays by name."""

    params: dict[str, Any]
    moments: dict[str, Any]                     # of the optimizer, learned entries of the latent's state included
    latent: dict[str, Any] | None               # what the latent remembers or learns besides
    step: int                                   # steps done


def pack(state: TrainState) -> dict[str, Any]:
    """A state as arrays under one level of names."""
    return ({f"params/{k}": v for k, v in state.params.items()} | {f"moments/{k}": v for k, v in state.moments.items()}
            | {f"estimator/{k}": v for k, v in (state.latent or {}).items()})


def unpack(arrays: dict[str, Any], step: int) -> TrainState:
    """The state that `pack` wrote."""
    def part(prefix):
        return {k[len(prefix):]: v for k, v in arrays.items() if k.startswith(prefix)}
    return TrainState(part("params/"), part("moments/"), part("estimator/") or None, step)


def merge(states):
    """The state after microbatches that all started from one state: entries that differ are averaged by size."""
    first = states[0][0]
    if first is None or len(states) == 1:
        return first
    return {k: v if all((s[k] == v).all() for s, _ in states) else sum(w * s[k] for s, w in states)
            for k, v in first.items()}


def changed(before, after):
    """(name, value) of the entries of a latent's state that a step has not left as they were."""
    return [(k, v) for k, v in (after or {}).items() if v is not (before or {}).get(k)]


def learned(state, grads):
    """The entries of a latent's state that have a gradient, by the name of that gradient."""
    return {LEARNED + k: v for k, v in (state or {}).items() if LEARNED + k in grads}


def take_back(state, params):
    """The latent's state with its learned entries out of the updated params, and the params without them."""
    new = {k.removeprefix(LEARNED): v for k, v in params.items() if k.startswith(LEARNED)}
    return {**state, **new} if new else state, {k: v for k, v in params.items() if not k.startswith(LEARNED)}
