"""Command lines of wrong and extreme options, made by Hypothesis: one line or a run, never a traceback or a hang."""
from __future__ import annotations

import dataclasses
import os
import shutil
import signal

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from npdvae import config, evaluate, report, sample, train, trainer
from tests import hostile
from tests.campaign.base import MOST_SECONDS, Tally, child, quiet, verdict

BASE = ["--backend", "numpy", "--no-figures", "--hidden", "4", "--batch-size", "500", "--epochs", "1"]
WORDS = ("", "0", "-1", "1", "2", "3", "nan", "inf", "-inf", "1e400", "1e-400", "1e308", "3e38", "1e-300", "1000000000",
         "99999999999999999999999", "0x10", "1_0", "é", "\x1b[31m", "a\nb", "../..", "/", "/dev/null", "/dev/zero",
         "~nosuchuser", "os:system", "..x:y", ":", "x:", "json:JSONDecoder", "ops=1", "a=b", "=", "samples=1000000000",
         "size=1000000", "hidden=1000000", "temperature=0", "levels=3", "[" * 3000, "a=" + "[" * 3000, "9" * 5000,
         "exact", "vq", "fsq", "gaussian", "dirichlet", "autoregressive", "learned", "nvil", "cosine", "dynamic",
         "float64", "segmented", "true", "None", "\udcff", "digits", "mnist ")
OTHERS = {evaluate: ("--checkpoint", "--samples", "--json"), sample: ("--checkpoint", "--count", "--binary", "--seed",
          "--out"), report: ("--checkpoint", "--images", "--samples", "--seed", "--out")}


def fields() -> list[str]:
    """Options of the training command, but what would load another machine's kernels or write elsewhere."""
    left_out = {"backend", "device", "engine", "out", "seeds", "threads", "tensorboard"}
    return ["--" + f.name.replace("_", "-") for f in dataclasses.fields(config.Config) if f.name not in left_out]


def lines(run, place):
    """(command, words): one to four options, each with a value that may be of its kind or not."""
    word = st.one_of(st.sampled_from(WORDS), st.integers(-2, 2 ** 70).map(str), st.floats().map(repr),
                     st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=8))
    option = st.tuples(st.sampled_from(fields()), st.lists(word, min_size=1, max_size=2)).map(lambda p: [p[0], *p[1]])
    training = st.lists(option, min_size=1, max_size=4).map(
        lambda o: (train, [*BASE, *sum(o, []), "--out", str(place / "out")]))
    other = [st.lists(st.tuples(st.sampled_from(names), word), max_size=2).map(
        lambda o, command=command: (command, [str(run), *(w for pair in o for w in pair)]))
        for command, names in OTHERS.items()]
    return st.one_of(training, training, training, *other)


def stopped(main, words):
    """The command; a training ends after its first steps, what takes longer than a refusal may by Ctrl-C."""
    signal.signal(signal.SIGVTALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.setitimer(signal.ITIMER_VIRTUAL, 2 * MOST_SECONDS)
    start = trainer.Trainer.start

    def once(self):
        start(self)
        self.stop = int(signal.SIGINT)

    trainer.Trainer.start = once
    return main(words)


def attacks(place, share, number):
    """500, by their share."""
    tally = Tally("command lines of wrong and extreme options")
    run = quiet(hostile.small_run, place / "run")
    place = place / "work"
    place.mkdir()
    strategy, before = lines(run, place), os.getcwd()
    os.chdir(place)                             # where a name that is taken for a path would land
    try:
        for case, (command, words) in enumerate(examples(strategy, max(10, round(500 * share)), number)):
            shutil.rmtree(place / "out", ignore_errors=True)
            o = child(stopped, command.main, words)
            tally.add(f"--only command_lines --seed {number}, case {case}: {command.__name__} {words!a}",
                      verdict(o, (0, 2, 130)), o.code == 2)
    finally:
        os.chdir(before)
    yield tally


def examples(strategy, count, number):
    """So many examples, a function of the number."""
    found: list = []

    @seed(number)
    @settings(max_examples=count, database=None, phases=[Phase.generate], deadline=None, derandomize=False,
              suppress_health_check=list(HealthCheck))
    @given(strategy)
    def collect(value):
        found.append(value)

    collect()
    return found[:count]
