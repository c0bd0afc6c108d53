"""The engines' kernels as plain Python, with the tiles of either instruction set. Share: 8 s.

A fault of their source shows here without the compiler, and the tile that this processor would not choose runs too.
"""
import os
import pathlib
import subprocess
import sys

import pytest

CASES = {                                       # file: its tests
    "test_numba_fused": "readable_steps and (constant or rloo or reinmax or floats or prior or wide or tanh)",
    "test_numba_segments": "agree_with and (vimco or rebar or zero or grey or hidden or continuous)",
    "test_numba_exact": "((readable_steps and (bytes or floats or tanh or prior or category or small)) or twin)"}
TILES = ("avx2", "avx512")


@pytest.fixture(scope="module")
def runs():
    """One process a tile, at the same time."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
               *(str(pathlib.Path(__file__).with_name(f"{stem}.py")) for stem in CASES),
               "-k", " or ".join(f"({stem} and {tests})" for stem, tests in CASES.items())]
    started = {tile: subprocess.Popen(command, env={**os.environ, "NUMBA_DISABLE_JIT": "1", "NPDVAE_TILE": tile},
                                      text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for tile in TILES}
    yield started
    for process in started.values():
        if process.poll() is None:              # where a test was interrupted
            process.kill()
            process.communicate()


@pytest.mark.parametrize("tile", TILES)
def test_engines_run_as_plain_python_with_either_tile(runs, tile):
    said, _ = runs[tile].communicate()
    assert runs[tile].returncode == 0, said[-2000:]
