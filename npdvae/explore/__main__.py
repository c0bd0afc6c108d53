"""python -m npdvae.explore RUN: a trained model as one HTML page that works from the disk, without a network."""
from __future__ import annotations

import argparse
import pathlib
import sys

import numpy as np

from npdvae.cli import Parser, add_run, guarded
from npdvae.explore import model, page
from npdvae.files import write_named
from npdvae.process import over
from npdvae.run import Run


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(prog="python -m npdvae.explore", description="Write RUN/explore.html: the decoder and "
               "the encoder in a browser, codes to choose, digits to draw, and, for models of up to "
               "65,536 codes, the exact posterior and log p(x) of what is drawn. The page "
               "opens from the disk and needs no network.")
    add_run(p)
    p.add_argument("--images", type=int, default=40, metavar="N", help="test images to choose from (default: 40)")
    p.add_argument("--samples", type=int, default=240, metavar="N", help="draws from the prior (default: 240)")
    p.add_argument("--seed", type=int, default=0, help="seed of the draws (default: 0)")
    p.add_argument("--out", metavar="FILE", help="where the page goes (default: RUN/explore.html)")
    return p


@guarded
def main(argv=None) -> int:
    """Write the page as the arguments say; returns the exit code."""
    args = parser().parse_args(argv)
    for name, most in (("images", 1000), ("samples", 10_000)):
        if not 1 <= getattr(args, name) <= most:
            raise ValueError(f"--{name}: got {getattr(args, name)}, expected 1 to {most}")
    run = Run.load(args.run, args.checkpoint, args.trust)
    dataset = run.dataset()
    path = pathlib.Path(args.out) if args.out else pathlib.Path(args.run) / "explore.html"
    with np.errstate(over="ignore", invalid="ignore"):              # what is not finite no JSON holds
        text = page.html(model.contents(run, dataset, args.images, args.samples, args.seed)).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_named(path, text)
    print(f"{path} ({len(text) / 1e6:.1f} MB): open it in a browser")
    return 0


if __name__ == "__main__":
    sys.exit(over(main()))
