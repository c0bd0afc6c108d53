"""One process of `bench.scale`, under mpiexec or not: milliseconds of a step of each batch, of a sum of gradients."""
import json
import os
import statistics
import sys
import time

import numpy as np

from bench import problem
from npdvae import build, config
from npdvae.parallel import mpi

NUMBERS = 1_200_000                             # float32 of a gradient: 4.8 MB


def job(batch, shares, threads, team):
    """The medium row of the other tables, in shares (or none)."""
    p = problem.ROWS["medium"]
    return build.build(config.Config(
        data="mnist", data_dir=os.environ.get("NPDVAE_DATA"), binarize="dynamic", latents=p.D, categories=p.K,
        hidden=list(p.hidden), estimator="reinforce", baseline="constant", baseline_value=p.baseline, lr=problem.LR,
        batch_size=batch, shares=shares, threads=threads).check(), (problem.dataset("mnist"), None), team)


def step_ms(batch, shares, threads, team, seconds):
    """Of steps that last about so long together."""
    made = job(batch, shares, threads, team)
    made.engine.load(build.fresh_state(made))
    order = np.random.default_rng(0).permutation(60_000)

    def timed(steps):
        rows = np.resize(order, steps * batch)
        team.wait()
        start = time.perf_counter()
        made.engine.run(rows)
        team.wait()
        return (time.perf_counter() - start) / steps

    timed(2)
    steps = team.first(lambda pace: max(2, round(seconds / pace)), timed(2))
    return 1e3 * timed(steps)


def sum_ms(team, times=200):
    """Medians of adding up gradients, and of that with the way into and out of the place where they are added."""
    own, found = np.random.default_rng(team.rank).normal(size=NUMBERS).astype(np.float32), {}

    def one(act):
        each = []
        for _ in range(times):
            team.wait()
            start = time.perf_counter()
            act()
            each.append(time.perf_counter() - start)
        return 1e3 * statistics.median(np.max(team.comm.allgather(each), 0))

    def copied():
        own[:] = team.total({"g": own})["g"]

    def added():
        place = team.space(NUMBERS, own.dtype)
        place.own[:1] = 1
        return place.add

    found["window"], found["window, copied"] = one(added()), one(copied)
    team.node, held = None, team.node
    team.sums.clear()
    found["messages"] = one(added())
    team.node = held
    return found


def main():
    what = json.loads(sys.argv[1])
    with mpi.team() as team:
        steps = {b: step_ms(b, what["shares"], what["threads"], team, what["seconds"]) for b in what["batches"]}
        print(json.dumps({"steps": steps, "sums": sum_ms(team) if team.size > 1 and team.node else {}}))


if __name__ == "__main__":
    main()
