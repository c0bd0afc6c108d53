"""Proofs: of estimators, exact where the noise is finite, by a sequential test elsewhere; of latents; of backwards."""
from npdvae.verify.enumeration import exact_gradient
from npdvae.verify.gradients import check_adjoint, check_gradient
from npdvae.verify.latent_layer import Proof
from npdvae.verify.latents import check_latent
from npdvae.verify.moments import moments
from npdvae.verify.report import Report
from npdvae.verify.sequential import check_unbiased

__all__ = ["Proof", "Report", "check_adjoint", "check_gradient", "check_latent", "check_unbiased", "exact_gradient",
           "moments"]
