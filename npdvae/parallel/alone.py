"""One process: what `npdvae.parallel.team.Team` is to several."""
from __future__ import annotations


class Alone:
    """All shares are its own, and what it has is the total."""

    rank, size, local = 0, 1, (0, 1)            # local: rank and number of processes on this machine

    def check(self, shares: int) -> None:
        """ValueError unless so many shares of a batch can be divided among the processes."""

    def threads(self) -> int | None:
        """Cores for each process; None: all of them."""
        return None

    def block(self, terms: int) -> range:
        """Which of so many shares of a batch are this process's."""
        return range(terms)

    def some(self, n: int) -> range:
        """Which of n equal tasks are this process's; `gather` puts them in order again."""
        return range(n)

    def gather(self, items: list) -> list:
        """The lists of all processes, one after another."""
        return items

    def total(self, arrays: dict, idle: bool = False) -> dict:
        """Arrays added over all processes but idle ones, by the tree of `npdvae.parallel.tree`."""
        return arrays

    def first(self, act, *arguments):
        """What the first process gets from act(*arguments), in all of them; what it raises, too."""
        return act(*arguments)

    def wait(self):
        """Come back when all processes have come here."""


ALONE = Alone()
