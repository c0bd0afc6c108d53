"""The leaderboard: its grid, the choice of a rate, what is run and when, tables from given results. Share: 3 s."""
import json
import pathlib
import tomllib

import pytest

from bench.leaderboard import campaign, figures, grid, page
from bench.leaderboard.results import Results, entry, judged, thinned
from npdvae import estimators, latents, metrics
from npdvae.sweep import tasks

FOUND = grid.read()
TINY = grid.Task("tiny", "tiny", dict(data="digits", latents=2, categories=2, epochs=2, hidden=[8], batch_size=500,
                                      backend="numpy"), rates=[1e-3, 3e-3], seeds=[3, 5], pilot=1)
ROWS = [grid.Row("rloo", {"estimator": "rloo"}), grid.Row("gaussian", {"latent": "gaussian"})]


@pytest.fixture
def here(monkeypatch):
    """The names of the tasks that were started."""
    started = []

    def work(folder, threads):
        started.append(folder.name)
        return real(folder, threads)
    real = tasks.work
    monkeypatch.setattr(tasks, "work", work)
    return started


def train(folder, here, stop=None):
    """A whole campaign; with `stop` it dies after so many results."""
    def say(text):
        nonlocal stop
        stop = None if stop is None else stop - 1
        if stop == 0:
            raise KeyboardInterrupt
    results = Results(TINY, folder)
    while runs := campaign.wave(TINY, ROWS, results):
        assert campaign.work(runs, results, folder / "out", 1, say=say) == len(runs)
    return Results(TINY, folder)


def test_every_estimator_and_latent_has_a_row():
    table = tomllib.loads(grid.FILE.read_text())["rows"]
    assert {row.get("estimator") for row in table.values()} >= set(estimators.names())
    assert {row.get("latent", "categorical") for row in table.values()} == set(latents.names())
    assert all(FOUND.rows[name].bits for name, row in table.items()
               if "estimator" in row and estimators.get(row["estimator"]).binary)


def test_a_run_is_named_by_all_its_settings():
    task, runs = FOUND.tasks["digits"], []
    for name in ("rloo, 4", "rloo, 4, bits", "gaussian", "reinforce, constant"):
        runs += [grid.Run(task, FOUND.rows[name], lr, seed, pilot) for lr in task.rates for seed in (0, 1)
                 for pilot in (True, False)]
    assert len({run.digest for run in runs}) == len({run.folder for run in runs}) == len(runs) == 48
    bits, gaussian, constant = (runs[12 * i + 1].config() for i in (1, 2, 3))
    assert (bits.latents, bits.categories, bits.estimator) == (12, 2, "rloo")
    assert (gaussian.latents, gaussian.categories, gaussian.estimator) == (4, None, None)
    assert constant.baseline_value == 20 and constant.validation == 0 and constant.epochs == task.settings["epochs"]
    pilot = runs[0].config()
    assert pilot.validation == grid.HELD and pilot.epochs == task.pilot


def test_a_wrong_row_or_setting_is_named(tmp_path):
    text = grid.FILE.read_text()
    for old, new, said in (('"rloo, 2" = { estimator = "rloo"', '"rloo, 2" = { estimator = "rlo"', "rloo, 2"),
                           ('models = ["rloo, 4"', 'models = ["rlo"', "rlo"),
                           ("latents = 20", "latent = 20", "latent")):
        assert old in text
        (tmp_path / "x.toml").write_text(text.replace(old, new))
        with pytest.raises(ValueError, match=said):
            grid.read(tmp_path / "x.toml")


def test_the_rate_is_the_one_whose_pilot_ended_lowest_and_divergence_never_wins(tmp_path):
    task, row = FOUND.tasks["digits"], FOUND.rows["rloo, 4"]
    results = Results(task, tmp_path)
    for run, found in zip(campaign.pilots(task, row), ({"validation": 21.0}, {"validation": 20.5}, {"diverged": "x"})):
        assert campaign.rate(task, row, results) is None and campaign.finals(task, row, results) == []
        results.add(run, found)
    assert campaign.rate(task, row, Results(task, tmp_path)) == task.rates[1]
    assert [run.seed for run in campaign.finals(task, row, results, seeds=2)] == [0, 1]
    for run in campaign.pilots(task, row):
        results.add(run, {"diverged": "x"})
    assert campaign.rate(task, row, results) is None and campaign.diverged(task, row, results)
    assert campaign.wave(task, [row], results) == []


