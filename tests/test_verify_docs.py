"""docs/verification.md: its example prints what the page says, the calibration finds the same again. 4 s."""
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from npdvae import estimators
from npdvae.verify import calibration, costs
from npdvae.verify.calibration import SelfMean, Table, simulate, z_test

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "verification.md").read_text()


def test_the_example_prints_what_the_page_shows():
    code = re.search(r"```python\n(.*?)```", PAGE, re.S)[1]
    shown = re.search(r"It prints\n\n```text\n(.*?)```", PAGE, re.S)[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    words = [re.findall(r"[A-Za-z]+|\d+\.\d|[\[\]]", text) for text in (done.stdout, shown)]    # digits may round off
    assert words[0] == words[1], done.stdout + done.stderr
    assert done.stdout.startswith("FAIL after")


def test_the_corrected_example_passes():
    code = re.search(r"```python\n(.*?)```", PAGE, re.S)[1].replace(".mean(0)     #", ".sum(0) / (samples - 1)  #")
    assert "/ (samples - 1)" in code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.startswith("PASS after"), done.stdout + done.stderr


def test_the_check_of_a_backward_prints_what_the_page_shows():
    section = PAGE[PAGE.index("## A backward pass of your own"):]
    code, shown = (re.search(rf"```{kind}\n(.*?)```", section, re.S)[1] for kind in ("python", "text"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout[:30] == shown[:30] and done.stdout.count("\n") == 1, done.stdout + done.stderr


@pytest.fixture(scope="module")
def problem():
    return np.random.default_rng(0).normal(size=(1, 2, 3)), costs.make("decoder", 0, 1, 2, 3)


@pytest.mark.parametrize("kind", ["bounds", "variance"])
def test_simulated_verdicts_are_right(problem, kind):
    good, bad = Table(estimators.get("rloo", samples=2), *problem), Table(SelfMean(2), *problem)
    assert abs(bad.relative_bias - 0.5) <= 1e-12 and good.relative_bias <= 1e-12
    assert (simulate(good, 20, 1, kind=kind)[0] == "PASS").all()
    assert (simulate(bad, 20, 1, kind=kind)[0] == "FAIL").all()


def test_false_alarms_stay_below_alpha_where_a_z_test_does_not(problem):
    table = Table(estimators.get("reinforce", baseline="none"), *problem)
    _, _, top = simulate(table, 300, 2, alpha=1e-300, delta=1e-4, budget=2 ** 15)
    assert (top >= np.log(10)).mean() <= 0.1                        # expected 0.02 at alpha = 0.1
    assert z_test(table, 300, 2, 0.01, budget=2 ** 15) > 0.2


@pytest.mark.parametrize("right", [True, False])
def test_the_command_says_whether_all_is_as_promised(right, monkeypatch, capsys):
    monkeypatch.setattr(calibration, "rates", lambda *arguments: right)
    monkeypatch.setattr(calibration, "cases", lambda: calibration_cases)
    calibration_cases = ((estimators.get("rloo", samples=2), True), (SelfMean(2), False))
    assert calibration.main(["--runs", "5", "--real", "1"]) == (0 if right else 1)
    assert ("all as promised" in capsys.readouterr().out) == right
    assert calibration.main(["--runs", "0"]) == 2
