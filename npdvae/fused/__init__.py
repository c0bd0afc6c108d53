"""The fused CPU engine: whole epochs in compiled code, one worker per core; same numbers as the readable step.

    reason = npdvae.fused.reason_unsupported(model, recipe)      # None, or why the readable engine must serve
    engine = npdvae.fused.Fused(model, recipe, dataset, threads) # load, save, run, evaluate as engine.Readable
"""
from npdvae.fused.engine import Fused, reason_unsupported

__all__ = ["Fused", "reason_unsupported"]
