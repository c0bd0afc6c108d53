"""python -m npdvae.train --backend cupy: runs by the emulator or (-m gpu) on a device, and its errors. Share: 4 s."""
import json
import os
import subprocess
import sys
import types

import numpy as np
import pytest

from npdvae import backends, checkpoint, train
from npdvae.backends import BackendError, cublas, cuda_device, cupy_backend
from npdvae.gpu.engine import Captured
from tests.cuda import cupy_stand_in, problem
from tests.cuda.places import PLACES, place


@pytest.fixture(params=PLACES)
def cupy(request):
    with place(request.param) as module:
        yield module


@pytest.fixture
def images(tmp_path):
    """A data set of 40 training and 8 test images of 4 x 5 grey pixels, and the settings of a run on it."""
    g = np.random.default_rng(0)
    rows = (g.integers(1, 256, (48, 4, 5)) * (g.random((48, 4, 5)) > 0.3)).astype(np.uint8)
    path = tmp_path / "images.npz"
    np.savez(path, train=rows[:40], test=rows[40:])
    return ["--data", str(path), "--hidden", "12", "--latents", "2", "--categories", "3", "--batch-size", "16",
            "--binarize", "dynamic", "--dtype", "float64", "--no-figures"]


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def same_run(a, b, tolerance=1e-9):
    """Two run folders: the same figures of every epoch, and the same last checkpoint, within rounding."""
    for x, y in zip(metrics(a), metrics(b), strict=True):
        for key in ("train_cost", "train_kl", "test_cost", "test_kl"):
            assert abs(x[key] - y[key]) <= tolerance * abs(y[key]), key
        assert x["step"] == y["step"] and x["lr"] == y["lr"]
    x, y = checkpoint.latest(a).arrays, checkpoint.latest(b).arrays
    assert set(x) == set(y)
    for k in set(x) - {"progress/best"}:                           # infinite without --validation
        assert x[k].dtype == y[k].dtype and x[k].shape == y[k].shape, k
        assert np.abs(x[k] - y[k]).max() <= 1e-6 * max(1e-3, np.abs(y[k]).max()), k


@pytest.mark.parametrize("estimator", [["rloo"], ["reinforce", "--baseline", "running_mean"], ["reinmax"],
                                       ["gumbel_softmax", "--temperature", "0.7"], ["gr_mc"]])
def test_a_run_on_cupy_is_the_run_on_numpy(cupy, images, tmp_path, estimator, capsys):
    """The last one has no kernels of its own and runs in segments."""
    for backend in ("numpy", "cupy"):
        assert train.main([*images, "--estimator", *estimator, "--epochs", "2", "--backend", backend, "--out",
                           str(tmp_path / backend)]) == 0
    same_run(tmp_path / "cupy", tmp_path / "numpy")
    said = capsys.readouterr().err
    assert said.count("the latent op by op between them") == (estimator == ["gr_mc"])


@pytest.mark.parametrize("first, second", [("numpy", "cupy"), ("cupy", "numpy"), ("cupy", "cupy")])
def test_checkpoints_go_from_backend_to_backend(cupy, images, tmp_path, first, second):
    options = [*images, "--estimator", "reinforce", "--baseline", "running_mean", "--checkpoint-every", "2"]
    assert train.main([*options, "--epochs", "3", "--backend", "numpy", "--out", str(tmp_path / "whole")]) == 0
    assert train.main([*options, "--epochs", "1", "--backend", first, "--out", str(tmp_path / "run")]) == 0
    assert train.main(["--resume", str(tmp_path / "run"), "--epochs", "3", "--backend", second]) == 0
    same_run(tmp_path / "run", tmp_path / "whole")


