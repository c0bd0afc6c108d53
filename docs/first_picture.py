"""The README's first picture: test negative ELBO of four estimators on the digits, from the metrics of their runs.

    python -m npdvae.train --epochs 100 --estimator exact --out runs/exact
    python -m npdvae.train --epochs 100 --estimator rloo --samples 4 --out runs/rloo
    python -m npdvae.train --epochs 100 --estimator straight_through --out runs/straight_through
    python -m npdvae.train --epochs 100 --estimator reinforce --baseline running_mean --out runs/reinforce
    python docs/first_picture.py runs/exact runs/rloo runs/straight_through runs/reinforce

Any runs can be given; --out FILE.png says where the picture goes (default: docs/first_picture.png).
"""
import argparse
import pathlib
import tomllib

from npdvae import build, metrics, plots
from npdvae.config import Config
from npdvae.data.baselines import collapsed_baseline
from npdvae.settings import from_mapping


def label(config):
    """The estimator of a run with the options that matter, in words."""
    extra = {"samples": "{} samples", "baseline": "{}", "temperature": "temperature {}"}
    words = [text.format(getattr(config, name)) for name, text in extra.items() if getattr(config, name) is not None]
    return ", ".join([config.estimator, *words]).replace("_", " ")


def main():
    """Draw the picture."""
    p = argparse.ArgumentParser(description="Test negative ELBO of several runs against epoch, as one picture.")
    p.add_argument("runs", nargs="+", metavar="RUN", help="run folders, all on the same data")
    p.add_argument("--out", default=pathlib.Path(__file__).with_name("first_picture.png"), metavar="FILE.png")
    p.add_argument("--title", default="One model, four gradients: digits, D=4 K=8, 64-128-64, Adam 1e-3")
    args = p.parse_args()
    curves = {}
    for run in args.runs:
        text = (pathlib.Path(run) / "config.toml").read_text()
        config = Config(**from_mapping(tomllib.loads(text), run))
        curves[label(config)] = metrics.read(run)
    dataset, _ = build.load_data(config)
    collapsed = collapsed_baseline(dataset.train, dataset.test, dataset.levels)
    plots.save(plots.comparison(curves, collapsed, args.title), args.out)
    print(f"{args.out}: " + "; ".join(f"{k} {metrics.elbo(v[-1], 'test').negative_elbo:.2f}" for k, v in curves.items())
          + f"; collapsed posterior {collapsed:.2f}")


if __name__ == "__main__":
    main()
