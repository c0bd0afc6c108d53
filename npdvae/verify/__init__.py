"""Proofs: of estimators, exact where their noise is finite, by a sequential test elsewhere; of backward passes."""
from npdvae.verify.enumeration import exact_gradient
from npdvae.verify.gradients import check_adjoint, check_gradient
from npdvae.verify.moments import moments
from npdvae.verify.report import Report
from npdvae.verify.sequential import check_unbiased

__all__ = ["Report", "check_adjoint", "check_gradient", "check_unbiased", "exact_gradient", "moments"]
