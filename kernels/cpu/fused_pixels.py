"""Targets of a batch, binarized with Philox where needed, bit-equal to npdvae.data.binarize; and lists of ones."""
import numpy as np

from npdvae.kernels.cpu.calls import job
from npdvae.kernels.cpu.compiler import CONTRACT, inner
from npdvae.kernels.cpu.gradient_sums import fetch
from npdvae.kernels.cpu.jobs import DRAWN, GREY
from npdvae.kernels.cpu.philox_vectors import draws
from npdvae.kernels.cpu.target import LANES

f4, u8 = np.float32, np.uint64
MARKS, LOW_BITS = u8(0x01010101), u8(0x7F7F7F7F)


@inner(CONTRACT)
def words(step, example, ints, numbers, n, draw, seed, stream, out):
    """Top 23 bits of Philox words at counters (step, example, ints[numbers + i], draw), i < n: word w at out + 4 i + w.

    n is rounded up to whole vectors, in the numbers read and in the words written.
    """
    for i in range(0, n, LANES):
        draws(ints, numbers + i, out + 4 * i, step, example, draw, seed, stream)


@inner(CONTRACT)
def grey_row(image, x, levels):
    """One image of bytes as probabilities."""
    for j in range(image.size):
        x[j] = f4(image[j]) / f4(levels)


@inner(CONTRACT)
def bytes_row(image, x, drawn_too, thresholds, levels, ints, lit, step, example, seed, stream):
    """One image of bytes to targets of 0 and 1; numbers of its blocks of four that are not all 0 to ints[lit...].

    A drawn pixel is 1 where its 23 random bits lie below thresholds[value]; only blocks with a grey pixel draw.
    Returns how many blocks are lit.
    """
    n = image.size
    grey = lit + (n + 3) // 4
    bits = grey + (n + 3) // 4 + LANES
    half = np.uint8(levels // 2)                # 2 k > levels where k > half, whether levels are odd or even
    for j in range(n):
        x[j] = f4(1) if image[j] > half else f4(0)
    blocks, drawn = 0, 0
    whole = image[:n // 4 * 4].view(np.uint32)
    for i in range(whole.size):
        four = u8(whole[i])
        marks = ((((four & LOW_BITS) + LOW_BITS) | four) >> u8(7)) & MARKS   # 1 in each byte that is not 0
        ints[lit + blocks] = ints[grey + drawn] = i
        blocks += four != u8(0)
        drawn += four != marks * u8(levels)
    if n % 4:
        ints[lit + blocks] = ints[grey + drawn] = whole.size
        blocks += 1
        drawn += 1
    if drawn_too:
        words(step, example, ints, grey, drawn, 0, seed, stream, bits)
        full = drawn - (n % 4 > 0)
        for i in range(drawn):
            q, four = 4 * ints[grey + i], bits + 4 * i
            if i < full:                        # of fixed length, so that it unrolls
                for w in range(4):
                    x[q + w] = f4(1) if ints[four + w] < thresholds[image[q + w]] else f4(0)
            else:
                for w in range(n % 4):
                    x[q + w] = f4(1) if ints[four + w] < thresholds[image[q + w]] else f4(0)
    return blocks


@inner(CONTRACT)
def floats_row(image, x, mode, ints, numbers, step, example, seed, stream):
    """One image of probabilities to its targets."""
    n = image.size
    if mode == GREY:
        for j in range(n):
            x[j] = image[j]
        return
    if mode == DRAWN:
        blocks = (n + 3) // 4
        for i in range(blocks):
            ints[numbers + i] = i
        words(step, example, ints, numbers, blocks, 0, seed, stream, numbers + blocks + LANES)
        drawn = ints[numbers + blocks + LANES:numbers + blocks + LANES + n]
        for j in range(n):
            x[j] = f4(1) if (f4(drawn[j]) + f4(0.5)) * f4(2.0 ** -23) < image[j] else f4(0)
        return
    for j in range(n):
        x[j] = f4(1) if image[j] > f4(0.5) else f4(0)


@inner(CONTRACT)
def ones(x, ints, lit, blocks, index):
    """Numbers of the ones of x, which lie in its lit blocks of four, into index; how many."""
    count = 0
    for i in range(blocks):
        q = 4 * ints[lit + i]
        for j in range(q, min(x.size, q + 4)):
            index[count] = j
            count += x[j] != f4(0)
    return count


@inner(CONTRACT)
def fours_of(x, ints, lit, blocks, index):
    """Numbers 16 q + v of the fours of x with a one, whose pattern is v, into index; they lie in its lit blocks. How
    many."""
    count = 0
    for i in range(blocks):
        q, v = ints[lit + i], 0
        for w in range(4):
            v += (x[4 * q + w] != f4(0)) << w
        index[count] = 16 * q + v
        count += v != 0
    return count


@job(CONTRACT)
def pixels(c, a, mem, ints, images, grey_images, order, first, examples, step, example, keys, i_scratch):
    group, width, x, ld_x, index, ld_index, count, mode, thresholds, levels, fours = a[2:13]
    n = (width + 3) // 4                        # fours of an image, the last one with zeros of the padding
    for b in range(c * group, min(c * group + group, examples)):
        row, blocks = mem[x + b * ld_x:x + b * ld_x + width], n
        if levels == 0:
            floats_row(grey_images[order[first + b]], row, mode, ints, i_scratch, step, example + b, keys[0], keys[1])
            for i in range(blocks):
                ints[i_scratch + i] = i
        elif mode == GREY:
            grey_row(images[order[first + b]], row, levels)
        else:
            if b + 1 < min(c * group + group, examples):
                for i in range(0, width, 64):   # images are bytes, of which fetch counts fours
                    fetch(images, (order[first + b + 1] * width + i) // 4)
            blocks = bytes_row(images[order[first + b]], row, mode == DRAWN, ints[thresholds:thresholds + 256], levels,
                               ints, i_scratch, step, example + b, keys[0], keys[1])
        if index < 0:
            continue
        numbers = ints[index + b * ld_index:index + (b + 1) * ld_index]
        if fours:
            ints[count + b] = fours_of(mem[x + b * ld_x:x + b * ld_x + 4 * n], ints, i_scratch, blocks, numbers)
        else:
            ints[count + b] = ones(row, ints, i_scratch, blocks, numbers)


@job(CONTRACT)
def invert(c, a, ints, examples):
    """Lists (index, count) of numbers per row of the batch to lists of rows per number."""
    group, width, S, index, ld_index, count, rows, ld_rows, rows_count = a[2:11]
    low, high = c * group, min(c * group + group, width)
    for i in range(low, high):
        ints[rows_count + i] = 0
    for r in range(examples * S):
        for k in range(index + r * ld_index, index + r * ld_index + ints[count + r]):
            i = ints[k]
            if low <= i < high:
                ints[rows + i * ld_rows + ints[rows_count + i]] = r
                ints[rows_count + i] += 1
