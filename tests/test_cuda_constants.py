"""Numbers that Python and the CUDA sources both name are the same numbers. Share of the suite: 0 s."""
import re

import pytest

from npdvae.kernels.cuda import constants, launch

NAMED = {                                       # what Python says about each file
    "activations.cuh": constants.ACTIVATIONS,
    "binarize.cu": constants.PIXELS,
    "reinforce.cu": constants.BASELINES,
    "schedule.cuh": {**constants.CLOCK, **constants.SETTINGS, "settings": len(constants.SETTINGS)},
    "linear.cu": constants.BLOCK,
    "common.cuh": {"threads": constants.THREADS},
}


def defined(file):
    """The numbers that a file defines, by name in lower case."""
    found = re.findall(r"^#define (\w+) (\d+)$", (launch.FOLDER / file).read_text(), re.M)
    return {name.lower(): int(number) for name, number in found}


@pytest.mark.parametrize("file", NAMED)
def test_constants_are_those_of_the_sources(file):
    assert defined(file) == NAMED[file]


def test_every_source_that_defines_numbers_is_held():
    files = [*launch.FOLDER.glob("*.cu"), *launch.FOLDER.glob("*.cuh")]
    assert {p.name for p in files if defined(p.name)} == set(NAMED)
