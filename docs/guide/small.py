"""Small trainings for the chapters: on the embedded digits, in this process, with the readable step on NumPy."""
from npdvae import build, evaluation
from npdvae.config import Config
from npdvae.run import Run


def train(epochs=30, every=1, **settings):
    """Train on the digits: the `Run`, and the test negative ELBO after every so many epochs as {epoch: nats}.

    Settings are those of `npdvae.config.Config`, so `python -m npdvae.train` with the same ones gives the same run.
    """
    job = build.build(Config(**{"backend": "numpy", "engine": "readable", "epochs": epochs, **settings}).check())
    engine, shuffle = job.engine, build.rng.Generator(job.config.seed, build.rng.SHUFFLE)
    engine.load(build.fresh_state(job))
    curve = {}
    for epoch in range(epochs):
        engine.run(shuffle.at(epoch).permutation(len(job.dataset.train)))
        if (epoch + 1) % every == 0:
            curve[epoch + 1] = float(sum(engine.evaluate(job.dataset.test)))
    run = Run(None, job.config, engine.save().params, engine.state.step, job.dataset.shape, job.model)
    return run, curve


def images(run, n=None, part="test"):
    """Targets [n, P] of the first images of a split, as the run's model sees them."""
    data = run.dataset()
    return run.targets(data, getattr(data, part)[:n])


def figures(run, samples=100):
    """`npdvae.evaluation.summary` of the test split."""
    data = run.dataset()
    return evaluation.summary(run.model, run.params, run.split(data, data.test), samples)
