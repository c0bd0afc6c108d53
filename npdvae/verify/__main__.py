"""python -m npdvae.verify: every estimator and latent held to what it claims; exit code 1 where a claim fails."""
from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from npdvae import estimators, latents
from npdvae.cli import Parser, guarded
from npdvae.process import over
from npdvae.verify import costs
from npdvae.verify.claims import Row, judge, variants
from npdvae.verify.latent_layer import Proof
from npdvae.verify.latents import proofs

MOST_PROVED = 2 ** 16
ESTIMATORS = (("estimator", 42), ("claim", 19), ("DxK", 5), ("rel. bias", 10), ("variance", 10), ("evals", 6),
              ("var x evals", 12), ("method", 12), ("verdict", 8))
LATENTS = (("latent", 51), ("claim", 45), ("size", 5), ("method", 12), ("error", 7), ("verdict", 9))
LEGEND = """rel. bias: |mean - exact gradient| / |exact gradient|; variance: trace of the covariance of dlogits, mean of
two examples; evals: decoder evaluations per example. A claim holds at 1e-12 of E |dlogits| by enumeration of the
noise, at 1e-8 by quadrature, or when the sequential test passes; DxK is smaller than asked for where there would be too
many outcomes to go through."""
LATENT_LEGEND = """error: of the largest entry compared. A claim holds at 1e-12 by complex steps and enumeration
(frequencies on a grid of uniforms: 1e-4), at 1e-8 by differences, at 1e-7 by quadrature over the noise (1e-6 where
the KL is a sum, 1e-4 where a density is cut off), and bit by bit where nothing may arrive."""


def parser() -> argparse.ArgumentParser:
    parse = Parser(prog="python -m npdvae.verify", description=__doc__.split(";")[0] + ".")
    parse.add_argument("--latents", type=int, default=2, metavar="D",
                       help="fewer where an estimator's outcomes would be too many; column DxK tells (default: 2)")
    parse.add_argument("--categories", type=int, default=3, metavar="K", help="2 for binary estimators (default: 3)")
    parse.add_argument("--samples", type=int, default=2, metavar="S", help="where several are taken (default: 2)")
    parse.add_argument("--cost", choices=costs.KINDS, default="decoder", help="default: a small decoder with its BCE")
    parse.add_argument("--seed", type=int, default=0, help="of logits, cost and draws (default: 0)")
    parse.add_argument("--estimator", nargs="+", metavar="NAME", help='registered names or "module:Class"; default all')
    parse.add_argument("--latent", nargs="+", metavar="NAME", help='registered names or "module:Class"; default all')
    parse.add_argument("--json", action="store_true", help="print rows as JSON instead of a table")
    return parse


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    """Judge every variant of every estimator asked for, one at a time."""
    names = estimators.names() if arguments.estimator is arguments.latent is None else arguments.estimator or ()
    for name in names:
        for options in variants(name, arguments.samples):
            yield judge(name, options, arguments.latents, arguments.categories, arguments.cost, arguments.seed)


def latent_rows(arguments: argparse.Namespace) -> Iterator[Proof]:
    """Prove every claim of every latent asked for, one at a time."""
    names = latents.names() if arguments.estimator is arguments.latent is None else arguments.latent or ()
    for name in names:
        yield from proofs(name, arguments.seed)


def check(arguments: argparse.Namespace) -> None:
    for name, least in (("latents", 1), ("categories", 2), ("samples", 1), ("seed", 0)):
        if getattr(arguments, name) < least:
            raise ValueError(f"--{name} must be at least {least}, got {getattr(arguments, name)}")
    if arguments.categories ** arguments.latents > MOST_PROVED:
        raise ValueError(f"the exact gradient takes {arguments.categories}**{arguments.latents} codes, more than "
                         f"{MOST_PROVED}: lower --latents or --categories")
    for name in arguments.estimator or ():
        estimators.find(name)
    for name in arguments.latent or ():
        latents.find(name)


def line(row: Row) -> str:
    """A row of the estimators' table as text."""
    cells = (row.estimator, row.claim, row.size, f"{row.relative_bias:.1e}", f"{row.variance:.3g}", row.evaluations,
             f"{row.variance_times_evaluations:.3g}", row.method, row.verdict)
    text = "  ".join(f"{cell:>{w}}" if 3 <= i <= 6 else f"{cell:{w}}" for i, (cell, (_, w)) in
                     enumerate(zip(cells, ESTIMATORS)))
    return f"{text}  {row.note}".rstrip()


def head() -> str:
    return "  ".join(f"{n:>{w}}" if 3 <= i <= 6 else f"{n:{w}}" for i, (n, w) in enumerate(ESTIMATORS)).rstrip()


def latent_line(row: Proof) -> str:
    """A row of the latents' table as text."""
    cells = (row.latent, row.claim, row.size, row.method, f"{row.error:.1e}", row.verdict)
    text = "  ".join(f"{cell:{w}}" for cell, (_, w) in zip(cells, LATENTS))
    return f"{text}  {row.note}".rstrip()


def latent_head() -> str:
    return "  ".join(f"{name:{w}}" for name, w in LATENTS).rstrip()


@guarded
def main(argv: list[str] | None = None) -> int:
    """The command line: 0 when all claims hold, 1 when one fails, 2 for bad input."""
    arguments = parser().parse_args(argv)
    check(arguments)
    start = time.perf_counter()
    say = (lambda *text: None) if arguments.json else (lambda *text: print(*text, flush=True))
    found: list[Any] = []
    if arguments.estimator or not arguments.latent:
        say(head())
        for row in rows(arguments):
            found.append(row)
            say(line(row))
        say(f"\n{LEGEND}\n")
    if arguments.latent or not arguments.estimator:
        say(latent_head())
        for proof in latent_rows(arguments):
            found.append(proof)
            say(latent_line(proof))
        say(f"\n{LATENT_LEGEND}\n")
    if arguments.json:
        print(json.dumps([row._asdict() for row in found], indent=1))
    broken = [row[0] for row in found if row.verdict == "BROKEN"]
    say(summary(found, broken), f"{time.perf_counter() - start:.0f} s")
    return 1 if broken else 0


def summary(found: list[Any], broken: list[str]) -> str:
    """How many of what, and which of them are broken."""
    counts = [(len({row[0].split(" ")[0].rstrip(",") for row in found if isinstance(row, kind)}), word)
              for kind, word in ((Row, "estimator"), (Proof, "latent"))]
    told = ", ".join(f"{count} {word}{'s' * (count != 1)}" for count, word in counts if count)
    which = ": " + ", ".join(dict.fromkeys(broken)) if broken else ""
    left = sum(row.verdict == "not tried" for row in found)
    told += f", {left} not tried" if left else ""
    return f"{told}, {len(broken)} broken claim{'s' * (len(broken) != 1)}{which};"


if __name__ == "__main__":
    sys.exit(over(main()))
