"""The shape of the matrix tile for the vector registers that this machine (or NUMBA_CPU_FEATURES) offers.

A tile keeps ROWS x (VECTORS * LANES) sums in registers and leaves room for one row of the right operand and a
broadcast: 6 x 16 in the 16 registers of AVX2, 13 x 32 in the 32 of AVX-512. NUMBA_CPU_NAME=generic with
NUMBA_CPU_FEATURES=+avx,+avx2,+fma restricts compiled code, and with it the shape, to AVX2; NPDVAE_TILE=avx2 or
avx512 sets the shape alone (any shape is correct on any of these machines, only slower).
"""
import os
import platform

import llvmlite.binding as llvm
from numba import config


def features():
    """Names of the target's CPU features, as numba compiles for it."""
    if config.CPU_FEATURES is not None:
        return {f[1:] for f in config.CPU_FEATURES.split(",") if f.startswith("+")}
    if config.CPU_NAME not in (None, "host"):
        return set()
    return {name for name, there in llvm.get_host_cpu_features().items() if there}


def reason_unfit():
    """Why no tile fits this machine, or None."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"no matrix tile for {platform.machine()} processors yet"
    if os.name != "posix":
        return "workers need POSIX threads"
    if not {"avx2", "fma"} <= features():
        return "the processor (or NUMBA_CPU_FEATURES) has no AVX2 with FMA"
    return None


CHOICE = os.environ.get("NPDVAE_TILE") or ("avx512" if "avx512f" in features() else "avx2")
if CHOICE not in ("avx2", "avx512"):
    raise ValueError(f"NPDVAE_TILE must be avx2 or avx512, got {CHOICE!r}")
WIDE = CHOICE == "avx512"
LANES = 16 if WIDE else 8                       # floats of one vector
VECTORS = 2
PANEL = LANES * VECTORS                         # columns of a tile, and of a panel of dense weights
ROWS = 13 if WIDE else 6                        # rows of a tile of a product
GRADIENT_ROWS = 8 if WIDE else 6                # rows of a tile of a weight gradient, which also updates
PICK_VECTORS = 8
PICK_PANEL = LANES * PICK_VECTORS               # columns of a panel of weights whose rows are picked
