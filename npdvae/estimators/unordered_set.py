"""Unordered set estimator: k distinct codes, each weighted by how likely it was drawn first."""
import functools
import itertools

from npdvae.estimators import register
from npdvae.estimators.base import Draw, Estimator
from npdvae.estimators.parts.distinct_codes import log_outside, without_replacement
from npdvae.estimators.parts.log_sum_exp import LOG_ZERO, log_sum_exp
from npdvae.estimators.parts.outcomes import all_codes, codes_log_prob
from npdvae.estimators.parts.score import weighted_score
from npdvae.ops.kernelled import kernelled

MOST_DRAWN = 10                                 # the recursion visits 2**k subsets


@register
class UnorderedSet(Estimator):
    """sum_i q_i R_i (f_i - sum_j q_j R_ij f_j) (z_i - p) over k distinct codes (Kool et al. 2020, with baseline).

    The codes are drawn without replacement. q_i R_i = P(i drawn first | the set) = w_i; q_j R_ij = (1 - q_i)
    P(j drawn next | i first, the set) for j != i; R_ii = 1: hence w_i (1 - q_i) (f_i - sum_{j != i} P(j next) f_j).
    Cost: k evaluations, 2 <= k <= 10, at most K**D.
    """

    name = "unordered_set"
    unbiased = True
    exact_for = "any"

    def __init__(self, ops=None, k=4):
        super().__init__(ops)
        if not 2 <= k <= MOST_DRAWN:
            raise ValueError(f"estimator unordered_set needs k between 2 and {MOST_DRAWN} codes, got {k}")
        self.k = k

    def evaluations(self, latents, categories):
        return min(self.k, categories ** latents)

    def sample(self, logits, rng, state=None, context=None):
        log_p = self.ops.log_softmax(logits)                        # [B, D, K]
        u = rng.uniform((self.k, *logits.shape), logits.dtype)      # [k, B, D, K]
        codes = without_replacement(self.ops, log_p, u)          # [k, B, D]
        log_rest, _ = log_outside(self.ops, log_p, codes)        # [B]
        return Draw(codes, logits, chances(self.ops, self.ops.log_prob(log_p, codes), log_rest))

    def outcomes(self, logits, state=None, context=None):
        xp, (_, D, K) = self.ops.xp, logits.shape
        codes = all_codes(xp, D, K)                                 # [N, D]
        log_q = codes_log_prob(self.ops, logits, codes)             # [N, B]
        log_left = log_without(xp, log_q)
        for members in itertools.combinations(range(len(codes)), self.evaluations(D, K)):
            kept = chances(self.ops, log_q[list(members)], log_left(frozenset(members)))
            for order in itertools.permutations(range(len(members))):
                drawn = [members[i] for i in order]
                steps = [log_q[i] - log_left(frozenset(drawn[:n])) for n, i in enumerate(drawn)]   # Plackett-Luce
                yield xp.exp(sum(steps)), Draw(codes[drawn][:, None], logits, reorder(kept, list(order)))

    def weigh(self, draw, cost):
        return draw.kept["first"]                                   # [k, B]

    def backward(self, draw, cost, dcodes=None, state=None):
        p, kept = self.ops.softmax(draw.logits), draw.kept          # [B, D, K]
        others = (kept["second"] * cost).sum(1)                     # [k, B]
        coefficient = kept["first"] * kept["left"] * (cost - others)   # [k, B]
        return weighted_score(self.ops, coefficient, draw.codes, p)     # [B, D, K]


@kernelled
def chances(ops, log_q, log_rest):
    """Chances of the first draws given the set: log q of its codes [k, B], log of the probability outside [B].

    first [k, B]: P(i first | set). second [k, k, B]: P(j next | i first, set), 0 where j = i. left [k, B]: 1 - q_i.
    For every subset A, log_h[A] is the log-probability that A is drawn first where the rest of the set is
    removed: sum_{i in A} q_i / (q(A) + rest) h(A minus i). All terms are positive. i comes first with a share
    proportional to q_i h(set minus i), then j with one proportional to q_j h(set minus i and j).
    """
    xp, k, bits = ops.xp, len(log_q), [1 << i for i in range(len(log_q))]
    log_mass, log_h = [log_rest], [xp.zeros_like(log_rest)]         # 2**k x [B], by the bits of A
    for A in range(1, 1 << k):
        inside = [i for i in range(k) if A & bits[i]]
        log_mass.append(xp.logaddexp(log_mass[A ^ bits[inside[0]]], log_q[inside[0]]))
        terms = xp.stack([log_q[i] + log_h[A ^ bits[i]] for i in inside])
        log_h.append(log_sum_exp(xp, terms, 0) - log_mass[A])

    whole, never = (1 << k) - 1, xp.full_like(log_rest, LOG_ZERO)
    first = shares(xp, [log_q[i] + log_h[whole ^ bits[i]] for i in range(k)])
    second = xp.stack([shares(xp, [never if j == i else log_q[j] + log_h[whole ^ bits[i] ^ bits[j]]
                                   for j in range(k)]) for i in range(k)])
    left = xp.exp(xp.stack([log_mass[whole ^ bits[i]] for i in range(k)]))
    return {"first": first, "second": second, "left": left}


def shares(xp, log_terms):
    """exp of the terms, divided by their sum: k x [B] -> [k, B]."""
    log_terms = xp.stack(log_terms)                                 # [k, B]
    terms = xp.exp(log_terms - log_terms.max(0))
    return terms / terms.sum(0)


def reorder(kept, order):
    """The same chances with the codes in another order."""
    return {"first": kept["first"][order], "second": kept["second"][order][:, order], "left": kept["left"][order]}


def log_without(xp, log_q):
    """A function: frozenset of rows of log_q [N, B] -> log of the probability of all other rows [B]."""
    @functools.cache
    def log_left(drawn):
        rest = [i for i in range(len(log_q)) if i not in drawn]
        return log_sum_exp(xp, log_q[rest], 0) if rest else xp.full_like(log_q[0], LOG_ZERO)
    return log_left
