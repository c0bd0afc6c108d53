"""python -m npdvae.verify: every registered estimator keeps its claims, broken ones are told apart. 12 s."""
import functools
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from npdvae import estimators
from npdvae.estimators.darn import DARN
from npdvae.estimators.rloo import RLOO
from npdvae.estimators.straight_through import StraightThrough
from npdvae.verify import check_unbiased, claims
from npdvae.verify.__main__ import main
from npdvae.verify.claims import judge, measure, variants

HERE = "tests.test_verify_claims" if __name__.startswith("tests") else __name__


class Shrunk(RLOO):
    """Divides by S where S - 1 is right: one half of the gradient at S = 2."""

    name = "shrunk"

    def backward(self, draw, cost, dcodes=None, state=None):
        return super().backward(draw, cost) * (1 - 1 / self.samples)


class TooProud(StraightThrough):
    """Straight-through that claims to be exact for quadratic costs."""

    name = "too_proud"

    def __init__(self, ops=None, samples=1):
        super().__init__(ops, samples)
        self.exact_for = "quadratic"


class TooModest(RLOO):
    """RLOO that claims multilinear costs only."""

    name = "too_modest"
    unbiased = False
    exact_for = "multilinear"


class LeakyOutcomes(RLOO):
    """Forgets one of its outcomes."""

    name = "leaky_outcomes"

    def outcomes(self, logits, state=None, context=None):
        return list(super().outcomes(logits))[1:]


class Silent(RLOO):
    """Does not enumerate its noise: left to the sequential test, which knows no bounds."""

    name = "silent"

    def outcomes(self, logits, state=None, context=None):
        return None


class SilentModest(Silent):
    """Claims multilinear costs only."""

    name = "silent_modest"
    unbiased = False
    exact_for = "multilinear"


class WithBounds(Silent):
    """Says how far the estimate reaches: with two samples it is (f1 - f2) (z1 - z2) / 2."""

    name = "with_bounds"
    reach = 1.0

    def bounds(self, logits, cost_range):
        high = np.full(logits.shape, self.reach * cost_range)
        return -high, high


class WithWrongBounds(WithBounds):
    """Promises a thousandth of that."""

    name = "with_wrong_bounds"
    reach = 1e-3


class WithBoundsShrunk(WithBounds):
    """Half of the gradient, and says how far it reaches."""

    name = "with_bounds_shrunk"

    def backward(self, draw, cost, dcodes=None, state=None):
        return super().backward(draw, cost) / 2


@pytest.mark.parametrize("name", estimators.names())
def test_every_registered_estimator_keeps_its_claims(name):
    categories = 2 if estimators.find(name).noise else 3         # quadrature over one dimension is quick
    for options in variants(name, 2):
        row = judge(name, options, 1, categories, "decoder", 3)
        assert row.verdict in ("holds", "no claim"), row
        if row.claim == "unbiased":
            assert row.verdict == "holds" and row.relative_bias <= 1e-8, row
        elif row.claim == "-":
            assert row.bias > 1e-6, f"biased by its own word, yet exact: {row}"
        assert row.evaluations >= 1 and row.variance >= 0


@pytest.mark.parametrize("cls, word", [(Shrunk, ""), (TooProud, "quadratic cost"), (TooModest, "claims too little"),
                                       (LeakyOutcomes, "sum to"), (WithBoundsShrunk, "FAIL: the estimate is biased"),
                                       (WithWrongBounds, "outside its bounds")])
def test_broken_claims_are_found(cls, word):
    row = judge(f"{HERE}:{cls.__name__}", {"samples": 2}, 2, 3, "decoder", 0)
    assert row.verdict == "BROKEN" and word in row.note, row
    if cls is Shrunk:
        assert abs(row.relative_bias - 0.5) <= 1e-12


