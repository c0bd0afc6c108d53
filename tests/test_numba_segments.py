"""The segmented engine against the readable one, for every estimator and parts of one's own. Share: 6 s.

What a float32 step may miss of the float64 one is what the readable float32 step misses of it, twice, or 2e-5 of the
largest entry: sums of up to 200 float32 products, over 3 steps.
"""
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

from npdvae import backends, build, estimators, latents, likelihoods, optimizers, rng
from npdvae.describe import Recipe
from npdvae.engine import Readable
from npdvae.fused import Segmented, reason_unsegmented, support, workers
from npdvae.fused.segments import A, B, C, D, E, Q, U, W
from npdvae.latents.base import Latent
from npdvae.latents.categorical import Categorical
from npdvae.model import DiscreteVAE
from npdvae.optimizers.base import Optimizer
from npdvae.parallel.alone import ALONE
from npdvae.process import cores
from npdvae.state import TrainState
from tests.test_numba_fused import TOLERANCE, images
from tests.test_own_parts import TenthOfBCE

NUMPY, NUMBA = backends.load("numpy"), backends.load("numba")
f4 = np.float32
SHARED = {"exact": "codes that the batch shares"}                   # estimators that it leaves to others
ORDER = np.random.default_rng(2).permutation(60)[:27]               # two batches of ten, and one of seven


class Point(NamedTuple):
    z: Any                                      # [B, D]
    kl: Any                                     # [B, D]


class Squashed(Latent):
    """z = tanh(h C) for a learned C [2 D, D]: encoder and decoder of other widths, a parameter and a state of its own.

    calm: weight of z in the state's running mean; samples decode z, z times `factor`, ..., of which the first counts.
    """

    name = "squashed"

    def __init__(self, latents, ops, samples=1, factor=1.0):
        super().__init__(latents, ops)
        self.width, self.features, self.samples, self.factor = 2 * latents, latents, samples, factor

    def init(self, rng, dtype):
        return {"latent.c": rng.uniform((1, 2 * self.latents, self.latents), dtype)[0]}

    def init_state(self, rng, context_size=0):
        return {"mean": np.zeros(self.latents, f4), "shift": np.full(self.latents, 0.5, f4)}

    def posterior(self, params, h):
        z = self.ops.tanh(h @ params["latent.c"])                   # [B, D]
        return Point(z, z ** 2 / 2)

    def forward(self, params, h, rng, state=None, context=None):
        q = self.posterior(params, h)
        scale = self.factor ** self.ops.xp.arange(self.samples, dtype=h.dtype)[:, None, None]
        return (q.z + state["shift"].astype(h.dtype)) * scale, (q, h)               # [S, B, D]

    def weigh(self, params, kept, cost):
        return (self.ops.xp.arange(len(cost))[:, None] == 0).astype(cost.dtype)     # [S, 1]

    def kl(self, params, kept, weights):
        return kept[0].kl.sum(-1)

    def backward(self, params, kept, cost, dz, state=None, kl_weight=1.0, scale=1.0):
        q, h = kept
        da = scale * self.ops.tanh_backward(dz[0] + kl_weight * q.z, q.z)           # [B, D]
        return da @ params["latent.c"].T, {"latent.c": h.T @ da}

    def advance(self, params, kept, cost, dz, state):
        return {"shift": dz[0].mean(0)}, {**state, "mean": 0.9 * state["mean"] + 0.1 * kept[0].z.mean(0)}

    def refresh(self, params, state):
        return {**params, "latent.c": params["latent.c"] + 0.01 * state["mean"].astype(params["latent.c"].dtype)}

    def sample(self, params, q, rng, samples):
        return self.ops.xp.repeat(q.z[None], samples, 0)


class Choice(Latent):
    """One category of each of D groups of the encoder's output, the largest: its features K, a score-function gradient
    with the negative cost's mean as baseline. Int codes and no gradient at the rows."""

    name, needs_dz = "choice", False

    def __init__(self, latents, ops):
        super().__init__(latents, ops)
        self.categories, self.width, self.features = 3, 3 * latents, 3 * latents

    def posterior(self, params, h):
        h = h.reshape(len(h), self.latents, 3)                      # [B, D, K]
        return Point(h, (h ** 2).sum(-1))

    def forward(self, params, h, rng, state=None, context=None):
        q = self.posterior(params, h)
        return self.sample(params, q, rng, 2), q

    def kl(self, params, kept, weights):
        return kept.kl.sum(-1)

    def backward(self, params, kept, cost, dz, state=None, kl_weight=1.0, scale=1.0):
        assert dz is None
        better = (cost[0] - cost[1])[:, None, None]                 # [B, 1, 1]
        return (scale * (better + 2 * kl_weight * kept.z)).reshape(len(kept.z), -1), {}

    def sample(self, params, q, rng, samples):
        u = rng.uniform((samples, *q.z.shape), q.z.dtype)           # [S, B, D, K]
        return (q.z + u).argmax(-1)