def test_waves_are_pilots_of_all_rows_then_seed_by_seed(tmp_path):
    results, waves = Results(TINY, tmp_path), []
    while runs := campaign.wave(TINY, ROWS, results):
        waves.append([(run.row.name, run.lr, run.seed, run.pilot) for run in runs])
        for run in runs:
            results.add(run, {"validation": run.lr} if run.pilot else {"test": [1.0]})
    assert waves[0] == [(row.name, lr, 3, True) for row in ROWS for lr in TINY.rates]
    assert waves[1:] == [[(row.name, 1e-3, seed, False) for row in ROWS] for seed in TINY.seeds]


def test_a_campaign_that_was_cut_off_goes_on_and_ends_in_the_same_results(tmp_path, here):
    whole = train(tmp_path / "a", here)
    assert len(here) == 8 and not list((tmp_path / "a" / "out").glob("*/metrics.jsonl"))    # entered, then removed
    for stop in (2, 5):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "b", here, stop)
    again = train(tmp_path / "b", here)
    assert len(here) == 16                                          # none was run twice

    def reached(results):
        return {section: {key: {k: v for k, v in found.items() if k != "ms"} for key, found in entries.items()}
                for section, entries in results.found.items()}
    assert reached(whole) == reached(again) and len(whole.found["pilots"]) == len(whole.found["runs"]) == 4


def test_a_run_that_was_told_to_stop_stops_the_campaign_and_is_not_entered(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "work", lambda folder, threads: 143)
    results = Results(TINY, tmp_path)
    with pytest.raises(KeyboardInterrupt, match="15"):
        campaign.work(campaign.wave(TINY, ROWS, results), results, tmp_path / "out", 1)
    assert results.found["pilots"] == {}


def test_divergence_is_a_result_and_another_failure_is_none(tmp_path, monkeypatch):
    def fail(folder, threads):
        print("no space left" if "gaussian" in folder.name else "training diverged at step 7")
        (folder / tasks.FAILED).write_text("exit code 1")
        return 1
    monkeypatch.setattr(tasks, "work", fail)
    results, said = Results(TINY, tmp_path), []
    runs = campaign.wave(TINY, ROWS, results)
    assert campaign.work(runs, results, tmp_path / "out", 1, say=said.append) == 2
    entries = [results.get(run) for run in runs]                    # two of each row
    assert entries[2:] == [None, None] and {e["diverged"] for e in entries[:2]} == {"training diverged at step 7"}
    assert "gaussian" in said[-1] and "no space left" in said[-1]


def test_other_settings_are_another_run(tmp_path):
    results, run = Results(TINY, tmp_path), grid.Run(TINY, ROWS[0], 1e-3, 3)
    results.add(run, {"test": [1.0]})
    longer = run._replace(task=TINY._replace(settings={**TINY.settings, "epochs": 3}))
    assert results.get(run) and Results(TINY, tmp_path).get(run) and results.get(longer) is None


def test_an_entry_is_thinned_and_its_pace_is_of_the_middle_epoch(tmp_path):
    with open(tmp_path / metrics.NAME, "w") as f:
        for epoch in range(1, 41):
            line = {"epoch": epoch, "step": 10 * epoch, "seconds_per_step": 1.0 if epoch == 1 else 0.002,
                    **metrics.named("train", epoch, 1), **metrics.named("test", 2 * epoch, 3),
                    **metrics.named("validation", 100 - epoch, 0)}
            f.write(json.dumps(line) + "\n")
    found = entry(tmp_path, pilot=False)
    assert found == {"test": [2 * e + 3 for e in thinned(40)], "train": 41, "kl": 3, "steps": 400, "ms": 2}
    assert entry(tmp_path, pilot=True) == {"validation": 62, "ms": 2}       # mean of the last five
    path = tmp_path / metrics.NAME
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:4]))
    assert entry(tmp_path, pilot=True)["validation"] == 96          # of four the last alone
    assert [judged(epochs) for epochs in (1, 4, 8, 19, 20, 60)] == [1, 1, 2, 4, 5, 5]
    assert [thinned(n)[0] for n in (1, 20, 150)] == [1] * 3 and [thinned(n)[-1] for n in (1, 20, 150)] == [1, 20, 150]


