"""The engine that needs nothing: one process per task on this machine, so many at a time."""
from __future__ import annotations

import subprocess
import time
from collections import deque
from collections.abc import Iterator

from npdvae.process import cores
from npdvae.sweep import tasks


def run(plan: tasks.Plan, names: list[str]) -> Iterator[str]:
    """Work on the tasks; yields each name when it is done, has failed, or is given up."""
    running: dict[str, tuple[int, subprocess.Popen]] = {}           # slot and process
    waiting, tries = deque(names), tasks.Tries(plan)
    free = list(range(plan.jobs or 1))
    try:
        while waiting or running:
            while waiting and free:
                name, slot = waiting.popleft(), free.pop(0)
                device = plan.devices[slot % len(plan.devices)] if plan.devices else None
                running[name] = slot, tasks.start(plan, name, device)
            time.sleep(0.05)
            for name in [n for n, (_, process) in running.items() if process.poll() is not None]:
                free.append(running.pop(name)[0])
                if tries.again(name):
                    waiting.append(name)
                else:
                    yield name
    finally:
        tasks.stop([process for _, process in running.values()])


def share(jobs: int | None, threads: int | None, count: int) -> tuple[int, int]:
    """Tasks at a time and threads of each, never more than the cores together; ValueError where they would be."""
    most = cores()
    jobs = max(1, min(most // (threads or 1), count)) if jobs is None else jobs
    threads = max(1, most // jobs) if threads is None else threads
    if jobs * threads > most:
        raise ValueError(f"--jobs {jobs} of {threads} thread{'s' * (threads > 1)} each: more than {most} cores here")
    return jobs, threads