class Lars(Optimizer):
    """A momentum whose steps are as long as the parameter: no rule by element, two moments."""

    name, kinds = "lars", "ab"

    def rule(self, p, g, *moments, t, lr):
        a, b = moments
        a, b = 0.9 * a + g, b + abs(g)
        norm = self.ops.xp.sqrt((a ** 2).sum()) + 1e-8
        return p - lr * self.ops.xp.sqrt((p ** 2).sum()) / norm * a, a, b


OWN = f"{__name__}:Lars"


def make(kind, dtype, ops, estimator="rloo", latent=None, likelihood=None, pixels=19, images_of="bytes",
         binarize="dynamic", hidden=(20, 11), batch=10, optimizer="adam", activation="relu", kl_weight=0.7, threads=2,
         D=3, K=4, microbatch=None, clip=None, team=ALONE, **options):
    """An engine of a small model with its first state loaded."""
    K = 2 if latent is None and estimators.find(estimator).binary else K
    part = Categorical(D, K, estimator, ops=ops, **options) if latent is None else latent(ops)
    model = DiscreteVAE(pixels, hidden, part, likelihood and likelihood(ops), activation)
    rule = optimizers.get(optimizer, ops=ops)
    recipe = Recipe(rule, lambda step: 1e-3 / (step + 1), lambda step: kl_weight, batch, microbatch, clip, binarize, 3,
                    np.dtype(dtype))
    arguments = (threads,) if kind is Segmented else ()
    shared = {} if team is ALONE else {"team": team}
    engine = kind(model, recipe, images(pixels, images_of), *arguments, **shared)
    draw = np.random.default_rng(1)
    params = {k: draw.normal(0, 0.5, v.shape).astype(f4) for k, v in model.init(rng.Generator(0), f4).items()}
    params = {k: v.astype(dtype) for k, v in params.items()}
    state = part.init_state(rng.Generator(1), pixels)
    state = {k: v.astype(dtype) if v.dtype.kind == "f" else v for k, v in state.items()} if state else None
    engine.load(TrainState(params, optimizers.get(optimizer).init(params), state, 4))
    return engine


def agrees(options):
    """Three steps of the segmented engine against the readable one, in float64 and float32."""
    engines = [make(Readable, "f8", NUMPY, **options), make(Readable, "f4", NUMBA, **options),
               make(Segmented, "f4", NUMBA, **options)]
    sums = [engine.run(ORDER) for engine in engines]
    assert np.abs(sums[2] - sums[0]).max() <= TOLERANCE * np.abs(sums[0]).max()
    exact, readable, found = (engine.save() for engine in engines)
    assert found.step == exact.step and set(found.params) == set(exact.params)
    assert set(found.moments) == set(exact.moments)
    for k, v in exact.moments.items():
        error, allowed = np.abs(found.moments[k] - v).max(), np.abs(readable.moments[k] - v).max()
        assert error <= max(2 * allowed, TOLERANCE * np.abs(v).max()), k
    for k, v in exact.params.items():           # steps of 1e-4: one may flip its sign where the gradient cancels
        assert np.abs(found.params[k] - v).max() <= 5e-4 and np.median(np.abs(found.params[k] - v)) <= 1e-6, k
    assert set(found.latent or {}) == set(exact.latent or {})
    for k, v in (exact.latent or {}).items():
        error, allowed = np.abs(found.latent[k] - v).max(), np.abs(readable.latent[k] - v).max()
        assert error <= max(2 * allowed, TOLERANCE * max(1, np.abs(v).max())), k
    assert any(np.abs(v).max() > 0 for v in exact.moments.values())


@pytest.mark.parametrize("name", [name for name in estimators.names() if name not in SHARED])
def test_segments_agree_with_the_readable_step_for_every_estimator(name):
    agrees({"estimator": name})