def made(folder):
    """Results of two rows of the digits, a third with one seed that diverged."""
    task = FOUND.tasks["digits"]
    results = Results(task, folder)
    for name, best in (("exact", 18.0), ("rloo, 4", 18.5), ("gaussian", 17.5)):
        for run in campaign.pilots(task, FOUND.rows[name]):
            results.add(run, {"validation": best + abs(run.lr - task.rates[name != "gaussian"]),
                              "ms": 4.0 if run.lr == task.rates[0] else 1.5 if name == "rloo, 4" else 3.0})
        for run in campaign.finals(task, FOUND.rows[name], results, 5 if name == "exact" else 2):
            curve = [best + run.seed + 5 / e for e in thinned(task.settings["epochs"])]
            results.add(run, {"test": curve, "train": best, "kl": 8.0, "steps": 3000, "ms": 2.5})
    results.put("gradients", "rloo, 4", {"bias": 0.01, "low": 0.0, "high": 0.02, "deviation": 2.1, "draws": 64,
                                         "unbiased": True})
    return task


def test_a_table_has_each_row_that_was_run_and_says_what_is_missing(tmp_path):
    lines, summaries = page.section(FOUND, made(tmp_path), tmp_path)
    text = "\n".join(lines)
    assert "| exact | 0.003 | 81.9 | 2.5 | 5 | 20.08 ± 1.58 | 18.00 ± 0.00 |  |  |" in lines       # 18 + 2 + 5 / 60
    assert "| rloo, 4 | 0.003 | 4 | 1.5 | 2 | 19.08 ± 0.71 | 18.50 ± 0.00 | 0 | 2.1 |" in lines
    assert any(line.startswith("| gaussian | 0.001* | 1 |") for line in lines)      # no smaller rate was tried
    assert lines.index("Estimators, categorical latent:") < lines.index("Other latents:")
    assert "Seeds so far, of 5: 2 (rloo, 4; gaussian), 5 (exact)." in lines and "Not run yet: reinforce, none; " in text
    tables = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in tables}) == 1 and len(summaries) == 3


def test_figures_are_drawn_and_the_page_filled_between_its_marks(tmp_path):
    made(tmp_path)
    (tmp_path / "leaderboard.md").write_text((page.DOCS / "leaderboard.md").read_text())
    page.write(FOUND, tmp_path, tmp_path)
    first = (tmp_path / "leaderboard.md").read_text()
    assert "20.08 ± 1.58" in first and "--only mnist_4x8" in first
    assert (tmp_path / "leaderboard_digits.png").stat().st_size > 10_000
    page.write(FOUND, tmp_path, tmp_path)
    assert (tmp_path / "leaderboard.md").read_text() == first


def test_the_committed_page_is_what_the_results_give(tmp_path):
    text = (page.DOCS / "leaderboard.md").read_text()
    for task in FOUND.tasks.values():
        lines, summaries = page.section(FOUND, task)
        assert "\n".join(lines) in text
        assert not summaries or pathlib.Path(page.DOCS / f"leaderboard_{task.name}.png").exists()
        assert figures.thinned(task.settings["epochs"])[-1] == task.settings["epochs"]


def test_seeds_so_far_name_the_rows_that_differ_from_most():
    assert page.by_count({"a": 3, "b": 1, "c": 3, "d": 3, "e": 3}) == "1 (b), 3 (the others)"
    assert page.by_count({"a": 1, "b": 1, "c": 1, "d": 1}) == "1 (each)"
    assert page.by_count({"a": 2, "b": 1}) == "1 (b), 2 (a)"


def test_milliseconds_have_two_digits_and_no_exponent():
    assert [page.two_digits(ms) for ms in (0.512, 4.46, 10.2, 132.4)] == ["0.51", "4.5", "10", "130"]
