"""Matrix tiles in explicit LLVM vectors, each beside a plain twin that runs under NUMBA_DISABLE_JIT=1.

All operands lie in one float32 array `mem`, addressed by offsets and strides in elements, which the plan that calls
them has checked against its size. Sums stay in registers over the whole inner loop; a tile is
`product` (bias + A W), `gradient` (A^T dY, then the optimizer's update of p, m, v), or the same over picked rows.
"""
import numpy as np
from llvmlite import ir

from npdvae.kernels.cpu.jobs import AT_ONCE, GRADIENT
from npdvae.kernels.cpu.llvm import (
    F32,
    I32,
    I64,
    VECTOR,
    WIDTH,
    constant,
    external,
    fetch_line,
    in_bytes,
    inner_loop,
    load,
    pointer,
    splat,
    written,
)
from npdvae.kernels.cpu.target import GRADIENT_ROWS, LANES, PANEL, PICK_PANEL, PICK_VECTORS, ROWS, VECTORS


def zeros(rows, vectors):
    return [[ir.Constant(VECTOR, [0.0] * LANES)] * vectors for _ in range(rows)]


def prefetch(b, addresses, size):
    """Fetch the first `size` bytes at each address for writing, while the sums are still to be formed."""
    for address in addresses:
        for line in range(0, size, 64):
            fetch_line(b, address, constant(line), 1, 3)


def multiply(b, row_stride, rows, vectors):
    """Body of a dense product: pointers (A, W), sums += A[r] W[v]."""
    fma = external(b, f"llvm.fma.v{LANES}f32", VECTOR, [VECTOR] * 3)

    def body(moving, sums):
        a, w = moving
        right = [load(b, w, constant(WIDTH * v)) for v in range(vectors)]
        new = []
        for r in range(rows):
            x = splat(b, load(b, a, b.mul(row_stride, constant(r)), F32))
            new.append([b.call(fma, [x, right[v], sums[r][v]]) for v in range(vectors)])
        return new
    return body


def pick(b, base, row_bytes, vectors):
    """Body of a sum of picked rows: pointer into a list of int32 row numbers."""
    def body(moving, sums):
        number = b.sext(load(b, moving[0], constant(0), I32), I64)
        row = b.add(base, b.mul(number, row_bytes))
        return [[b.fadd(sums[0][v], load(b, row, constant(WIDTH * v))) for v in range(vectors)]]
    return body


def update(b, sums, p, m, v, scalars, row_bytes):
    """Epilogue of a gradient: `updates.adaptive` on rows of p, m, v at byte addresses; sums are g. Or g is kept."""
    way = load(b, scalars, constant(4 * GRADIENT), F32)
    with b.if_else(b.fcmp_ordered("==", way, ir.Constant(F32, AT_ONCE))) as (at_once, whole):
        with at_once:
            adapt(b, sums, p, m, v, scalars, row_bytes)
        with whole:
            keep(b, sums, b.add(v, b.sub(m, p)), row_bytes)


def keep(b, sums, g, row_bytes):
    """The sums are rows of the whole gradient at byte address g."""
    for r, row in enumerate(sums):
        for i, x in enumerate(row):
            b.store(x, pointer(b, g, constant(r * row_bytes + WIDTH * i)), align=4)


def adapt(b, sums, p, m, v, scalars, row_bytes):
    """`updates.adaptive`."""
    fma = external(b, f"llvm.fma.v{LANES}f32", VECTOR, [VECTOR] * 3)
    root = external(b, f"llvm.sqrt.v{LANES}f32", VECTOR, [VECTOR])
    s = [splat(b, load(b, scalars, constant(4 * i), F32)) for i in range(5)]
    for r, row in enumerate(sums):
        for i, g in enumerate(row):
            at = constant(r * row_bytes + WIDTH * i)
            old_m, old_v = load(b, m, at), load(b, v, at)
            new_m = b.call(fma, [b.fsub(g, old_m), s[1], old_m])
            new_v = b.call(fma, [b.fsub(b.fmul(g, g), old_v), s[2], old_v])
            b.store(new_m, pointer(b, m, at), align=4)
            b.store(new_v, pointer(b, v, at), align=4)
            below = b.call(fma, [b.call(root, [new_v]), s[3], s[4]])
            new_p = b.fsub(load(b, p, at), b.fdiv(b.fmul(new_m, s[0]), below))
            b.store(new_p, pointer(b, p, at), align=4)


