"""python -m bench.first_run: seconds of whole commands with nothing compiled, and with everything.

Each cold round has an empty kernel cache of its own; processor time is that of the command and of its helpers.
"""
import argparse
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from bench import contest, tables

COMMANDS = {"--epochs 2": ["--epochs", "2"], "(the default run)": []}


def timed(words, cache, out):
    """Seconds by the clock and of processors of one command."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "npdvae.train", "--out", out, *words], check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, "XDG_CACHE_HOME": str(cache)})
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def one(words, rounds, place):
    """Medians: {cold, warm: {seconds, processor}}; each cache is filled by its cold round and used by its warm one."""
    found = {"cold": [], "warm": []}
    for n in range(rounds):
        for kind in found:
            found[kind].append(timed(words, place / f"cache{n}", place / f"run{n}{kind}"))
    return {kind: dict(zip(("seconds", "processor"), map(statistics.median, zip(*times, strict=True)), strict=True))
            for kind, times in found.items()}


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.first_run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    result = {}
    for name, words in COMMANDS.items():
        with tempfile.TemporaryDirectory() as place:
            result[name] = one(words, arguments.rounds, pathlib.Path(place))
        cold, warm = (result[name][kind]["seconds"] for kind in ("cold", "warm"))
        print(f"{name}: {cold:.1f} s with nothing compiled, {warm:.1f} s with everything", flush=True)
    contest.save("first_run", {"unit": "s", "commands": result})
    tables.main()


if __name__ == "__main__":
    main()
