"""The README and the guides say only what is there: snippets run, equations lead to code and test. Share: 2 s."""
import ast
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")),
         *sorted((ROOT / "docs" / "guide").glob("*.md"))]
BLOCK = re.compile(r"^```python([^\n]*)\n(.*?)^```", re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_snippets_run_in_order(page, tmp_path):
    """Blocks of one page run as one program; `file=NAME` is saved beside it, `no-run` only has to parse."""
    program = []
    for info, text in BLOCK.findall(page.read_text()):
        ast.parse(text)
        if "file=" in info:
            path = tmp_path / info.split("file=")[1].split()[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif "no-run" not in info:
            program.append(text)
    if not program:
        return
    (tmp_path / "page.py").write_text("\n".join(program))
    done = subprocess.run([sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={**__import__("os").environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr


def test_every_equation_leads_to_its_code_and_its_test():
    rows = re.findall(r"^\| ([\d, -]+) \|[^|]*\| `([^`]+)` \| `([^`]+)` \|$", (ROOT / "README.md").read_text(), re.M)
    assert len(rows) > 15
    covered = set()
    for numbers, code, test in rows:
        for span in numbers.split(","):
            first, _, last = span.strip().partition("-")
            covered |= set(range(int(first), int(last or first) + 1))
        for place in (code, test):
            path, function = place.split(":")
            names = [node.name for node in ast.walk(ast.parse((ROOT / path).read_text()))
                     if isinstance(node, ast.FunctionDef)]
            assert function in names, place
    assert set(range(2, 87)) - covered == set()                     # 1 is the definition of conditional probability


def test_links_within_the_project_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\\]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_no_page_is_unfinished():
    for page in PAGES:
        assert "@@" not in page.read_text() and "TODO" not in page.read_text(), page.name


def test_figures_that_the_style_names_are_there():
    names = re.findall(r'\[src\*="(\w+)"\]', (ROOT / "docs" / "_static" / "guide.css").read_text())
    figures = [path.stem for path in (ROOT / "docs").rglob("*.png") if "_build" not in path.parts]
    assert len(names) > 9
    assert [name for name in names if not any(name in figure for figure in figures)] == []
