"""What is said in more than one place about the package agrees: versions, bounds, Pythons, test files. Share: 0.1 s."""
import pathlib
import re
import tomllib

import npdvae
from tests.oldest import FILE, oldest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CI = (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_the_oldest_constraints_are_the_lower_bounds():
    assert FILE.read_text() == oldest()                             # else: python -m tests.oldest
    assert re.search(r"^numpy==\d", oldest(), re.M) and oldest().count("==") > oldest().count("\n")    # with a marker
    assert f"-c {FILE.name}" in CI


def test_the_version_is_said_once():
    assert "version" not in PROJECT["project"] and PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "npdvae.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", npdvae.__version__)
    assert f"\nversion: {npdvae.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_every_python_that_is_declared_is_tried():
    declared = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["project"]["classifiers"]))
    tried = re.search(r"^ +python: \[(.*)\]$", CI, re.M)[1]
    assert [f'"{p}"' for p in declared] == tried.split(", ")
    assert PROJECT["project"]["requires-python"] == f">={declared[0]}"


def test_the_quick_list_names_files_that_are_there():
    quick = (ROOT / "tests" / "quick.txt").read_text().split()
    assert len(quick) > 20 and quick == sorted(set(quick))
    assert [path for path in quick if not (ROOT / path).is_file()] == []
