"""One worker of a fused run: all steps of a call without Python, sharing chunks of work with its peers.

A step may be cut in segments with Python between them: worker 0 comes back after each, its peers wait at the next gate.
"""
import numpy as np

from npdvae.kernels.cpu import (
    code_choice,
    code_cost,
    code_layers,
    fused_bfloat16,
    fused_estimators,
    fused_exact,
    fused_fours,
    fused_latent,
    fused_layers,
    fused_pixels,
    fused_update,
    jobs,
)
from npdvae.kernels.cpu.calls import do
from npdvae.kernels.cpu.clocks import used, wall
from npdvae.kernels.cpu.compiler import SUMS, UNCOUNTED, kernel
from npdvae.kernels.cpu.pace import ALL, OWN, SPUN, USED, WALL, judge, rest
from npdvae.kernels.cpu.sync import (
    FLUSH,
    atomic_add,
    atomic_load,
    claim,
    float_mode,
    passes,
    set_float_mode,
    wait_for,
)

SERVERS = (code_choice, code_cost, code_layers, fused_bfloat16, fused_estimators, fused_exact, fused_fours,
           fused_latent, fused_layers, fused_pixels, fused_update)    # where the kernels of all jobs are
STRIDE = 8                                      # int64 entries between two counters: a cache line each
OPENED, QUIT, DONE, FIRST = range(0, 4 * STRIDE, STRIDE)    # of sync: gates; whether to end; steps; first counter


def counters(stages, steps):
    """Entries of sync for so many stages of each step: claimed and finished chunks of each."""
    return FIRST + 2 * STRIDE * stages * steps


@kernel(SUMS, **UNCOUNTED)
def work(worker, turn, end, workers, table, stages, segments, mem, ints, images, grey_images, order, batch, first_step,
         trains, start, keys, scalars, scratch, scratch_size, i_scratch, i_scratch_size, running, out, sync, pace,
         addresses):
    """Segments turn .. end of len(out) steps, counted over all of them: of training, `trains` of them to a number,
    from first_step on; or (trains 0) of evaluation, all with that number. Images of a step, or of an evaluation, count
    from `start`.

    table [jobs, arguments]; stages [n, 3] = first job, end, and 0 or the number of chunks that go through all jobs of
    the stage in one go; segments [m, 2] = first stage, end; keys = (seed, pixel stream, latent stream); scalars =
    offset of the first step's numbers in mem; running [3 or more] float64; out [steps, 2]; sync, pace int64;
    addresses of the kinds of jobs. Returns the turn at which a peer grew tired of waiting, or end.
    """
    mode = float_mode()
    set_float_mode(np.int32(mode | FLUSH))      # moments of dead pixels would turn denormal and slow
    scratch, i_scratch = scratch + worker * scratch_size, i_scratch + worker * i_scratch_size
    n_stages, n_segments = len(stages), len(segments)
    gated = n_segments > 1
    while turn < end:
        step, began, begun = turn // n_segments, wall(), used()
        if gated and worker == 0 and atomic_load(sync, OPENED) <= turn:
            atomic_add(sync, OPENED, 1)
        if gated and worker > 0 and not passes(sync, OPENED, QUIT, turn):
            break
        if worker > 0:
            rest(pace, sync, DONE, QUIT, step)
        first = step * batch
        examples = min(batch, len(order) - first)
        at = scalars + step * jobs.STEP_SCALARS
        number, example = first_step, start + first
        if trains:
            number, example = first_step + step // trains, start + step % trains * batch
        for stage in range(segments[turn % n_segments, 0], segments[turn % n_segments, 1]):
            job, last, through = stages[stage]
            chunks = through
            for j in range(job, last if through == 0 else job):
                chunks += table[j, 1]
            counter, mine = FIRST + 2 * STRIDE * (step * n_stages + stage), 0
            while True:
                c = claim(sync, counter, worker, workers, chunks, mine)
                if c < 0:
                    break
                mine += 1
                j = job
                while through == 0 and c >= table[j, 1]:
                    c -= table[j, 1]
                    j += 1
                turns = 1 if through == 0 else last - job
                for k in range(j, j + turns):
                    for part in range(c, c + 1 if through == 0 else table[k, 1], max(through, 1)):
                        do(addresses, part, table[k], mem, ints, images, grey_images, order, first, examples, number,
                           example, keys, at, scratch, i_scratch, running, out[step])
            atomic_add(sync, counter + STRIDE, mine)
            spun = wait_for(sync, counter + STRIDE, chunks)     # for what is done, not for all to come
            if worker == 0:
                pace[SPUN] += spun
                pace[OWN] += mine
                pace[ALL] += chunks
        turn += 1
        if worker == 0:
            now = wall()
            pace[WALL] += now - began
            pace[USED] += used() - begun
            if turn % n_segments == 0:
                judge(pace, now)
                atomic_add(sync, DONE, 1)
    set_float_mode(np.int32(mode))
    return turn
