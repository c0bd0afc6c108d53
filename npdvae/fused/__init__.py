"""The fused CPU engines: steps in compiled code, one worker per core; same numbers as the readable step.

    reason = npdvae.fused.reason_unsupported(model, recipe)      # None, or why whole steps cannot be fused
    engine = npdvae.fused.Fused(model, recipe, dataset, threads) # load, save, run, evaluate as engine.Readable
    reason = npdvae.fused.reason_unsegmented(model, recipe)      # None, or why the readable engine must serve
    engine = npdvae.fused.Segmented(model, recipe, dataset, threads)    # latent and likelihood as they are
"""
from npdvae.fused.engine import Fused, reason_unsupported
from npdvae.fused.segmented import Segmented
from npdvae.fused.trial import reason_unsegmented

__all__ = ["Fused", "Segmented", "reason_unsegmented", "reason_unsupported"]
