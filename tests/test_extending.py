"""docs/architecture.md's worked examples, in a copy of the project: they run, and touch as few files as it says.

Share: 12 s.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
from concurrent import futures

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()
MOST = {"An estimator": 3, "A latent": 4, "A likelihood": 5, "An optimizer": 5}
FILE = re.compile(r"`((?:npdvae|tests|docs)/[\w/]+\.(?:py|md)|CHANGELOG\.md)`")
BLOCK = re.compile(r"^```python file=(\S+)\n(.*?)^```", re.M | re.S)


def section(title):
    """The text of a worked example, and the number of files in its heading."""
    found = re.search(rf"^### {title}: (\d) files\n(.*?)(?=^### |\Z)", PAGE, re.M | re.S)
    assert found, title
    return int(found[1]), found[2]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The project's code without its history, and the files of all examples, none of which was there."""
    folder = tmp_path_factory.mktemp("copy")
    for part in ("npdvae", "kernels", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for path, code in BLOCK.findall(PAGE):
        assert not (folder / path).exists(), path
        (folder / path).write_text(code)
    return folder


def ends(title, folder):
    """An example's commands, and how each ended."""
    commands = re.findall(r"^    (python -m .*)$", section(title)[1], re.M)
    return [(command, subprocess.run([sys.executable, *command.split()[1:]], cwd=folder, capture_output=True, text=True,
                                     check=False, env={**os.environ, "PYTHONPATH": str(folder), "MPLBACKEND": "Agg"}))
            for command in commands]


@pytest.fixture(scope="module")
def followed(copy):
    """The commands of all examples, two at a time."""
    with futures.ThreadPoolExecutor(2) as pool:
        return {title: pool.submit(ends, title, copy) for title in MOST}


@pytest.mark.parametrize("title", MOST)
def test_a_part_is_added_by_the_files_that_the_page_names(title, followed):
    """New files alone, none of the package's own changed, and every command of the example works."""
    number, text = section(title)
    named = {re.sub(r"NAME", "*", f) for f in FILE.findall(text.split("```")[0])}
    assert len(named) == number <= MOST[title], named
    blocks = BLOCK.findall(text)
    assert blocks
    for path, _ in blocks:
        assert any(pathlib.PurePath(path).match(pattern) for pattern in named), path
    commands = followed[title].result()
    assert commands
    for command, done in commands:
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        if "npdvae.train" in command:
            assert "segmented engine (" in done.stdout, done.stdout


def test_the_step_names_no_estimator_and_no_latent():
    from npdvae import latents
    source = (ROOT / "npdvae" / "step.py").read_text()
    for word in ("estimator", *latents.names()):
        assert word not in source.lower(), word
    assert len(source.splitlines()) <= 50       # one screen


@pytest.mark.parametrize("page", ["engines", "estimators"])
def test_the_tables_of_parts_are_up_to_date(page):
    done = subprocess.run([sys.executable, f"docs/{page}.py", "--check"], cwd=ROOT, capture_output=True, text=True,
                          check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stdout + done.stderr
