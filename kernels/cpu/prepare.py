"""Kernels of a plan, made ready before its first step: loaded, or compiled in several processes at once.

A helper is a fresh interpreter that compiles what it is told, leaves it in the store, and ends with its parent,
however that ends. Where there is one core, or helpers fail, this process compiles, to the same machine code.
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
from npdvae.kernels.cpu.interrupt import noted
from npdvae.process import cores

MOST = 4                                        # helpers: each takes some 150 MB
FEW = 2                                         # kernels that are compiled sooner than helpers start
PATIENCE = 300                                  # seconds for a kernel: a helper beyond has stopped
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
    """Compile kernels in helpers, and here what these leave."""
    todo = collections.deque(names)
    with Progress(len(names)) as progress, noted() as signals:
        with helpers(count(len(names)), todo, progress) as (threads, processes):
            while any(thread.is_alive() for thread in threads):
                signals.check()
                if time.monotonic() > progress.latest + PATIENCE:
                    kill(processes)
                time.sleep(0.01)
        while todo:
            compile_one(todo.popleft())
            progress.step()
            signals.check()


@contextlib.contextmanager
def helpers(n, todo, progress):
    """At most n processes that compile what is to do, each fed by a thread; none is left behind."""
    processes: list = []
    threads: list = []
    with contextlib.suppress(OSError):          # where no more processes can be started
        for _ in range(n):
            processes.append(subprocess.Popen([sys.executable, "-P", "-c", HELPER], stdin=subprocess.PIPE, text=True,
                                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0))
            threads.append(threading.Thread(target=feed, args=(processes[-1], todo, progress), daemon=True))
    try:
        for thread in threads:
            thread.start()
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
    """How many helpers compile; this process, if none."""
    interpreter = pathlib.Path(sys.executable or "").name.lower().startswith("python")
    if min(cores(), kernels - FEW) < 2 or store.folder() is None or not interpreter or os.name != "posix":
        return 0
    return min(cores(), MOST, kernels // 2)


def feed(process, todo, progress):
    """Give a helper one name after another; the one that it fails at is left to others."""
    name = None
    try:
        tell(process, json.dumps({"path": [str(path) for path in sys.path], "folder": str(store.folder()),
                                  "sources": store.sources_hash()}))
        while todo:
            name = todo.popleft()
            tell(process, name)
            if process.stdout.readline().strip() != name:
                break
            name = None
            progress.step()
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
        self.total, self.done, self.latest, self.lock = total, 0, time.monotonic(), threading.Lock()
        self.live = bool(sys.stderr and not sys.stderr.closed and sys.stderr.isatty())

    def __enter__(self):
        self.show("compiling the CPU kernels, once" if not self.live else self.text())
        return self

    def __exit__(self, *raised):
        if self.live:
            self.show("")

    def step(self):
        with self.lock:
            self.done, self.latest = self.done + 1, time.monotonic()
            if self.live:
                self.show(self.text())

    def text(self):
        return f"compiling the CPU kernels, once: {self.done} of {self.total}"

    def show(self, text):
        try:
            print(f"\r\x1b[K{text}" if self.live else text, end="" if self.live else "\n", file=sys.stderr, flush=True)
        except (OSError, ValueError, AttributeError):
            self.live = False
