"""python docs/estimators.py [--check]: docs/estimators.md, every estimator with its options, from the code itself."""
import inspect
import pathlib
import sys

from npdvae import estimators
from npdvae.estimators.parts.baselines import BASELINES

PAGE = pathlib.Path(__file__).with_name("estimators.md")
LATENTS, CATEGORIES = 4, 8                      # whose evaluations are shown; bits: as many codes
BITS = 12
FLAGS = ("samples", "baseline", "baseline_value", "temperature")    # options of the command line itself
USUAL = {"anneal_rate": 0.0, "anneal_min": 0.1, "anneal_every": 1}  # said once, above the table
HEAD = f"""# Estimators

<!-- python docs/estimators.py -->

`python -m npdvae.train --estimator NAME`. `--samples`, `--baseline`, `--baseline-value` and `--temperature` are
options of the command line; all others go to `--estimator-options KEY=VALUE ...`, and what an estimator cannot use is
refused. From Python: `estimators.get("reinmax", temperature=1.3)`.

    python -m npdvae.train --estimator gumbel_softmax --temperature 1 \\
        --estimator-options anneal=linear anneal_rate=1e-3 anneal_min=0.3

Symbols: phi the logits [D, K] of an image, p = softmax(phi) = q(z | x), z a drawn code (d: of one latent, s: of one
sample), f its cost -log p(x | z) in nats, g = df/dz from the decoder's backward pass, J(p) g the softmax's backward
pass, G Gumbel noise, u uniform noise, tau the temperature, sigma the logistic function, s = z - p the score, a the
logit of a bit or node. *The tutorial* is that of Jeffares and Liu, [arXiv 2505.10344](https://arxiv.org/abs/2505.10344).

- **evaluations**: of the decoder for an image and step (*a batch*: its images share them), at the options' defaults,
  {LATENTS} latents of {CATEGORIES} categories ({BITS} bits where K must be 2); `+` where a backward pass gives g.
- **promise**: what [`python -m npdvae.verify`](verification.md) proves. *unbiased*: for every cost. *multilinear*,
  *quadratic*: exact for costs of that kind in the one-hot rows. *none*: the bias is in `verify`'s table and, on trained
  models, in the [leaderboard](leaderboard.md). *relaxed*: the decoder reads other rows than codes from q(z | x), so
  that what is trained on is no ELBO (tests use hard codes).

Where `anneal` is an option, the temperature may fall: `anneal=exponential`, max(tau exp(-anneal_rate i), anneal_min),
or `linear`, max(tau - anneal_rate i, anneal_min), after i steps in whole intervals of `anneal_every`. Its defaults are
`anneal=constant`, `anneal_rate=0`, `anneal_min=0.1`, `anneal_every=1` unless said otherwise.

Baselines of `reinforce` and `reinforce_sampled_kl`: {{baselines}}.

"""


def promise(estimator):
    """In words."""
    said = "unbiased" if estimator.unbiased else estimator.exact_for or "none"
    more = {"sampled_kl": "over the sampled KL", "importance_weighted": "for its bound of several samples"}
    said += f" {more[estimator.objective]}" if estimator.objective in more else ""
    return said + (", relaxed" if estimator.relaxed else "")


def evaluations(estimator):
    """Of the decoder for an image or a batch, and whether with a backward pass."""
    n = estimator.evaluations(*(BITS, 2) if estimator.binary else (LATENTS, CATEGORIES))
    return f"{n}{' a batch' * estimator.shared}{' +' * estimator.needs_dcodes}"


def options(takes):
    """Options with their defaults, as they are written on a command line; takes: default by name."""
    shown = []
    for key, default in takes.items():
        if key != "ops" and not (key in USUAL and default == USUAL[key]):
            name = f"--{key.replace('_', '-')} " if key in FLAGS else f"{key}="
            value = f"{default:g}" if isinstance(default, float) else str(default)
            shown.append(f"`{name.strip(' =')}`" if default is None else f"`{name}{value}`")
    return ", ".join(shown)


def baseline(name):
    """A baseline and its options."""
    takes = {p.name: p.default for p in inspect.signature(BASELINES[name]).parameters.values()}
    own = options(takes)
    return f"`{name}`{f' ({own})' if own else ''}"


def entry(name):
    """One estimator: what its file says of it."""
    cls = estimators.find(name)
    path = f"{cls.__module__.replace('.', '/')}.py"
    return [f"## {name}", "", f"`{path}`", "", "```text", inspect.getdoc(cls), "```", ""]


def page():
    """The whole text."""
    names = estimators.names()
    made = {name: estimators.get(name) for name in names}
    lines = ["| estimator | evaluations | promise | options and their defaults |", "|---|---|---|---|"]
    for name, e in made.items():
        own = options(estimators.registry.takes(name))
        lines.append(f"| [{name}](#{name}) | {evaluations(e)} | {promise(e)} | {own} |")
    bits = [name for name, e in made.items() if e.binary]
    lines += ["", f"For bits alone (`--categories 2`): {', '.join(bits)}.", ""]
    lines += [line for name in names for line in entry(name)]
    return HEAD.replace("{baselines}", ", ".join(map(baseline, BASELINES))) + "\n".join(lines)


def main(check=False):
    """Write the page, or say whether it is out of date: exit code 1."""
    new = page().rstrip() + "\n"
    if check:
        same = PAGE.exists() and PAGE.read_text() == new
        print("up to date" if same else "out of date: python docs/estimators.py")
        return int(not same)
    PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
