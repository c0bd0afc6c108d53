"""What the machine can do at best, measured in the same run: matrix products, and memory traffic of an optimizer."""
import os
import threading
import time

import numpy as np


def gflops(n=2048, repeats=5):
    """GFLOP/s of BLAS on a large float32 product, all threads."""
    a = np.random.default_rng(0).random((n, n), np.float32)
    a @ a
    best = min(timed(lambda: a @ a) for _ in range(repeats))
    return 2 * n ** 3 / best / 1e9


def bandwidth(megabytes=14, repeats=20):
    """GB/s of reading and writing arrays the size of an MNIST model and its moments, one thread a core."""
    cores = len(os.sched_getaffinity(0))
    parts = [np.ones(megabytes * 250_000 // cores, np.float32) for _ in range(cores)]

    def work(a):
        for _ in range(repeats):
            np.add(a, np.float32(1), out=a)

    def all_parts():
        threads = [threading.Thread(target=work, args=(a,)) for a in parts]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    return 2 * repeats * sum(a.nbytes for a in parts) / min(timed(all_parts) for _ in range(3)) / 1e9


def timed(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def floor(problem, pixels, peak_gflops, peak_bandwidth):
    """Milliseconds of a step that structure cannot give away: dense products and 28 bytes a parameter for Adam."""
    h1, h2 = problem.hidden
    DK, B = problem.D * problem.K, problem.B
    dense = h1 * h2 + h2 * DK + h2 * h1 + h1 * pixels       # forward; the sparse input and code layers are free
    flops = 2 * B * 3 * dense                               # and twice as much backward
    parameters = 2 * (pixels * h1 + h1 * h2 + h2 * DK) + 2 * (h1 + h2) + DK + pixels
    return flops / peak_gflops / 1e6 + 28 * parameters / peak_bandwidth / 1e6, flops