@pytest.mark.parametrize("name", SHARED)
def test_estimators_left_to_others_say_why(name):
    with pytest.raises(ValueError, match=SHARED[name]):
        make(Segmented, "f4", NUMBA, estimator=name)


def squashed(ops):
    return Squashed(3, ops)


CASES = {
    "one hidden layer": dict(hidden=(17,)), "three hidden layers": dict(hidden=(70, 33, 9), activation="leaky_relu"),
    "tanh": dict(activation="tanh", estimator="rebar"), "grey bytes": dict(binarize="none", estimator="rebar"),
    "grey floats": dict(images_of="floats", binarize="none"), "drawn floats": dict(images_of="floats"),
    "dense bits": dict(images_of="floats", binarize="threshold", estimator="gumbel_softmax"),
    "bits": dict(images_of="bits", binarize="none"), "radam": dict(optimizer="radam", estimator="disarm_tree"),
    "learned prior": dict(prior="learned", estimator="vimco"), "free bits": dict(free_bits=0.3, estimator="darn"),
    "autoregressive prior": dict(prior="autoregressive", estimator="double_cv"),
    "autoregressive prior, gradient at the codes": dict(prior="autoregressive", estimator="muprop"),
    "batch of one": dict(batch=1), "samples": dict(estimator="straight_through_gumbel", samples=3),
    "many rows": dict(estimator="vimco", batch=27, pixels=131, hidden=(150, 40), D=6, K=12, samples=24),
    "learned temperature": dict(estimator="gumbel_softmax", anneal="learned"),
    "nvil": dict(estimator="reinforce", baseline="nvil"),
    "gaussian": dict(likelihood=lambda ops: likelihoods.get("gaussian", ops=ops, learned=True), binarize="none"),
    "gaussian, gradient at the codes": dict(
        likelihood=lambda ops: likelihoods.get("gaussian", ops=ops, learned=True), estimator="rebar"),
    "continuous Bernoulli": dict(likelihood=lambda ops: likelihoods.get("continuous_bernoulli", ops=ops),
                                 binarize="none", estimator="gumbel_softmax"),
    "own likelihood": dict(likelihood=TenthOfBCE, estimator="vimco"),
    "own latent": dict(latent=squashed), "own latent, own likelihood": dict(latent=squashed, likelihood=TenthOfBCE),
    "own latent of codes": dict(latent=lambda ops: Choice(3, ops)),
    "weights of zero": dict(latent=lambda ops: Squashed(3, ops, 3, 30.0)),
    "no hidden layer": dict(hidden=()), "no hidden layer, gradient at the codes": dict(hidden=(), estimator="rebar"),
    "own latent, no hidden layer": dict(hidden=(), latent=squashed, binarize="none"),
    "clipped": dict(clip=0.5, estimator="vimco"), "not clipped": dict(clip=1e6, estimator="rebar"),
    "clipped, own latent": dict(clip=0.1, latent=squashed), "microbatches": dict(microbatch=4, estimator="vimco"),
    "microbatches, clipped": dict(microbatch=3, clip=0.5, estimator="gumbel_softmax", optimizer="radam"),
    "microbatches, own latent": dict(microbatch=4, latent=squashed), "sgd": dict(optimizer="sgd", estimator="rebar"),
    "sgd, clipped": dict(optimizer="sgd", clip=0.5, latent=squashed), "own optimizer": dict(optimizer=OWN),
    "own optimizer, clipped microbatches": dict(optimizer=OWN, clip=0.5, microbatch=4, latent=squashed),
    "many rows, clipped": dict(estimator="vimco", batch=27, pixels=131, hidden=(150, 40), D=6, K=12, samples=24,
                               clip=1.0),
    "dense bits, microbatches": dict(images_of="floats", binarize="threshold", estimator="darn", microbatch=7),
}


@pytest.mark.parametrize("name", CASES)
def test_segments_agree_with_the_readable_step(name):
    agrees(CASES[name])


def test_a_sample_of_weight_zero_leaves_no_trace():
    """However large what it decodes: gradients are those without it, in another order of the same sums."""
    one, three = (make(Segmented, "f4", NUMBA, latent=lambda ops, S=S: Squashed(3, ops, S, 1e4)) for S in (1, 3))
    assert np.abs(one.run(ORDER[:10]) - three.run(ORDER[:10])).max() <= 1e-3            # of 200 nats
    for k, v in one.save().moments.items():
        assert np.abs(three.save().moments[k] - v).max() <= 1e-6 * np.abs(v).max(), k


