"""What SECURITY.md promises about the source, read from its syntax trees; a share of the campaign. Share: 12 s."""
import ast
import pathlib
import re
import subprocess
import sys

import pytest

from tests.campaign import __main__ as campaign
from tests.campaign.base import Tally

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILES = sorted([*(ROOT / "npdvae").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")])
RUN_TEXT = {"eval", "exec", "compile", "__import__"}
UNSAFE = {"pickle", "cPickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "yaml", "code", "codeop",
          "runpy"}
IMPORTERS = {                                   # import by a name, and whose names they are
    "npdvae/__init__.py": "its own parts", "npdvae/cli.py": "its own commands",
    "npdvae/registry.py": "typed or trusted",
    "npdvae/backends/__init__.py": "its own backends", "npdvae/backends/cublas.py": "a constant",
    "npdvae/backends/cuda_device.py": "a constant", "npdvae/sweep/__main__.py": "choices of an option"}
OPENERS = {"open", "read_bytes", "read_text", "fromfile", "memmap", "loadtxt", "genfromtxt"}


def calls(tree):
    """(name, whether it is a method, node) of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            f = node.func
            yield (f.id, False, node) if isinstance(f, ast.Name) else (getattr(f, "attr", ""), True, node)


def faults(name, tree):
    """What a file does that no file may."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"imports {n}" for n in names if n.split(".")[0] in UNSAFE)
    for called, method, node in calls(tree):
        if called in RUN_TEXT and not method:
            yield f"calls {called}"
        if called == "import_module" and name not in IMPORTERS:
            yield "imports by a name"
        keywords = {k.arg: k.value for k in node.keywords}
        if called in ("load", "loads") and method and getattr(node.func.value, "id", "") == "np":
            safe = keywords.get("allow_pickle")
            if not (isinstance(safe, ast.Constant) and safe.value is False):
                yield "np.load without allow_pickle=False"
        if "allow_pickle" in keywords and getattr(keywords["allow_pickle"], "value", True) is not False:
            yield "allows pickles"
        if "shell" in keywords and getattr(keywords["shell"], "value", True) is not False:
            yield "runs a shell"


@pytest.mark.parametrize("source, found", [
    ("eval(x)", ["calls eval"]), ("import pickle", ["imports pickle"]), ("np.load(f)", ["np.load without"]),
    ("from marshal import loads", ["imports marshal"]),
    ("np.load(f, allow_pickle=True)", ["np.load without", "allows"]),
    ("importlib.import_module(x)", ["imports by"]), ("re.compile(x)\nmodel.eval()\nnp.load(f, allow_pickle=False)", []),
    ("subprocess.run(x, shell=True)", ["runs a shell"])])
def test_faults_are_found(source, found):
    named = list(faults("a.py", ast.parse(source)))
    assert len(named) == len(found) and all(n.startswith(f) for n, f in zip(named, found)), named


def test_no_file_runs_text_or_unpickles():
    assert len(FILES) > 150
    wrong = []
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        wrong += [f"{name}: {fault}" for fault in faults(name, ast.parse(path.read_text()))]
    own = {"kernels/cpu/compiler.py: imports pickle"}               # the user's own cache, which no one else may write
    assert set(wrong) <= own, wrong


def test_readers_of_foreign_files_go_through_one_door():
    """Runs, settings and data are opened by npdvae.files alone; what else opens a file is named here."""
    own = {"npdvae/files.py", "npdvae/metrics.py", "npdvae/process.py", "npdvae/memory.py", "npdvae/lock.py",
           "npdvae/data/download.py", "npdvae/parallel/mpi.py", "npdvae/explore/page.py"}
    # what they write or bring, or the system's own
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        if name in own or name.startswith(("npdvae/sweep/", "npdvae/verify/", "kernels/", "npdvae/backends/",
                                           "npdvae/gpu/")):
            continue
        opened = [called for called, method, node in calls(ast.parse(path.read_text()))
                  if called in OPENERS and not (called == "open" and method)]
        assert not opened, f"{name}: {opened}"


def test_the_page_says_where_to_report():
    text = (ROOT / "SECURITY.md").read_text()
    assert "security/advisories" in text and "--trust" in text and "reliability.md" in text


SHARES = (("checkpoints", "data_files", "histories", "power_loss", "pairs"), ("command_lines", "faults", "kills"))


def test_a_share_of_the_campaign_finds_nothing():
    """In two processes at once, neither of them this one: children count what they inherit as theirs."""
    pytest.importorskip("resource", reason="forks need a POSIX system")
    shares = [subprocess.Popen([sys.executable, "-m", "tests.campaign", "--share", "0.004", "--only", *kinds], cwd=ROOT,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for kinds in SHARES]
    said = [share.communicate()[0] for share in shares]
    found = [re.search(r"^(\d+) tries, (\d+) failed", text, re.M) for text in said]
    for share, text, tries in zip(shares, said, found):
        assert share.returncode == 0 and tries and tries[2] == "0", text
    assert sum(int(tries[1]) for tries in found) > 900


def test_a_part_of_the_campaign_takes_the_place_of_its_own_rows_alone():
    page = "\n" + campaign.table([(Tally("one", 3, 1, [], "said"), 0), (Tally("two (b)", 1000, 0, [("", "")]), 0)])
    new = campaign.table([(Tally("two (b)", 2000), 0), (Tally("three", 1), 0)], campaign.rows_of(page))
    assert new.splitlines()[2:] == ["| one | 3 | 1 | 0 | said |", "| two (b) | 2,000 |  | 0 |  |",
                                    "| three | 1 |  | 0 |  |"]
