"""The mutation tester: its faults, its bookkeeping, and a share of the campaign. Share: 30 s.

The whole campaign: python -m tests.mutation, ten minutes on two cores.
"""
import ast
import fnmatch
import os
import pathlib
import subprocess
import sys

import pytest

from npdvae.fused import frame, memory
from npdvae.ops import entropy, softmax
from npdvae.verify import knowledge
from tests.mutation import campaign
from tests.mutation.equivalents import Equivalent, accept, entry, equivalents, look_again
from tests.mutation.mutator import Bench, mutants, mutants_of, sites
from tests.test_architecture import modules


@pytest.mark.skipif(os.name != "posix", reason="limits on time and memory need a POSIX system")
def test_no_mutant_of_a_share_of_the_core_survives():
    done = subprocess.run([sys.executable, "-m", "tests.mutation", "--fast"], capture_output=True, text=True,
                          cwd=pathlib.Path(__file__).parents[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(100.00 %)" in done.stdout


@pytest.mark.parametrize("source, expected", [
    ("a - b", {"- to +", "left of - only", "right of - only"}),
    ("x.sum(-1, keepdims=True)", {"sum to mean", "sum to max", "keepdims lost", "-1 +1", "-1 -1"}),
    ("xp.where(c, a, b)", {"arms swapped"}),
    ("w.T", {".T lost"}),
    ("a > 0", {"> to >=", "> to <", "0 +1", "0 -1"}),
    ("-xp.log1p(u)", {"sign lost", "log1p to log", "log1p lost"}),
    ("a if c else b", {"arms swapped"})])
def test_mutator_makes_the_faults_it_says(source, expected):
    tree = ast.parse(f"def f(x):\n    y = {source}\n")
    assert {fault for _, _, fault, _ in sites(tree)} == expected


def test_mutator_knows_stale_and_overwritten_sums_and_leaves_checks_alone():
    tree = ast.parse("def f(x, s=3):\n    if x < 1:\n        raise ValueError(f'{x + 1}')\n    s += x\n    s = s * x\n")
    found = [fault for _, _, fault, _ in sites(tree)]
    assert {"+= lost", "+= to =", "+= to -=", "assignment lost", "3 +1"} <= set(found) and "< to <=" not in found


def test_every_mutant_changes_the_code_and_is_taken_out_again():
    bench = Bench("npdvae.ops.softmax")
    before = {name: f.__code__ for name, f in bench.functions.items()}
    listed = mutants("npdvae.ops.softmax")
    assert len(listed) > 50 and len({m.key for m in listed}) == len(listed)
    for mutant in listed:
        bench.put_in(mutant)
        assert softmax.__dict__[mutant.scope].__code__ != before[mutant.scope]
        bench.take_out()
        assert all(f.__code__ is before[name] for name, f in bench.functions.items())


def test_a_constant_changes_the_defaults_that_read_it():
    bench = Bench("npdvae.verify.knowledge")
    fault = next(m for m in mutants("npdvae.verify.knowledge") if m.scope == "" and m.fault == "15 +1")
    bench.put_in(fault)
    assert knowledge.MOST_OUTCOMES == 2 ** 16 and knowledge.countable.__defaults__ == (2 ** 16,)
    bench.take_out()
    assert knowledge.MOST_OUTCOMES == 2 ** 15 and knowledge.countable.__defaults__ == (2 ** 15,)


def test_a_constant_changes_for_those_who_import_it():
    fault = next(m for m in mutants("npdvae.fused.memory") if m.place == "SIDE" and m.fault == "16 +1")
    bench = Bench("npdvae.fused.memory")
    bench.put_in(fault)
    assert memory.SIDE == frame.SIDE == 17
    bench.take_out()
    assert memory.SIDE == frame.SIDE == 16


def test_a_mutant_reaches_those_who_imported_the_function():
    bench, held = Bench("npdvae.ops.entropy"), entropy.entropy
    fault = next(m for m in mutants("npdvae.ops.entropy") if m.scope == "entropy" and m.fault == "sign lost")
    row = softmax.log_softmax(softmax.np.zeros((1, 4)))
    bench.put_in(fault)
    wrong = held(row)
    bench.take_out()
    assert wrong[0] < 0 < held(row)[0]


def test_every_module_is_in_one_campaign_or_left_out_for_a_reason():
    """All but what only binds a folder together, or is run from the command line."""
    in_one = [*campaign.numeric_core(), *campaign.kernel_core(), *campaign.fused_core()]
    patterns = [f"npdvae.{name}" for names in campaign.LEFT_OUT.values() for name in names.split()]
    there = {name for name, path in modules().items() if path.stem not in ("__init__", "__main__", "conftest")}
    left = {name for name in there if any(fnmatch.fnmatch(name, p) for p in patterns)}
    assert len(in_one) == len(set(in_one)) and set(in_one) | left == there and not set(in_one) & left
    assert all(any(fnmatch.fnmatch(name, p) for name in there) for p in patterns)


CODE = """
STEP = 2

def other(x):
    return x - 1

def f(x, y):
    a = x - y * 2
    return a - y
"""
SAME = [                                        # the same functions, renamed within, laid out anew, edited elsewhere
    CODE.replace("y", "width").replace("a ", "near "),
    CODE.replace("x - y * 2", "(x\n         - y\n         * 2)"),
    "ROWS = 2\n" + CODE.replace("x - 1", "x - 1 - 2 - x * 2")]


def keys(source, places=("f", "STEP")):
    return [m.key for m in mutants_of("module", source.splitlines(), ast.parse(source)) if m.place in places]


@pytest.mark.parametrize("source", SAME)
def test_a_key_survives_renames_reformatting_and_edits_elsewhere(source):
    assert source != CODE and keys(source) == keys(CODE)
    assert {"module:f: - to +", "module:f: - to + #2", "module:STEP: 2 +1"} <= set(keys(CODE))


@pytest.mark.parametrize("before, after", [("x - y", "x + y"), ("a - y", "a"), ("* 2", "* 3")])
def test_a_key_is_lost_with_the_operation_that_it_names(before, after):
    assert set(keys(CODE)) - set(keys(CODE.replace(before, after)))


def test_a_changed_line_asks_for_another_look_and_can_be_accepted(tmp_path):
    listed = [m for m in mutants_of("module", CODE.splitlines(), ast.parse(CODE)) if m.fault == "- to + #2"]
    known = {m.key: Equivalent("return x - y", True) for m in listed}
    changed = look_again(known, listed)
    assert changed == [("module:f: - to + #2", "return x - y", "return a - y")]
    path = tmp_path / "equivalents.toml"
    path.write_text(f'[[equivalent]]\nreason = "none"\nmutants = [\n    {entry(*changed[0][:2])},\n]\n')
    accept(changed, path)
    assert equivalents(path) == {"module:f: - to + #2": Equivalent("return a - y", True)}
    assert not look_again(equivalents(path), listed)
