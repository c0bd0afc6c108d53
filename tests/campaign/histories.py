"""metrics.jsonl, bytes altered: good lines stay, damage is named, nothing is lost."""
from __future__ import annotations

import random

from npdvae import metrics
from tests import hostile
from tests.campaign.base import Tally, mutate


def one(run, good, spoilt) -> str | None:
    """What is wrong with how an altered history is read and mended."""
    path = run / "metrics.jsonl"
    path.write_bytes(spoilt)
    for old in run.glob("*.damaged-*"):
        old.unlink()
    said: list[str] = []
    untouched = [text for text in good.splitlines() if text in spoilt.split(b"\n")]
    metrics.cut(run, 2 ** 40, 0, said.append)
    after = metrics.history(run)
    if after.faults:
        return f"still damaged after mending: {after.faults}"
    copies = [p.read_bytes() for p in run.glob("*.damaged-*")]
    steps = {line["step"] for line in after.lines}
    lost = [text for text in untouched if metrics.parse(text, -1)[0]["step"] not in steps]
    if lost and spoilt not in copies:
        return f"{len(lost)} good lines lost"
    if len(after.lines) < len(spoilt.rstrip(b"\n").split(b"\n")) and not said:
        return "lines dropped without a word"
    return None


def attacks(place, share, seed):
    """1,000 files, by their share."""
    tally = Tally("metrics.jsonl, bytes altered: read, mended, compared")
    good = "".join(hostile.line(n, 3 * n) + "\n" for n in range(1, 8)).encode()
    for case in range(max(20, round(1_000 * share))):
        spoilt = mutate(random.Random(f"{seed} history {case}"), good)
        try:
            fault = one(place, good, spoilt)
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
        tally.add(f"--only histories --seed {seed}, case {case}", fault)
    yield tally
