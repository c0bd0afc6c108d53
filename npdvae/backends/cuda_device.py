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


def find(index: int = 0) -> Device:
    """Make device `index` the current one. BackendError where CUDA cannot run, ValueError for a wrong index."""
    cupy = import_cupy()
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendError(f"backend cupy: no NVIDIA driver or no GPU on this machine ({one_line(error)}); "
                           "use --backend numba") from None
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
    return Device(cupy, index, name, capability)


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
    """Errors of the CUDA runtime and of memory as one line: BackendError."""
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
