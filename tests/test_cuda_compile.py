"""Every CUDA kernel compiles for sm_75 to sm_100 with no register spilled. Share: 10 s afresh, 1 s from the cache."""
import hashlib
import json
import re
from concurrent import futures

import numpy as np
import pytest

from npdvae.kernels.cuda import launch
from tests.cuda import emulator, nvrtc

pytestmark = pytest.mark.skipif(bool(nvrtc.available()), reason=nvrtc.available() or "-")
MOST = {"float32": 192, "float64": 224}         # registers of a thread; 256 is what a block of 256 has at hand
# Default suite: float32 everywhere, float64 on the oldest and the newest; the rest is `long`.
CASES = [(a, t) for a in nvrtc.ARCHITECTURES for t in ("float32", "float64")]
RARE = [("sm_80", "float64"), ("sm_90", "float64")]


def compiled(stem, architecture, dtype):
    """Usage of each kernel of a stem, kept by the hash of source, compiler and target."""
    text = launch.source(stem, dtype)
    key = "\0".join([text, architecture, str(nvrtc.version()), (emulator.HERE / "nvrtc.py").read_text()])
    path = emulator.cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    if not path.exists():
        size, usage = nvrtc.compile_cubin(text, architecture)
        assert size > 0
        path.write_text(json.dumps({k: list(u) for k, u in usage.items()}))
    return {k: nvrtc.Usage(*u) for k, u in json.loads(path.read_text()).items()}


@pytest.mark.parametrize("architecture, dtype",
                         [pytest.param(*c, marks=[pytest.mark.long] if c in RARE else []) for c in CASES])
def test_kernels_compile_without_spills(architecture, dtype):
    stems, seen = list(launch.stems()), []
    with futures.ThreadPoolExecutor() as pool:                      # the compiler holds no lock of the interpreter
        found = list(pool.map(lambda stem: compiled(stem, architecture, dtype), stems))
    for stem, kernels in zip(stems, found):
        for name, usage in kernels.items():
            seen.append(name)
            assert usage.spills == 0 and usage.stack == 0, f"{name} ({stem}.cu, {architecture}, {dtype}): {usage}"
            assert usage.registers <= MOST[dtype], f"{name} ({stem}.cu, {architecture}, {dtype}): {usage}"
            assert usage.shared <= 48 * 1024
    assert sorted(seen) == sorted(launch.kernels())


def test_spills_and_errors_would_be_seen():
    """An array indexed by data goes to local memory; a source that does not parse names its line."""
    text = launch.source("gumbel", np.float32) + """
KERNEL heavy(real* x, int n) {
    real v[64];
    for (int i = 0; i < n; i++) v[i % 64] = x[i];
    for (int i = 0; i < n; i++) x[i] = v[(int)x[i] & 63];
}
"""
    heavy = nvrtc.compile_cubin(text, "sm_80")[1]["heavy"]
    assert heavy.stack >= 64 * 4
    with pytest.raises(ValueError, match=r'gumbel.cu\(4\): error'):
        nvrtc.compile_cubin(launch.source("gumbel", np.float32).replace("log(u[i])", "lgo(u[i])"), "sm_80")


def test_denormal_floats_are_flushed_as_under_cupy():
    """Every float32 operation that can flush says so."""
    ptx = nvrtc.compile_ptx(launch.source("updates", np.float32), "sm_80")
    assert ".ftz.f32" in ptx and not re.search(r"\b(add|sub|mul|fma|sqrt|div)(\.rn)?\.f32", ptx)


def test_sources_stay_within_what_the_emulator_runs():
    """No inline PTX, device headers or dynamic shared memory; no atomics, so that sums are in a fixed order."""
    forbidden = r"\basm\b|atomic|cooperative|\bcub::|extern __shared__|#include <|__expf|__logf|wmma|\bprintf\b"
    for path in [*launch.FOLDER.glob("*.cu"), *launch.FOLDER.glob("*.cuh")]:
        code = re.sub(r"//.*", "", path.read_text())
        assert not re.search(forbidden, code), path.name
