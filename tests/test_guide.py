"""The guide: chapters hold what they promise, run without Sphinx, and links are checked. Share: 1 s.

That every chapter runs is the build's affair (python -m sphinx -W -n docs docs/_build, in .ci/run).
"""
import ast
import importlib.util
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "docs" / "guide").glob("*.md"))


def load(name):
    """A program of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_ten_chapters_and_the_index_lists_them():
    index = (ROOT / "docs" / "index.md").read_text()
    assert [path.name[:2] for path in CHAPTERS] == [f"{n:02d}" for n in range(1, 11)]
    assert [f"guide/{path.stem}" in index.splitlines() for path in CHAPTERS] == [True] * 10


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_a_chapter_has_described_figures_an_equation_or_code_and_its_command(path):
    text, cells = path.read_text(), [match[2] for match in load("chapter").CELL.finditer(path.read_text())]
    assert f"`python docs/chapter.py {int(path.name[:2])}`" in text
    assert len(cells) == text.count("```{code-cell}") > 1           # chapter.py sees every cell
    drawn = [cell for cell in cells if "plt.show()" in cell]
    assert len(drawn) == text.count("caption: \"") == text.count("    alt: ") > 0
    for cell in cells:
        ast.parse(cell)
    for place, thing in re.findall(r"```\{literalinclude\} (\S+)\n:pyobject: (\S+)", text):
        assert f"def {thing.split('.')[-1]}(" in (path.parent / place).read_text(), thing


def test_a_chapter_runs_without_sphinx(tmp_path):
    done = subprocess.run([sys.executable, ROOT / "docs" / "chapter.py", "7", "--out", tmp_path], cwd=tmp_path,
                          capture_output=True, text=True, check=False,
                          env={**__import__("os").environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert "numpy  right              PASS" in done.stdout and "numpy  own cost included  FAIL" in done.stdout
    assert (tmp_path / "07_your_own-1.png").stat().st_size > 10_000


def test_links_that_lead_nowhere_and_loads_from_a_network_are_found(tmp_path):
    (tmp_path / "index.html").write_text('<h1 id="top">x</h1><a href="#top">a</a><a href="b.html#here">b</a>'
                                         '<a href="https://example.org">c</a><img src="data:image/png;base64,">')
    (tmp_path / "b.html").write_text('<p id="here">x</p><a href="index.html">a</a>')
    faults = load("check_site").faults
    assert list(faults(tmp_path)) == []
    (tmp_path / "b.html").write_text('<a href="gone.html">a</a><a href="#away">b</a>'
                                     '<script src="https://example.org/x.js"></script>')
    (tmp_path / "guide").mkdir()
    (tmp_path / "guide" / "c.html").write_text("text alone")
    found = [line.split(": ", 1)[1] for line in faults(tmp_path)]
    assert found == ["no figure", "gone.html: no such file", "#away: no such anchor", "loads https://example.org/x.js",
                     "b.html#here: no such anchor"]