SOME = ["learned prior", "own latent", "gaussian, gradient at the codes", "many rows", "learned temperature",
        "microbatches, clipped", "own optimizer, clipped microbatches"]


def assert_same_bits(a, b):
    for one, other in ((a.params, b.params), (a.moments, b.moments), (a.latent or {}, b.latent or {})):
        assert set(one) == set(other) and all(np.array_equal(one[k], other[k]) for k in one)
    assert a.step == b.step


@pytest.mark.parametrize("name", SOME)
def test_bits_depend_neither_on_threads_nor_on_grouping_nor_on_resuming(name):
    options, found = CASES[name], []
    size = options.get("batch", 10)
    for threads, cuts in ((1, ()), (2, (size,)), (3, (2 * size,))):
        engine, sums = make(Segmented, "f4", NUMBA, threads=threads, **options), []
        for part in np.split(ORDER, cuts):
            sums.append(engine.run(part))
            state = engine.save()
            engine = make(Segmented, "f4", NUMBA, threads=threads, **options)
            engine.load(state)
        found.append((np.concatenate(sums), engine.save()))
    for sums, state in found[1:]:
        assert np.array_equal(sums, found[0][0])
        assert_same_bits(state, found[0][1])


@pytest.mark.parametrize("name", [*SOME, "grey bytes", "own latent of codes", "autoregressive prior"])
def test_evaluation_equals_the_readable_one(name):
    """Of nine images: in one batch, or in three, whose random numbers are those of the whole; int codes even where
    training decodes floats."""
    for batch in (10, 4):
        options = {**CASES[name], "batch": batch}
        found, expected = (make(kind, "f4", NUMBA, **options) for kind in (Segmented, Readable))
        test = expected.dataset.test
        for samples in (1, 2):
            a, b = found.evaluate(test, samples, 7), expected.evaluate(test, samples, 7)
            assert np.abs(a - b).max() <= TOLERANCE * np.abs(b).max()
        found.run(ORDER)                        # and what an evaluation left behind disturbs no step
        expected.run(ORDER)
        a, b = found.evaluate(test), expected.evaluate(test)
        assert np.abs(a - b).max() <= 1e-4 * np.abs(b).max()        # parameters after Adam magnify rounding


def peers():
    """Threads besides this one that are at work for an engine."""
    return [t for t in threading.enumerate() if t is not threading.main_thread() and "serve" in t.name]


def failing(engine, monkeypatch, method, error):
    """Have a method of the latent, or the optimizer's rule, fail in the second step (its second call of all)."""
    calls, part = [], engine.recipe.optimizer if method == "rule" else engine.model.latent
    first = len(engine.save().params) + 1 if method == "rule" else 1        # a call for each parameter and `shift`
    original = getattr(part, method)

    def wrapper(*arguments, **options):
        calls.append(len(peers()))
        if len(calls) == first + 1:
            error()
        return original(*arguments, **options)

    monkeypatch.setattr(part, method, wrapper)
    return calls


def interrupt():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)       # a test run in the background ignores it
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    finally:
        signal.signal(signal.SIGINT, before)


def fault():
    raise RuntimeError("between two segments")


@pytest.mark.parametrize("error, kind", [(fault, RuntimeError), (interrupt, KeyboardInterrupt)])
@pytest.mark.parametrize("method, options", [
    *((name, {}) for name in ("forward", "rows", "weigh", "backward", "advance", "kl", "refresh")),
    ("backward", {"clip": 0.5}), ("refresh", {"clip": 0.5}), ("refresh", {"optimizer": OWN}),
    ("rule", {"optimizer": OWN})])
def test_an_exception_between_segments_leaves_the_last_whole_step_and_no_thread(monkeypatch, method, options, error,
                                                                               kind):
    whole, broken, first = (make(Segmented, "f4", NUMBA, latent=squashed, threads=3, **options) for _ in range(3))
    expected, (_, *rest) = whole.run(ORDER), np.split(ORDER, [10])
    with monkeypatch.context() as patch:
        calls = failing(broken, patch, method, error)
        with pytest.raises(kind):
            broken.run(ORDER)
    assert set(calls) == {2} and not peers()      # the threads were there
    first.run(ORDER[:10])
    assert_same_bits(broken.save(), first.save())
    assert np.array_equal(broken.run(*rest), expected[1:])          # and the run goes on as if nothing had been
    assert_same_bits(broken.save(), whole.save())


