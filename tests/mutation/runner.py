"""The tests as plain calls in this process: which functions each of them runs, and whether it notices a mutant."""
import contextlib
import functools
import importlib
import inspect
import itertools
import pathlib
import resource
import signal
import sys
import time
import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest
from _pytest.mark import ParameterSet
from hypothesis import HealthCheck, Phase, Verbosity, settings

from tests import teams, unwritten

settings.register_profile("mutation", derandomize=True, deadline=None, database=None, verbosity=Verbosity.quiet,
                          phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False,
                          suppress_health_check=list(HealthCheck))
settings.load_profile("mutation")

FOLDER = pathlib.Path(__file__).parents[1]
HANGS = 1.0                                     # seconds of processor time beyond which a mutant counts as caught
WAITS = 3.0                                     # seconds that a process of a team waits for others of a mutant
FIXTURES = {"monkeypatch": pytest.MonkeyPatch.context}      # those that a test here can have
MEMORY = 512 << 20                              # bytes of address space: a mutant that asks for so many more is caught


class Item(NamedTuple):
    """One test with its parameters."""

    name: str
    call: Any


class Trial(NamedTuple):
    """What an item costs, and the functions (module, qualified name) that it runs."""

    seconds: float
    reached: frozenset


def items(stems):
    """Every test of these files that needs no fixture but `FIXTURES`, parameters expanded."""
    found = []
    for stem in stems:
        module = importlib.import_module(f"tests.{stem}")
        for name, function in vars(module).items():
            if name.startswith("test_") and callable(function):
                found += expanded(f"{stem}::{name}", function)
    return found


def expanded(name, function):
    """The calls that pytest would make of one test function."""
    sets, number = [], 0
    for mark in getattr(function, "pytestmark", ()):
        if mark.name in ("long", "gpu") or mark.name == "skipif" and mark.args[0]:
            return
        if mark.name == "parametrize":
            names = mark.args[0] if not isinstance(mark.args[0], str) else mark.args[0].replace(" ", "").split(",")
            sets.append([dict(zip(names, values if len(names) > 1 else [values]))
                         for values in (v.values if isinstance(v, ParameterSet) else v for v in mark.args[1])])
    for combination in itertools.product(*sets):
        given = {k: v for part in combination for k, v in part.items()}
        wanted = needed(function) - set(given)
        if wanted <= FIXTURES.keys():
            number += 1
            yield Item(f"{name}[{number}]" if given else name, functools.partial(served, function, wanted, given))


def served(function, wanted, given):
    """One call of a test with the fixtures that it wants."""
    with contextlib.ExitStack() as stack:
        function(**given, **{name: stack.enter_context(FIXTURES[name]()) for name in wanted})


def needed(function):
    """Parameters without a default that a call must give; those that Hypothesis draws are not among them."""
    return {p.name for p in inspect.signature(function).parameters.values()
            if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}


def attempt(item, limit):
    """None where the item passes within `limit` seconds of processor time, else what stopped it."""
    def late(*_):
        raise TimeoutError("hangs")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, limit)
    try:
        item.call()
    except KeyboardInterrupt:
        raise
    except BaseException as error:              # pytest's outcomes are no Exceptions
        return error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return None


def trial(item, reached):
    """Run an item on the code as it is, whose functions note in the set `reached` that they ran.

    None where it does not pass (skipped here, or failing: then the suite itself says so).
    """
    reached.clear()
    began = time.process_time()
    error = attempt(item, 120)
    return None if error is not None else Trial(time.process_time() - began, frozenset(reached))


@functools.cache
def caches(modules):
    """The functools caches of the tests and of the package, as so many modules are loaded: none may remember a mutant.

    Those of the mutation tester itself know no mutant.
    """
    return [*{id(value): value for name, module in sys.modules.items()
              if name.startswith(("tests.", "npdvae.")) and not name.startswith("tests.mutation.")
              for value in vars(module).values() if hasattr(value, "cache_clear")}.values()]


class Forgetting:
    """Clears, on leaving, every cache that grew inside."""

    def __enter__(self):
        self.sizes = [(cache, cache.cache_info().currsize) for cache in caches(len(sys.modules))]

    def __exit__(self, *error):
        for cache, size in self.sizes:
            if cache.cache_info().currsize != size:
                cache.cache_clear()


def settle():
    """Quiet numerics, bounded memory, poison in what is not written, for code that is wrong on purpose."""
    unwritten.poison()
    teams.PATIENCE = WAITS
    np.seterr(all="ignore")
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", np.exceptions.ComplexWarning)
    most = address_space() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def address_space():
    """Bytes that this process has mapped; 2 GiB, a guess, where the system does not say."""
    statm = pathlib.Path("/proc/self/statm")
    return int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 2 << 30
