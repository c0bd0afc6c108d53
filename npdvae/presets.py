"""Published recipes by name: settings of `npdvae.config.Config` (docs/recipes.md has sources and results)."""
from typing import Any

REINMAX: dict[str, Any] = dict(
    data="mnist", binarize="none", hidden=[512, 256], activation="relu", estimator="reinmax", batch_size=100,
    epochs=160)


def _reinmax(categories, latents, optimizer, lr, temperature):
    """One setting of the ReinMax protocol (Liu et al. 2023); its names are K x D."""
    return dict(REINMAX, latents=latents, categories=categories, optimizer=optimizer, lr=lr, temperature=temperature)


PRESETS: dict[str, dict[str, Any]] = {
    "tutorial": dict(
        data="mnist", binarize="dynamic", latents=4, categories=8, hidden=[512, 256], activation="relu",
        estimator="reinforce", baseline="constant", baseline_value=125.0, optimizer="adam", lr=5e-4, batch_size=100,
        epochs=160),
    "reinmax-8x4": _reinmax(8, 4, "adam", 5e-4, 1.3),
    "reinmax-4x24": _reinmax(4, 24, "radam", 5e-4, 1.5),
    "reinmax-8x16": _reinmax(8, 16, "radam", 7e-4, 1.5),
    "reinmax-16x12": _reinmax(16, 12, "radam", 7e-4, 1.5),
    "reinmax-64x8": _reinmax(64, 8, "radam", 5e-4, 1.5),
    "reinmax-10x30": _reinmax(10, 30, "radam", 5e-4, 1.3),
    "gaussian-parmesan": dict(
        data="mnist", binarize="dynamic", latent="gaussian", latents=100, hidden=[500, 500], activation="relu",
        init="glorot", optimizer="adam", lr=1e-3, lr_schedule="cosine", kl_warmup=60_000, batch_size=100, epochs=400),
}
