"""Contestants in turns: one process each, the others asleep; medians of rounds, ratios, and results as JSON."""
from __future__ import annotations

import contextlib
import json
import os
import pathlib
import platform
import select
import statistics
import subprocess
import sys
import time
from importlib import metadata

RESULTS = pathlib.Path(__file__).parent / "results"
LOAD = os.getloadavg()[0]                       # when the command starts: later it is the contestants' own
EXIT = 20                                       # seconds to exit in


class Contestant:
    """A process that answers commands."""

    def __init__(self, name, *words, module="bench.contestant", **options):
        self.name = name
        self.process = subprocess.Popen([sys.executable, "-m", module, name, *words], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, **options)
        self.read = b""                         # of the answers, beyond the last line taken

    def send(self, command):
        """One command, whose `answer` is asked for later."""
        self.command = command
        try:
            self.process.stdin.write(command.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def answer(self, seconds=None):
        """The answer to the command sent; RuntimeError where the process died, or took longer and is killed."""
        end, out = None if seconds is None else time.monotonic() + seconds, self.process.stdout.fileno()
        while b"\n" not in self.read:
            left = None if end is None else max(0.0, end - time.monotonic())
            if not select.select([out], [], [], left)[0]:
                self.process.kill()
                self.process.wait()
                raise RuntimeError(f"{self.name} had not answered {self.command!r} after {seconds:.0f} s")
            some = os.read(out, 65536)
            if not some:
                raise RuntimeError(f"{self.name} died at {self.command!r} (exit code {self.end()})")
            self.read += some
        line, _, self.read = self.read.partition(b"\n")
        return json.loads(line)

    def ask(self, command):
        """The answer to one command."""
        self.send(command)
        return self.answer()

    def end(self):
        """The exit code; who does not exit is killed."""
        try:
            return self.process.wait(EXIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.end()


def answers_alone():
    """Standard output as a file for answers; what libraries and their compilers print goes to standard error."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return out


def rounds(contestants, command, n):
    """Answers of each contestant in n alternating rounds: {name: [n]}; a command for all, or one by name."""
    found = {c.name: [] for c in contestants}
    for _ in range(n):
        for c in contestants:
            found[c.name].append(c.ask(command if isinstance(command, str) else command[c.name]))
    return found


def busy():
    """A process that keeps one core busy; kill it afterwards."""
    return subprocess.Popen([sys.executable, "-c", "while True: pass"])


def summary(times):
    """Median of each, our ratio to each peer (median of the rounds' ratios, with quartiles) and to the best."""
    medians = {name: statistics.median(t) for name, t in times.items()}
    ratios = {}
    for name, t in times.items():
        if name != "npdvae":
            each = [peer / own for peer, own in zip(t, times["npdvae"])]
            low, middle, high = statistics.quantiles(each, n=4) if len(each) > 1 else each * 3
            ratios[name] = {"median": middle, "low": low, "high": high}
    best = min((n for n in medians if n != "npdvae"), key=medians.get)
    return {"median": medians, "ratio": ratios, "best_peer": best, "best_ratio": medians[best] / medians["npdvae"]}


def machine():
    """Where this ran."""
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
                 platform.processor())
    flags = next((line for line in open("/proc/cpuinfo") if line.startswith("flags")), "")
    versions = {}
    for name in ("numpy", "numba", "llvmlite", "torch", "jax"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {"processor": model, "avx512": "avx512f" in flags, "cores": len(os.sched_getaffinity(0)),
            "python": platform.python_version(), "load_before": LOAD, **versions,
            "date": time.strftime("%Y-%m-%d")}


def write(path, result):
    """JSON, whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.replace(path)


def save(name, result, quiet=False):
    """Write bench/results/NAME.json, whole or not at all, and say so."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    write(path, {"machine": machine(), **result})
    if not quiet:
        print(f"wrote {path.relative_to(pathlib.Path.cwd()) if path.is_relative_to(pathlib.Path.cwd()) else path}")
