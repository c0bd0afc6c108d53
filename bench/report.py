"""python -m bench.report: redraw the README's table and docs/benchmark.png from bench/results/*.json."""
import json
import pathlib

from bench.contest import RESULTS

ROOT = RESULTS.parent.parent
BEGIN, END = "<!-- benchmark: python -m bench.report -->", "<!-- end of benchmark -->"
NAMES = ("torch", "torch.compile", "jax.jit", "jax.scan", "npdvae")


def load(name):
    """One result, or None where it was not run."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def table(result):
    """Markdown of one result with rows: medians, and our ratio to the best peer."""
    unit = result["unit"]
    lines = [f"| {unit} | " + " | ".join(NAMES) + " | best peer / npdvae | beside a busy core |",
             "|---|" + "---|" * (len(NAMES) + 2)]
    for row in result["rows"].values():
        times = " | ".join(f"{row['median'][n]:.3g}" if n in row["median"] else "" for n in NAMES)
        spread = row["ratio"][row["best_peer"]]
        busy = f"{row['busy']['1']['best_ratio']:.2f}" if "1" in row.get("busy", {}) else ""
        lines.append(f"| {row['label']} | {times} | **{row['best_ratio']:.2f}** "
                     f"({spread['low']:.2f} to {spread['high']:.2f}) | {busy} |")
    return "\n".join(lines)


def trained(epochs):
    """Milliseconds a step of each epoch, by contestant."""
    return "; ".join(f"{name} {', '.join(f'{ms:.0f}' for ms in times)} ms" for name, times in epochs.items())


def bfloat16(result):
    """A line for each row: ours and the best peer's, all with products of bfloat16."""
    lines = []
    for row in result["rows"].values():
        name, ms = min((x for x in row["median"].items() if not x[0].startswith("npdvae")), key=lambda x: x[1])
        ours, name = row["median"]["npdvae.bfloat16"], name.removesuffix(".bfloat16")
        lines.append(f"{row['label']} {ours:.3g} ms, {name} {ms:.3g} ({row['best_ratio']:.2f} times)")
    return ("With products of bfloat16, `--matmul-precision bfloat16` beside torch's autocast\n"
            "([more](docs/performance.md#products-of-bfloat16)): " + ";\n".join(lines) + ".")


def elbo(result):
    """Seconds and epochs to each test negative ELBO, and the curves."""
    rows = result["rows"]["small"]
    targets = list(next(iter(rows.values()))["reached"])
    lines = ["| seconds (epochs) to | " + " | ".join(f"{t} nats" for t in targets) + " |",
             "|---" * (len(targets) + 1) + "|"]
    for label, entry in rows.items():
        cells = [f"{r['seconds']:.0f} ({r['epochs']})" if r else f"not in {len(entry['curve'])} epochs"
                 for r in entry["reached"].values()]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return ("Whole trainings on MNIST, D=4 K=8, to a test negative ELBO, start-up and an evaluation an epoch included\n"
            "(`python -m bench.elbo`):\n\n" + "\n".join(lines) +
            "\n\n![Test negative ELBO against seconds](docs/elbo.png)")


def text():
    """The README's section between its two marks."""
    parts = []
    for name, title in (("step", "One training step"), ("epoch", "One epoch with shuffling, binarization, evaluation")):
        if result := load(name):
            m = result["machine"]
            parts.append(f"{title}, float32, {m['cores']} cores ({m['processor']}"
                         f"{', AVX-512' if m['avx512'] else ', AVX2'}; torch {m['torch']}, jax {m['jax']}), medians\n"
                         f"of alternating rounds, quartiles of the ratio in brackets:\n\n{table(result)}")
    if result := load("exact"):
        times = ", ".join(f"{n} {ms:.0f} ms" for n, ms in result["median"].items())
        p, epochs = result["log_prob"], len(result["epochs"]["npdvae"])
        parts.append(f"Exact gradient at 8^4 codes, B = 100: {times} ({result['best_ratio']:.2f} times the best peer)."
                     f"\nA step over epoch{'s 1 to' if epochs > 1 else ''} {epochs}: {trained(result['epochs'])}."
                     f"\nExact log p(x) of {p['images']} images: {p['log_prob']:.2f} s, {p['times_product']:.2f} times "
                     "the one matrix product that it needs.")
    if result := load("memory"):
        parts.append("From process start to the end of the first MNIST step, and peak memory: " + "; ".join(
            f"{n} {x['first_step_s']:.2f} s, {x['peak_mb']:.0f} MB" for n, x in result["contestants"].items()) + ".")
    parts += [write(result) for name, write in (("bfloat16", bfloat16), ("elbo", elbo)) if (result := load(name))]
    return "\n\n".join(parts)


def draw(path):
    """Bars of the time of a step relative to ours."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    result = load("step")
    figure, axis = plt.subplots(figsize=(8, 3.2), layout="constrained")
    rows = list(result["rows"].values())
    for i, name in enumerate(n for n in NAMES if n in rows[0]["median"]):
        heights = [row["median"][name] / row["median"]["npdvae"] for row in rows]
        axis.bar([r + 0.16 * (i - 2) for r in range(len(rows))], heights, 0.15, label=name,
                 color="#d1495b" if name == "npdvae" else f"{0.35 + 0.12 * i}")
    axis.set_yscale("log")
    axis.set_xticks(range(len(rows)), [row["label"].replace(" ", "\n", 1) for row in rows], fontsize=8)
    axis.set_yticks([1, 2, 3, 5, 10], ["1", "2", "3", "5", "10"])
    axis.minorticks_off()
    axis.set_ylabel("time of a step / npdvae's")
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=120)


def main():
    (ROOT / "docs").mkdir(exist_ok=True)
    draw(ROOT / "docs" / "benchmark.png")
    readme = pathlib.Path(ROOT / "README.md")
    before = readme.read_text()
    if BEGIN not in before or END not in before:
        raise SystemExit(f"README.md lacks the marks {BEGIN} and {END}: nothing to fill in\n\n{text()}")
    head, tail = before.split(BEGIN)[0], before.split(END)[1]
    readme.write_text(f"{head}{BEGIN}\n{text()}\n{END}{tail}")
    print("wrote docs/benchmark.png and the README's table")


if __name__ == "__main__":
    main()
