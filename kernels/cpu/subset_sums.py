"""Sums of each set of four rows in explicit LLVM vectors, beside a plain twin."""
from npdvae.kernels.cpu.llvm import WIDTH, constant, in_bytes, load, pointer, written
from npdvae.kernels.cpu.target import PICK_PANEL, PICK_VECTORS

ROW = 4 * PICK_PANEL                            # bytes


def subset_sums_body(b, base, rows, sums):
    rows, sums = in_bytes(b, base, rows), in_bytes(b, base, sums)
    for at in range(0, PICK_VECTORS * WIDTH, WIDTH):
        x, found = [load(b, rows, constant(j * ROW + at)) for j in range(4)], [None]
        for v in range(1, 16):
            last = v.bit_length() - 1
            before = found[v - (1 << last)]
            found.append(x[last] if before is None else b.fadd(before, x[last]))
            b.store(found[v], pointer(b, sums, constant(v * ROW + at)), align=4)


def subset_sums_twin(mem, rows, sums):
    """sums [16, PICK_PANEL]: row v > 0 is the sum of those rows j of rows [4, PICK_PANEL] whose bit v has."""
    for v in range(1, 16):
        last = v.bit_length() - 1
        row = mem[rows + last * PICK_PANEL:rows + (last + 1) * PICK_PANEL]
        at, before = sums + v * PICK_PANEL, sums + (v - (1 << last)) * PICK_PANEL
        mem[at:at + PICK_PANEL] = mem[before:before + PICK_PANEL] + row if v > 1 << last else row


subset_sums = written(subset_sums_body, subset_sums_twin)
