"""python -m bench.latents: VQ, FSQ and f2 smoothing on MNIST, ours beside a PyTorch sketch of the same set-up.

One run after the other, one thread each; what bench/results/latents.json holds is not run again, and a run that was
stopped goes on where its last epoch ended. `python docs/latents.py` redraws the table of docs/latents.md.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys

import numpy as np

from bench.contest import RESULTS
from npdvae import data, metrics

HIDDEN, BATCH, LR, EPOCHS = (128, 64), 100, 1e-3, 20
FIRST, LAST, STEPS = 5 / 6, 1 / 4, 600 * EPOCHS  # temperatures of the smoothing: beta 1.2 to 4
ROWS = {                                        # our options, the sketch's; initialisation
    "vq D=8 K=32": ("--latent vq --latents 8 --categories 32", ("vq", dict(latents=8, categories=32)), "pytorch"),
    "fsq D=16 K=5, init=he": (
        "--latent fsq --latents 16 --categories 5", ("fsq", dict(latents=16, categories=5)), "he"),
    "smoothing f2 D=32 K=2": (
        "--latents 32 --categories 2 --estimator smoothing --samples 1 --temperature " + str(FIRST) +
        f" --estimator-options function=f2 anneal=linear anneal_rate={(FIRST - LAST) / STEPS} anneal_min={LAST}",
        ("smoothing", dict(latents=32, samples=1, first=FIRST, last=LAST)), "pytorch"),
}
STORE = RESULTS / "latents.json"


def ours(row, seed, folder):
    """(bound, KL) of the test images after the last epoch, by `npdvae.train` in a process of its own."""
    command = [sys.executable, "-m", "npdvae.train"]
    if any(folder.glob("checkpoint-*")):
        command += ["--resume", str(folder), "--epochs", str(EPOCHS)]
    else:
        options, _, init = ROWS[row]
        command += ["--data", "mnist", *options.split(), "--hidden", *map(str, HIDDEN), "--init", init,
                    "--batch-size", str(BATCH), "--lr", str(LR), "--epochs", str(EPOCHS), "--seed", str(seed),
                    "--engine", "segmented", "--threads", "1", "--no-figures", "--out", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    test = metrics.elbo(metrics.read(folder)[-1], "test")
    return test.negative_elbo, test.kl


def sketch(row, seed, folder):
    """The same by the sketch."""
    from bench.peers import torch_latents
    mnist = data.load("mnist", os.environ.get("NPDVAE_DATA"))
    _, (latent, options), init = ROWS[row]
    folder.mkdir(parents=True, exist_ok=True)
    train, test = (mnist.to_probabilities(x, np.float32) for x in (mnist.train, mnist.test))
    return torch_latents.train(latent, options, train, test, HIDDEN, init, BATCH, LR, EPOCHS, seed, folder / "state.pt")


def stored():
    """What was run so far."""
    return json.loads(STORE.read_text()) if STORE.exists() else []


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.latents", description=__doc__)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--sides", nargs="+", default=["npdvae", "torch"], choices=["npdvae", "torch"])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/latents"), help="folder of the runs")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for row in arguments.rows:
            for side in arguments.sides:
                key = {"run": row, "side": side, "seed": seed, "epochs": EPOCHS}
                if any(key.items() <= r.items() for r in stored()):
                    continue
                folder = arguments.out / f"{row.replace(' ', '-').replace(',', '')}-{side}-{seed}"
                bound, kl = (ours if side == "npdvae" else sketch)(row, seed, folder)
                runs = [*stored(), {**key, "test": round(bound, 3), "kl": round(kl, 3)}]
                STORE.write_text("[" + ",\n ".join(map(json.dumps, runs)) + "]\n")
                print(f"{row}, {side}, seed {seed}: {bound:.2f}", flush=True)


if __name__ == "__main__":
    main()
