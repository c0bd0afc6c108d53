"""Finding a CUDA device, or one clear line about why there is none."""
from __future__ import annotations

import contextlib
import importlib
from typing import Any, NamedTuple

from npdvae.backends import BackendError
from npdvae.kernels.cuda import launch

INSTALL = 'pip install "npdvae[cuda12]", or "npdvae[cuda13]" where the driver supports CUDA 13 (nvidia-smi shows it)'


class Device(NamedTuple):
    """An opened device."""

    cupy: Any
    number: int
    name: str
    capability: int                             # times ten


def nth(first: int, local: int) -> int:
    """The device of a machine's process number `local`: from `first` on, in turn."""
    if local == 0:
        return first
    runtime = import_cupy().cuda.runtime
    try:
        return (first + local) % max(1, runtime.getDeviceCount())
    except runtime.CUDARuntimeError:
        return first                            # where `find` will say what is wrong


def find(index: int = 0) -> Device:
    """Make device `index` the current one. BackendError where CUDA cannot run, ValueError for a wrong index."""
    cupy = import_cupy()
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendError(f"backend cupy: {reason_no_count(cupy, error)}; use --backend numba") from None
    if count < 1:
        raise BackendError("backend cupy: no GPU on this machine; use --backend numba")
    if not 0 <= index < count:
        raise ValueError(f"--device: got {index}, expected 0 to {count - 1}, the CUDA devices of this machine")
    with clear_errors(cupy):
        device = cupy.cuda.Device(index)
        device.use()
        name = cupy.cuda.runtime.getDeviceProperties(index)["name"]
        name = name.decode() if isinstance(name, bytes) else name
        capability = int(device.compute_capability)
    if capability < launch.OLDEST:
        raise BackendError(f"backend cupy: device {index} ({name}) has compute capability {capability / 10}, and the "
                           f"kernels need {launch.OLDEST / 10} or newer; use --backend numba")
    check_compiler(cupy)
    return Device(cupy, index, name, capability)


def reason_no_count(cupy, error):
    """Why the driver does not count its devices: a driver for an older CUDA, or none."""
    runtime = cupy.cuda.runtime
    driver, needed = runtime.driverGetVersion(), runtime.runtimeGetVersion()    # 0 without a driver
    if 0 < driver // 1000 < needed // 1000:
        return (f"the NVIDIA driver is too old: it serves CUDA {driver // 1000}, and this CuPy needs CUDA "
                f"{needed // 1000} ({one_line(error)}); install a newer driver")
    return f"no NVIDIA driver or no GPU on this machine ({one_line(error)})"


def check_compiler(cupy):
    """Compile and load one small kernel. BackendError where CuPy lacks CUDA's libraries or the driver refuses them."""
    try:
        launch.Launcher(cupy, "float32").function("activate")
    except (RuntimeError, OSError, ImportError, *kernel_errors(cupy)) as error:
        raise BackendError(f"backend cupy: CuPy cannot compile and load a kernel here ({one_line(error)}): CUDA's "
                           f"libraries are missing, or newer than the driver; {INSTALL}") from None


def kernel_errors(cupy):
    """What CuPy raises where a kernel cannot be compiled or loaded; its RuntimeErrors besides."""
    return cupy.cuda.driver.CUDADriverError, cupy.cuda.compiler.CompileException, cupy.cuda.nvrtc.NVRTCError


def import_cupy():
    """The cupy module, or BackendError that says what to install."""
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        if getattr(error, "name", None) == "cupy":
            raise BackendError(f"backend cupy: CuPy is not installed; {INSTALL}") from None
        raise BackendError(f"backend cupy: CuPy is installed but cannot be imported ({one_line(error)}); "
                           f"{INSTALL}") from None


@contextlib.contextmanager
def clear_errors(cupy):
    """Errors of the CUDA runtime, of kernels and of memory as one line: BackendError."""
    try:
        yield
    except cupy.cuda.memory.OutOfMemoryError as error:
        raise BackendError(f"backend cupy: out of GPU memory ({one_line(error)}); choose a smaller --batch-size, "
                           "--samples or --hidden") from None
    except cupy.cuda.runtime.CUDARuntimeError as error:
        text = one_line(error)
        if "MemoryAllocation" in text:
            raise BackendError(f"backend cupy: out of GPU memory ({text}); choose a smaller --batch-size, "
                               "--samples or --hidden") from None
        raise BackendError(f"backend cupy: {text}") from None
    except kernel_errors(cupy) as error:
        raise BackendError(f"backend cupy: a kernel cannot be compiled or loaded ({one_line(error)})") from None


def one_line(error):
    """The first 200 characters of an error's text, without line breaks."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def describe(device: Device) -> dict[str, Any]:
    """What a record of a measurement names: device, driver, versions, memory."""
    runtime = device.cupy.cuda.runtime
    free, total = runtime.memGetInfo()
    return {"device": device.name, "capability": device.capability / 10, "driver": runtime.driverGetVersion(),
            "runtime": runtime.runtimeGetVersion(), "cupy": device.cupy.__version__, "memory_bytes": total,
            "memory_free_bytes": free}
