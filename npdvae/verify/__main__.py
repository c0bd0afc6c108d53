"""python -m npdvae.verify: every registered estimator held to what it claims; exit code 1 where a claim fails."""
import argparse
import json
import sys
import time

from npdvae import estimators
from npdvae.cli import guarded
from npdvae.process import over
from npdvae.verify import costs
from npdvae.verify.claims import judge, variants

MOST_PROVED = 2 ** 16
COLUMNS = (("estimator", 42), ("claim", 19), ("DxK", 5), ("rel. bias", 10), ("variance", 10), ("evals", 6),
           ("var x evals", 12), ("method", 12), ("verdict", 8))
LEGEND = """rel. bias: |mean - exact gradient| / |exact gradient|; variance: trace of the covariance of dlogits, mean of
two examples; evals: decoder evaluations per example. A claim holds at 1e-12 of E |dlogits| by enumeration of the
noise, at 1e-8 by quadrature, or when the sequential test passes; DxK is smaller than asked for where there would be too
many outcomes to go through."""


def parser():
    parse = argparse.ArgumentParser(prog="python -m npdvae.verify", description=__doc__.split(";")[0] + ".")
    parse.add_argument("--latents", type=int, default=2, metavar="D",
                       help="fewer are taken where an estimator's outcomes would be too many; column DxK tells")
    parse.add_argument("--categories", type=int, default=3, metavar="K", help="2 is taken for binary estimators")
    parse.add_argument("--samples", type=int, default=2, metavar="S", help="for estimators that take several")
    parse.add_argument("--cost", choices=costs.KINDS, default="decoder", help="default: a small decoder with its BCE")
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--estimator", nargs="+", metavar="NAME", help='registered names or "module:Class"; default all')
    parse.add_argument("--json", action="store_true", help="print rows as JSON instead of a table")
    return parse


def rows(arguments):
    """Judge every variant of every estimator asked for, one at a time."""
    for name in arguments.estimator or estimators.names():
        for options in variants(name, arguments.samples):
            yield judge(name, options, arguments.latents, arguments.categories, arguments.cost, arguments.seed)


def check(arguments):
    for name, least in (("latents", 1), ("categories", 2), ("samples", 1), ("seed", 0)):
        if getattr(arguments, name) < least:
            raise ValueError(f"--{name} must be at least {least}, got {getattr(arguments, name)}")
    if arguments.categories ** arguments.latents > MOST_PROVED:
        raise ValueError(f"the exact gradient takes {arguments.categories}**{arguments.latents} codes, more than "
                         f"{MOST_PROVED}: lower --latents or --categories")
    for name in arguments.estimator or ():
        estimators.find(name)


def line(row):
    """A row of the table as text."""
    cells = (row.estimator, row.claim, row.size, f"{row.relative_bias:.1e}", f"{row.variance:.3g}", row.evaluations,
             f"{row.variance_times_evaluations:.3g}", row.method, row.verdict)
    text = "  ".join(f"{cell:>{w}}" if 3 <= i <= 6 else f"{cell:{w}}" for i, (cell, (_, w)) in
                     enumerate(zip(cells, COLUMNS)))
    return f"{text}  {row.note}".rstrip()


@guarded
def main(argv=None):
    """The command line: 0 when all claims hold, 1 when one fails, 2 for bad input."""
    arguments = parser().parse_args(argv)
    check(arguments)
    start, found = time.perf_counter(), []
    if not arguments.json:
        print("  ".join(f"{name:>{w}}" if 3 <= i <= 6 else f"{name:{w}}" for i, (name, w) in enumerate(COLUMNS)))
    for row in rows(arguments):
        found.append(row)
        if not arguments.json:
            print(line(row), flush=True)
    broken = [row.estimator for row in found if row.verdict == "BROKEN"]
    if arguments.json:
        print(json.dumps([row._asdict() for row in found], indent=1))
    else:
        print(f"\n{LEGEND}\n\n{len({row.estimator.split(' ')[0] for row in found})} estimators, {len(broken)} broken "
              f"claims{': ' + ', '.join(broken) if broken else ''}; {time.perf_counter() - start:.0f} s")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(over(main()))
