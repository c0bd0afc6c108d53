"""Every estimator trains: a small model on the digits, against a run whose encoder stays as it is. Share: 15 s."""
import functools

import pytest

from npdvae import engine, estimators, rng
from npdvae.build import build, fresh_state
from npdvae.config import Config

STEPS = 200
LONGER = {"aimle": 350, "darn": 250, "disarm_iw": 250, "disarm_tree": 250, "imle": 350, "muprop": 250,
          "sum_and_sample": 250, "relax": 350, "reinforce": 500, "reinforce_sampled_kl": 500,      # noisy
          "smoothing": 250}


def negative_elbo(name, latents, categories, steps):
    """Test negative ELBO, in nats, after so many steps."""
    job = build(Config(estimator=name, latents=latents, categories=categories, hidden=[32], batch_size=100, lr=5e-3,
                       backend="numpy", epochs=-(-steps // 15)).check())
    job.engine.load(fresh_state(job))
    for epoch in range(-(-steps // 15)):                            # 1,500 images
        order = rng.Generator(0, rng.SHUFFLE).at(epoch).permutation(1500)
        job.engine.run(order[:100 * (steps - 15 * epoch)])
    assert job.engine.state.step == steps
    return sum(job.engine.evaluate(job.dataset.test, samples=5))


@functools.cache
def still(latents, categories, steps):
    """The same under a still encoder. Of all estimators' the exact one's is least, or within 0.01 nats of it."""
    whole_step = engine.step

    def without_encoder(*arguments):
        found = whole_step(*arguments)
        return found._replace(grads={k: g for k, g in found.grads.items() if not k.startswith("encoder.")})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "step", without_encoder)
        return negative_elbo("exact", latents, categories, steps)


@pytest.mark.parametrize("name", estimators.names())
def test_estimator_trains_the_encoder(name):
    latents, categories = (6, 2) if estimators.get(name).binary else (3, 4)     # 6 bits either way
    steps = LONGER.get(name, STEPS)
    trained = negative_elbo(name, latents, categories, steps)
    assert trained <= still(latents, categories, steps) - 1
