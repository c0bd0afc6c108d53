"""Contestants of one make, by task: python -m bench.server npdvae|torch|..., one command a line on stdin, as JSON.

Commands: {"do": "open", "task": [...]}, check (largest error of the gradients), run with "steps" (milliseconds a step),
close. Answers are lines of JSON.
"""
import functools
import gc
import json
import os
import sys
import time

import numpy as np

from bench import contest, tasks
from npdvae import data

IMAGES = 60000


def make(name, task, threads):
    """The contestant of a make on a task."""
    if name == "npdvae":
        return tasks.Ours(task, threads)
    if task.latent == "categorical" and task.estimator != "smoothing":
        from bench.peers import torch_estimators
        return torch_estimators.make(name, task, threads)
    from bench.peers import torch_latent_models
    return torch_latent_models.make(name, task, threads)


def run(contestant, steps, batch, random):
    """Milliseconds a step."""
    order = np.concatenate([random.permutation(IMAGES)[:batch] for _ in range(steps)])
    start = time.perf_counter()
    contestant.run(order)
    return (time.perf_counter() - start) / steps * 1e3


def main():
    answers = contest.answers_alone()
    name, held, random = sys.argv[1], {}, np.random.default_rng(0)
    threads = int(os.environ.get("BENCH_THREADS", len(os.sched_getaffinity(0))))
    data.load = functools.cache(data.load)      # the images are read once
    for line in sys.stdin:
        command = json.loads(line)
        task, answer = tasks.made(*command["task"]), None
        if command["do"] == "open":
            held.setdefault(task, make(name, task, threads))
        elif command["do"] == "check":
            answer = held[task].check()
        elif command["do"] == "run":
            answer = run(held[task], command["steps"], task.B, random)
        elif command["do"] == "close":
            held.pop(task, None)
            gc.collect()
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
