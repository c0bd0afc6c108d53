"""python -m bench.scale: a step in shares on one and two processes for batches of 100 to 8,000, sums of gradients, and
what a model of networks makes of them up to 1,024 processes. Writes bench/results/scale.json, docs/scale.png and the
table of docs/scale.md (--draw: from the results that are there). Needs the extra mpi and MNIST; 6 minutes."""
import argparse
import json
import math
import pathlib
import statistics
import subprocess
import sys

from bench import contest

ROOT = contest.RESULTS.parent.parent
BEGIN, END = "<!-- python -m bench.scale -->", "<!-- end of bench.scale -->"
BATCHES = (100, 200, 500, 1000, 2000, 4000, 8000)
WAYS = {                                        # name: processes (0: without MPI), shares, threads of each
    "alone": (0, 8, 1), "1 rank": (1, 8, 1), "2 ranks": (2, 8, 1), "2 threads, whole batches": (0, None, 2)}
BYTES = 4.8e6
NETWORKS = {                                    # latency of a message in s, bytes a second
    "10GbE": (30e-6, 1.1e9), "25GbE": (15e-6, 2.8e9), "100G InfiniBand": (2e-6, 11e9)}
RANKS = [2 ** k for k in range(11)]


def measured(way, batches, seconds):
    """What a worker says."""
    processes, shares, threads = WAYS[way]
    mpiexec = pathlib.Path(sys.executable).with_name("mpiexec")
    launcher = [str(mpiexec) if mpiexec.exists() else "mpiexec", "-n", str(processes)] if processes else []
    what = {"batches": batches, "shares": shares, "threads": threads, "seconds": seconds}
    done = subprocess.run([*launcher, sys.executable, "-m", "bench.scale_worker", json.dumps(what)],
                          capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{way}: {done.stderr.strip() or done.stdout.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


def summary(rounds):
    """Medians over rounds, and for each batch the medians of the rounds' ratios."""
    def ms(way, batch):
        return [r[way]["steps"][batch] for r in rounds]

    def ratio(above, below, batch):
        return statistics.median(a / b for a, b in zip(ms(above, batch), ms(below, batch), strict=True))

    rows = {b: {"ms": {way: statistics.median(ms(way, b)) for way in WAYS}, "speedup": ratio("alone", "2 ranks", b),
                "overhead": ratio("1 rank", "alone", b) - 1,
                "threads": ratio("2 threads, whole batches", "2 ranks", b)} for b in rounds[0]["alone"]["steps"]}
    sums = {k: statistics.median(r["2 ranks"]["sums"][k] for r in rounds) for k in rounds[0]["2 ranks"]["sums"]}
    return {"unit": "ms/step", "rounds": rounds, "rows": rows, "sums": sums}


def exchange(ranks, latency, rate):
    """Seconds of halving and doubling (alpha-beta model)."""
    return 2 * math.log2(ranks) * latency + 2 * (ranks - 1) / ranks * BYTES / rate


def efficiency(work, ranks, latency, rate):
    """Of ranks that each work so many seconds a step."""
    return work / (work + exchange(ranks, latency, rate))


def table(result):
    """Markdown."""
    lines = ["| batch | " + " | ".join(f"{way}, ms" for way in WAYS) + " | efficiency of 2 ranks | of 1 rank |",
             "|---|" + "---|" * (len(WAYS) + 2)]
    for batch, row in result["rows"].items():
        times = " | ".join(f"{row['ms'][way]:.3g}" for way in WAYS)
        lines.append(f"| {batch} | {times} | {row['speedup'] / 2:.2f} | {1 / (1 + row['overhead']):.2f} |")
    sums = ", ".join(f"{name} {ms:.2f} ms" for name, ms in result["sums"].items())
    machine = result.get("machine", {})
    networks = ", ".join(f"{name} {1e6 * latency:.0f} us and {rate / 1e9:.3g} GB/s"
                         for name, (latency, rate) in NETWORKS.items())
    return "\n".join([f"Measured on {machine.get('cores', '?')} cores ({machine.get('processor', '?')}), medians of "
                      f"{len(result['rounds'])} alternating rounds, MNIST D=20 K=10, 8 shares, a thread a rank:", "",
                      *lines, "", f"Adding 4.8 MB over 2 ranks of a machine: {sums}.", "",
                      "On the left is what was measured; the model to 1,024 processes is that of latency and bandwidth "
                      f"({networks}), with the step of one process as measured:", "",
                      "![efficiency: measured on one machine, and modelled for three networks](scale.png)"])


def draw(result, path):
    """Measured on the left; the model for three networks at the measured work of a rank."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.6), layout="constrained", sharey=True)
    rows = {int(b): row for b, row in result["rows"].items()}
    axes[0].plot([*rows], [1 / (1 + r["overhead"]) for r in rows.values()], "o-", color="#888888", label="1 rank")
    axes[0].plot([*rows], [r["speedup"] / 2 for r in rows.values()], "o-", color="#d1495b", label="2 ranks")
    axes[0].set(xscale="log", xlabel="batch", ylabel="efficiency", title="measured, one machine", ylim=(0, 1.1))
    axes[0].legend(frameon=False)
    for axis, (name, network) in zip(axes[1:], NETWORKS.items()):
        for i, (batch, row) in enumerate(rows.items()):
            work = row["ms"]["1 rank"] / 1e3
            axis.plot(RANKS, [efficiency(work, p, *network) for p in RANKS], "--", color=plt.cm.viridis(i / len(rows)),
                      label=f"{batch} a rank")
        axis.set(xscale="log", xlabel="ranks", title=f"modelled, {name}")
    axes[-1].legend(frameon=False, fontsize=8)
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write(result, docs=ROOT / "docs"):
    """Figure and table of the guide."""
    draw(result, docs / "scale.png")
    page = docs / "scale.md"
    before, after = page.read_text().split(BEGIN)[0], page.read_text().split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{table(result)}\n{END}{after}")


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="about how long the steps of one batch last")
    parser.add_argument("--draw", action="store_true", help="from the results that are there, measure nothing")
    parser.add_argument("--no-write", action="store_true", help="print the table, change no file")
    arguments = parser.parse_args()
    if arguments.draw:
        write(json.loads((contest.RESULTS / "scale.json").read_text()))
        return
    rounds = [{way: measured(way, arguments.batches, arguments.seconds) for way in WAYS}
              for _ in range(arguments.rounds)]
    result = summary(rounds)
    print(table(result))
    if not arguments.no_write:
        contest.save("scale", result)
        write(json.loads((contest.RESULTS / "scale.json").read_text()))


if __name__ == "__main__":
    main()
