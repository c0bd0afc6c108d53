"""The state of a run: what a checkpoint holds and an engine changes."""
from __future__ import annotations

from typing import Any, NamedTuple


class TrainState(NamedTuple):
    """All that the trajectory depends on besides the configuration and the data; host arrays by name."""

    params: dict[str, Any]
    moments: dict[str, Any]                     # of the optimizer, learned estimator entries included
    estimator: dict[str, Any] | None
    step: int                                   # steps done


def pack(state: TrainState) -> dict[str, Any]:
    """A state as arrays under one level of names."""
    return ({f"params/{k}": v for k, v in state.params.items()} | {f"moments/{k}": v for k, v in state.moments.items()}
            | {f"estimator/{k}": v for k, v in (state.estimator or {}).items()})


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
