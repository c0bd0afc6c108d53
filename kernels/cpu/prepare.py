"""Kernels of a plan, made ready before its first step: loaded, or compiled in several processes at once.

A helper is a fresh interpreter that compiles what it is told, leaves it in the store, and ends with its parent,
however that ends. Where helpers fail this process compiles everything itself, to the same machine code.
"""
import collections
import contextlib
import json
import os
import pathlib
import queue
import subprocess
import sys
import threading
import time

from numba import config, types

from npdvae.kernels.cpu import calls, store
from npdvae.kernels.cpu.fused_worker import work
from npdvae.kernels.cpu.interrupt import interruptible

MOST = 4                                        # processes: each takes some 150 MB
FEW = 3                                         # kernels that are compiled sooner than a helper starts
PATIENCE = 120                                  # seconds that a helper is given once there is nothing else to do
SLOW = ("latent", "latent_backward", "pixels", "work", "weight_gradient", "dense", "backward",
        "picked_weight_gradient")               # first: the last ones of a queue should be short
HELPER = ("import json, sys; start = json.loads(sys.stdin.readline()); sys.path[:] = start['path']; "
          "from npdvae.kernels.cpu import prepare; prepare.serve(**start)")
READY: set = set()                              # kinds loaded by this process


def unit(name):
    """A kernel and its signature: `work`, or that of a kind of job."""
    if name == "work":
        return work, calls.signature(work, calls.TYPES, types.int64)
    return calls.JOBS[name], calls.signature(calls.JOBS[name], calls.OF_JOB)


def ready(kinds):
    """Addresses of the kinds of jobs, int64 by number; `work` and what they need is compiled or loaded."""
    if not config.DISABLE_JIT:
        wanted = [name for name in ("work", *sorted(kinds)) if name not in READY]
        missing = [name for name in wanted if not kept(name)]
        if missing:
            compile_all(sorted(missing, key=lambda name: SLOW.index(name) if name in SLOW else len(SLOW)))
        for name in wanted:
            compile_one(name)
        READY.update(wanted)
    return calls.addresses(kinds)


def kept(name):
    """Whether a kernel need not be compiled."""
    kernel, signature = unit(name)
    return (signature.args in kernel.overloads
            or store.load(kernel._cache.file(signature, kernel.targetctx.codegen())) is not None)


def compile_one(name):
    kernel, signature = unit(name)
    kernel.compile(signature)


def compile_all(names):
    """Compile kernels, here and in helpers, each where there is time first."""
    todo = collections.deque(names)
    with Progress(len(names)) as progress, interruptible(), helpers(todo, progress.step) as (threads, processes):
        idle = None
        while todo or any(thread.is_alive() for thread in threads):
            try:
                name = todo.popleft()
            except IndexError:
                idle = idle or time.monotonic()
                if time.monotonic() > idle + PATIENCE:
                    kill(processes)
                time.sleep(0.01)
                continue
            idle = None
            compile_one(name)
            progress.step()


@contextlib.contextmanager
def helpers(todo, step):
    """Processes that compile what is to do, each fed by a thread; none is left behind."""
    processes: list = []
    threads: list = []
    try:
        for _ in range(count(len(todo)) - 1):
            processes.append(subprocess.Popen([sys.executable, "-P", "-c", HELPER], stdin=subprocess.PIPE, text=True,
                                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0))
            threads.append(threading.Thread(target=feed, args=(processes[-1], todo, step), daemon=True))
            threads[-1].start()
    except OSError:                             # no more processes may be started
        pass
    try:
        yield threads, processes
    finally:
        kill(processes)
        for thread in threads:
            thread.join()
        for process in processes:
            process.stdout.close()


def kill(processes):
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()


def count(kernels):
    """How many processes compile, this one counted."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    interpreter = pathlib.Path(sys.executable or "").name.lower().startswith("python")
    if kernels <= FEW or store.folder() is None or not interpreter or os.name != "posix":
        return 1
    return min(cores, MOST, kernels // 2)


def feed(process, todo, step):
    """Give a helper one name after another; the one that it fails at is left to others."""
    name = None
    try:
        tell(process, json.dumps({"path": sys.path, "folder": str(store.folder()), "sources": store.sources_hash()}))
        while todo:
            name = todo.popleft()
            tell(process, name)
            if process.stdout.readline().strip() != name:
                break
            name = None
            step()
    except (OSError, ValueError, IndexError):   # it has died; the last name went elsewhere
        pass
    if name is not None:
        todo.append(name)
    with contextlib.suppress(OSError):          # of what it never read
        process.stdin.close()


def tell(process, line):
    process.stdin.write(line + "\n")
    process.stdin.flush()


def serve(path, folder, sources):
    """The life of a helper."""
    if sources != store.sources_hash():
        sys.exit("another version of npdvae")
    store.CHOSEN.append(pathlib.Path(folder))
    told: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=listen, args=(told,), daemon=True).start()
    while True:
        name = told.get()
        compile_one(name)
        print(name, flush=True)


def listen(told):
    """Pass on what the parent says; when it falls silent, so does the helper."""
    for line in sys.stdin:
        told.put(line.strip())
    os._exit(0)


class Progress:
    """One line on a terminal, renewed in place and wiped at the end; elsewhere one line and no more."""

    def __init__(self, total):
        self.total, self.done, self.lock = total, 0, threading.Lock()
        self.live = bool(sys.stderr and not sys.stderr.closed and sys.stderr.isatty())

    def __enter__(self):
        self.show("compiling the CPU kernels, once" if not self.live else self.text())
        return self

    def __exit__(self, *raised):
        if self.live:
            self.show("")

    def step(self):
        with self.lock:
            self.done += 1
            if self.live:
                self.show(self.text())

    def text(self):
        return f"compiling the CPU kernels, once: {self.done} of {self.total}"

    def show(self, text):
        try:
            print(f"\r\x1b[K{text}" if self.live else text, end="" if self.live else "\n", file=sys.stderr, flush=True)
        except (OSError, ValueError, AttributeError):
            self.live = False