@pytest.mark.parametrize("cls", [Silent, SilentModest])
def test_a_claim_of_which_no_bound_is_known_is_not_tried(cls, capsys):
    """No verdict is no accusation: the note says what to give."""
    assert main(["--estimator", f"{HERE}:{cls.__name__}", "--latents", "1"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"  sequential +not tried  no bound is known: give the class .*`bounds`.*check_unbiased", out)
    assert "1 estimator, 1 not tried, 0 broken claims;" in out


def test_exactness_for_a_class_of_costs_is_not_tried_either():
    row = judge(f"{HERE}:SilentModest", {"samples": 2}, 1, 2, "decoder", 0)
    assert row.verdict == "not tried" and row.note == claims.UNBOUNDED, row


def test_a_spent_budget_breaks_no_claim(monkeypatch):
    monkeypatch.setattr(claims, "check_unbiased", functools.partial(check_unbiased, budget=512))
    row = judge(f"{HERE}:WithBounds", {"samples": 2}, 1, 2, "decoder", 0)
    assert row.verdict == "not tried" and row.note == "INCONCLUSIVE: the budget of 512 samples is spent", row


def test_bounds_of_the_class_let_its_claim_be_tried():
    row = judge(f"{HERE}:WithBounds", {"samples": 2}, 1, 2, "decoder", 0)
    assert row.verdict == "holds" and row.method == "sequential" and row.note.startswith("PASS"), row


def test_darn_with_two_categories_is_held_to_its_wider_truth():
    """At K = 2 with centre 1/2 it is exact for quadratic costs too, so only a cubic one shows a bias."""
    assert measure(DARN(), 2, 2, "quadratic", 0).unbiased
    assert not measure(DARN(), 2, 2, "cubic", 0).unbiased
    assert judge("darn", {}, 2, 2, "decoder", 0).verdict == "holds"


def test_command_prints_a_table_and_counts(capsys):
    assert main(["--estimator", "rloo", "straight_through", "arm"]) == 0
    out = capsys.readouterr().out
    assert "3 estimators, 0 broken claims" in out
    assert [line.split()[0] for line in out.splitlines()[1:4]] == ["rloo", "straight_through", "arm"]
    assert "2x2" in out.splitlines()[3] and "2x3" in out.splitlines()[1]        # arm is binary


def test_command_fails_where_a_claim_does(capsys):
    assert main(["--estimator", f"{HERE}:Shrunk", "--json"]) == 1
    (row,) = json.loads(capsys.readouterr().out)
    assert row["verdict"] == "BROKEN" and row["method"] == "enumeration"


def test_command_tries_every_baseline(capsys):
    assert main(["--estimator", "reinforce", "--latents", "1", "--samples", "1"]) == 0
    out = capsys.readouterr().out
    for baseline in ("none", "constant", "running_mean", "batch_leave_one_out", "nvil"):
        assert f"reinforce ({baseline})" in out


def test_what_cannot_be_enumerated_is_judged_at_a_smaller_size():
    assert judge("rloo", {"samples": 3}, 4, 3, "table", 0).size == "2x3"        # 3**(4 * 3) tuples of codes at 4x3
    assert judge("rebar", {}, 4, 3, "table", 0).size == "1x3"
    assert judge("zgr", {}, 4, 3, "table", 0).size == "4x3"


@pytest.mark.parametrize("arguments, word", [
    (["--latents", "0"], "--latents must be at least 1, got 0"),
    (["--categories", "1"], "--categories must be at least 2"),
    (["--estimator", "rlo"], "did you mean rloo"),
    (["--estimator", "exact", "--latents", "30"], "30"),
])
def test_command_answers_bad_input_in_one_line(arguments, word, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert word in error and error.count("\n") == 1


def test_command_refuses_unknown_choices():
    with pytest.raises(SystemExit) as raised:
        main(["--cost", "sine"])
    assert raised.value.code == 2


def test_module_runs_as_a_command():
    command = [sys.executable, "-m", "npdvae.verify", "--estimator", "exact"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "0 broken claims" in done.stdout, done.stderr
