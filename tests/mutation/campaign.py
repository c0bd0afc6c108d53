"""All mutants of the numeric core against the tests that reach them, in two processes."""
import functools
import itertools
import multiprocessing
import os
import sys
import time
from typing import NamedTuple

from tests.mutation import runner
from tests.mutation.agreement import disagreement
from tests.mutation.equivalents import equivalents
from tests.mutation.mutator import Bench, importers, mutants, packages

OPS = ["test_data_binarize", "test_mlp", "test_state",
       "test_activations", "test_bernoulli", "test_categorical", "test_entropy", "test_gumbel", "test_linear",
       "test_rng", "test_softmax", "test_updates", "test_step", "test_latent", "test_likelihoods", "test_priors",
       "test_latent_contract", "test_normal", "test_special", "test_latent_families", "test_latent_location_scale",
       "test_latent_kumaraswamy", "test_latent_gamma",
       "test_nearest", "test_latent_quantisers", "test_latent_scalar", "test_latent_soft_vq",
       "test_latent_vq"]
VERIFY = ["test_verify_betting", "test_verify_claims", "test_verify_continuous", "test_verify_costs",
          "test_verify_enumeration", "test_verify_faults", "test_verify_findings", "test_verify_gradients",
          "test_verify_interval", "test_verify_knowledge", "test_verify_latent_parts", "test_verify_latents",
          "test_verify_model_cost", "test_verify_moments", "test_verify_quadrature", "test_verify_sequential",
          "test_verify_verdicts"]
ESTIMATORS = ["test_estimators", "test_estimators_coupled", "test_estimators_relaxed", "test_estimators_score",
              "test_estimators_identities", "test_estimators_defaults", "test_estimators_argmax",
              "test_estimators_coordinates", "test_estimators_redge", "test_estimators_smoothing",
              "test_estimators_concrete", "test_forward_laws"]
PARALLEL = ["test_parallel", "test_parallel_mpi", "test_parallel_rows"]
STEMS = [*OPS, *ESTIMATORS, *VERIFY, *PARALLEL]
KERNELS = ["test_numba_ops", "test_kernels_elementary", "test_numba_formulas", "test_nearest"]
FUSED = ["test_costs", "test_kernels_chunks", "test_kernels_llvm", "test_numba_bfloat16"]
SINGLE = ("activations", "bernoulli", "best_codes", "binarize", "categorical", "code_race", "codebook",
          "conditional_gumbels", "copula", "elementary", "entropy", "first_draws", "gamma", "gumbel", "hard_codes",
          "linear", "location_scale", "outside_codes", "pair_surrogate", "philox", "posterior", "side_by_side",
          "smoothing", "softmax", "swapped", "tree_pair", "uniform", "updates", "weighted_score")
TILED = ("bfloat16", "bfloat16_words", "fused_bfloat16", "gradient_sums", "llvm", "philox_vectors", "subset_sums",
         "vectors")
LEFT_OUT = {                                    # where no faults are planted: reason: modules
    "commands, files, processes and settings, what they say and draw; npdvae.explore has tests in a browser":
        "build checkpoint cli compare comparison comparison_models comparison_plots config describe evaluate files "
        "lock memory metrics page plots presets process registry report resuming run sample saved settings train "
        "trainer types sweep.* explore.* data.arrays data.build_digits data.dataset data.digits "
        "data.download data.folder data.idx data.loading data.mnist",
    "types alone; a command": "ops.table verify.calibration",
    "compiling and its cache, clocks, signals, numbers and shapes: nothing of them is computed with":
        "kernels.cpu.calls kernels.cpu.clocks kernels.cpu.compiler kernels.cpu.interrupt kernels.cpu.jobs "
        "kernels.cpu.prepare kernels.cpu.store kernels.cpu.target kernels.cuda.*",
    "wrappers that check and pass on; another library's threads": "backends.*",
    "need a device, or the emulator for seconds a test": "gpu.*",
    "what a run says of itself, compared with loops and enumeration in its own tests": "evaluation data.baselines",
    "steps of engines, compared with the readable step in their own tests":
        "engine fused.decoding fused.encoder fused.engine fused.exact fused.fours fused.frame fused.latent "
        "fused.layers fused.memory fused.panels fused.plan fused.sampled fused.segment* fused.support fused.trial "
        "fused.update fused.whole fused.workers kernels.cpu.hand_over kernels.cpu.fused_fours "
        "kernels.cpu.code_choice kernels.cpu.code_cost kernels.cpu.code_layers kernels.cpu.fused_estimators "
        "kernels.cpu.fused_exact kernels.cpu.fused_latent kernels.cpu.fused_layers kernels.cpu.fused_pixels "
        "kernels.cpu.fused_update kernels.cpu.fused_worker kernels.cpu.pace kernels.cpu.sync",
}
TOO_SLOW = 2.0                                  # seconds: tests above are not asked
PATIENCE = 4.0                                  # seconds of tests, quickest first, that one mutant is given
CHUNK = 20                                      # mutants handed to a process at once
REACHED = []


class Result(NamedTuple):
    """What became of one mutant."""

    key: str
    killer: str | None                          # name of the test; "" where it could not even be put in
    line: int
    seconds: float


