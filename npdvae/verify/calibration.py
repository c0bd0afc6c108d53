"""python -m npdvae.verify.calibration: how often the sequential test is right, measured.

Runs on enumerated outcomes draw multinomial counts, block by block, so that hundreds are quick; further runs go
through the real sampler. Looks after every block, budget 2**18 samples.
"""
import math
import sys
import time
from statistics import NormalDist

import numpy as np

from npdvae import estimators
from npdvae.cli import Parser, guarded
from npdvae.estimators.reinforce import Reinforce
from npdvae.verify import check_unbiased, costs, exact_gradient
from npdvae.verify.betting import Bounded, Spread, log_mean_exp

BLOCK, BUDGET = 1024, 2 ** 18


class SelfMean(Reinforce):
    """A deliberate fault: the batch mean includes each sample's own cost, which shrinks the gradient by 1 - 1/S."""

    name = "self_including_mean"

    def __init__(self, samples):
        super().__init__(baseline="none", samples=samples)

    def backward(self, draw, cost, dcodes=None, state=None):
        return super().backward(draw, cost - cost.mean(0))


def cases():
    """(estimator, whether it is unbiased)."""
    return ((estimators.get("reinforce", baseline="none"), True), (estimators.get("rloo", samples=2), True),
            (estimators.get("disarm_tree"), True), (SelfMean(3), False), (estimators.get("straight_through"), False),
            (estimators.get("reinmax"), False))


class Table:
    """An estimator's outcomes: probabilities [C], errors x [C, N], and the scales of the bets."""

    def __init__(self, estimator, logits, cost):
        true = exact_gradient(logits, cost).ravel()
        pairs = [(float(np.ravel(p)[0]), estimator.backward(d, cost(d.codes), cost.gradient(d.codes)).ravel() - true)
                 for p, d in estimator.outcomes(logits)]
        self.p = np.array([p for p, _ in pairs])
        self.p /= self.p.sum()
        self.x = np.stack([x for _, x in pairs])                    # [C, N]
        self.bias = self.p @ self.x
        self.sigma = np.sqrt(self.p @ (self.x - self.bias) ** 2)
        self.relative_bias = float(np.linalg.norm(self.bias) / np.linalg.norm(true))

    def shifted(self, shift):
        """The same with a constant added to every error."""
        other = object.__new__(Table)
        other.p, other.x, other.bias, other.sigma = self.p, self.x + shift, self.bias + shift, self.sigma
        return other


def simulate(table, runs, seed, alpha=1e-9, beta=1e-6, delta=0.03, kind="bounds", budget=BUDGET):
    """Verdicts [runs], samples used [runs] and largest log E [runs] of that many tests."""
    sigma = table.sigma
    bets = Spread(sigma, delta * sigma) if kind == "variance" else Bounded(
        table.x.min(0), table.x.max(0), sigma, delta * sigma)
    zero, bias = (f(table.x).reshape(len(table.p), -1) for f in (bets.against_zero, bets.against_bias))
    rng, live = np.random.default_rng(seed), np.arange(runs)
    wealth, side = np.zeros((runs, zero.shape[1])), np.zeros((runs, bias.shape[1]))
    verdict, used, top = np.full(runs, "INCONCLUSIVE"), np.full(runs, budget), np.full(runs, -np.inf)
    for n in range(BLOCK, budget + 1, BLOCK):
        counts = rng.multinomial(BLOCK, table.p, size=len(live)).astype(float)
        wealth[live] += counts @ zero
        side[live] += counts @ bias
        evidence = log_mean_exp(wealth[live], 1)
        top[live] = np.maximum(top[live], evidence)
        fail = evidence >= -math.log(alpha)
        passed = ~fail & (side[live].min(1) >= -math.log(beta))
        verdict[live[fail]], verdict[live[passed]] = "FAIL", "PASS"
        used[live[fail | passed]] = n
        live = live[~(fail | passed)]
        if not len(live):
            break
    return verdict, used, top


def z_test(table, runs, seed, level, budget=2 ** 16):
    """What many suites do: |z| beyond its quantile on any entry at any look. How often it rejects."""
    quantile = NormalDist().inv_cdf(1 - level / 2)
    rng, total, hit = np.random.default_rng(seed), np.zeros((runs, len(table.sigma))), np.zeros(runs, bool)
    for n in range(BLOCK, budget + 1, BLOCK):
        total += rng.multinomial(BLOCK, table.p, size=runs) @ table.x
        hit |= (np.abs(total) / math.sqrt(n) / table.sigma > quantile).any(1)
    return hit.mean()


def tally(verdict):
    return " ".join(f"{(verdict == word).sum():5d}" for word in ("FAIL", "PASS", "INCONCLUSIVE"))


