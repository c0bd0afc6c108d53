"""What every test shares: the Hypothesis profile, optional packages, and the list of skips that are allowed.

Set NPDVAE_SKIPPED to a file's path to have the skipped tests listed there, to be run with `pytest @FILE` where more is
installed. Set NPDVAE_STRICT_SKIPS=1 where torch, jax, pyro-ppl, reinmax, redge and scikit-learn are installed: a skip
that matches no line of ALLOWED_SKIPS then fails the run.
"""
import gc
import os
import re
import signal

for pool in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):    # before NumPy is imported: products
    os.environ.setdefault(pool, "1")            # are small here, and a second thread of BLAS would only spin

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

from npdvae import backends  # noqa: E402
from tests.browser import browser, opened, runs  # noqa: E402, F401
from tests.cuda.places import PLACES, place  # noqa: E402
from tests.unwritten import poison  # noqa: E402

poison()

settings.register_profile("npdvae", derandomize=True, deadline=None, print_blob=False,
                          suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
settings.load_profile("npdvae")

ALLOWED_SKIPS = {                               # pattern of the skip's reason: why it may be skipped
    r"cupy|CUDA|GPU|nvrtc": "needs a CUDA device or compiler; those tests run where there is one (pytest -m gpu)",
    r"AMX|AVX-512": "instructions that not every processor has; plain Python stands in for them",
    r"POSIX": "signals, file-size limits and folder fsync have no counterpart on Windows",
    r"vector_quantize_pytorch": "a peer to compare with; .ci/run installs it for its last stage",
    r"distributed|dask_jobqueue": "an engine of sweeps; .ci/run installs it for its last stage",
    r"MPI": "for mpiexec; .ci/run installs the extra mpi for its last stage",
    r"Debian": "SLURM's packages come from Debian's mirror (pytest -m long)",
    r"playwright|Chromium": "pages in a real browser; .ci/run installs one for a stage of its own",
    r"mnist": "the MNIST files are not shipped and tests never touch the network; set NPDVAE_DATA to run these",
}
refused_skips = []
skipped = []


def pytest_configure(config):
    """A dropped imaginary part is an error. Said here and not in pyproject.toml, which would import NumPy too early.

    A shell's background job ignores Ctrl-C, and so would everything that tests of signals start.
    """
    config.addinivalue_line("filterwarnings", "error::numpy.exceptions.ComplexWarning")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def note_skip(report):
    """Remember a skip (or expected failure) whose reason is not on the list."""
    if report.skipped:
        skipped.append(report.nodeid)
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    if report.skipped and not any(re.search(pattern, reason) for pattern in ALLOWED_SKIPS):
        refused_skips.append(f"{report.nodeid}: {reason}")


def pytest_runtest_logreport(report):
    note_skip(report)


def pytest_collectreport(report):
    note_skip(report)


def pytest_sessionfinish(session):
    if path := os.environ.get("NPDVAE_SKIPPED"):
        with open(path, "w") as f:
            f.writelines(f"{nodeid}\n" for nodeid in skipped)
    if refused_skips and os.environ.get("NPDVAE_STRICT_SKIPS") == "1":
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    if refused_skips and os.environ.get("NPDVAE_STRICT_SKIPS") == "1":
        terminalreporter.section("skips that tests/conftest.py does not allow")
        for line in refused_skips:
            terminalreporter.line(line)


@pytest.fixture(scope="module", autouse=True)
def collected():
    """What is there when a file begins is no garbage: each graph that is captured collects it, and walks the rest."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", params=PLACES)
def cupy(request):
    """CuPy of a place where CUDA tests run, one after the other."""
    with place(request.param) as module:
        yield module


@pytest.fixture(scope="module")
def ops(cupy):
    """The op table of that place."""
    return backends.load("cupy")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A real SLURM, or a skip that says why there is none."""
    from tests.slurm import Slurm, Unavailable
    try:
        made = Slurm(tmp_path_factory.mktemp("slurm"))
    except Unavailable as why:
        pytest.skip(str(why))
    yield made
    made.stop()


@pytest.fixture(scope="session")
def torch():
    """PyTorch on one thread, or a skip where it is not installed."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    return torch
