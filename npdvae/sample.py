"""python -m npdvae.sample RUN: draw images from the prior of a run, as a picture or as arrays."""
from __future__ import annotations

import argparse
import io
import pathlib
import sys

import numpy as np

from npdvae import memory, plots
from npdvae.cli import Parser, add_run, guarded
from npdvae.files import write_named
from npdvae.process import over
from npdvae.run import Run


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(prog="python -m npdvae.sample", description="Draw images from a trained model: z "
               "from the prior, decoded.")
    add_run(p)
    p.add_argument("--count", type=int, default=60, metavar="N", help="images (default: 60)")
    p.add_argument("--binary", action="store_true", help="draw pixels from p(x | z), 0 or 1 under a "
                   "Bernoulli likelihood, instead of showing their means")
    p.add_argument("--seed", type=int, default=0, help="seed of what is drawn (default: 0)")
    p.add_argument("--out", metavar="FILE", help="a .png, or a .npz with codes (z) [N, D] and images [N, H, W] "
                   "(default: RUN/figures/samples.png)")
    return p


@guarded
def main(argv=None) -> int:
    """Sample as the arguments say; returns the exit code."""
    args = parser().parse_args(argv)
    if args.count < 1:
        raise ValueError(f"--count: got {args.count}, expected at least 1")
    path = pathlib.Path(args.out) if args.out else pathlib.Path(args.run) / "figures" / "samples.png"
    if path.suffix not in (".png", ".npz"):
        raise ValueError(f"--out: got {path}, expected a name that ends in .png or .npz")
    run = Run.load(args.run, args.checkpoint, args.trust)
    memory.require(args.count * run.pixels * run.dtype.itemsize, f"--count {args.count}")
    with np.errstate(over="ignore", invalid="ignore"):
        codes, images = draw(run, args.count, args.binary, args.seed)
    if not np.isfinite(images).all():
        raise ValueError(f"{args.run}: the images drawn are not finite")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        stream = io.BytesIO()
        np.savez_compressed(stream, codes=codes, images=images.reshape(-1, *run.shape))
        write_named(path, stream.getvalue())
    else:
        what = "pixels drawn" if args.binary else run.model.likelihood.shown
        plots.save(plots.grid(images, run.shape, f"Prior samples, {what}"), path)
    print(f"{path}: {args.count} images of {run.shape[0]} x {run.shape[1]} pixels, seed {args.seed}")
    return 0


def draw(run, count, binary=False, seed=0):
    """z from the prior [N, D] and the pixels it shows, or pixels drawn from p(x | z), [N, P]."""
    codes, images = run.sample(count, seed)
    if binary:
        images = run.draw_images(codes, seed)
    return codes, images


if __name__ == "__main__":
    sys.exit(over(main()))
