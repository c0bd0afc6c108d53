"""Proofs that an estimator does what it claims: exact where its noise is finite, a sequential test elsewhere."""
from npdvae.verify.enumeration import exact_gradient
from npdvae.verify.moments import moments
from npdvae.verify.report import Report
from npdvae.verify.sequential import check_unbiased

__all__ = ["Report", "check_unbiased", "exact_gradient", "moments"]
