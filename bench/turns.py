"""Contestants in turns for many tasks: a server process of each make, results kept after every task."""
from __future__ import annotations

import json
import statistics

from bench import contest


class Entrant:
    """One make on one task, with the commands of a `contest.Contestant`."""

    def __init__(self, name, server, task):
        self.name, self.server, self.task = name, server, task

    def ask(self, do, **words):
        return self.server.ask(json.dumps({"do": do, "task": list(self.task), **words}))


def held_against(entrants, bounds):
    """Largest error of each one's gradients, by name; ValueError above its bound."""
    errors = {e.name: e.ask("check") for e in entrants}
    for name, error in errors.items():
        if not error <= bounds[name]:
            raise ValueError(f"{name} computes something else: relative error {error:.1e}")
    return errors


def times(entrants, rounds, seconds):
    """Milliseconds a step in alternating rounds, turns of about so many seconds: {name: [rounds]}."""
    steps = {}
    for e in entrants:
        e.ask("run", steps=2)
        steps[e.name] = max(1, round(seconds * 1e3 / e.ask("run", steps=2)))
    found = {e.name: [] for e in entrants}
    for _ in range(rounds):
        for e in entrants:
            found[e.name].append(e.ask("run", steps=steps[e.name]))
    return found


def median(times):
    """Of the rounds."""
    return statistics.median(times)


def ratio(above, below):
    """Median of the rounds' ratios with quartiles."""
    each = [a / b for a, b in zip(above, below, strict=True)]
    low, middle, high = statistics.quantiles(each, n=4) if len(each) > 1 else each * 3
    return {"median": middle, "low": low, "high": high}


def measured(entrants, bounds, arguments):
    """Errors by `bounds`, none where they are None, and times by the rounds and seconds of a command's arguments."""
    for e in entrants:
        e.ask("open")
    errors = {} if bounds is None else held_against(entrants, bounds)
    found = times(entrants, arguments.rounds, arguments.seconds)
    for e in entrants:
        e.ask("close")
    return errors, found


def all_of(rows, names, one, results, arguments):
    """Add what `one(row, name, servers, arguments)` finds to the results, but for what they hold on --resume."""
    servers = {name: contest.Contestant(name, module="bench.server") for name in ["npdvae", *arguments.peers]}
    for row in rows:
        for name in names:
            if not (arguments.resume and results.has(row, name)):
                results.add(row, name, one(row, name, servers, arguments))
    for server in servers.values():
        server.close()


class Results:
    """bench/results/NAME.json, written whole after every entry; `fresh` drops what an earlier run has left."""

    def __init__(self, name, unit, fresh):
        self.name = name
        path = contest.RESULTS / f"{name}.json"
        held = {} if fresh or not path.exists() else json.loads(path.read_text())
        self.found = {"unit": unit, "rows": held.get("rows", {})}

    def has(self, row, name):
        return name in self.found["rows"].get(row, {})

    def add(self, row, name, entry):
        self.found["rows"].setdefault(row, {})[name] = entry
        contest.save(self.name, self.found, quiet=True)