def product_sums(b, base, a, row_stride, stride, w, w_stride, bias, n):
    """Sums of a product tile; offsets and strides in elements."""
    four = constant(4)
    start = [[load(b, in_bytes(b, base, bias), constant(WIDTH * v)) for v in range(VECTORS)]] * ROWS
    return inner_loop(b, n, start, [(in_bytes(b, base, a), b.mul(stride, four)),
                                    (in_bytes(b, base, w), b.mul(w_stride, four))],
                      multiply(b, b.mul(row_stride, four), ROWS, VECTORS))


def product_body(b, base, a, row_stride, stride, w, w_stride, bias, y, y_stride, n, rectify):
    sums = product_sums(b, base, a, row_stride, stride, w, w_stride, bias, n)
    low = b.select(b.icmp_signed("!=", rectify, constant(0)), ir.Constant(F32, 0.0), ir.Constant(F32, float("-inf")))
    low, y = splat(b, low), in_bytes(b, base, y)
    for r, row in enumerate(sums):
        for v, x in enumerate(row):
            at = b.add(b.mul(y_stride, constant(4 * r)), constant(WIDTH * v))
            b.store(b.select(b.fcmp_ordered("<", x, low), low, x), pointer(b, y, at), align=4)


def product_twin(mem, a, row_stride, stride, w, w_stride, bias, y, y_stride, n, rectify):
    """y[r] = bias + sum over i < n of A[r, i] W[i], at least 0 where `rectify`: ROWS rows, PANEL columns.

    A[r, i] lies at a + r row_stride + i stride, W[i] at w + i w_stride.
    """
    for r in range(ROWS):
        total = mem[bias:bias + PANEL].copy()                       # [PANEL]
        for i in range(n):
            total += mem[a + r * row_stride + i * stride] * mem[w + i * w_stride:w + i * w_stride + PANEL]
        mem[y + r * y_stride:y + r * y_stride + PANEL] = np.where(total < 0, 0, total) if rectify else total


def masked_product_body(b, base, a, row_stride, stride, w, w_stride, bias, y, y_stride, n, mask, mask_stride):
    sums = product_sums(b, base, a, row_stride, stride, w, w_stride, bias, n)
    y, mask, zero = in_bytes(b, base, y), in_bytes(b, base, mask), ir.Constant(VECTOR, [0.0] * LANES)
    for r, row in enumerate(sums):
        for v, x in enumerate(row):
            kept = load(b, mask, b.add(b.mul(mask_stride, constant(4 * r)), constant(WIDTH * v)))
            at = b.add(b.mul(y_stride, constant(4 * r)), constant(WIDTH * v))
            b.store(b.select(b.fcmp_ordered(">", kept, zero), x, zero), pointer(b, y, at), align=4)


def masked_product_twin(mem, a, row_stride, stride, w, w_stride, bias, y, y_stride, n, mask, mask_stride):
    """As `product`, but 0 where the entry of the mask, laid out as y, is not positive: the adjoint of a ReLU."""
    product_twin(mem, a, row_stride, stride, w, w_stride, bias, y, y_stride, n, 0)
    for r in range(ROWS):
        out, kept = y + r * y_stride, mask + r * mask_stride
        mem[out:out + PANEL] = np.where(mem[kept:kept + PANEL] > 0, mem[out:out + PANEL], 0)


def gradient_body(b, base, a, stride, dy, dy_stride, p, span, n, scalars):
    four = constant(4)
    p, span = in_bytes(b, base, p), b.mul(span, four)
    m, v = b.add(p, span), b.add(p, b.mul(span, constant(2)))
    prefetch(b, (p, m, v), GRADIENT_ROWS * 4 * PANEL)
    sums = inner_loop(b, n, zeros(GRADIENT_ROWS, VECTORS), [(in_bytes(b, base, a), b.mul(stride, four)),
                                                            (in_bytes(b, base, dy), b.mul(dy_stride, four))],
                      multiply(b, four, GRADIENT_ROWS, VECTORS))
    update(b, sums, p, m, v, in_bytes(b, base, scalars), 4 * PANEL)


def update_twin(mem, g, p, span, scalars):
    """`updates.adaptive` on the contiguous p, m = p + span, v = p + 2 span with gradient g; or g kept at p + 3 span."""
    if mem[scalars + GRADIENT] != AT_ONCE:
        mem[p + 3 * span:p + 3 * span + g.size] = g
        return
    s0, s1, s2, s3, s4 = mem[scalars:scalars + 5]
    for j in range(g.size):
        at_m, at_v = p + span + j, p + 2 * span + j
        mem[at_m] += s1 * (g[j] - mem[at_m])
        mem[at_v] += s2 * (g[j] * g[j] - mem[at_v])
        mem[p + j] -= s0 * mem[at_m] / (s3 * np.sqrt(mem[at_v]) + s4)


