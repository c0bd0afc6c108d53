"""What fits into memory, asked before it is taken."""
from __future__ import annotations

import os
import pathlib

PLENTY = 2 ** 62                                # where nobody tells


def free() -> int:
    """Bytes that this process may still take: of the machine, of its control group, of its address space."""
    return max(0, min(of_machine(), of_group(), of_process()))


def of_machine() -> int:
    """Free memory and what the system can give back at once."""
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return PLENTY


def of_group(folder: str = "/sys/fs/cgroup") -> int:
    """What a container's limit leaves, by control groups of either version."""
    for most, used in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes",
                                                          "memory/memory.usage_in_bytes")):
        try:
            limit, now = ((pathlib.Path(folder) / name).read_text().strip() for name in (most, used))
            return PLENTY if limit == "max" else int(limit) - int(now)
        except (OSError, ValueError):
            continue
    return PLENTY


def of_process() -> int:
    """What `ulimit -v` leaves."""
    try:
        import resource
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
        return PLENTY if limit == resource.RLIM_INFINITY else limit - pages * resource.getpagesize()
    except (ImportError, OSError, ValueError):
        return PLENTY


def require(needed: int, what: str):
    """Raise ValueError where at least so many bytes are needed and fewer are free."""
    if needed > (there := free()):
        raise ValueError(f"{what} needs at least {needed / 1e9:.3g} GB of memory, and {there / 1e9:.3g} GB are free")
