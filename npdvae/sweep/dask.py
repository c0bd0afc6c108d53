"""The engine on dask.distributed: workers of this machine, of a scheduler, of machines by ssh, or of SLURM jobs."""
from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

from npdvae.sweep import tasks


def run(plan: tasks.Plan, names: list[str]) -> Iterator[str]:
    """Work on the tasks; yields each name when it is done, has failed, or is given up."""
    try:
        import dask
        from distributed import Client, as_completed
    except ImportError:
        raise ValueError("--engine dask needs dask.distributed: pip install 'npdvae[sweep]'") from None
    for name in [n for n in logging.root.manager.loggerDict if n.startswith("distributed")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)          # what matters is said here
    patience = {"distributed.scheduler.allowed-failures": plan.retries}
    with dask.config.set(patience), cluster(plan) as address, Client(address) as client:
        print(f"dashboard {client.dashboard_link}")
        tries, there, here = tasks.Tries(plan), plan._replace(out=plan.out.resolve()), os.getcwd()

        def submit(name):
            return client.submit(attempt, there, name, here, key=f"{name}-{os.urandom(4).hex()}")

        pending = {submit(name): name for name in names}
        ended = as_completed(pending)
        try:
            for future in ended:
                name = pending.pop(future)
                if future.status == "cancelled":
                    raise ConnectionError("dask's scheduler is gone; the same command goes on, with another one")
                if not tries.again(name):
                    yield name
                else:
                    again = submit(name)
                    pending[again] = name
                    ended.add(again)
        finally:
            if pending and client.status == "running":
                client.cancel(list(pending))
                client.run(stop_tasks)


def attempt(plan: tasks.Plan, name: str, here: str):
    """On a worker: one attempt at a task, in a process of its own that ends with the worker."""
    tasks.start(plan, name, cwd=here).wait()


def stop_tasks():
    """On a worker: tell the tasks to save and stop."""
    import psutil
    found = psutil.Process().children()
    tasks.stop([child for child in found if any(word.startswith(tasks.TASK) for word in child.cmdline())])


def cluster(plan: tasks.Plan):
    """A context with the cluster that --cluster names, or the address of one that is there already."""
    kind, _, rest = plan.cluster.partition(":")
    if kind in ("tcp", "tls", "ucx"):
        return contextlib.nullcontext(plan.cluster)
    makers = {"local": local, "ssh": ssh, "slurm": slurm}
    if kind not in makers or (kind == "local") == bool(rest) or (kind == "ssh" and not rest):
        raise ValueError(f"--cluster: got {plan.cluster!r}, expected local, tcp://HOST:PORT, ssh:HOST,HOST "
                         "or slurm:PARTITION")
    try:
        return makers[kind](plan, rest)
    except (ValueError, OSError):
        raise
    except Exception as error:                  # asyncssh's and dask's own kinds
        raise ConnectionError(f"--cluster {plan.cluster}: {type(error).__name__}: {error}") from error


def local(plan, _):
    """So many workers of one task on this machine."""
    from distributed import LocalCluster
    return LocalCluster(n_workers=plan.jobs, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0",
                        silence_logs=logging.CRITICAL)


def ssh(plan, hosts):
    """One worker on each machine, a task for each of its cores or --jobs in all; the scheduler on the first."""
    from distributed import SSHCluster
    hosts = hosts.split(",")
    options = {"nthreads": -(-plan.jobs // len(hosts))} if plan.jobs else {}
    return SSHCluster([hosts[0], *hosts], worker_options=options, remote_python=sys.executable)


def slurm(plan, partition):
    """So many SLURM jobs, each a worker of one task; a job that is lost is submitted again."""
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise ValueError("--cluster slurm needs dask-jobqueue: pip install 'npdvae[sweep]'") from None
    made = SLURMCluster(queue=partition or None, cores=1, job_cpu=plan.threads, processes=1, memory="1GB",
                        job_directives_skip=["--mem", "-t "], job_extra_directives=list(plan.sbatch),
                        worker_extra_args=["--memory-limit", "0"], python=sys.executable,
                        log_directory=str(plan.out.resolve() / "dask"),
                        scheduler_options={"dashboard_address": ":0"})
    made.adapt(minimum_jobs=plan.jobs, maximum_jobs=plan.jobs)
    return made
