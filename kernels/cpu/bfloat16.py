"""Products of bfloat16 pairs in the tile registers of AMX, with sums in float32; each operation beside its plain twin.

A tile is SIDE rows of SIDE words (`bfloat16_words`) or sums. Denormal numbers count as zero.
"""
import ctypes
import platform
import sys

import numpy as np
from llvmlite import ir
from numba import config

from npdvae.kernels.cpu.llvm import (
    I64,
    POINTER,
    VECTOR,
    constant,
    external,
    in_bytes,
    load,
    phi,
    pointer,
    written,
)
from npdvae.kernels.cpu.target import LANES, PANEL, WIDE, features

SIDE = 16                                       # rows of a tile, and words in a row: LANES of the AVX-512 that it needs
STEP = 2 * SIDE                                 # terms of a sum that one instruction adds
I8, VOID = ir.IntType(8), ir.VoidType()
NEEDED = {"amx-tile", "amx-bf16", "avx512bw"}
ASK = 158, 0x1023, 18                           # system call arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA)


def reason_unfit():
    """Why no product of bfloat16 can run here, or None. Asks Linux for the tile registers, once a process."""
    if not WIDE:
        return "needs the AVX-512 tile"
    if config.DISABLE_JIT:
        return None                             # the twins run anywhere
    if not NEEDED <= features() or not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return "needs Linux on a processor with AMX-BF16"
    if ctypes.CDLL(None).syscall(*ASK):
        return "the system does not give out the tile registers of AMX"
    return None


def tile(number):
    return ir.Constant(I8, number)


def tile_call(b, name, *arguments):
    kinds = [x.type for x in arguments]
    b.call(external(b, f"llvm.x86.{name}", VOID, kinds), arguments)


def tile_sums(b, tall, a, row, w, start, start_row, y, y_row, n):
    """Sums in tiles 0 .. 3, of two panels' halves and, where it is tall, two rows of tiles; addresses in bytes."""
    rows, line, across = range(2 if tall else 1), constant(4 * PANEL), constant(4 * SIDE)
    places = [(r, v, 2 * r + v) for r in rows for v in range(2)]

    def spot(base, stride, r, v):
        return b.inttoptr(b.add(b.add(base, b.mul(stride, constant(SIDE * r))), constant(4 * SIDE * v)), POINTER)

    for r, v, number in places:
        tile_call(b, "tileloadd64", tile(number), spot(start, start_row, r, v), start_row)
    before, loop, done = b.block, b.append_basic_block("sums"), b.append_basic_block("sums.done")
    b.cbranch(b.icmp_signed(">", n, constant(0)), loop, done)
    b.position_at_end(loop)
    turn, left, right = (phi(b, I64, [(x, before)]) for x in (constant(0), a, w))
    for v in range(2):
        tile_call(b, "tileloadd64", tile(6 + v), spot(right, line, 0, v), line)
    for r in rows:
        tile_call(b, "tileloadd64", tile(4 + r), spot(left, row, r, 0), row)
        for v in range(2):
            tile_call(b, "tdpbf16ps", tile(2 * r + v), tile(4 + r), tile(6 + v))
    following = b.add(turn, constant(1))
    for node, x in ((turn, following), (left, b.add(left, across)), (right, b.add(right, constant(4 * PANEL * SIDE)))):
        node.add_incoming(x, loop)
    b.cbranch(b.icmp_signed("<", following, n), loop, done)
    b.position_at_end(done)
    for r, v, number in places:
        tile_call(b, "tilestored64", tile(number), spot(y, y_row, r, v), y_row)


def multiply_body(b, base, a, row, w, start, start_row, y, y_row, n, rows):
    a, w, start, y = (in_bytes(b, base, x) for x in (a, w, start, y))
    row, start_row, y_row = (b.mul(x, constant(4)) for x in (row, start_row, y_row))
    with b.if_else(b.icmp_signed(">", rows, constant(SIDE))) as (two, one):
        with two:
            tile_sums(b, True, a, row, w, start, start_row, y, y_row, n)
        with one:
            tile_sums(b, False, a, row, w, start, start_row, y, y_row, n)


def halves(mem, start, row, rows, width):
    """The pairs of numbers in words at start, as float32 [rows, width, 2]."""
    words = np.array([mem[start + r * row:start + r * row + width] for r in range(rows)]).view(np.uint32)
    return np.stack([words << 16, words & 0xffff0000], -1).view(np.float32)


def multiply_twin(mem, a, row, w, start, start_row, y, y_row, n, rows):
    """y = start + A W of PANEL columns: one tile of rows, or two where rows > SIDE; n SIDE words of A and of W's rows.

    A's rows lie `row` apart, those of W PANEL, those of start `start_row`, which may be 0, those of y `y_row`.
    """
    for r in range(SIDE * (2 if rows > SIDE else 1)):
        total = mem[start + r * start_row:start + r * start_row + PANEL].copy()     # [PANEL]
        for k in range(0, n * SIDE, SIDE):
            left, right = halves(mem, a + r * row + k, 0, 1, SIDE)[0], halves(mem, w + k * PANEL, PANEL, SIDE, PANEL)
            even, odd = np.zeros(PANEL, np.float32), np.zeros(PANEL, np.float32)
            for i in range(SIDE):
                even += left[i, 0] * right[i, :, 0]
                odd += left[i, 1] * right[i, :, 1]
            total += even + odd
        mem[y + r * y_row:y + r * y_row + PANEL] = total


SHAPES = bytes([1, *[0] * 15, *[4 * SIDE, 0] * 8, *[0] * 16, *[SIDE] * 8, *[0] * 8])    # palette 1, bytes a row, rows


def take_tiles_body(b, base):
    kind = ir.ArrayType(I8, len(SHAPES))
    place = b.alloca(kind)
    b.store(ir.Constant(kind, bytearray(SHAPES)), place)
    tile_call(b, "ldtilecfg", b.bitcast(place, POINTER))


def take_tiles_twin(mem):
    """Shape the tile registers of this thread; until it leaves them."""


def leave_tiles_body(b, base):
    tile_call(b, "tilerelease")


def leave_tiles_twin(mem):
    """Give them back: a thread without tiles is switched faster."""


def keep_active_body(b, base, x, y):
    x, y, zero = in_bytes(b, base, x), in_bytes(b, base, y), ir.Constant(VECTOR, [0.0] * LANES)
    kept = b.select(b.fcmp_ordered(">", load(b, y, constant(0)), zero), load(b, x, constant(0)), zero)
    b.store(kept, pointer(b, x, constant(0)), align=4)


def keep_active_twin(mem, x, y):
    """LANES numbers at x become 0 where those at y are not positive: the adjoint of a ReLU with output y."""
    mem[x:x + LANES] = np.where(mem[y:y + LANES] > 0, mem[x:x + LANES], 0)


multiply = written(multiply_body, multiply_twin, apart="npdvae_multiply")
take_tiles = written(take_tiles_body, take_tiles_twin)
leave_tiles = written(leave_tiles_body, leave_tiles_twin)
keep_active = written(keep_active_body, keep_active_twin)
