"""python -m tests.campaign: every attack, counted; failures with how to repeat them. About an hour on 2 quiet cores."""
from __future__ import annotations

import argparse
import importlib
import pathlib
import signal
import sys
import tempfile
import time

from tests.campaign.base import Tally

KINDS = ("checkpoints", "data_files", "histories", "command_lines", "power_loss", "faults", "kills", "ranks", "pairs",
         "surroundings", "cold", "long_run")
PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- python -m tests.campaign --write -->\n", "<!-- end of campaign -->\n"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    p.add_argument("--share", type=float, default=1.0, help="of every count (default: 1; the suite runs 0.004)")
    p.add_argument("--only", nargs="+", choices=KINDS, default=KINDS, metavar="KIND", help=", ".join(KINDS))
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--write", action="store_true",
                   help="put the table into docs/reliability.md; with --only: these kinds' rows, beside what is there")
    return p


def campaign(kinds, share=1.0, seed=0, say=print, keep=lambda found: None) -> list[tuple[Tally, float]]:
    """The tallies of all attacks, and the seconds that each took; `keep` is given those so far, after each kind."""
    found = []
    with tempfile.TemporaryDirectory(prefix="npdvae-campaign-") as place:
        for kind in kinds:
            folder = pathlib.Path(place) / kind
            folder.mkdir()
            began = time.perf_counter()
            for tally in importlib.import_module(f"tests.campaign.{kind}").attacks(folder, share, seed):
                found.append((tally, time.perf_counter() - began))
                began = time.perf_counter()
                say(f"{tally.name}: {tally.tried} tried, {len(tally.failures)} failed ({found[-1][1]:.0f} s)"
                    + (f"; {tally.note}" if tally.note else ""), flush=True)
                for repeat, fault in tally.failures[:20]:
                    say(f"  FAILED python -m tests.campaign {repeat}: {' '.join(fault.split())}", flush=True)
            keep(found)
    return found


def table(found, rows=None) -> str:
    """The tallies as a page shows them, in place of earlier rows {attack: line} of the same attacks."""
    rows = dict(rows or {})
    for t, _ in found:
        refused = f"{t.refused:,}" if t.refused else ""
        rows[t.name] = f"| {t.name} | {t.tried:,} | {refused} | {len(t.failures)} | {t.note} |"
    return "\n".join(["| attack | tried | refused | failed | |", "|---|---|---|---|---|", *rows.values()]) + "\n"


def rows_of(page: str) -> dict[str, str]:
    """The rows of a table: {attack: line}."""
    return {line[2:].split(" | ")[0]: line for line in page.splitlines()[3:] if line.startswith("| ")}


def main(argv=None) -> int:
    """Run the campaign; returns 1 where anything failed."""
    arguments = parser().parse_args(argv)
    signal.signal(signal.SIGINT, signal.default_int_handler)    # else ignored, by its children too, behind a shell's &
    head, _, rest = PAGE.read_text().partition(BEGIN)
    before, _, rest = rest.partition(END)
    kept = {} if set(arguments.only) == set(KINDS) else rows_of(before)

    def write(found):
        if arguments.write:
            PAGE.write_text(f"{head}{BEGIN}\n{table(found, kept)}\n{END}{rest}")

    found = campaign(arguments.only, arguments.share, arguments.seed, keep=write)
    failed = sum(len(t.failures) for t, _ in found)
    tried, seconds = sum(t.tried for t, _ in found), sum(s for _, s in found)
    print(f"\n{tried} tries, {failed} failed, {seconds:.0f} s\n\n{table(found)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
