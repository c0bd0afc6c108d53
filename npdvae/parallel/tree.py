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


def block(terms: int, rank: int, size: int) -> range:
    """The terms of one of `size` processes, a power of two: blocks of equal power-of-two width, cut at the end."""
    width = 1
    while width * size < terms:
        width *= 2
    return range(min(rank * width, terms), min((rank + 1) * width, terms))
