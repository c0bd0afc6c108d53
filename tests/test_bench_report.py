"""What the README's section on speed says of results; a millisecond."""
from bench import report


def test_bfloat16_names_the_fastest_peer():
    row = {"label": "a row", "best_ratio": 2.0, "median": {"npdvae.bfloat16": 1.5, "npdvae": 0.5, "torch.bfloat16": 4.0,
                                                           "torch.compile.bfloat16": 3.0}}
    said = report.bfloat16({"rows": {"a": row, "b": {**row, "label": "other"}}})
    assert "a row 1.5 ms, torch.compile 3 (2.00 times);\nother 1.5 ms" in said


def test_targets_that_were_not_reached_are_said():
    reached = {"140": {"seconds": 48.6, "epochs": 32}, "135": None}
    said = report.elbo({"rows": {"small": {"ours": {"reached": reached, "curve": [[1, 200]] * 80}}}})
    assert "| seconds (epochs) to | 140 nats | 135 nats |\n|---|---|---|\n| ours | 49 (32) | not in 80 epochs |" in said