def campaign(modules, stems, keep=lambda index: True, workers=2, say=print):
    """(results, disagreements, stale entries) over the mutants of modules whose running index is kept."""
    names = frozenset(modules)
    items = {item.name: item for item in runner.items(stems)}
    known = equivalents()
    everything = [m for module in modules for m in mutants(module)]
    chosen = [m for index, m in enumerate(everything) if keep(index)]
    stale = sorted(key for key in known if key.split(":")[0] in names and key not in {m.key for m in everything})
    context = multiprocessing.get_context("fork")
    with context.Pool(workers, start, (items, {}, known, names)) as pool:
        found = pool.map(try_out, items, chunksize=8)
    trials = {name: t for name, t in zip(items, found) if t is not None and t.seconds < TOO_SLOW}
    say(f"{len(chosen)} mutants of {len(modules)} modules against {len(trials)} tests "
        f"({sum(t.seconds for t in trials.values()):.0f} s of them)")
    chunks = [chosen[i:i + CHUNK] for i in range(0, len(chosen), CHUNK)]
    with context.Pool(workers, start, (items, trials, known, names)) as pool:
        parts = []
        for part in pool.imap_unordered(judge, chunks):
            parts.append(part)
            for r in part[0]:
                if r.killer is None:
                    say(f"survivor, line {r.line}: {r.key}", flush=True)
    return [r for part, _ in parts for r in part], [d for _, part in parts for d in part], stale


def try_out(name):
    items, _, _, names = WORK
    if not REACHED:
        REACHED.append(set())
        for module in names:
            Bench(module).mark(REACHED[0])      # for good: this process does nothing else
    return runner.trial(items[name], REACHED[0])


def start(items, trials, known, names):
    """What each process holds: the tests by what they reach, quickest first. It prints nothing."""
    global WORK
    runner.settle()
    sys.stdout = sys.stderr = open(os.devnull, "w")
    os.dup2(sys.stderr.fileno(), 2)             # of compilers, too
    order = sorted(trials, key=lambda name: trials[name].seconds)
    WORK = items, {name: trials[name] for name in order}, known, names


def judge(chunk):
    """Results for some mutants, and the listed equivalents among them that disagree with the code as it is."""
    items, trials, known, _ = WORK
    results, disagreements, recent = [], [], {}
    for mutant in chunk:
        bench = bench_of(mutant.module)
        names = [name for name in trials if reaches(trials[name], mutant)]
        names.sort(key=lambda name: not its_own(name, mutant.module))      # these first, each group quickest first
        began = time.perf_counter()
        if mutant.key in known and known[mutant.key].replay:
            with runner.Forgetting():
                problem = disagreement(bench, mutant, [items[name] for name in names])
            if problem:
                disagreements.append(f"{mutant.key}: {problem}")
            continue
        latest = recent.setdefault(mutant.scope, [])
        names = [*latest, *(n for n in names if n not in latest)]
        asked = itertools.accumulate(trials[n].seconds for n in names)
        killer = run(bench, mutant, [n for n, s in zip(names, asked) if s < PATIENCE], items, trials)
        if mutant.key in known:
            if killer:
                disagreements.append(f"{mutant.key}: killed by {killer}")
            continue
        if killer:
            recent[mutant.scope] = [killer, *(n for n in latest if n != killer)][:5]
        results.append(Result(mutant.key, killer, mutant.line, time.perf_counter() - began))
    return results, disagreements


@functools.cache
def bench_of(module):
    """One bench for each module and process: it holds nothing of a mutant that was taken out."""
    return Bench(module)


def its_own(name, module):
    """Whether a test lies in the file named after the module."""
    return name.split("::")[0].split("_")[-1] == module.split(".")[-1].split("_")[-1]


def reaches(trial, mutant):
    """Whether a test runs the mutated function, or, for a constant, anything of a module that has it."""
    if mutant.scope:
        return (mutant.module, mutant.scope) in trial.reached
    holders = {mutant.module, *(m.__name__ for m, _, name in importers(mutant.module) if name == mutant.place)}
    return any(module in holders for module, _ in trial.reached)


def run(bench, mutant, names, items, trials):
    """The name of the first test that fails on a mutant; None where all pass; "" where it cannot be put in."""
    try:
        with runner.Forgetting():
            try:
                bench.put_in(mutant)
            except Exception:                   # not a program at all: counts neither way
                return ""
            for name in names:
                if runner.attempt(items[name], runner.HANGS + 10 * trials[name].seconds) is not None:
                    return name
    finally:
        bench.take_out()
    return None


def numeric_core():
    """The modules to mutate."""
    core = packages("ops", "latents", "priors", "likelihoods", "optimizers", "estimators", "verify", "parallel")
    own = "data.binarize", "mlp", "model", "rng", "schedules", "state", "step"
    return [*(f"npdvae.{name}" for name in own), *(m for m in core if m != "npdvae.ops.table")]


def quick_core():
    """Those whose tests take seconds: operations, generator, latent layer."""
    return [m for m in numeric_core() if m.startswith(("npdvae.rng", "npdvae.ops.", "npdvae.latents."))]


def kernel_core():
    """The CPU kernels of single operations and formulas, which run as plain Python under NUMBA_DISABLE_JIT=1."""
    return [f"npdvae.kernels.cpu.{name}" for name in SINGLE]


def fused_core():
    """The fused CPU engine, decoder and cost alone among it: what kernels are told, the kernels, their tiles."""
    own = [f"npdvae.{name}" for name in ("costs", "fused.bfloat16", "fused.forward", "fused.listed")]
    return [*own, *(f"npdvae.kernels.cpu.{name}" for name in TILED)]
