"""python docs/reinmax_protocol.py [RUN ...]: the six rows of the ReinMax protocol; table in docs/recipes.md.

With run folders, what they reached is first stored in docs/reinmax_protocol.json in place of what is there of the same
preset and seed. Each run: python -m npdvae.train --preset reinmax-KxD --seed SEED. reinmax-8x4 is in reinmax_8x4.json.
"""
import json
import pathlib
import sys
import tomllib

from reinmax_8x4 import FOLDER, PAGE, figures
from reinmax_8x4 import STORE as FIRST

from npdvae import metrics
from npdvae.presets import PRESETS

STORE = FOLDER / "reinmax_protocol.json"
BEGIN, END = "<!-- python docs/reinmax_protocol.py -->", "<!-- end of the protocol -->"
EPOCHS = PRESETS["reinmax-8x4"]["epochs"]
PUBLISHED = {"reinmax-8x4": ("124.7 (paper); 124.94 ± 0.81", "126.63 ± 0.75"),
             "reinmax-4x24": ("100.19 ± 0.44", "102.45 ± 0.43")}


def preset_of(config):
    """The preset that a run's settings are those of; ValueError where they are of none."""
    for name, preset in PRESETS.items():
        if name.startswith("reinmax-") and all(config.get(k) == v for k, v in preset.items()):
            return name
    raise ValueError("not a whole run of a reinmax preset")


def read(folder):
    """One run: preset, seed, and the negative ELBO after the last epoch, in nats."""
    config, lines = tomllib.loads((folder / "config.toml").read_text()), metrics.read(folder)
    if lines[-1]["epoch"] != EPOCHS:
        raise ValueError(f"{folder}: {lines[-1]['epoch']} epochs, expected {EPOCHS}")
    return {"preset": preset_of(config), "seed": config["seed"],
            **{split: round(metrics.elbo(lines[-1], split).negative_elbo, 3) for split in ("train", "test")}}


def stored():
    """All runs so far, by preset."""
    first = [{"preset": "reinmax-8x4", "seed": r["seed"], "train": r["train"][-1], "test": r["test"][-1]}
             for r in json.loads(FIRST.read_text()) if r["estimator"] == "reinmax"]
    found = first + (json.loads(STORE.read_text()) if STORE.exists() else [])
    return {name: [r for r in found if r["preset"] == name] for name in PRESETS if name.startswith("reinmax-")}


def table(groups):
    """Markdown: a line for each preset, what is missing said in it."""
    lines = ["| preset | seeds | train | test | published: train | published: test |", "|---|---|---|---|---|---|"]
    for name, runs in groups.items():
        cells = [", ".join(str(r["seed"]) for r in runs)] if runs else ["not run yet"]
        cells += [figures([r[split] for r in runs]) if runs else "" for split in ("train", "test")]
        lines.append(f"| {name} | {' | '.join([*cells, *PUBLISHED.get(name, ('', ''))])} |")
    return "\n".join(lines)


def main(folders):
    if folders:
        new = [read(pathlib.Path(f)) for f in folders]
        names = {(r["preset"], r["seed"]) for r in new}
        old = json.loads(STORE.read_text()) if STORE.exists() else []
        runs = sorted([r for r in old if (r["preset"], r["seed"]) not in names] + new,
                      key=lambda r: (list(PRESETS).index(r["preset"]), r["seed"]))
        STORE.write_text("[" + ",\n ".join(map(json.dumps, runs)) + "]\n")
    head, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n{table(stored())}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main(sys.argv[1:])
