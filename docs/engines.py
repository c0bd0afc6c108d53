"""python docs/engines.py [--check]: the table of what each engine runs in docs/architecture.md, from the engines."""
import pathlib
import sys

import numpy as np

from npdvae import estimators, latents, optimizers
from npdvae.describe import Recipe, describe
from npdvae.estimators.parts.baselines import BASELINES
from npdvae.fused import support as fused_support
from npdvae.gpu import support as gpu_support
from npdvae.model import DiscreteVAE

FOLDER = pathlib.Path(__file__).parent
PAGE = FOLDER / "architecture.md"
BEGIN, END = "<!-- python docs/engines.py -->", "<!-- end of engines -->"
ENGINES = {"fused (CPU)": fused_support.unsupported, "segmented (CPU)": fused_support.unsegmented,
           "captured (CUDA)": gpu_support.unsupported, "segmented (CUDA)": gpu_support.unsegmented}


def spec(optimizer="adam", microbatch=None, clip=None, dtype="float32", **options):
    """The description of a step of D = 2 and K = 2, with some parts replaced."""
    latent = latents.get("categorical", latents=2, categories=2, **options)
    model = DiscreteVAE(6, (5, 4), latent)
    recipe = Recipe(optimizers.get(optimizer), lambda s: 1e-3, lambda s: 1.0, 8, microbatch, clip, "dynamic", 0,
                    np.dtype(dtype))
    return describe(model, recipe)


def cases():
    """(group, name, description) of everything that an engine may or may not run."""
    for name in estimators.names():
        for baseline in BASELINES if name == "reinforce" else [None]:
            chosen = {} if baseline is None else {"baseline": baseline}
            yield "estimator", name + (f" ({baseline})" if baseline else ""), spec(estimator=name, **chosen)
    for name in optimizers.names():
        yield "optimizer", name, spec(optimizer=name)
    yield "setting", "--prior learned", spec(prior="learned")
    yield "setting", "--free-bits", spec(free_bits=0.1)
    yield "setting", "--clip-norm", spec(clip=1.0)
    yield "setting", "--microbatch", spec(microbatch=4)
    yield "setting", "--dtype float64", spec(dtype="float64")


def named(found, group, unsupported):
    """The cases of a group that an engine runs, or the few that it does not."""
    served = [name for g, name, s in found if g == group and unsupported(s) is None]
    others = [name for g, name, s in found if g == group and name not in served]
    if len(served) > 10 * len(others):
        return f"all but {', '.join(others)}" if others else "all"
    return ", ".join(served) or "none"


def table():
    """Markdown: what each fast engine runs; all else is the readable engine's, which runs everything."""
    found = list(cases())
    lines = [f"| | {' | '.join(ENGINES)} |", "|---" * (1 + len(ENGINES)) + "|"]
    for group in dict.fromkeys(g for g, _, _ in found):
        lines.append(f"| {group}s | " + " | ".join(named(found, group, u) for u in ENGINES.values()) + " |")
    return "\n".join([*lines, "", "Segments take every latent, prior and likelihood, parts of your own too: what an "
                      "engine of whole steps does not run goes to them (`--engine segmented` asks for them where it "
                      "does). The readable engine serves all else, on every backend."])


def main(check=False):
    """Write the table into the page, or say whether it is out of date: exit code 1."""
    old = PAGE.read_text()
    begin, end = old.index(BEGIN) + len(BEGIN), old.index(END)
    new = f"{old[:begin]}\n{table()}\n{old[end:]}"
    if check:
        print("out of date" if new != old else "up to date")
        return int(new != old)
    PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
