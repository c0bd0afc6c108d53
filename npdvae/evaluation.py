"""What a model reaches on a split, in nats: ELBO, importance-weighted bound, exact log p(x), use of the code."""
from __future__ import annotations

import math

import numpy as np
from tqdm import tqdm

from npdvae import rng
from npdvae.data.binarize import binarize
from npdvae.estimators.parts.outcomes import all_codes

MOST_CODES = 2 ** 20                            # log p(x) is enumerated up to this many codes
ACTIVE = 0.01                                   # nats of KL above which a latent counts as active


def batches(dataset, rows, mode, seed, step, dtype, xp, size=500):
    """Targets x [B, P] of rows, batch by batch with the index of their first: the draw is that of `step`."""
    pixel_rng = rng.Generator(seed, rng.TEST_BINARIZE)
    for i in range(0, len(rows), size):
        p = dataset.to_probabilities(rows[i:i + size], dtype)
        yield i, xp.asarray(binarize(p, mode, pixel_rng.at(step, example=i)))


def posterior(model, params, x):
    """Encoder output as log q: x [B, P] -> Kept with log_q [B, D, K] and kl [B, D]."""
    h, _ = model.encoder.forward(params, x)
    return model.latent.posterior(params, h.reshape(len(h), model.latent.latents, model.latent.categories))


def hard_codes(model, log_q, latent_rng, samples):
    """Codes from q: int [S, B, D]."""
    B, D, _ = log_q.shape
    u = latent_rng.uniform((samples, B, D), log_q.dtype)
    return model.ops.inverse_cdf(model.ops.xp.exp(log_q), u)


def elbo(model, params, dataset, rows, mode, seed, step, samples=1, dtype=np.float32):
    """Mean cost and mean KL over rows (eq. 86), with fresh hard codes: two floats; their sum is the negative ELBO."""
    total = np.zeros(2)
    latent_rng = rng.Generator(seed, rng.TEST_LATENT, draw_uniform=model.ops.uniform)
    for i, x in batches(dataset, rows, mode, seed, step, dtype, model.ops.xp):
        kept = posterior(model, params, x)
        codes = hard_codes(model, kept.log_q, latent_rng.at(step, example=i), samples)
        logits, _ = model.decode(params, codes)                     # [S, B, P]
        cost = model.ops.bce(logits, x).mean(0)                     # [B]
        total += [float(cost.astype("f8").sum()), float(kept.kl.astype("f8").sum())]
    return total / len(rows)


def log_mean_exp(values, axis=0):
    """log mean exp along an axis, shifted by the largest."""
    top = values.max(axis, keepdims=True)
    return (np.log(np.exp(values - top).mean(axis, keepdims=True)) + top).squeeze(axis)


def importance_weighted(model, params, dataset, rows, mode, seed, step, samples, dtype=np.float32, chunk=10):
    """Mean over rows of log 1/S sum_s p(x, z_s) / q(z_s | x) (Burda et al. 2016, eq. 8), in nats; S in chunks."""
    ops, total = model.ops, 0.0
    latent_rng = rng.Generator(seed, rng.TEST_LATENT, draw_uniform=ops.uniform)
    log_p = model.latent.log_prior(params)                          # [D, K]
    for i, x in batches(dataset, rows, mode, seed, step, dtype, ops.xp):
        log_q, log_w = posterior(model, params, x).log_q, []
        here = latent_rng.at(step, example=i)
        for first in range(0, samples, chunk):
            codes = hard_codes(model, log_q, here, min(chunk, samples - first))          # [s, B, D]
            logits, _ = model.decode(params, codes)
            log_w.append(ops.to_host(ops.log_prob(log_p, codes) - ops.log_prob(log_q, codes)
                                     - ops.bce(logits, x)).astype("f8"))
        total += log_mean_exp(np.concatenate(log_w)).sum()
    return total / len(rows)


def log_prob(model, params, x, tile=512, images=2000):
    """Exact log p(x) by enumeration (eq. 29): x [N, P] -> float64 [N], nats; codes in tiles, shared by all x."""
    ops, D, K = model.ops, model.latent.latents, model.latent.categories
    if K ** D > MOST_CODES:
        raise ValueError(f"log p(x) enumerates categories**latents = {K}**{D} codes, more than {MOST_CODES}")
    log_p = model.latent.log_prior(params).astype(x.dtype)          # [D, K]
    top, total = np.full(len(x), -np.inf), np.zeros(len(x))         # running log-sum-exp
    codes = all_codes(ops.xp, D, K)
    for i in tqdm(range(0, len(codes), tile), "log p(x)", unit="tile", disable=None, leave=False, delay=2):
        some = codes[i:i + tile]                                    # [C, D]
        logits, _ = model.decode(params, some)                      # [C, P]
        log_prior = ops.log_prob(log_p, some)[:, None]              # [C, 1]
        for n in range(0, len(x), images):
            joint = ops.to_host(log_prior - ops.bce_shared(logits, x[n:n + images]))     # [C, n]
            here = slice(n, n + images)
            above = np.maximum(top[here], joint.max(0))             # [n]; exact in the type of joint
            joint -= above.astype(joint.dtype)
            total[here] = total[here] * np.exp(top[here] - above) + np.exp(joint, out=joint).sum(0, dtype="f8")
            top[here] = above
    return np.log(total) + top


def code_use(model, params, dataset, rows, mode, seed, step, dtype=np.float32):
    """KL per latent [D] in nats, and how often each category is drawn [D, K], over rows."""
    ops, kl, use = model.ops, 0.0, 0.0
    for _, x in batches(dataset, rows, mode, seed, step, dtype, ops.xp):
        kept = posterior(model, params, x)
        kl = kl + ops.to_host(kept.kl).astype("f8").sum(0)
        use = use + np.exp(ops.to_host(kept.log_q).astype("f8")).sum(0)
    return kl / len(rows), use / len(rows)


def summary(model, params, dataset, rows, mode, seed, step, samples=100, dtype=np.float32,
            most_codes=MOST_CODES):
    """All of it as plain numbers and lists; log_prob is None where there are more than `most_codes` codes."""
    cost, kl = elbo(model, params, dataset, rows, mode, seed, step, dtype=dtype)
    kl_per_latent, use = code_use(model, params, dataset, rows, mode, seed, step, dtype)
    exact = None
    if model.latent.categories ** model.latent.latents <= most_codes:
        parts = [log_prob(model, params, x) for _, x in
                 batches(dataset, rows, mode, seed, step, dtype, model.ops.xp, size=10_000)]
        exact = float(np.concatenate(parts).mean())
    entropy = -(use * np.log(np.maximum(use, 1e-300))).sum(1)       # [D], of the aggregate posterior
    return {
        "images": len(rows), "negative_elbo": float(cost + kl), "cost": float(cost), "kl": float(kl),
        "importance_weighted_bound": float(importance_weighted(model, params, dataset, rows, mode, seed, step, samples,
                                                               dtype)),
        "importance_samples": samples, "log_prob": exact,
        "bits_per_dimension": float((cost + kl) / (dataset.pixels * math.log(2))),
        "kl_per_latent": kl_per_latent.tolist(), "active_latents": int((kl_per_latent > ACTIVE).sum()),
        "code_use": use.tolist(), "perplexity_per_latent": np.exp(entropy).tolist(),
    }
