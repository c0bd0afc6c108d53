"""python -m bench.estimators: milliseconds a step of every estimator, beside the fused one of as many evaluations.

All in turns: the estimator, rloo or straight_through (reinforce for one evaluation without gradients at the codes) with
as many samples, and the same estimator in PyTorch where bench.peers has it. Results are kept after each estimator.
"""
import argparse
import time

from bench import tables, tasks, turns
from npdvae import estimators

PEERS = ("straight_through_gumbel", "gumbel_softmax", "reinmax", "rebar", "disarm", "vimco")
ELSEWHERE = ("exact",)                          # bench.exact
OURS, REFERENCE = 5e-3, 1e-3                    # float32: differences of costs of 540 nats that differ by tenths
PEER = 1e-6                                     # float64


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.estimators", description=__doc__)
    parser.add_argument("--rows", nargs="+", default=list(tasks.ROWS), choices=list(tasks.ROWS))
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these alone; others keep their entries")
    parser.add_argument("--peers", nargs="*", default=["torch"], choices=["torch", "torch.compile"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.15, help="about how long one turn lasts")
    parser.add_argument("--resume", action="store_true", help="leave out what the results hold already")
    parser.add_argument("--no-check", action="store_true", help="time without comparing gradients first")
    arguments = parser.parse_args()
    names = [n for n in estimators.names() if n not in ELSEWHERE and n in (arguments.only or estimators.names())]
    results = turns.Results("estimators", "ms/step", fresh=not (arguments.resume or arguments.only))
    turns.all_of(arguments.rows, names, one, results, arguments)
    tables.main()


def one(row, name, servers, arguments):
    """Validate, time in turns, report."""
    began, task = time.perf_counter(), tasks.of_estimator(row, name)
    entrants = [turns.Entrant("npdvae", servers["npdvae"], task),
                turns.Entrant("reference", servers["npdvae"], tasks.reference(task))]
    entrants += [turns.Entrant(peer, servers[peer], task) for peer in arguments.peers if name in PEERS]
    bounds = {"npdvae": OURS, "reference": REFERENCE, **dict.fromkeys(arguments.peers, PEER)}
    errors, found = turns.measured(entrants, None if arguments.no_check else bounds, arguments)
    S = estimators.get(name).evaluations(task.D, task.K)
    entry = {"D": task.D, "K": task.K, "evaluations": S, "reference": entrants[1].task.estimator,
             "validation_error": errors, "rounds": found, "median": {n: turns.median(t) for n, t in found.items()},
             "to_reference": turns.ratio(found["npdvae"], found["reference"]),
             "to_peer": {p: turns.ratio(t, found["npdvae"]) for p, t in found.items() if p in arguments.peers}}
    peers = "".join(f", {p} {r['median']:.2f} times as long" for p, r in entry["to_peer"].items())
    print(f"{row:7}{name:26}{entry['median']['npdvae']:8.2f} ms  {entry['to_reference']['median']:5.2f} of "
          f"{entry['reference']} with {S}{peers}  [{time.perf_counter() - began:.1f} s]", flush=True)
    return entry


if __name__ == "__main__":
    main()
