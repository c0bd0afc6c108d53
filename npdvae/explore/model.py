"""What a page holds of a run: layers, latent, likelihood, prior, images; numbers as float32."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from npdvae import evaluation, likelihoods, metrics
from npdvae.explore import latents
from npdvae.explore.blobs import blob, room
from npdvae.report import examples
from npdvae.run import Run

MOST_CODES = 2 ** 16                            # enumerated in a browser
MOST_LOGITS = 2 ** 24                           # codes times pixels, kept there: 64 MB
GREY = ("The targets are grey pixels under a likelihood of 0 and 1: costs are no log-probabilities, so log p(x) and "
        "the exact posterior are left out.")


def contents(run: Run, dataset: Any, images: int, samples: int, seed: int) -> dict[str, Any]:
    """All that the page shows, as plain numbers, text and blobs. ValueError for parts that no page can compute."""
    model = run.model
    room(sum(a.size for a in run.params.values()), f"{run.folder}: parameters")
    latent, notes = latents.describe(model.latent, run.params), []
    grey = evaluation.grey_targets(model, run.split(dataset, dataset.test))
    codes = None if grey else enumerable(run)
    if latent["encoder"] is None:
        notes.append("The latent is code of its own, which a page cannot run: q(z | x) is left out.")
    notes.append(GREY if grey else why_not(run) if codes is None else
                 f"All {len(codes):,} codes are decoded in this page, so log p(x) and the posterior p(z | x) of any "
                 "image are plain sums: exact, and live while you draw.")
    chosen = examples(dataset, images)
    x = run.targets(dataset, dataset.test, run.step)[chosen]        # [N, P]
    return {
        "title": title(run), "facts": facts(run), "notes": notes,
        "shape": list(run.shape), "latent": {**latent, "order": order(run, x)}, "likelihood": likelihood(run),
        "encoder": network(model.encoder, run.params), "decoder": network(model.decoder, run.params),
        "exact": None if codes is None else
        {"codes": len(codes), "log_prior": blob(model.latent.log_prior(run.params, codes, np.dtype("f8")))},
        "images": blob(x),
        "labels": None if dataset.test_labels is None else [int(n) for n in dataset.test_labels[chosen]],
        "prior": blob(run.sample(samples, seed)[0], "f4"),
        "binary": not model.likelihood.grey and not grey,
    }


def enumerable(run: Run):
    """Every code int [C, D], where a browser can decode them all and keep the pixels; else None."""
    count = run.model.latent.code_count()
    if count is None or count > MOST_CODES or count * run.pixels > MOST_LOGITS:
        return None
    return run.model.latent.codes()


def why_not(run: Run) -> str:
    """The sentence of a page without an exact posterior."""
    count = run.model.latent.code_count()
    if count is None:
        return "z is continuous: p(x) is an integral and no sum, so log p(x) and the exact posterior are left out."
    power = str(run.config.latents).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return (f"There are {run.config.categories}{power} codes, too many to decode them all in a browser: "
            "log p(x) and the exact posterior are left out.")


def order(run: Run, x: Any) -> list[int]:
    """Latents, those of the largest KL over images x [N, P] first where z is continuous."""
    if run.config.categories is not None:
        return list(range(run.config.latents))
    kl = getattr(run.posterior(x), "kl", None)
    rank = np.zeros(run.config.latents) if kl is None else -np.asarray(kl).mean(0)
    return [int(d) for d in np.argsort(rank, kind="stable")]


def network(mlp: Any, params: Any) -> dict[str, Any]:
    """Layers of an MLP."""
    layers = [{"weight": blob(w), "bias": blob(b)} for w, b in mlp.layers(params)]
    return {"activation": mlp.activation, "layers": layers}


def likelihood(run: Run) -> dict[str, Any]:
    """cost = scale (norm(a) - x a + own(x)) + constant. ValueError for a likelihood of one's own."""
    part = run.model.likelihood
    name, scale, constant = likelihoods.registry.name_of(part), 1.0, 0.0
    if name == "gaussian":
        t = float(np.reshape(part.log_sigma(run.params), -1)[0])
        scale, constant = math.exp(-2 * t), run.pixels * (t + math.log(2 * math.pi) / 2)
    elif name not in ("bernoulli", "continuous_bernoulli"):
        raise ValueError(f"{run.folder}: likelihood {name} is code of its own, which a page cannot run")
    return {"name": name, "scale": scale, "constant": constant, "shown": part.shown}


def title(run: Run) -> str:
    """Data and size of the code."""
    c = run.config
    name = c.data.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    made = f"{c.latents} latent{'s' if c.latents > 1 else ''}"
    return f"{name}: {made} of {c.categories} categories" if c.categories else f"{name}: {made}"


def facts(run: Run) -> list[str]:
    """The run in a few words each."""
    c = run.config
    sizes = "–".join(map(str, [run.pixels, *run.model.hidden]))
    lines = [line for line in metrics.read(run.folder, lambda _: None) if line["step"] <= run.step]
    value = f"{metrics.elbo(lines[-1], 'test').negative_elbo:.2f}".replace("-", "−") if lines else ""
    bound = "ELBO" if run.model.latent.soft(1.0) is None else "deterministic bound"
    reached = [f"test negative {bound} {value} nats"] if lines else []
    prior = [f"{c.prior} prior"] if c.prior else []
    return [c.method, f"encoder {sizes}", *prior, f"{c.likelihood} pixels", f"step {run.step}, seed {c.seed}", *reached]
