"""bench/results/leaderboard_TASK.json: what each run reached, written whole after every run; a line an entry."""
from __future__ import annotations

import json
import pathlib
import statistics

from bench import contest
from npdvae import metrics

SECTIONS = ("pilots", "runs", "gradients")
LAST = 5                                        # epochs whose mean judges a pilot, but at most a quarter of its own
POINTS = 24                                     # of a curve


def thinned(epochs: int) -> list[int]:
    """Epochs of a curve's points: all at first, then by equal factors, the last one always."""
    return sorted({round(epochs ** (i / (POINTS - 1))) for i in range(POINTS)})


def judged(epochs: int) -> int:
    """How many of the last epochs judge a pilot by their mean: the first ones fall too fast to be among them."""
    return max(1, min(LAST, epochs // 4))


def entry(folder: pathlib.Path, pilot: bool):
    """What a run that is done leaves: nats per image, and milliseconds a step in its middle epoch."""
    lines = metrics.read(folder)
    ms = round(1e3 * statistics.median(line["seconds_per_step"] for line in lines), 3)
    if pilot:
        ends = [e.negative_elbo for e in metrics.curve(lines, "validation")[-judged(len(lines)):]]
        return {"validation": round(statistics.mean(ends), 3), "ms": ms}
    test = {line["epoch"]: metrics.elbo(line, "test") for line in lines}
    end = metrics.elbo(lines[-1], "train").negative_elbo
    return {"test": [round(test[e].negative_elbo, 2) for e in thinned(len(lines))], "train": round(end, 3),
            "kl": round(test[len(lines)].kl, 3), "steps": lines[-1]["step"], "ms": ms}


class Results:
    """The results of one task."""

    def __init__(self, task, folder=contest.RESULTS):
        self.path = pathlib.Path(folder) / f"leaderboard_{task.name}.json"
        held = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.found = {name: held.get(name, {}) for name in SECTIONS}
        self.machine = held.get("machine", {})

    def get(self, run):
        """A run's entry, or None where there is none of these settings."""
        found = self.found["pilots" if run.pilot else "runs"].get(run.key)
        return found if found and found["of"] == run.digest else None

    def add(self, run, found):
        """Enter a run, on disk before this returns."""
        self.put("pilots" if run.pilot else "runs", run.key, {"of": run.digest, **found})

    def put(self, section, key, found):
        """The same for any section."""
        self.found[section][key] = found
        self.machine = contest.machine()
        self.write()

    def write(self):
        """Replace the file in one step."""
        parts = [f'"machine": {json.dumps(self.machine)}']
        for name, entries in self.found.items():
            lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items())
            parts.append(f'"{name}": {{\n{lines}\n}}')
        metrics.write_text(self.path, "{" + ",\n".join(parts) + "}\n")
