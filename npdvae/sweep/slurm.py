"""The engine for SLURM alone: an array job of what the folders lack, submitted again until they lack nothing."""
from __future__ import annotations

import os
import pathlib
import shlex
import subprocess
import time
from collections.abc import Iterator

from npdvae import metrics
from npdvae.sweep import tasks

MOST = 1000                                     # tasks of one array: SLURM's own default limit
POLL = 2.0                                      # seconds between two looks
SCRIPT = """#!/bin/bash
#SBATCH --job-name=npdvae-sweep
#SBATCH --array=0-{last}{limit}
#SBATCH --cpus-per-task={threads}
#SBATCH --output={log}
#SBATCH --open-mode=append
#SBATCH --requeue
{options}
TASKS=({names})
folder={out}/${{TASKS[$SLURM_ARRAY_TASK_ID]}}
export {pools}
cd {here}
exec {command} >> "$folder/log.txt" 2>&1
"""


def run(plan: tasks.Plan, names: list[str]) -> Iterator[str]:
    """Work on the tasks; yields each name when it is done, has failed, or is given up."""
    note, tries, lacking = plan.out / "slurm.job", tasks.Tries(plan), list(names)
    job = note.read_text().strip() if note.exists() else ""         # of a sweep that was killed: still at work?
    try:
        while lacking:
            if not job:
                job = submit(plan, lacking[:MOST])
                metrics.write_text(note, job)
            batch = lacking[:MOST]
            while True:
                at_work = queued(job)           # asked first: what ends meanwhile is seen next time
                for name in [n for n in lacking if tasks.settled(plan.out / n)]:
                    lacking.remove(name)
                    yield name
                if not at_work or not lacking:
                    break
                time.sleep(POLL)
            job = ""
            for name in [n for n in batch if n in lacking and not tries.again(n)]:
                lacking.remove(name)
                yield name
        note.unlink(missing_ok=True)
    finally:
        if job and lacking:
            cancel(job)
            note.unlink(missing_ok=True)


def script(plan: tasks.Plan, names: list[str]) -> str:
    """The array script for some tasks."""
    out, q = plan.out.resolve(), shlex.quote
    command = tasks.command(plan, pathlib.Path("FOLDER"))
    return SCRIPT.format(
        last=len(names) - 1, limit=f"%{plan.jobs}" if plan.jobs else "", threads=plan.threads,
        log=q(str(out / "slurm.out")),
        options="\n".join(f"#SBATCH {option}" for option in plan.sbatch), out=q(str(out)),
        names=" ".join(map(q, names)), here=q(os.getcwd()),
        pools=" ".join(f"{pool}={plan.threads}" for pool in tasks.POOLS),
        command=" ".join(f'{tasks.TASK}"$folder"' if word == f"{tasks.TASK}FOLDER" else q(word) for word in command))


def submit(plan: tasks.Plan, names: list[str]) -> str:
    """Write and submit the array script; the job's number."""
    path = plan.out / "slurm.sh"
    metrics.write_text(path, script(plan, names))
    job = ask("sbatch", "--parsable", str(path.resolve())).split(";")[0].strip()
    print(f"job {job}: {len(names)} tasks, {path}")
    return job


def queued(job: str) -> bool:
    """Whether SLURM still has something to do for a job; yes, as far as we know, while it does not answer."""
    done = subprocess.run(["squeue", "-h", "-j", job], capture_output=True, text=True, check=False)
    return bool(done.stdout.strip()) if done.returncode == 0 else "Invalid job id" not in done.stderr


def cancel(job: str):
    """Cancel a job: its tasks are told to save and stop. Returns when they have."""
    ask("scancel", job)
    while queued(job):
        time.sleep(0.5)


def ask(*command: str) -> str:
    """What one of SLURM's commands prints; ValueError, one line, where it fails or is missing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ValueError(f"--engine slurm: no {command[0]} here; run it on a machine of a SLURM cluster") from None
    if done.returncode:
        raise ValueError(f"{command[0]}: {' '.join(done.stderr.split())}")
    return done.stdout
