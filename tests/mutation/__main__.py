"""python -m tests.mutation [--fast | --kernels | --fused] [PATTERN ...]: mutation score of the core, survivors."""
import argparse
import collections
import fnmatch
import os
import sys
import time

from tests.mutation.campaign import (
    FUSED,
    KERNELS,
    OPS,
    STEMS,
    campaign,
    fused_core,
    kernel_core,
    numeric_core,
    quick_core,
)
from tests.mutation.equivalents import accept, equivalents, look_again
from tests.mutation.mutator import mutants

MOST_EQUIVALENT = 0.05                          # of all mutants
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",     # in each worker
              "MALLOC_ARENA_MAX": "1"}          # threads of a test reserve 64 MB of addresses each, which are bounded


def main(argv=None):
    """Run and report; the exit code is 1 where a mutant survives or the list of equivalents is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("patterns", nargs="*", default=["*"], help="modules, such as npdvae.ops.* (default: all)")
    parser.add_argument("--fast", action="store_true", help="a share of the mutants of the modules that are tested "
                        "quickest, half a minute: for continuous integration")
    parser.add_argument("--kernels", action="store_true", help="the CPU kernels of single operations and formulas "
                        "instead, run as plain Python (NUMBA_DISABLE_JIT=1)")
    parser.add_argument("--fused", action="store_true", help="the fused CPU engine instead, likewise, with the tile of "
                        "AVX-512 on any machine")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every Nth mutant")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--killers", action="store_true", help="also count what each test file kills")
    parser.add_argument("--reviewed", action="store_true", help="run nothing: write the lines of the listed "
                        "equivalents as they read now into the list, after you have looked at them")
    options = parser.parse_args(argv)
    plain = {"NUMBA_DISABLE_JIT": "1"} if options.kernels or options.fused else {}
    wanted = {**ONE_THREAD, **plain, **({"NPDVAE_TILE": "avx512"} if options.fused else {})}
    if wanted.items() - os.environ.items():                         # read once, when libraries are loaded
        arguments = sys.argv[1:] if argv is None else argv
        os.execve(sys.executable, [sys.executable, "-m", "tests.mutation", *arguments], {**os.environ, **wanted})
    core, stems = ((kernel_core(), KERNELS) if options.kernels else (fused_core(), FUSED) if options.fused else
                   (quick_core(), OPS) if options.fast else (numeric_core(), STEMS))
    modules = [m for m in core if any(fnmatch.fnmatch(m, p) for p in options.patterns)]
    if options.reviewed:
        accept(look_again(equivalents(), [m for module in modules for m in mutants(module)]))
        return 0
    every, began = 4 if options.fast else options.every, time.perf_counter()
    results, disagreements, stale = campaign(modules, stems, lambda i: i % every == 0, options.workers)
    return report(modules, results, disagreements, stale, options.killers, time.perf_counter() - began)


def report(modules, results, disagreements, stale, killers, seconds):
    """Print score, survivors and complaints; returns the exit code."""
    def package(r):
        return r.key.split(":")[0].split(".")[1]

    total = collections.Counter(package(r) for r in results if r.killer != "")
    alive = [r for r in results if r.killer is None]
    lost = collections.Counter(package(r) for r in alive)
    for line in disagreements:
        print("listed as equivalent, but not the same:", line)
    for line in stale:
        print("listed as equivalent, but no such mutant:", line)
    for name, n in total.items():
        print(f"{name:12s}{n - lost[name]} of {n} killed")
    if killers:
        for stem, n in collections.Counter((r.killer or "none").split("::")[0] for r in results).most_common():
            print(f"  {n:5d} by {stem}")
        for r in sorted(results, key=lambda r: -r.seconds)[:10]:
            print(f"  {r.seconds:6.1f} s for {r.key}, killed by {r.killer}")
    known, everything = equivalents(), [m for module in modules for m in mutants(module)]
    for key, before, now in look_again(known, everything):
        print(f"listed as equivalent, look again: {key}\n  reviewed as  {before}\n  reads now    {now}")
    share = sum(key.split(":")[0] in modules for key in known) / max(1, len(everything))
    n = sum(total.values())
    print(f"{n - len(alive)} of {n} mutants killed ({100 * (1 - len(alive) / max(n, 1)):.2f} %); equivalent by review "
          f"{100 * share:.1f} % of all; {seconds:.0f} s")
    return int(bool(alive or disagreements or stale or share > MOST_EQUIVALENT))


if __name__ == "__main__":
    sys.exit(main())
