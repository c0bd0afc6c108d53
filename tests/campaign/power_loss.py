"""Every state in which a power loss may leave a disk during a save, as tests/test_checkpoint.py simulates them."""
from __future__ import annotations

import pytest

from npdvae import metrics
from tests import test_checkpoint as model
from tests.campaign.base import Tally, folder


def attacks(place, share, seed):
    """A checkpoint beside an older one, over one; and the settings, which are replaced the same way."""
    for fixed_name, what in ((False, "beside an older one"), (True, "in its place")):
        tally = Tally(f"states of a disk after a power loss: a checkpoint {what}")
        with pytest.MonkeyPatch.context() as patch:
            log, before = model.recorded(folder(place, f"a{fixed_name:d}"), patch, fixed_name)
        tally.tried, nothing, lost = model.judge(log, before)
        if nothing or lost:
            tally.failures.append(("--only power_loss", f"{nothing} with nothing to load, {lost} lost a saved one"))
        yield tally
    tally = Tally("states of a disk after a power loss: config.toml and metrics.jsonl replaced")
    run = folder(place, "settings")
    (run / "config.toml").write_text("old = 1\n")
    with pytest.MonkeyPatch.context() as patch:
        log = model.record(run, patch, lambda: metrics.write_text(run / "config.toml", "new = 2\n"))
    for saved, files in model.crash_states(log, {"config.toml": b"old = 1\n"}):
        there = files.get("config.toml")
        good = there == b"new = 2\n" or not saved and there == b"old = 1\n"
        tally.add("--only power_loss", None if good else f"config.toml is {there!a}, saved: {saved}")
    yield tally
