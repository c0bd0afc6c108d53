"""Every estimator trains: a small model on the digits, against the same run with a still encoder. Share: 60 s."""
import pytest

from npdvae import engine, estimators, rng
from npdvae.build import build, fresh_state
from npdvae.config import Config

STEPS = 200
LONGER = {"aimle": 350, "darn": 250, "disarm_iw": 250, "disarm_tree": 250, "imle": 350, "muprop": 250,
          "sum_and_sample": 250, "relax": 350, "reinforce": 500, "reinforce_sampled_kl": 500}   # noisy


def negative_elbo(name, steps):
    """Test negative ELBO, in nats, of 3 latents of 4 categories (6 bits where binary) after so many steps."""
    latents, categories = (6, 2) if estimators.get(name).binary else (3, 4)
    job = build(Config(estimator=name, latents=latents, categories=categories, hidden=[32], batch_size=100, lr=5e-3,
                       backend="numpy", epochs=-(-steps // 15)).check())
    job.engine.load(fresh_state(job))
    for epoch in range(-(-steps // 15)):                            # 1,500 images
        order = rng.Generator(0, rng.SHUFFLE).at(epoch).permutation(1500)
        job.engine.run(order[:100 * (steps - 15 * epoch)])
    assert job.engine.state.step == steps
    return sum(job.engine.evaluate(job.dataset.test, samples=5))


@pytest.mark.parametrize("name", estimators.names())
def test_estimator_trains_the_encoder(name, monkeypatch):
    steps = LONGER.get(name, STEPS)
    trained = negative_elbo(name, steps)
    whole_step = engine.step

    def still(*arguments):
        found = whole_step(*arguments)
        return found._replace(grads={k: g for k, g in found.grads.items() if not k.startswith("encoder.")})

    monkeypatch.setattr(engine, "step", still)
    assert trained <= negative_elbo(name, steps) - 1
