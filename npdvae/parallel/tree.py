"""Sums by a fixed binary tree over consecutive terms: ((0 + 1) + (2 + 3)) + ..., the last where it has no partner.

A block of 2^k terms that begins at a multiple of 2^k is a subtree: processes may each add up one, then each other's.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def tree_sum(terms: Iterable[Any], plus: Callable[[Any, Any], Any]) -> Any:
    """The sum of one or more terms, at most log2 n + 2 of them held at a time; `plus` may reuse its first one."""
    held: list[tuple[int, Any]] = []            # (height of the subtree, its sum), heights falling
    for term in terms:
        height = 0
        while held and held[-1][0] == height:
            height, term = height + 1, plus(held.pop()[1], term)
        held.append((height, term))
    _, total = held.pop()
    while held:
        total = plus(held.pop()[1], total)
    return total


def plus_each(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Arrays of the same names, added."""
    return {k: v + b[k] for k, v in a.items()}


def by_type(arrays: dict[str, Any], add: Callable[[list[Any]], Any]) -> dict[str, Any]:
    """Sums of arrays, where add gives that of the vectors of one type, one after another by name, as one vector [n]."""
    found = {}
    for dtype in sorted({a.dtype for a in arrays.values()}):
        some = {k: a for k, a in sorted(arrays.items()) if a.dtype == dtype}
        total, end = add([a.reshape(-1) for a in some.values()]), 0
        for k, a in some.items():
            found[k], end = total[end:end + a.size].reshape(a.shape), end + a.size
    return {k: found[k] for k in arrays}


def block(terms: int, rank: int, size: int) -> range:
    """The terms of one of `size` processes, a power of two: blocks of equal power-of-two width, cut at the end."""
    width = 1
    while width * size < terms:
        width *= 2
    return range(min(rank * width, terms), min((rank + 1) * width, terms))


def pieces(n: int, size: int, team) -> tuple[list[tuple[int, int]], bool]:
    """(first, end) of a team's process's pieces of n things, so many in each but the last, and whether it has none and
    is idle: then that is the first piece, and counts for nothing."""
    own = [(i * size, min((i + 1) * size, n)) for i in team.block(-(-n // size))]
    return own or [(0, min(size, n))], not own
