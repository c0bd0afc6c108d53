"""--shard samples, codes: the readable step to rounding; the same bits for any number of processes. Share: 2 s."""
import functools

import numpy as np
import pytest

from npdvae import build, describe, latents, likelihoods
from npdvae.backends import blas
from npdvae.engine import Readable
from npdvae.latents.location_scale import Gaussian
from npdvae.parallel.alone import ALONE
from npdvae.parallel.by_rows import ByRows
from npdvae.settings import resolve
from tests.checks import close
from tests.teams import each, teams
from tests.test_numba_segments import NUMPY, ORDER, assert_same_bits, make

CASES = {
    "codes": dict(estimator="exact"), "codes, learned prior": dict(estimator="exact", prior="learned", clip=0.5),
    "rloo": dict(samples=5), "vimco": dict(estimator="vimco", samples=6),
    "gradients at the codes": dict(estimator="straight_through_gumbel", samples=3),
    "relaxed rows": dict(estimator="gumbel_softmax", samples=4, anneal="learned"),
    "a learned baseline": dict(estimator="reinforce", samples=4, baseline="nvil"),
    "continuous": dict(latent=lambda ops: latents.get("gaussian", latents=3, ops=ops, samples=4)),
    "a likelihood's parameter": dict(samples=4, binarize="none",
                                     likelihood=lambda ops: likelihoods.get("gaussian", ops=ops, learned=True)),
}


def made(team, dtype, name, shares=4):
    return make(functools.partial(ByRows, shares=shares, team=team), dtype, NUMPY, **CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_evaluations_in_shares_are_the_readable_step(name):
    """Three steps in float64: sums in another order, magnified by Adam's division."""
    expected, found = make(Readable, "f8", NUMPY, **CASES[name]), made(ALONE, "f8", name)
    assert np.abs(found.run(ORDER) - expected.run(ORDER)).max() <= 1e-10 * 200
    one, other = expected.save(), found.save()
    assert set(one.params) == set(other.params) and set(one.moments) == set(other.moments)
    for k, v in {**one.params, **one.moments, **(one.latent or {})}.items():
        got = {**other.params, **other.moments, **(other.latent or {})}[k]
        assert np.abs(got - v).max() <= 1e-9 * max(1, np.abs(v).max()), k


@pytest.mark.parametrize("name", CASES)
def test_evaluations_in_shares_end_in_the_same_bits_for_any_number_of_processes(name):
    """With four processes, or eight shares of few samples, some idle."""
    def act(team, shares=4):
        engine = made(team, "f4", name, shares)
        return engine.run(ORDER), engine.save()

    with blas.threads(1):
        for shares, sizes in ((4, ((2, 2), (4, 1))), (8, ((8, 2),))):
            sums, end = act(ALONE, shares)
            for size, local in sizes:
                for got, state in each(functools.partial(act, shares=shares), teams(size, local)):
                    assert got.tobytes() == sums.tobytes()
                    assert_same_bits(state, end)


class Learns(Gaussian):
    """Learns a number besides its parameters, as `advance` finds it."""

    def init_state(self, rng, context_size):
        return {"level": np.full(1, 0.5)}

    def advance(self, params, kept, cost, dz, state):
        return {"level": state["level"] - cost.mean()}, state


def test_parts_of_a_step_are_those_of_the_readable_one():
    """Seven images of ten: costs, and gradients of all that is learned, to 1e-12, sums in another order."""
    found = []
    for kind in (Readable, functools.partial(ByRows, shares=4, team=ALONE)):
        engine = make(kind, "f8", NUMPY, latent=lambda ops: Learns(3, ops, samples=4))
        found.append(engine.step_on(ORDER[:7], 0, describe.scalars(engine.recipe, engine.state.step, 10)))
    expected, got = found
    assert got.grads.keys() == expected.grads.keys() and "estimator.level" in got.grads and len(got.cost) == 7
    close(got.cost, expected.cost, 1e-12)
    close(got.kl, expected.kl, 1e-12)
    for k in got.grads:
        close(got.grads[k], expected.grads[k], 1e-12)


@pytest.mark.parametrize("shares, sizes", [(1, [5]), (2, [3, 2]), (4, [2, 2, 1]), (8, [1] * 5)])
def test_evaluations_are_decoded_share_by_share(shares, sizes):
    engine, seen = made(ALONE, "f4", "rloo", shares), []
    decoder = engine.model.decoder
    forward = decoder.forward
    decoder.forward = lambda params, rows: seen.append(len(rows)) or forward(params, rows)
    engine.step_on(ORDER[:10], 0, describe.scalars(engine.recipe, engine.state.step, 10))
    assert seen == sizes


@pytest.mark.parametrize("options, said", [
    (dict(shard="codes", estimator="rloo"), "--shard codes: only the estimator exact decodes all codes, not rloo"),
    (dict(shard="samples", estimator="straight_through"), "--shard samples: straight_through has one sample an image"),
    (dict(shard="samples", latent="vq"), "one sample an image"),
    (dict(shard="codes", estimator="exact", engine="segmented"), "segmented cannot run --shard codes"),
    (dict(shard="samples", microbatch=5), "--shard: got samples, expected batch beside --microbatch")])
def test_what_cannot_be_shared_out_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        build.build(resolve(options))


@pytest.mark.parametrize("options", [dict(shard="codes", estimator="exact", categories=3, latents=2),
                                     dict(shard="samples", samples=4, shares=2)])
def test_a_job_takes_the_engine_that_shares_evaluations(options):
    job = build.build(resolve({**options, "hidden": [5], "batch_size": 500}))
    assert isinstance(job.engine, ByRows) and job.engine.shares == options.get("shares", 8)
    assert job.engine.why == f"--shard {options['shard']}" and job.engine.threads == 1
    job.engine.load(build.fresh_state(job))
    assert np.isfinite(job.engine.run(np.arange(500))).all()
