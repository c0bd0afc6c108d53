"""docs/leaderboard.md and its figures, from the results that are there."""
from __future__ import annotations

import statistics

from bench import contest
from bench.leaderboard import campaign, figures, grid
from bench.leaderboard.results import Results
from npdvae import estimators, metrics, plots

DOCS = contest.RESULTS.parent.parent / "docs"
HEAD = ("row", "rate", "evals", "ms", "seeds", "test", "train", "bias", "deviation")


def mean(values):
    """Mean, and standard deviation of several."""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def summary(task, row, results):
    """What is known of a row of a task, or None before any seed is through."""
    runs = [(run, results.get(run)) for run in campaign.finals(task, row, results)]
    ended = [(run, found) for run, found in runs if found]
    done = [(run, found) for run, found in ended if "test" in found]
    if not done:
        return None
    found = [f for _, f in done]
    return {"row": row, "lr": done[0][0].lr, "evaluations": grid.evaluations(done[0][0]),
            "curves": [f["test"] for f in found], "test": [f["test"][-1] for f in found],
            "train": [f["train"] for f in found], "ms": pace(task, row, results),
            "diverged": len(ended) - len(done), "steps": found[0]["steps"], "unbiased": unbiased(row),
            "gradient": results.found["gradients"].get(row.name)}


def pace(task, row, results):
    """Milliseconds a step of the run least held up by what ran beside it."""
    found = [results.get(run) for run in (*campaign.pilots(task, row), *campaign.finals(task, row, results))]
    return min(f["ms"] for f in found if f and "ms" in f)


def unbiased(row):
    """Whether a row's estimator claims it; None where the latent has none."""
    if row.latent != "categorical":
        return None
    options = {k: v for k, v in row.settings.items() if k != "estimator"}
    return estimators.get(row.settings["estimator"], **options).unbiased


def bias(gradient):
    """A cell: nothing where it is rounding, an interval where it was estimated from draws."""
    if gradient is None:
        return ""
    if gradient["unbiased"]:
        return "0"
    if not gradient["draws"]:
        return f"{gradient['bias']:.2g}"
    return f"{gradient['low']:.2g} to {gradient['high']:.2g}"


def two_digits(ms):
    """130 and not 1.3e+02."""
    return f"{float(f'{ms:.2g}'):g}"


def line(s, task):
    """A row of the table."""
    edge = "" if task.rates[0] < s["lr"] < task.rates[-1] else "*"
    deviation = f"{s['gradient']['deviation']:.2g}" if s["gradient"] else ""
    seeds = f"{len(s['test'])} of {len(s['test']) + s['diverged']}" if s["diverged"] else len(s["test"])
    cells = (s["row"].name, f"{s['lr']:g}{edge}", f"{s['evaluations']:.3g}", two_digits(s["ms"]), seeds,
             mean(s["test"]), mean(s["train"]), bias(s["gradient"]), deviation)
    return f"| {' | '.join(map(str, cells))} |"


def table(task, found):
    """Markdown, the best first."""
    found = sorted(found, key=lambda s: statistics.mean(s["test"]))
    return [f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD), *(line(s, task) for s in found)]


def missing(task, rows, results, seeds):
    """In words: rows without any run, those with fewer seeds than the task asks for, those that diverged."""
    counts = {row.name: sum(results.get(run) is not None for run in campaign.finals(task, row, results))
              for row in rows if row.name not in task.without}
    lost = [name for name in counts if campaign.diverged(task, grid_row(rows, name), results)]
    none = [name for name, n in counts.items() if not n and name not in lost]
    some = {name: n for name, n in counts.items() if n}
    said = [f"Not run yet: {'; '.join(none)}." if none else "",
            f"Seeds so far, of {seeds}: {by_count(some)}." if min(some.values(), default=seeds) < seeds else "",
            f"Diverged at every rate, or with every seed: {'; '.join(lost)}." if lost else "",
            *(f"Left out: {name} ({why})." for name, why in task.without.items())]
    return [text for text in said if text]


def by_count(counts):
    """Names by their number; of many that have the same, in two words."""
    groups = {n: [name for name in counts if counts[name] == n] for n in sorted(set(counts.values()))}
    most = max(groups, key=lambda n: len(groups[n]))
    said = [f"{n} ({'; '.join(names)})" for n, names in groups.items() if n != most or len(names) <= 3]
    return ", ".join(said if len(said) == len(groups) else [*said, f"{most} ({'the others' if said else 'each'})"])


def grid_row(rows, name):
    """The row of a name."""
    return next(row for row in rows if row.name == name)


def section(found, task, folder=contest.RESULTS):
    """Figure, tables and what is missing of one task, as lines; summaries for the figures."""
    results = Results(task, folder)
    rows = list(found.rows.values())
    summaries = [s for row in rows if (s := summary(task, row, results))]
    if not summaries:
        return [f"Not run yet: `python -m bench.leaderboard --only {task.name}`."], []
    m = results.machine
    parts = ["One thread, " + f"{m['processor']}, {'AVX-512' if m['avx512'] else 'AVX2'}."]
    parts += ["", f"![{task.title}: curves](leaderboard_{task.name}.png)", "",
              f"![{task.title}: where each row ends](leaderboard_{task.name}_ends.png)"]
    kinds = (("Estimators, categorical latent", lambda s: s["row"].latent == "categorical"),
             ("Other latents", lambda s: s["row"].latent != "categorical"))
    for title, belongs in kinds:
        if chosen := [s for s in summaries if belongs(s)]:
            parts += ["", f"{title}:", "", *table(task, chosen)]
    return [*parts, "", *missing(task, rows, results, len(task.seeds))], summaries


def write(found, docs=DOCS, folder=contest.RESULTS):
    """Fill the page between its marks, and draw."""
    path = docs / "leaderboard.md"
    text = path.read_text()
    for task in found.tasks.values():
        lines, summaries = section(found, task, folder)
        begin, end = f"<!-- {task.name}: python -m bench.leaderboard --draw -->", f"<!-- end of {task.name} -->"
        head, rest = text.split(begin)
        text = "\n".join([head + begin, *lines, end]) + rest.split(end)[1]
        if summaries:
            plots.save(figures.curves(task, summaries, found.curves), docs / f"leaderboard_{task.name}.png")
            plots.save(figures.ends(task, summaries), docs / f"leaderboard_{task.name}_ends.png")
    metrics.write_text(path, text)
    print(f"wrote {path} and its figures")
