"""What a model reaches on a split, in nats: ELBO, importance-weighted bound, exact log p(x), use of the code."""
from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from npdvae import costs, rng
from npdvae.costs import cost_of
from npdvae.estimators.parts.outcomes import MOST_CODES
from npdvae.parallel.alone import ALONE

TEMPERATURES = tuple(2.0 ** k for k in range(-8, 7))                # of softened codes, in squared distances
LEAST = -80.0                                   # of log p(x, z) below the largest: exp is slow where it underflows
ACTIVE = 0.01                                   # nats of KL above which a latent counts as active


class Split(NamedTuple):
    """Rows of a data set as targets, and all that their draws depend on: `step` numbers the draw."""

    dataset: Any
    rows: np.ndarray                            # of `dataset`, [N, P]
    mode: str                                   # how rows are binarized batch by batch
    seed: int = 0
    step: int = 0
    dtype: Any = np.float32

    def batches(self, ops, size=500, team=ALONE):
        """Targets x [B, P], batch by batch, with the index of their first; those of this process of a team."""
        pixel_rng = rng.Generator(self.seed, rng.TEST_BINARIZE)
        for n in team.some(math.ceil(len(self.rows) / size)):
            i = n * size
            here = pixel_rng.at(self.step, example=i)
            yield i, ops.targets(self.dataset, self.rows[i:i + size], self.mode, here, self.dtype)

    def latent_rng(self, ops):
        """The generator of z; `at(step, example)` moves it to a batch."""
        return rng.Generator(self.seed, rng.TEST_LATENT, draw_uniform=ops.uniform)


def cost_and_kl(model, params, split, samples=1, team=ALONE):
    """Mean cost and mean KL over rows (eq. 86), with fresh z from q: two floats; their sum is the negative ELBO."""
    parts, latent_rng = [], split.latent_rng(model.ops)
    for i, x in split.batches(model.ops, team=team):
        q = model.encode(params, x)
        z = model.latent.sample(params, q, latent_rng.at(split.step, example=i), samples)
        cost = cost_of(model, params, z, x).mean(0)                 # [B]
        kl = model.latent.kl_of(params, q, z)                       # [B, D]
        parts.append(np.array([float(cost.astype("f8").sum()), float(kl.astype("f8").sum())]))
    return sum(team.gather(parts), np.zeros(2)) / len(split.rows)


def importance_weighted(model, params, split, samples, chunk=10, way=costs.of_each):
    """Mean over rows of log 1/S sum_s p(x, z_s) / q(z_s | x) (Burda et al. 2016, eq. 8), in nats; S in chunks.

    way: that of `npdvae.costs` where codes are many.
    """
    ops, latent, total, size = model.ops, model.latent, 0.0, 500
    if costs.few_codes(model, samples):
        way, size = costs.of_codes, costs.images(model)
    latent_rng, of = split.latent_rng(ops), way(model, params)
    with tqdm(total=len(split.rows) * samples, desc="importance-weighted bound", unit="z", unit_scale=True,
              disable=None, leave=False, delay=2) as bar:
        for i, x in split.batches(ops, size):
            q, log_sum, cost = model.encode(params, x), np.full(len(x), -np.inf), of(x)
            here = latent_rng.at(split.step, example=i)
            for first in range(0, samples, chunk):
                z = latent.sample(params, q, here, min(chunk, samples - first))     # [s, B, ...]
                log_w = ops.to_host(latent.log_ratio(params, q, z) - cost(z))       # [s, B]
                log_sum = np.logaddexp(log_sum, np.logaddexp.reduce(log_w.astype("f8")))
                bar.update(log_w.size)
            total += (log_sum - math.log(samples)).sum()
    return total / len(split.rows)


def softened(model, params, split, samples=10, images=500, way=costs.of_each):
    """The model and None; where its posterior is a point, the model with that spread by a temperature, and that.

    The temperature is the one of the best importance-weighted bound on the first training images.
    """
    if model.latent.soft(1.0) is None:
        return model, None
    train = split._replace(rows=split.dataset.train[:images])

    def spread(temperature):
        other = copy.copy(model)
        other.latent = model.latent.soft(temperature)
        return other

    best = max(TEMPERATURES, key=lambda t: importance_weighted(spread(t), params, train, samples, way=way))
    return spread(best), best