def gradient_twin(mem, a, stride, dy, dy_stride, p, span, n, scalars):
    """g[r] = sum over i < n of A[i, r] dY[i], GRADIENT_ROWS x PANEL, then the update of p, m, v [rows, PANEL]."""
    for r in range(GRADIENT_ROWS):
        g = np.zeros(PANEL, np.float32)
        for i in range(n):
            g += mem[a + i * stride + r] * mem[dy + i * dy_stride:dy + i * dy_stride + PANEL]
        update_twin(mem, g, p + r * PANEL, span, scalars)


def picked_body(b, base, numbers, index, w, w_stride, bias, y, n):
    bias, y = in_bytes(b, base, bias), in_bytes(b, base, y)
    start = [[load(b, bias, constant(WIDTH * v)) for v in range(PICK_VECTORS)]]
    sums = inner_loop(b, n, start, [(in_bytes(b, numbers, index), constant(4))],
                      pick(b, in_bytes(b, base, w), b.mul(w_stride, constant(4)), PICK_VECTORS))
    for v, x in enumerate(sums[0]):
        b.store(x, pointer(b, y, constant(WIDTH * v)), align=4)


def picked_twin(mem, ints, index, w, w_stride, bias, y, n):
    """y = bias + sum of the rows W[i] for i in ints[index:index + n]: PICK_PANEL columns."""
    total = mem[bias:bias + PICK_PANEL].copy()                      # [PICK_PANEL]
    for i in ints[index:index + n]:
        total += mem[w + i * w_stride:w + i * w_stride + PICK_PANEL]
    mem[y:y + PICK_PANEL] = total


def picked_gradient_body(b, base, numbers, index, dy, dy_stride, p, span, n, scalars):
    p, span = in_bytes(b, base, p), b.mul(span, constant(4))
    m, v = b.add(p, span), b.add(p, b.mul(span, constant(2)))
    prefetch(b, (p, m, v), 4 * PICK_PANEL)
    sums = inner_loop(b, n, zeros(1, PICK_VECTORS), [(in_bytes(b, numbers, index), constant(4))],
                      pick(b, in_bytes(b, base, dy), b.mul(dy_stride, constant(4)), PICK_VECTORS))
    update(b, sums, p, m, v, in_bytes(b, base, scalars), 4 * PICK_PANEL)


def picked_gradient_twin(mem, ints, index, dy, dy_stride, p, span, n, scalars):
    """g = sum of the rows dY[i] for i in ints[index:index + n], then the update of p, m, v [PICK_PANEL]."""
    g = np.zeros(PICK_PANEL, np.float32)
    for i in ints[index:index + n]:
        g += mem[dy + i * dy_stride:dy + i * dy_stride + PICK_PANEL]
    update_twin(mem, g, p, span, scalars)


def transpose_body(b, base, source, source_stride, target, target_stride):
    source, source_stride, target, target_stride = (b.mul(x, constant(4)) for x in (source, source_stride, target,
                                                                                   target_stride))
    rows = [load(b, base, b.add(source, b.mul(source_stride, constant(i)))) for i in range(LANES)]
    half = LANES // 2
    while half:                             # swap the off-diagonal blocks of each 2 half x 2 half block
        low = [j if not j & half else LANES + j - half for j in range(LANES)]
        high = [j + half if not j & half else LANES + j for j in range(LANES)]
        for i in range(LANES):
            if not i & half:
                x, y = rows[i], rows[i + half]
                mask = ir.VectorType(I32, LANES)
                rows[i] = b.shuffle_vector(x, y, ir.Constant(mask, low))
                rows[i + half] = b.shuffle_vector(x, y, ir.Constant(mask, high))
        half //= 2
    for i, row in enumerate(rows):
        b.store(row, pointer(b, base, b.add(target, b.mul(target_stride, constant(i)))), align=4)


def transpose_twin(mem, source, source_stride, target, target_stride):
    """LANES x LANES block: target[j, i] = source[i, j]."""
    block = [mem[source + i * source_stride:source + i * source_stride + LANES].copy() for i in range(LANES)]
    for j in range(LANES):
        mem[target + j * target_stride:target + j * target_stride + LANES] = [row[j] for row in block]


product = written(product_body, product_twin, apart="npdvae_product")
masked_product = written(masked_product_body, masked_product_twin, apart="npdvae_masked_product")
gradient = written(gradient_body, gradient_twin, apart="npdvae_gradient")
picked = written(picked_body, picked_twin, arrays=2)
picked_gradient = written(picked_gradient_body, picked_gradient_twin, arrays=2)
transpose = written(transpose_body, transpose_twin)