def verdicts(logits, cost, runs, real, seed):
    """The first table: verdicts on outcomes and through the sampler. Whether all were right."""
    words = "FAIL  PASS incl."
    print(f"{'':38s}{f'{runs} runs, bounds':>24s}{f'{runs} runs, variance':>24s}{f'{real} runs, sampler':>24s}\n"
          f"{'estimator':28s}{'rel. bias':>10s}{words:>24s}{words:>24s}{words:>24s}{'median samples':>16s}")
    right = True
    for estimator, unbiased in cases():
        table = Table(estimator, logits, cost)
        by_bounds, used, _ = simulate(table, runs, seed)
        by_variance, _, _ = simulate(table, runs, seed + 1, kind="variance")
        sampled = np.array([check_unbiased(estimator, logits, cost, cost.gradient, seed=seed + i).verdict
                            for i in range(real)])
        expected = "PASS" if unbiased else "FAIL"
        right &= all((v == expected).all() for v in (by_bounds, by_variance, sampled))
        print(f"{estimator.name:28s}{table.relative_bias:10.1e}{tally(by_bounds):>24s}{tally(by_variance):>24s}"
              f"{tally(sampled):>24s}{int(np.median(used)):16d}", flush=True)
    return right


def rates(logits, cost, runs, seed):
    """The second table: error rates at levels that can be seen, and those of a z-test."""
    right = True
    print(f"\nfalse alarms of an unbiased estimator, {runs} runs of 65536 samples, 64 looks (delta so small that PASS "
          "never ends a run)")
    for name, estimator in (("reinforce", cases()[0][0]), ("rloo", cases()[1][0])):
        table = Table(estimator, logits, cost)
        _, _, top = simulate(table, runs, seed + 2, alpha=1e-300, delta=1e-4, budget=2 ** 16)
        shares = {level: float((top >= -math.log(level)).mean()) for level in (0.1, 0.01, 0.001, 1e-9)}
        right &= all(share <= level + 4 * math.sqrt(level / runs) for level, share in shares.items())
        print(f"  {name:12s}" + "".join(f"alpha {level:g}: {share:.4f}   " for level, share in shares.items())
              + f"largest E 10^{top.max() / math.log(10):.1f}   "
              f"z-test at 1 %: {z_test(table, runs, seed + 3, 0.01):.3f}")
    table = Table(cases()[1][0], logits, cost)
    edge = table.shifted(np.eye(table.x.shape[1])[0] * 0.05 * table.sigma)
    verdict, _, _ = simulate(edge, runs, seed + 4, alpha=1e-300, beta=0.05, delta=0.05, budget=2 ** 16)
    share = float((verdict == "PASS").mean())
    print(f"\nfalse PASS where the bias is exactly delta, beta = 0.05: {share:.4f}")
    print("\na planted bias of e standard deviations in one entry of rloo, delta = e / 2, 200 runs")
    for e in (0.1, 0.03, 0.01):
        planted = table.shifted(np.eye(table.x.shape[1])[0] * e * table.sigma)
        verdict, used, _ = simulate(planted, 200, seed + 5, delta=e / 2, budget=int(200 / e ** 2))
        right &= bool((verdict == "FAIL").all())
        median, most = (np.quantile(used, q) * e * e for q in (0.5, 0.95))
        print(f"  e = {e:<5g} FAIL {(verdict == 'FAIL').mean():.3f}   samples: median {median:.0f} / e^2, "
              f"95 % below {most:.0f} / e^2")
    return right and share <= 0.05 + 4 * math.sqrt(0.05 / runs)


@guarded
def main(argv=None):
    """Print the figures; exit code 1 where one is not what the theory promises."""
    parse = Parser(prog="python -m npdvae.verify.calibration", description="How often the sequential "
                   "test is right, measured.")
    parse.add_argument("--runs", type=int, default=400, help="tests of each estimator on its outcomes (default: 400)")
    parse.add_argument("--real", type=int, default=20, help="tests through the real sampler (default: 20)")
    parse.add_argument("--rate-runs", type=int, default=2000, help="tests for the error rates (default: 2000)")
    parse.add_argument("--seed", type=int, default=0)
    arguments = parse.parse_args(argv)
    for name in ("runs", "real", "rate_runs"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(arguments, name)}")
    start = time.perf_counter()
    logits = np.random.default_rng(arguments.seed).normal(size=(1, 2, 3))
    cost = costs.make("decoder", arguments.seed, 1, 2, 3)
    right = verdicts(logits, cost, arguments.runs, arguments.real, arguments.seed + 1)
    right &= rates(logits, cost, arguments.rate_runs, arguments.seed + 1)
    print(f"\n{'all as promised' if right else 'NOT AS PROMISED'}; {time.perf_counter() - start:.0f} s")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