def log_prob(model, params, x, tile=512, images=2000, way=costs.shared):
    """Exact log p(x) by enumeration (eq. 29): x [N, P] -> float64 [N], nats; codes in tiles, shared by all x.

    way: to their costs, as `npdvae.costs.shared`. ValueError where the latent has no codes to enumerate, or too many.
    """
    ops, latent = model.ops, model.latent
    if (codes := latent.codes()) is None:
        count = latent.code_count()
        raise ValueError("log p(x) cannot be enumerated: " + (
            "the latent has no codes" if count is None else f"{count} codes, more than {MOST_CODES}"))
    top, total = np.full(len(x), -np.inf), np.zeros(len(x))         # running log-sum-exp
    of = way(model, params, x, tile)
    for i in tqdm(range(0, len(codes), tile), "log p(x)", unit="tile", disable=None, leave=False, delay=2):
        some = codes[i:i + tile]                                    # [C, D]
        cost = of(model.decode(params, some)[0][:, None])           # from [C, 1, P]
        log_prior = latent.log_prior(params, some, x.dtype)[:, None]            # [C, 1]
        for n in range(0, len(x), images):
            here = slice(n, n + images)
            joint = ops.to_host(log_prior - cost(here))             # [C, n]
            above = np.maximum(top[here], joint.max(0))             # [n]; exact in the type of joint
            joint -= above.astype(joint.dtype)
            np.maximum(joint, LEAST, out=joint)
            total[here] = total[here] * np.exp(top[here] - above) + np.exp(joint, out=joint).sum(0, dtype="f8")
            top[here] = above
    return np.log(total) + top


def code_use(model, params, split):
    """KL per latent [D] in nats, and how often each category is drawn [D, K] (None where z is continuous)."""
    ops, latent, discrete = model.ops, model.latent, model.latent.categories is not None
    kl, use, latent_rng = 0.0, 0.0, split.latent_rng(model.ops)
    for i, x in split.batches(ops):
        q = model.encode(params, x)
        z = latent.sample(params, q, latent_rng.at(split.step, example=i), 1)
        kl = kl + ops.to_host(latent.kl_of(params, q, z)).astype("f8").sum(0)
        if discrete:
            use = use + ops.to_host(latent.readout(q)).astype("f8").sum(0)
    return kl / len(split.rows), use / len(split.rows) if discrete else None


def bounds(figures):
    """How tables name the two bounds of a summary: that of one sample (or code), and what the other is made of."""
    samples, temperature = figures["importance_samples"], figures["soft_temperature"]
    if temperature is None:
        return "ELBO", f"{samples} samples"
    return "deterministic bound", f"{samples} samples of codes softened at temperature {temperature:g}"


def grey_targets(model, split):
    """Whether pixels between 0 and 1 are targets of a likelihood of 0 and 1: costs then are no log-probabilities."""
    rows = split.rows
    return not model.likelihood.grey and split.mode == "none" and bool(
        ((rows > 0) & (rows < split.dataset.levels)).any())


def summary(model, params, split, samples=100, most_codes=MOST_CODES, way=costs.of_each, shared=costs.shared):
    """All of it as plain numbers and lists; None for what the latent does not have, for over `most_codes` codes, or
    where `grey_targets` leave it without a meaning.
    """
    latent, N, grey = model.latent, len(split.rows), grey_targets(model, split)
    cost, kl = cost_and_kl(model, params, split)
    kl_per_latent, use = code_use(model, params, split)
    spread, temperature = softened(model, params, split, way=way)
    exact = None
    if not grey and (count := latent.code_count()) is not None and count <= min(most_codes, MOST_CODES):
        parts = [log_prob(model, params, x, way=shared) for _, x in split.batches(model.ops, size=10_000)]
        exact = float(np.concatenate(parts).mean())
    # what a latent tells of the image: its KL, or, where q is a point and the KL a constant, the entropy of its use
    information = kl_per_latent if temperature is None else np.log(perplexity(use))
    figures = {
        "images": N, "negative_elbo": float(cost + kl), "cost": float(cost), "kl": float(kl),
        "importance_weighted_bound": float(importance_weighted(spread, params, split, samples, way=way)),
        "importance_samples": samples, "soft_temperature": temperature, "log_prob": exact,
        "grey_targets": grey, "bits_per_dimension": None if model.likelihood.density or grey else
        float((cost + kl) / (split.dataset.pixels * math.log(2))),
        "kl_per_latent": kl_per_latent.tolist(), "active_latents": int((information > ACTIVE).sum()),
        "code_use": None, "perplexity_per_latent": None, "codebook_use": None, "codebook_perplexity": None,
    }
    if use is not None:                         # of the aggregate posterior
        figures |= {"code_use": use.tolist(), "perplexity_per_latent": perplexity(use).tolist()}
        if latent.one_codebook:                 # a position may need few of the codes that all of them use
            figures |= {"codebook_use": use.mean(0).tolist(), "codebook_perplexity": float(perplexity(use.mean(0)))}
    return figures


def perplexity(p):
    """exp of the entropy: probabilities [..., K] -> [...]."""
    return np.exp(-(p * np.log(np.maximum(p, 1e-300))).sum(-1))
