"""Minervini et al. 2023: IMLE whose lambda is beta |phi| / |g|."""
from tests.twins.imle import backward

__all__ = ["backward"]


# options and their defaults; evaluations of the decoder at D = 3 for K = 2 and K = 4 (None: not served)
DOCUMENTED = dict(samples=1, beta=1.0, target=1.0), 1, 1
