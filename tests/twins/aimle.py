"""Minervini et al. 2023: IMLE whose lambda is beta |phi| / |g|."""
from tests.twins.imle import backward

__all__ = ["backward"]
