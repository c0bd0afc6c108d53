"""Which codes a fused step of the exact gradient decodes.

A code counts as the sum of its q(z|x) over the batch, its weight, in every gradient and in the loss. Codes that weigh
less than LEAST are left out: the most that 2**13 of them can add, 2**-27 of one example's cost, is below the rounding
of float32. An untrained posterior keeps all codes, a trained one often a tenth of them.
"""
import numpy as np

from npdvae.kernels.cpu.calls import job
from npdvae.kernels.cpu.compiler import SUMS, inner

f4 = np.float32
LEAST = f4(2 ** -40)                            # of a code's weight: lighter ones are left out


@inner(SUMS)
def probabilities(mem, ints, first, last, D, index, qt, q, ld):
    """q(z|x_b) of codes first .. last, from qt [D K, examples]: rows of the table q."""
    for c in range(first, last):
        row = mem[q + c * ld:q + c * ld + ld]
        at = qt + ints[index + c * D] * ld
        first_factor = mem[at:at + ld]
        for b in range(ld):
            row[b] = first_factor[b]
        for d in range(1, D):
            at = qt + ints[index + c * D + d] * ld
            factor = mem[at:at + ld]
            for b in range(ld):
                row[b] *= factor[b]


@job(SUMS)
def code_weights(c, a, mem, ints):
    """Sums of q(z|x_b) over the batch; the table q serves as scratch."""
    group, codes, D, index, qt, q, ld, weights = a[2:10]
    first, last = c * group, min(c * group + group, codes)
    probabilities(mem, ints, first, last, D, index, qt, q, ld)
    for z in range(first, last):
        row, weight = mem[q + z * ld:q + z * ld + ld], f4(0)
        for b in range(ld):
            weight += row[b]
        mem[weights + z] = weight


@job(SUMS)
def code_list(a, mem, ints):
    """The codes that weigh enough, in order."""
    codes, D, K, all_codes, weights, longest, unit, parts, index, rows, ld_rows, rows_count, extent = a[2:15]
    ints[rows_count:rows_count + D * K] = 0
    n = 0
    for z in range(codes):
        if mem[weights + z] < LEAST:            # not so of NaN, which shall be seen
            continue
        for d in range(D):
            j = ints[all_codes + z * D + d]
            ints[index + n * D + d] = j
            ints[rows + j * ld_rows + ints[rows_count + j]] = n
            ints[rows_count + j] += 1
        n += 1
    ints[extent] = n
    ints[extent + 1] = min(longest, -(-n // (parts * unit)) * unit)


@inner(SUMS)
def rows_of(c, ints, extent):
    """Rows [first, last) of chunk c: none beyond the codes in use."""
    codes, group = np.int64(ints[extent]), np.int64(ints[extent + 1])
    return min(c * group, codes), min(c * group + group, codes)
