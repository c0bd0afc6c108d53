"""Checkpoints and settings: bytes altered, digest mended or not; content crafted with a right digest."""
from __future__ import annotations

import random
import shutil

import numpy as np

from npdvae import checkpoint, evaluate, sample, train
from npdvae.checkpoint import CheckpointError
from npdvae.run import Run
from npdvae.settings import resolve
from tests import hostile
from tests.campaign.base import Tally, child, mutate, quiet, verdict

NUMBERS = ("0", "-1", "1", "6.0", "1e400", "-0", "null", "true", "[]", '"x"', "4611686018427387904", "9" * 5000,
           "1000000000", "[8, 8]", "[8, 8, 1]", "[0, 64]", "[-8, -8]", "{}", "nan", "[" * 3000, "1000000", "\x00", "é")
SETTINGS = ("latents", "categories", "hidden", "samples", "batch_size", "epochs", "lr", "seed", "dtype", "latent",
            "data", "prior", "estimator", "likelihood", "optimizer", "latent_options", "estimator_options",
            "likelihood_options", "prior_options", "binarize", "kl_warmup", "microbatch", "free_bits", "validation",
            "threads", "device", "momentum", "shares", "shard", "odd")
VALUES = (*NUMBERS, "1e308", "-1e308", "inf", '"vq"', '"fsq"', '"gaussian"', '"autoregressive"', '"learned"', '"exact"',
          '"os:system"', '"..x:y"', '"tests.hostile:npy"', '"float64"', '"mnist"', '"/dev/zero"', '"~nosuchuser"',
          "[1000000000]", "[4]", "{a = 1}", "{size = 1000000000}", "{hidden = 1000000}", '{estimator = "os:system"}',
          "2020-01-01", '"\\u001b[31m"', '"dynamic"', '"none"')


def mutated(place, tries, seed) -> Tally:
    """Every other file with its digest mended."""
    tally = Tally("checkpoints and config.toml, bytes altered (every other digest mended)")
    run = quiet(hostile.small_run, place / "mutated")
    path = checkpoint.listing(run)[0]
    good, text = path.read_bytes(), (run / "config.toml").read_bytes()
    held = checkpoint.decode(good)[0]
    target = run / "checkpoint-00000009.safetensors"
    for case in range(tries):
        r = random.Random(f"{seed} mutated {case}")
        repeat = f"--only checkpoints --seed {seed}, mutated case {case}"
        if case % 10 == 9:
            file = run / "mutated.toml"
            file.write_bytes(mutate(r, text))
            fault = refusal(lambda file=file: resolve({}, file=str(file)))
            tally.add(repeat, fault if fault != "refused" else None, fault == "refused")
            continue
        spoilt = mutate(r, good)
        if case % 2 and len(spoilt) > checkpoint.DIGEST.stop:
            spoilt = hostile.reseal(spoilt)
        target.write_bytes(spoilt)
        fault = refusal(lambda: Run.load(run, str(target)))
        if fault is None and case % 2 == 0 and not same(checkpoint.decode(spoilt)[0], held):
            fault = "accepted with other content"
        tally.add(repeat, fault if fault != "refused" else None, fault == "refused")
    return tally


def crafted(place, tries, seed) -> Tally:
    """Every file through a command in a process of its own: seconds and megabytes count."""
    tally = Tally("checkpoints and settings, crafted, with a right digest; through evaluate, sample, resume")
    original = quiet(hostile.small_run, place / "original")
    run = place / "crafted"
    for case in range(tries):
        r = random.Random(f"{seed} crafted {case}")
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(original, run)
        craft(r, run)
        words = r.choice([(evaluate, [str(run), "--samples", "1"]), (sample, [str(run), "--count", "2", "--out",
                          str(run / "a.npz")]), (train, ["--resume", str(run), "--epochs", "3", "--no-figures"])])
        o = child(guard, words[0].main, words[1])
        repeat = f"--only checkpoints --seed {seed}, crafted case {case}, {words[0].__name__}"
        tally.add(repeat, verdict(o), o.code == 2)
    return tally


def guard(main, words):
    """A command in which nothing may be run by os.system, the code that hostile settings name."""
    import os

    def ran(*_):
        raise RuntimeError("code ran")

    os.system = ran
    return main(words)


def craft(r, run):
    """One to three changes, all with a right digest."""
    for _ in range(r.choice([1, 1, 2, 3])):
        kind = r.randrange(4)
        if kind == 0:
            hostile.settings(run, **{r.choice(SETTINGS): r.choice(VALUES)})
            continue
        for path in run.glob("*.safetensors"):
            arrays, meta = checkpoint.load(path)
            if kind == 1:
                name = r.choice(["step", "pixels", "shape", "data", "config", "more"])
                hostile.rewrite(path, **{name: r.choice(NUMBERS)})
            elif kind == 2:
                hostile.rewrite(path, drop=[r.choice(sorted(meta))])
            else:
                name = r.choice([*sorted(arrays), "params/odd", "moments/odd", "odd"])
                hostile.rewrite(path, {name: altered(r, arrays.get(name, np.zeros(3)))})


def altered(r, array):
    """Another array in its place."""
    return r.choice([
        lambda a: None, lambda a: np.full_like(a, np.nan), lambda a: np.full_like(a, np.inf), lambda a: a.astype("f8"),
        lambda a: np.full_like(a, 3e38), lambda a: -a - 1, lambda a: a.reshape(-1), lambda a: a[None],
        lambda a: a[:0] if a.ndim else a, lambda a: a.astype("i8"), lambda a: a.astype("u1"),
        lambda a: np.zeros((0, 2 ** 40), "f4"),
        lambda a: a.astype("f2"), lambda a: np.full_like(a, 1e-40), lambda a: a.astype(bool)])(array)


def refusal(call) -> str | None:
    """ "refused" where a call refuses in one line, None where it accepts, else what is wrong."""
    try:
        call()
    except ValueError as error:                 # CheckpointError is one
        long = isinstance(error, CheckpointError) and "\n" in str(error)
        return str(error)[:300] if long else "refused"
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    return None


def same(a, b):
    """Whether two sets of arrays agree bit by bit."""
    return a.keys() == b.keys() and all(a[k].tobytes() == b[k].tobytes() and a[k].dtype == b[k].dtype for k in a)


def attacks(place, share, seed):
    """Both, by their share of 10,000 and 2,000."""
    yield mutated(place, max(20, round(10_000 * share)), seed)
    yield crafted(place, max(5, round(2_000 * share)), seed)
