"""One worker of a fused run: all steps of a call without Python, sharing chunks of work with its peers."""
import numpy as np

from npdvae.kernels.cpu import (
    fused_estimators,
    fused_exact,
    fused_latent,
    fused_layers,
    fused_pixels,
    fused_update,
    jobs,
)
from npdvae.kernels.cpu.compiler import SUMS, kernel
from npdvae.kernels.cpu.sync import FLUSH, barrier, claim, float_mode, set_float_mode

STRIDE = 8                                      # int64 entries between two counters: a cache line each


@kernel(SUMS)
def do(c, a, mem, ints, images, grey_images, order, first, examples, step, example, keys, scalars, scratch, i_scratch,
       running, out, exact):
    """Chunk c of job a."""
    kind = a[0]
    if kind == jobs.DENSE:
        fused_layers.dense(c, a, mem, examples, scalars)
    elif kind == jobs.BACKWARD:
        fused_layers.backward(c, a, mem, scratch)
    elif kind == jobs.WEIGHT_GRADIENT:
        fused_update.weight_gradient(c, a, mem, examples, scalars, scratch)
    elif kind == jobs.PICK:
        fused_layers.pick(c, a, mem, ints, examples)
    elif kind == jobs.PICKED_WEIGHT_GRADIENT:
        fused_update.picked_weight_gradient(c, a, mem, ints, examples, scalars, scratch)
    elif kind == jobs.PIXELS:
        fused_pixels.pixels(c, a, mem, ints, images, grey_images, order, first, examples, step, example, keys[0],
                            keys[1], i_scratch)
    elif kind == jobs.INVERT:
        fused_pixels.invert(c, a, ints, examples)
    elif kind == jobs.LATENT:
        fused_latent.latent(c, a, mem, ints, examples, step, example, keys[0], keys[2], scratch, i_scratch)
    elif kind == jobs.LATENT_BACKWARD:
        fused_estimators.latent_backward(c, a, mem, ints, examples, scalars, scratch)
    elif kind == jobs.PRIOR:
        fused_latent.prior(a, mem, scratch)
    elif kind == jobs.PRIOR_GRADIENT:
        fused_update.prior_gradient(a, mem, examples, scalars, scratch)
    elif kind == jobs.REPORT:
        fused_update.report(a, mem, running, examples, scalars, out)
    elif exact is not None:
        fused_exact.do(c, a, mem, ints, examples, scalars, scratch)


@kernel(SUMS)
def work(worker, workers, table, stages, mem, ints, images, grey_images, order, batch, first_step, trains, start, keys,
         scalars, scratch, scratch_size, i_scratch, i_scratch_size, running, out, sync, exact):
    """Run len(out) steps: of training, numbered from first_step, or (trains 0) of evaluation, all with that number.
    Images of an evaluation count from `start`.

    table [jobs, arguments]; stages [n, 3] = first job, end, and 0 or the number of chunks that go through all jobs of
    the stage in one go; keys = (seed, pixel stream, latent stream); scalars = offset of the first step's numbers in
    mem; running [3] float64; out [steps, 2]; sync int64; exact = None leaves the exact gradient's jobs uncompiled.
    """
    mode = float_mode()
    set_float_mode(np.int32(mode | FLUSH))      # moments of dead pixels would turn denormal and slow
    scratch, i_scratch = scratch + worker * scratch_size, i_scratch + worker * i_scratch_size
    n_stages, barriers = len(stages), 0
    for step in range(len(out)):
        first = step * batch
        examples = min(batch, len(order) - first)
        at = scalars + step * jobs.STEP_SCALARS
        number, example = (first_step + step, 0) if trains else (first_step, start + first)
        for stage in range(n_stages):
            job, end, through = stages[stage]
            chunks = through
            for j in range(job, end if through == 0 else job):
                chunks += table[j, 1]
            counter, mine = STRIDE * (1 + (step & 1) * n_stages + stage), 0
            while True:
                c = claim(sync, counter, worker, workers, chunks, mine)
                if c < 0:
                    break
                mine += 1
                j = job
                while through == 0 and c >= table[j, 1]:
                    c -= table[j, 1]
                    j += 1
                turns = 1 if through == 0 else end - job
                for k in range(j, j + turns):
                    for part in range(c, c + 1 if through == 0 else table[k, 1], max(through, 1)):
                        do(part, table[k], mem, ints, images, grey_images, order, first, examples, number, example,
                           keys, at, scratch, i_scratch, running, out[step], exact)
            if stage == 0 and worker == 0:      # the other step's counters are idle between these barriers
                for k in range(n_stages):
                    sync[STRIDE * (1 + (1 - (step & 1)) * n_stages + k)] = 0
            barriers += 1
            barrier(sync, barriers * workers)
    set_float_mode(np.int32(mode))