def one_line(capsys):
    """The error of a command: exactly one line."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("npdvae: error: "), lines
    return lines[0]


def refused(arguments, folder, capsys):
    """A command that must fail with code 2 and one line, and leave no run behind; its line."""
    assert train.main([*arguments, "--backend", "cupy", "--out", str(folder), "--epochs", "1"]) == 2
    assert not folder.exists()
    return one_line(capsys)


def stand_in(monkeypatch, **changes):
    """The stand-in for CuPy with parts of it changed."""
    monkeypatch.setitem(sys.modules, "cupy", cupy_stand_in)
    monkeypatch.setattr(cublas, "load_library", lambda major: cupy_stand_in.cublas())
    for name, value in changes.items():
        monkeypatch.setattr(cupy_stand_in.runtime if hasattr(cupy_stand_in.runtime, name) else cupy_stand_in, name,
                            value)
    cupy_backend.ops_of.cache_clear()
    cupy_stand_in.state.unfinished.clear()
    monkeypatch.setitem(cupy_backend.settings, "device", 0)


@pytest.fixture
def forget_devices():
    cupy_backend.ops_of.cache_clear()
    yield
    cupy_backend.ops_of.cache_clear()


@pytest.mark.usefixtures("forget_devices")
class TestErrors:
    """One clear line each, exit code 2, no half-written run."""

    def test_cupy_not_installed(self, images, tmp_path, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "cupy", None)
        line = refused(images, tmp_path / "run", capsys)
        assert "CuPy is not installed" in line and "npdvae[cuda12]" in line and "npdvae[cuda13]" in line

    def test_no_driver(self, images, tmp_path, capsys, monkeypatch):
        def fail():
            raise cupy_stand_in.CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
        stand_in(monkeypatch, getDeviceCount=fail, driverGetVersion=lambda: 0)
        line = refused(images, tmp_path / "run", capsys)
        assert "no NVIDIA driver or no GPU on this machine (cudaErrorInsufficientDriver" in line

    def test_no_gpu_and_no_such_gpu(self, images, tmp_path, capsys, monkeypatch):
        stand_in(monkeypatch, getDeviceCount=lambda: 0)
        assert "no GPU on this machine" in refused(images, tmp_path / "run", capsys)
        monkeypatch.setattr(cupy_stand_in.runtime, "getDeviceCount", lambda: 2)
        line = refused([*images, "--device", "2"], tmp_path / "run", capsys)
        assert "--device: got 2, expected 0 to 1" in line

    def test_an_architecture_too_old(self, images, tmp_path, capsys, monkeypatch):
        stand_in(monkeypatch)
        monkeypatch.setattr(cupy_stand_in.Device, "compute_capability", "61")
        line = refused(images, tmp_path / "run", capsys)
        assert "compute capability 6.1, and the kernels need 7.5" in line and "emulated device" in line

    def test_out_of_memory(self, images, tmp_path, capsys, monkeypatch):
        stand_in(monkeypatch, limit_bytes=40 * 2 ** 20)
        line = refused([*images, "--hidden", "4000", "4000"], tmp_path / "run", capsys)
        assert "out of GPU memory" in line and "smaller --batch-size" in line

    def test_cublas_missing_or_failing(self, images, tmp_path, capsys, monkeypatch):
        stand_in(monkeypatch)
        library = cupy_stand_in.cublas()
        library.cublasCreate_v2 = cupy_stand_in.ctypes.CFUNCTYPE(cupy_stand_in.ctypes.c_int,
                                                                 cupy_stand_in.ctypes.c_void_p)(lambda handle: 3)
        monkeypatch.setattr(cublas, "load_library", lambda major: library)
        assert "cublasCreate_v2 failed: out of memory" in refused(images, tmp_path / "run", capsys)
        monkeypatch.undo()
        with pytest.raises(BackendError, match=r"cannot load cuBLAS \(libcublas.so.99\)"):
            cublas.load_library(99)

    def test_cublas_of_another_cuda_is_refused(self, monkeypatch):
        """PyTorch for CUDA 13 beside CuPy for 12: pathfinder may find either's."""
        found = types.SimpleNamespace(abs_path="/site-packages/nvidia/cu13/lib/libcublas.so.13")
        pathfinder = types.SimpleNamespace(load_nvidia_dynamic_lib=lambda name: found)
        monkeypatch.setitem(sys.modules, "cuda.pathfinder", pathfinder)
        monkeypatch.setattr(cublas, "ctypes", types.SimpleNamespace(CDLL=self.only_with_a_path))
        with pytest.raises(BackendError, match=r"cannot load cuBLAS \(libcublas.so.12\): found only .*so.13; .*cuda12"):
            cublas.load_library(12)
        found.abs_path = "/usr/local/cuda/lib64/libcublas.so.12.9.1.4"
        assert cublas.load_library(12) == found.abs_path
        found.abs_path = None
        with pytest.raises(BackendError, match="found only one without a path"):
            cublas.load_library(12)

    @staticmethod
    def only_with_a_path(name):
        """ctypes.CDLL where the loader knows no such library."""
        if not name.startswith("/"):
            raise OSError(f"{name}: cannot open shared object file")
        return name

    def test_cublas_of_the_right_wheel_is_taken(self, tmp_path, monkeypatch):
        for name in ("nvidia/cublas/lib/libcublas.so.12", "nvidia/cu13/lib/libcublas.so.13"):
            (tmp_path / name).parent.mkdir(parents=True)
            (tmp_path / name).touch()
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        monkeypatch.setattr(cublas, "ctypes", types.SimpleNamespace(CDLL=self.only_with_a_path))
        for major in (12, 13):
            assert cublas.load_library(major).endswith(f"libcublas.so.{major}")

    @pytest.mark.parametrize("error, words", [
        (RuntimeError("CuPy failed to load libnvrtc.so.12:\nOSError: cannot open it"), "libnvrtc.so.12"),
        (RuntimeError("Failed to find CUDA headers"), "CUDA headers"),
        (cupy_stand_in.CUDADriverError("CUDA_ERROR_UNSUPPORTED_PTX_VERSION: the provided PTX was compiled with an "
                                       "unsupported toolchain."), "UNSUPPORTED_PTX_VERSION"),
        (cupy_stand_in.NVRTCError("NVRTC_ERROR_COMPILATION (6)"), "NVRTC_ERROR"),
        (cupy_stand_in.CompileException("nvrtc: error:\n invalid value for --gpu-architecture"), "gpu-architecture")])
    def test_cupy_without_its_cuda_libraries(self, images, tmp_path, capsys, monkeypatch, error, words):
        """What comes of the first kernel where CuPy was installed without [ctk], or the driver is older than it."""
        class Broken:
            def __init__(self, **options):
                pass

            def get_function(self, name):
                raise error
        stand_in(monkeypatch, RawModule=Broken)
        line = refused(images, tmp_path / "run", capsys)
        assert "CuPy cannot compile and load a kernel here" in line and words in line and "npdvae[cuda12]" in line

    def test_a_driver_too_old(self, images, tmp_path, capsys, monkeypatch):
        def fail():
            raise cupy_stand_in.CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
        stand_in(monkeypatch, getDeviceCount=fail, driverGetVersion=lambda: 11080, runtimeGetVersion=lambda: 12090)
        line = refused(images, tmp_path / "run", capsys)
        assert "the NVIDIA driver is too old: it serves CUDA 11, and this CuPy needs CUDA 12" in line

    @pytest.mark.parametrize("estimator, stem", [("rloo", "latent"), ("gr_mc", "softmax")])
    def test_a_kernel_that_does_not_compile(self, images, tmp_path, capsys, monkeypatch, estimator, stem):
        """In the captured step, and op by op; the run has begun by then."""
        stand_in(monkeypatch)
        source = cuda_device.launch.source
        monkeypatch.setattr(cuda_device.launch, "source", lambda name, dtype: source(name, dtype) + (
            "no_such_type x;" if name == stem else ""))
        arguments = [*images, "--estimator", estimator, "--backend", "cupy", "--out", str(tmp_path / "run")]
        assert train.main([*arguments, "--epochs", "1"]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert "npdvae: error: backend cupy: a kernel cannot be compiled or loaded" in lines[-1]
        assert "no_such_type" in lines[-1] and not any("Traceback" in line for line in lines)

    def test_broken_cupy(self, monkeypatch):
        def fail(name):
            raise ImportError("libnvrtc.so.13: cannot open shared object file", name="cupy_backends")
        monkeypatch.setattr(cuda_device.importlib, "import_module", fail)
        with pytest.raises(BackendError, match="installed but cannot be imported .libnvrtc"):
            cuda_device.find()


@pytest.mark.gpu
def test_out_of_memory_on_a_device(images, tmp_path, capsys):
    with place("gpu"):
        line = refused([*images, "--batch-size", "40", "--samples", "1000000", "--hidden", "20000"], tmp_path / "run",
                       capsys)
        assert "out of GPU memory" in line


@pytest.mark.parametrize("precision", ["float32", "tf32"])
@pytest.mark.parametrize("where, epochs", [("emulator", 1), pytest.param("gpu", 20, marks=pytest.mark.gpu)])
def test_training_reaches_what_the_cpu_reaches(tmp_path, monkeypatch, where, epochs, precision):
    """On the digits: the same random numbers, so the curves part by rounding only. Bound: 1 nat."""
    monkeypatch.setitem(cupy_backend.settings, "matmul_precision", "float32")       # and again after it
    ends = {}
    with place(where):
        for backend, words in ("numpy", []), ("cupy", ["--matmul-precision", precision]):
            assert train.main(["--epochs", str(epochs), "--backend", backend, *words, "--no-figures",
                               "--out", str(tmp_path / backend)]) == 0
            ends[backend] = metrics(tmp_path / backend)[-1]
    for key in ("train_negative_elbo", "test_negative_elbo"):
        assert abs(ends["cupy"][key] - ends["numpy"][key]) <= 1.0, ends


@pytest.mark.gpu
@pytest.mark.parametrize("preset", ["tutorial"])
def test_a_preset_on_a_device_reaches_what_the_cpu_reaches(tmp_path, preset):
    """20 epochs of MNIST with two seeds: as far apart on either backend as the seeds are, or less."""
    if not os.environ.get("NPDVAE_DATA"):
        pytest.skip("mnist: set NPDVAE_DATA to the folder of its files")
    ends = {}
    with place("gpu"):
        for backend in ("numba", "cupy"):
            for seed in (0, 1):
                folder = tmp_path / f"{backend}{seed}"
                assert train.main(["--preset", preset, "--epochs", "20", "--backend", backend, "--seed", str(seed),
                                   "--no-figures", "--out", str(folder)]) == 0
                ends[backend, seed] = metrics(folder)[-1]["test_negative_elbo"]
    spread = max(1.0, abs(ends["numba", 0] - ends["numba", 1]))
    assert abs(ends["cupy", 0] - ends["numba", 0]) <= 2 * spread, ends


def test_precision_reaches_cublas():
    for precision, mode in (("float32", cublas.DEFAULT_MATH), ("tf32", cublas.TF32_MATH)):
        with cupy_stand_in.installed():
            made = cupy_backend.ops_of(0, precision).blas
            assert made.cublas.seen.math == mode and made.precision == precision


def test_products_of_wrong_shapes_or_types_are_refused():
    with cupy_stand_in.installed() as xp:
        product = backends.load("cupy").softmax.__self__.blas.matmul
        a, b, out = xp.empty((2, 3), "f4"), xp.empty((3, 4), "f4"), xp.empty((2, 4), "f4")
        product(a, b, out)
        with pytest.raises(ValueError, match=r"\[2, 3\] times \[4, 3\] into \[2, 4\]"):
            product(a, b, out, transpose_b=True)
        with pytest.raises(TypeError, match="expected contiguous float32 arrays, got float64"):
            product(a.astype("f8"), b, out)
        with pytest.raises(TypeError, match="expected contiguous"):
            product(a, xp.empty((4, 3), "f4").T, out)


def test_training_on_this_machine_says_why_it_cannot():
    """A fresh interpreter with whatever is installed here: one line, or a device."""
    result = subprocess.run([sys.executable, "-m", "npdvae.train", "--backend", "cupy", "--device", "999"],
                            capture_output=True, text=True)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1 and "Traceback" not in result.stderr


def test_launches_of_a_captured_step_are_counted():
    """What a step of two hidden layers on either side is made of: the figure that counts at small batches."""
    with cupy_stand_in.installed():
        made = problem.engine(backends.load("cupy"), "rloo", kind=Captured)
        made.run(problem.order())
        assert made.launches(5) == {"kernels": 17, "products": 14}
