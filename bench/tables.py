"""python -m bench.tables: redraw the tables of docs/performance.md from bench/results."""
import json

from bench.contest import RESULTS

PAGE = RESULTS.parent.parent / "docs" / "performance.md"
SIZES = {"small": "4 x 8", "medium": "20 x 10"}
MAKES = ("npdvae", "torch", "torch.compile", "vector-quantize")


def cells(entry):
    """Milliseconds, the ratio to the fused reference, and PyTorch's milliseconds over ours."""
    if entry is None:
        return ["", "", ""]
    peers = ", ".join(f"{r['median']:.2f}" for r in entry["to_peer"].values())
    return [f"{entry['median']['npdvae']:.3g}", f"{entry['to_reference']['median']:.2f}", peers]


def estimators(result):
    """A line for each estimator: at either size its evaluations, time and ratios."""
    rows = result["rows"]
    head = "".join(f" {size}: evaluations | ms | of the reference | PyTorch / npdvae |" for size in SIZES.values())
    lines = [f"| estimator | reference |{head}", "|---|---|" + "---|" * (4 * len(SIZES))]
    for name in sorted(set().union(*rows.values())):
        entries = [rows.get(row, {}).get(name) for row in SIZES]
        found = [c for e in entries for c in ([str(e["evaluations"])] if e else [""]) + cells(e)]
        lines.append(f"| {name} | {next(e for e in entries if e)['reference']} | " + " | ".join(found) + " |")
    return lines


def latent_steps(result):
    """A line for each latent and size: milliseconds of each make."""
    lines = [f"| latent | {' | '.join(MAKES)} | best peer / npdvae |", "|---|" + "---|" * (len(MAKES) + 1)]
    for row, size in SIZES.items():
        for name, e in result["rows"].get(row, {}).items():
            times = [f"{e['median'][make]:.3g}" if make in e["median"] else "" for make in MAKES]
            lines.append(f"| {name} {size} | {' | '.join(times)} | {e['best_ratio']:.2f} |")
    return lines


def busy(result):
    """A line for each problem: how much slower than when quiet beside busy processes, ours and each peer's."""
    rows = result["rows"].values()
    counts = sorted({n for row in rows for n in row["busy"]}, key=int)
    heads = [f"beside {n}: npdvae | peers" for n in counts]
    lines = [f"| step | {' | '.join(heads)} |", "|---|" + "---|---|" * len(counts)]
    for row in rows:
        cells = []
        for n in counts:
            slower = dict(row["busy"][n]["slowdown"])
            own = slower.pop("npdvae")
            cells += [f"{own:.2f}", ", ".join(f"{name} {x:.2f}" for name, x in slower.items())]
        lines.append(f"| {row['label']} | {' | '.join(cells)} |")
    return lines


def first_run(result):
    """A line for each command: seconds with nothing compiled and with everything."""
    lines = ["| `python -m npdvae.train` | nothing compiled: seconds, of processors | everything compiled |",
             "|---|---|---|"]
    for words, e in result["commands"].items():
        cells = [f"{e[kind]['seconds']:.1f}, {e[kind]['processor']:.1f}" for kind in ("cold", "warm")]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return lines


def bfloat16(result):
    """A line for each problem: milliseconds of each contestant, and our gain over float32 and over the best peer."""
    names = list(next(iter(result["rows"].values()))["median"])
    lines = [f"| ms/step | {' | '.join(names)} | float32 / bfloat16 | best peer / npdvae.bfloat16 |",
             "|---|" + "---|" * (len(names) + 2)]
    for e in result["rows"].values():
        times = [f"{e['median'][name]:.3g}" for name in names]
        lines.append(f"| {e['label']} | {' | '.join(times)} | {e['gain']:.2f} | {e['best_ratio']:.2f} |")
    return lines


TABLES = {"estimators": estimators, "latent_steps": latent_steps, "step": busy, "first_run": first_run,
          "bfloat16": bfloat16}


def text(name, draw):
    """The table of a result with the machine it was taken on."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return f"Not measured yet: `python -m bench.{name}`."
    result = json.loads(path.read_text())
    m = result["machine"]
    torch = f"; torch {m['torch']}" if m["torch"] else ""
    cores, kind = result.get("threads", m["cores"]), "AVX-512" if m["avx512"] else "AVX2"
    where = f"{cores} {'core' if cores == 1 else 'cores'} ({m['processor']}, {kind}{torch})"
    return "\n".join([*draw(result), "", f"Medians of rounds, {'' if name == 'bfloat16' else 'float32, '}{where}."])


def main():
    page = PAGE.read_text()
    for name, draw in TABLES.items():
        begin, end = f"<!-- {name}: python -m bench.tables -->", f"<!-- end of {name} -->"
        head, rest = page.split(begin)
        page = f"{head}{begin}\n{text(name, draw)}\n{end}{rest.split(end)[1]}"
    PAGE.write_text(page)
    print("wrote the tables of docs/performance.md")


if __name__ == "__main__":
    main()
