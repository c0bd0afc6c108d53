"""Estimators by name: what is found, and the one line that says what was wrong. Share of the suite: 1 s."""
import re
import sys
import types

import pytest

from npdvae import estimators
from npdvae.estimators.base import Estimator

NAMES = """aimle arm arsm carms darn decoupled_straight_through direct_argmax disarm disarm_iw disarm_stick_breaking
disarm_tree double_cv exact gapped_straight_through go gr_mc gumbel_softmax imle local_expectation measure_valued muprop
random_coordinate rebar redge reinforce reinforce_sampled_kl reinmax reinmax_cv reinmax_rao relax rloo rodeo smoothing
straight_through straight_through_gumbel sum_and_sample unordered_set vimco zgr""".split()


def test_every_estimator_of_the_literature_is_registered_once():
    assert set(NAMES) <= set(estimators.names())
    assert list(estimators.names()) == sorted(set(estimators.names()))
    for name in estimators.names():
        assert issubclass(estimators.find(name), Estimator) and estimators.find(name).name == name


def test_an_unknown_name_is_refused_with_the_nearest_known_ones():
    with pytest.raises(ValueError, match=r"unknown estimator 'rinmax'; did you mean reinmax"):
        estimators.get("rinmax")
    with pytest.raises(ValueError, match=r"unknown estimator 'xyz' \(known: aimle, arm, "):
        estimators.get("xyz")


def test_the_help_names_every_estimator():
    assert sorted(estimators.listed()) == list(estimators.names())


def test_an_estimator_of_ones_own_is_found_by_module_and_class(monkeypatch):
    class Mine(Estimator):
        def __init__(self, ops=None, strength=2.0):
            super().__init__(ops)
            self.strength = strength

    monkeypatch.setitem(sys.modules, "mine", types.SimpleNamespace(Mine=Mine))
    assert estimators.get("mine:Mine", strength=3).strength == 3
    with pytest.raises(ValueError, match="cannot load estimator 'mine:Yours'"):
        estimators.get("mine:Yours")
    with pytest.raises(ValueError, match="cannot load estimator 'nowhere_to_be_found:Mine'"):
        estimators.get("nowhere_to_be_found:Mine")
    monkeypatch.setitem(sys.modules, "mine", types.SimpleNamespace(Mine=dict))
    with pytest.raises(ValueError, match="a class derived from npdvae.estimators.base.Estimator, got <class 'dict"):
        estimators.get("mine:Mine")


@pytest.mark.parametrize(("text", "message"), [
    ("class Mine(:", r"\(broken.py, line 1\)"), ("1 / 0", r"division by zero \(.*broken.py, line 1\)"),
    ("\nMine = Nothing", r"'Nothing' is not defined \(.*broken.py, line 2\)")])
def test_a_module_that_cannot_be_imported_is_one_line(text, message, tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=f"cannot load estimator 'broken:Mine': .*{message}"):
        estimators.get("broken:Mine")


@pytest.mark.parametrize(("name", "option", "value", "message"), [
    ("reinmax", "divide", True, "estimator reinmax has no option 'divide' (it has: samples, temperature, "),
    ("exact", "samples", 1, "estimator exact has no option 'samples' (it has: none)"),
    ("rloo", "samples", 2.5, "estimator rloo: option samples must be a whole number, got 2.5"),
    ("rloo", "samples", "4", "estimator rloo: option samples must be a whole number, got '4'"),
    ("rloo", "samples", True, "estimator rloo: option samples must be a whole number, got True"),
    ("reinmax", "temperature", "abc", "estimator reinmax: option temperature must be a finite number, got 'abc'"),
    ("reinmax_cv", "eta", float("nan"), "estimator reinmax_cv: option eta must be a finite number, got nan"),
    ("straight_through", "divide", 1, "estimator straight_through: option divide must be True or False, got 1"),
    ("darn", "centre", 3, "estimator darn: option centre must be a name, got 3"),
])
def test_an_option_that_does_not_fit_is_refused_in_one_line(name, option, value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        estimators.get(name, **{option: value})


def test_whole_numbers_serve_where_any_number_does():
    assert estimators.get("reinmax", temperature=1).exact_for == "quadratic"