@pytest.mark.parametrize("end, when", [(A, "after"), (B, "after"), (C, "after"), (U, "before"), (U, "after")])
def test_an_interrupt_beside_a_segment_leaves_a_whole_step(monkeypatch, end, when):
    """Python delivers a signal that came during compiled code as soon as that returns: behind U the step is done."""
    engine, run = make(Segmented, "f4", NUMBA, latent=squashed), workers.Workers.run

    def interrupted(self, turn):
        if turn == U + end and when == "before":                    # of the second step
            raise KeyboardInterrupt
        run(self, turn)
        if turn == U + end:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(workers.Workers, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.run(ORDER)
    whole = make(Segmented, "f4", NUMBA, latent=squashed)
    whole.run(ORDER[:20 if (end, when) == (U, "after") else 10])
    assert_same_bits(engine.save(), whole.save())
    assert not peers()


def test_evaluation_leaves_no_cost_behind():
    """Steps of many rows sum a row's cost in one part, an evaluation of few rows in several where pixels are many."""
    sums = []
    for evaluates in (False, True):
        engine = make(Segmented, "f4", NUMBA, estimator="vimco", pixels=240, batch=27, samples=24)
        assert engine.plan.frame.long(24) and not engine.plan.frame.long(1)
        if evaluates:
            engine.evaluate(engine.dataset.test)
        sums.append(engine.run(ORDER))
    assert np.array_equal(*sums)


def test_evaluation_that_fails_leaves_no_thread(monkeypatch):
    engine = make(Segmented, "f4", NUMBA, latent=squashed, batch=4)
    expected = engine.evaluate(engine.dataset.test)
    with monkeypatch.context() as patch:
        failing(engine, patch, "sample", fault)
        with pytest.raises(RuntimeError):
            engine.evaluate(engine.dataset.test)
    assert not peers() and np.array_equal(engine.evaluate(engine.dataset.test), expected)


def test_a_process_ends_though_a_step_failed():
    code = ("from tests.test_numba_segments import *\n"
            "engine = make(Segmented, 'f4', NUMBA, latent=squashed)\n"
            "engine.model.latent.weigh = lambda *a: fault()\n"
            "engine.run(ORDER)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1 and done.stderr.strip().endswith("RuntimeError: between two segments")


def test_workers_sleep_while_python_is_long(monkeypatch):
    """Ten times 0.1 s between segments, two peers: less than half of it on the processor; and the bits stay."""
    engine, other = (make(Segmented, "f4", NUMBA, latent=squashed, threads=3) for _ in range(2))
    expected = other.run(ORDER)
    backward, weigh = engine.model.latent.backward, engine.model.latent.weigh

    def slow(function):
        def wrapper(*arguments):
            time.sleep(0.2)
            return function(*arguments)
        return wrapper

    monkeypatch.setattr(engine.model.latent, "backward", slow(backward))
    monkeypatch.setattr(engine.model.latent, "weigh", slow(weigh))
    before = time.process_time()
    assert np.array_equal(engine.run(ORDER), expected)
    assert time.process_time() - before < 0.6                       # six times 0.2 s


def test_segments_are_counted_in_the_order_of_a_step():
    engine = make(Segmented, "f4", NUMBA)
    assert [A, B, C, W, D, U, Q, E] == [1, 2, 3, 4, 5, 6, 7, 8] and len(engine.training.segments) == U
    assert len(make(Segmented, "f4", NUMBA, clip=1.0).training.segments) == E
    assert len(engine.evaluation.segments) == B


def test_choose_engine_serves_what_can_be_cut_and_says_why():
    engine = make(Segmented, "f4", NUMBA, estimator="vimco")
    model, recipe, data = engine.model, engine.recipe, engine.dataset
    assert build.choose_engine(model, recipe, data, 1, "segmented").why == "as asked for"
    assert build.choose_engine(model, recipe, data).why.startswith("estimator vimco")
    assert build.choose_engine(model, recipe, data).name == "segmented"
    assert build.choose_engine(model, recipe, data, wanted="readable").why == "as asked for"
    assert reason_unsegmented(model, recipe) is None
    with pytest.raises(ValueError, match="for the backends numba and cupy, not for numpy"):
        build.choose_engine(DiscreteVAE(19, (5,), Categorical(3, 4)), recipe, data, wanted="segmented")
    rloo = make(Segmented, "f4", NUMBA).model
    for change, word in ((dict(clip_norm=1.0), "clipping"), (dict(microbatch=3), "microbatches"),
                         (dict(optimizer=optimizers.get("sgd")), "sgd"), (dict(optimizer=optimizers.get(OWN)), "Lars")):
        found = build.choose_engine(rloo, recipe._replace(**change), data)
        assert found.name == "segmented" and word in found.why
    double = recipe._replace(dtype=np.dtype("f8"))
    with pytest.raises(ValueError, match="segmented cannot run this: float64"):
        build.choose_engine(model, double, data, wanted="segmented")
    assert build.choose_engine(model, double, data).why == "float64 arithmetic"
    assert "shares" in support.unsegmented(replace(engine.spec, estimator="exact"))
    exact = make(Readable, "f4", NUMBA, estimator="exact").model
    assert build.choose_engine(exact, recipe._replace(clip_norm=1.0), data).why == (
        "clipping needs the whole gradient; codes that the batch shares")


def test_threads_beyond_the_cores_are_capped_with_a_line(capsys):
    engine = make(Segmented, "f4", NUMBA, estimator="vimco")
    for threads in (cores(), cores() + 1):
        found = build.choose_engine(engine.model, engine.recipe, engine.dataset, threads)
        said = capsys.readouterr().err
        assert found.workers <= cores() and said.count("is more than this process has cores") == threads - cores()


class Moody(Choice):
    """Codes out of range, or of other numbers of samples and of codes, at the steps that `moods` names."""

    name = "moody"

    def __init__(self, latents, ops, moods):
        super().__init__(latents, ops)
        self.moods = moods

    def forward(self, params, h, rng, state=None, context=None):
        z, kept = super().forward(params, h, rng, state)            # [2, B, D]
        return self.ops.xp.concatenate([z, 2 - z])[:self.moods.get(rng.step, 2)], kept

    def rows(self, params, z):
        return z + 9 if len(z) == 1 else z

    def backward(self, params, kept, cost, dz, state=None, kl_weight=1.0, scale=1.0):
        better = (cost[0] - cost[1:].mean(0))[:, None, None]        # [B, 1, 1]
        return (scale * (better + 2 * kl_weight * kept.z)).reshape(len(kept.z), -1), {}


def test_codes_that_the_decoder_cannot_read_are_refused():
    engine = make(Segmented, "f4", NUMBA, latent=lambda ops: Moody(3, ops, {}))
    before, engine.model.latent.moods = engine.save(), {4: 1}
    engine.decoding.S = 1                       # as if it were made for one sample
    with pytest.raises(ValueError, match=r"codes must be in \[0, 3\), got 9 to 11"):
        engine.run(ORDER)
    assert_same_bits(engine.save(), before)
    assert not peers()


def test_a_step_of_another_number_of_rows_is_the_readable_one():
    """Four samples in the second step, two in the others."""
    agrees({"latent": lambda ops: Moody(3, ops, {5: 4})})


def test_a_latent_whose_trial_fails_is_refused():
    engine = make(Segmented, "f4", NUMBA)
    for latent, word in ((Shared(3, NUMBA), "shares"), (Failing(3, NUMBA), "trial: no such thing")):
        with pytest.raises(ValueError, match=word):
            build.choose_engine(DiscreteVAE(19, (5,), latent), engine.recipe, engine.dataset, wanted="segmented")


class Shared(Choice):
    def rows(self, params, z):
        return z[:, :1]


class Failing(Choice):
    def rows(self, params, z):
        raise RuntimeError("no such thing")


@pytest.mark.parametrize("name", latents.names())
def test_segments_agree_for_every_registered_latent(name):
    agrees({"latent": lambda ops: latents.get(name, latents=3, ops=ops)})


def test_a_latent_may_look_at_the_layers():
    engine = make(Segmented, "f4", NUMBA, latent=squashed)
    engine.run(ORDER)
    params, state = engine.params(), engine.save()
    assert set(params) == {"latent.c"}
    for name in state.params:
        assert np.array_equal(params[name], state.params[name]), name
    for name in ("decoder.9.weight", "decoder.0.size", "latent.d"):
        with pytest.raises(KeyError):
            params[name]


@pytest.mark.parametrize("estimator", ["vimco", "rebar"])
@pytest.mark.parametrize("name", likelihoods.names())
def test_segments_agree_for_every_registered_likelihood(name, estimator):
    agrees({"likelihood": lambda ops: likelihoods.get(name, ops=ops), "binarize": "none", "estimator": estimator})
