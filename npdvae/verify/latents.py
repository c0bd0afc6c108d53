"""Every latent held to what it claims: of the registry, or one of your own."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from npdvae import latents
from npdvae.latents.base import Latent
from npdvae.latents.families import TABLE
from npdvae.latents.location_scale import LocationScale
from npdvae.latents.quantiser import Quantiser
from npdvae.verify import code_claims, family_claims, latent_claims, surrogates
from npdvae.verify.latent_claims import kl_gradient, mean_is_gradient
from npdvae.verify.latent_fixed import fixed_noise
from npdvae.verify.latent_layer import Layer, Proof
from npdvae.verify.latent_noise import TooMany

Claim = Callable[[Layer], Proof]
PRIORS = ("uniform", "learned", "autoregressive")
SMOOTHING = ("f1", "f2", "f3", "overlapping_exponential", "overlapping_power")
VQ: tuple[dict[str, Any], ...] = (
    {"codebook": "gradient"}, {"codebook": "simvq"}, {"rotation": True}, {"cosine": True}, {"grouped": True},
    {"levels": 2}, {"cosine": True, "codebook": "gradient", "rotation": True}, {"prior": "learned"},
    {"prior": "autoregressive"})


def check_latent(latent: Latent, *, name: str | None = None, surrogate: Callable[..., Any] | None = None,
                 seed: int = 0) -> list[Proof]:
    """Hold a latent, on the NumPy table, to what its contract promises: a list of `Proof`, one for each claim.

    Continuous z: gradient at fixed noise and in the mean, density, KL; means are quadratures over at most two numbers
    of noise (else "not tried": give few latents and samples). Codes: enumerations. A quantiser's gradient is that of
    surrogate(h, params), summed over the batch, known for those of the registry.
    """
    if isinstance(latent, type) or not hasattr(latent, "forward"):
        got = f"the class {latent.__name__}" if isinstance(latent, type) else repr(latent)
        raise ValueError(f"latent must be an object, as latents.get('gaussian', latents=2) makes one, got {got}")
    layer = Layer(latent, name, seed)
    return [tried(claim, layer) for claim in claims(layer, surrogate)]


def claims(layer: Layer, surrogate: Callable[..., Any] | None = None) -> Iterator[Claim]:
    """What a latent is held to, by its kind."""
    latent = layer.latent
    if isinstance(latent, Quantiser):
        yield surrogates.surrogate if surrogate is None else partial(surrogates.surrogate, loss=surrogate)
        yield from (code_claims.nothing, code_claims.point, code_claims.bounds)
        if getattr(getattr(latent, "book", None), "learns", "") == "ema":
            yield code_claims.moving_average
        if getattr(latent, "dither", False):
            yield code_claims.dither
    elif latent.codes() is not None:
        yield from code_claims.over_codes(layer)
    else:
        yield from continuous(layer)


def continuous(layer: Layer) -> Iterator[Claim]:
    """Of continuous z; what is known of the registry's is told apart."""
    latent: Any = layer.latent
    known = isinstance(latent, LocationScale)
    for claim in latent_claims.continuous(layer):
        if known and claim is latent_claims.density and latent.name == "uniform":
            yield family_claims.ends
        elif known and claim is kl_gradient and latent.penalty == "parameters":
            yield family_claims.penalty
        else:
            yield claim
    if known:
        yield family_claims.law
    if known and latent.name not in ("uniform", "triangular") or latent.name in family_claims.WIDE:
        yield family_claims.prior               # where q covers it


def tried(claim: Claim, layer: Layer) -> Proof:
    """The proof of a claim, or why it was not tried."""
    try:
        return claim(layer)
    except TooMany as error:
        return Proof(layer.name, claim.__name__.replace("_", " "), layer.size, "quadrature", float("nan"), 0.0,
                     "not tried", str(error))


# ---- the registry ----------------------------------------------------------------------------------------------------

def proofs(name: str, seed: int = 0) -> Iterator[Proof]:
    """Every row of one latent, by its registered name or as "module:Class" of your own."""
    for latent, said, only in cases(name):
        layer = Layer(latent, name + (f" ({', '.join(f'{k}={v}' for k, v in said.items())})" if said else ""), seed)
        for claim in only or claims(layer):
            yield tried(claim, layer)
    if name == "categorical":
        yield from map(family_claims.smoothing, SMOOTHING)


def cases(name: str) -> Iterator[tuple[Latent, dict[str, Any], tuple[Claim, ...]]]:
    """A latent with the options that change what is proved: latent, options to be named, claims (none: all)."""
    if name == "vq":
        for options in ({}, *VQ):
            made: Any = latents.get(name, latents=2 * options.get("levels", 1), categories=3, size=2, **options)
            brief: tuple[Claim, ...] = (surrogates.surrogate, code_claims.nothing)
            brief += (code_claims.moving_average,) if made.book.learns == "ema" else ()
            yield made, options, () if options.keys() <= {"prior", "levels"} else brief
    elif name == "fsq":
        for K, options in ((5, {}), (4, {"dither": True})):
            yield latents.get(name, latents=2, categories=K, **options), options, ()
    elif name in ("categorical", "soft_vq"):
        size = {"size": 2} if name == "soft_vq" else {}
        for said in (*({"estimator": "exact", "prior": prior} for prior in PRIORS), {"estimator": "gumbel_softmax"}):
            yield latents.get(name, latents=2, categories=3, **size, **said), said, ()
    elif name in ("lfq", "bsq"):
        yield latents.get(name, latents=3), {}, ()
    elif (own := latents.get(name, latents=2)).codes() is not None:
        yield own, {}, ()
    else:
        yield from of_noise(name)


def of_noise(name: str) -> Iterator[tuple[Latent, dict[str, Any], tuple[Claim, ...]]]:
    """Three latents where noise is fixed, one where means are taken, or two on a simplex."""
    some: list[tuple[dict[str, Any], tuple[Claim, ...]]] = []
    if name in (*TABLE, "student_t", "kumaraswamy"):
        some += [({"kl": "sampled"}, (fixed_noise, kl_gradient))]
    if name in (*TABLE, "student_t") and name != "uniform":
        some += [({"gradient": "score", "samples": 2}, (mean_is_gradient,))]
    if name == "gaussian":
        some += [({"kl": "sampled", "prior_family": "logistic"}, (fixed_noise, latent_claims.kl, kl_gradient)),
                 ({"kl": "parameters"}, (latent_claims.kl, family_claims.penalty)),
                 ({"transform": "exp"}, (fixed_noise, mean_is_gradient)),
                 ({"transform": "sigmoid"}, (fixed_noise, mean_is_gradient))]
    one = latents.get(name, latents=2 if name == "dirichlet" else 1)
    if one.needs_dz:
        yield latents.get(name, latents=3), {}, (fixed_noise,)
    yield one, {}, tuple(claim for claim in claims(Layer(one)) if claim is not fixed_noise)
    for options, only in some:
        for claim in only:
            yield latents.get(name, latents=3 if claim is fixed_noise else 1, **options), options, (claim,)
