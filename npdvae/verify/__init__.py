"""Proofs that an estimator does what it claims: exact where its noise is finite, a sequential test elsewhere."""
from npdvae.verify.enumeration import exact_gradient
from npdvae.verify.moments import moments

__all__ = ["exact_gradient", "moments"]
