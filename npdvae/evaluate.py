"""python -m npdvae.evaluate RUN: what a run reaches on the test split, as a table or JSON."""
from __future__ import annotations

import argparse
import json
import pathlib
import sys

import numpy as np

from npdvae import evaluation, metrics
from npdvae.cli import Parser, add_run, guarded
from npdvae.files import write_named
from npdvae.process import over
from npdvae.run import Run

GREY = "grey pixels under a likelihood of 0 and 1: the costs are no log-probabilities, and the bounds bound nothing"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(prog="python -m npdvae.evaluate", description="ELBO, importance-weighted bound, exact "
               "log p(x) where at most 2**20 codes exist, KL of each latent and use of the code where "
               "there is one, on the test split. Nats per image.")
    add_run(p)
    p.add_argument("--samples", type=int, default=100, metavar="S",
                   help="samples of the importance-weighted bound (default: 100)")
    p.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write JSON to FILE, or to the screen")
    return p


@guarded
def main(argv=None) -> int:
    """Evaluate as the arguments say; returns the exit code."""
    args = parser().parse_args(argv)
    if args.samples < 1:
        raise ValueError(f"--samples: got {args.samples}, expected at least 1")
    path = pathlib.Path(args.json) if args.json and args.json != "-" else None
    if path and (path.is_dir() or not path.parent.is_dir()):
        raise ValueError(f"--json: got {path}, expected a file in a folder that exists")
    run = Run.load(args.run, args.checkpoint, args.trust)
    dataset = run.dataset()
    with np.errstate(over="ignore", invalid="ignore"):              # what is not finite is named
        figures = evaluation.summary(run.model, run.params, run.split(dataset, dataset.test), args.samples,
                                     way=run.way(len(dataset.test), args.samples), shared=run.shared(len(dataset.test)))
    metrics.finite(figures, f"{run.folder}: figures")
    figures = {"run": str(run.folder), "step": run.step, **figures, "collapsed_posterior": run.collapsed(dataset)}
    if args.json == "-":
        print(json.dumps(figures, indent=2))
        return 0
    print(table(figures), flush=True)
    if path:
        write_named(path, (json.dumps(figures, indent=2) + "\n").encode())
    return 0


def table(f) -> str:
    """The figures as text."""
    none = "   (too many codes to enumerate)" if f["code_use"] else "   (no codes to enumerate)"
    none = "   (grey targets have none)" if f["grey_targets"] else none
    exact = none if f["log_prob"] is None else f"{f['log_prob']:10.3f}"
    name, samples = evaluation.bounds(f)
    lines = [f"{f['run']}, step {f['step']}, {f['images']} test images, nats per image", "",
             f"  {name:30s}{-f['negative_elbo']:10.3f}   "
             f"= -(cost {f['cost']:.3f} + KL {f['kl']:.3f})",
             f"  importance-weighted bound     {f['importance_weighted_bound']:10.3f}   {samples}",
             f"  log p(x), exact               {exact}"]
    if f["collapsed_posterior"] is not None:
        lines.append(f"  collapsed posterior           {-f['collapsed_posterior']:10.3f}   each pixel's training mean")
    if f["bits_per_dimension"] is not None:
        lines.append(f"  bits per dimension            {f['bits_per_dimension']:10.4f}   of the {name}")
    if f["grey_targets"]:
        lines.append(f"  {GREY}")
    lines += ["", f"  active latents {f['active_latents']} of {len(f['kl_per_latent'])} "
              f"({'KL' if f['soft_temperature'] is None else 'entropy of use'} above {evaluation.ACTIVE} nats)"]
    if f["codebook_use"]:
        lines.append(f"  codebook: {used(f)} codes in use, perplexity {f['codebook_perplexity']:.2f} over all latents")
    lines += ["",
              "  latent      KL" + ("  perplexity  use of each category, %" if f["code_use"] else "")]
    if not f["code_use"]:
        return "\n".join([*lines, *(f"  {d:6d}  {kl:6.3f}" for d, kl in enumerate(f["kl_per_latent"]))])
    for d, (kl, ppl, use) in enumerate(zip(f["kl_per_latent"], f["perplexity_per_latent"], f["code_use"])):
        shown = " ".join(f"{100 * u:3.0f}" for u in use[:16]) + (" ..." if len(use) > 16 else "")
        lines.append(f"  {d:6d}  {kl:6.3f}  {ppl:10.2f}  {shown}")
    return "\n".join(lines)


def used(f) -> str:
    """Codes of a shared codebook that some latent uses."""
    return f"{sum(u > 0 for u in f['codebook_use'])} of {len(f['codebook_use'])}"


if __name__ == "__main__":
    sys.exit(over(main()))
