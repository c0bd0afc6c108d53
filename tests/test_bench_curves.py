"""bench.growth and bench.elbo: rows by their fields, the first epoch at a target, figures from results. Share: 2 s."""
import pytest

from bench import elbo, growth, problem, scale


def test_a_row_is_a_name_or_the_fields_that_differ_from_small():
    assert problem.row("large") == problem.ROWS["large"]
    made = problem.row("D=20,K=10,S=4,width=64,estimator=rloo")
    assert made == problem.Problem("mnist", 20, 10, 100, "rloo", 0, 4, 64)
    assert made.hidden == (64, 32) and made.label == "mnist D=20 K=10 B=100 S=4 H=64"
    assert problem.ROWS["small"].hidden == (512, 256) and problem.ROWS["digits"].hidden == (128, 64)
    with pytest.raises(KeyError):
        problem.row("enormous")


def test_every_point_of_a_curve_is_a_row_with_its_value():
    for curve, (field, values, _, _) in growth.CURVES.items():
        assert [getattr(problem.row(growth.at(curve, v)), field) for v in values] == list(values)
    assert {problem.row(growth.at("codes", v)).estimator for v in (1, 4)} == {"exact"}


def test_a_target_is_reached_by_the_first_epoch_at_or_below_it():
    curve = [[1.0, 150.0], [2.0, 135.0], [3.0, 131.0], [4.0, 136.0]]
    assert elbo.reached(curve, 135) == {"seconds": 2.0, "epochs": 2}
    assert elbo.reached(curve, 130) is None and elbo.reached(curve, 140) == {"seconds": 2.0, "epochs": 2}


def test_figures_are_drawn_from_what_results_hold(tmp_path):
    medians = {"median": {"npdvae": 1.0, "torch": 2.5}}
    growth.draw({"rows": {"B": {"10": medians, "100": medians}, "codes": {"2": medians}}}, tmp_path / "growth.png")
    elbo.draw({"rows": {"small": {label: {"curve": [[1.0, 150.0], [2.0, 135.0]]} for label in elbo.CONTESTANTS}}},
              tmp_path / "elbo.png")
    assert all((tmp_path / name).stat().st_size > 5000 for name in ("growth.png", "elbo.png"))


def test_scaling_is_summed_up_and_written_between_its_marks(tmp_path):
    def round_of(factor):
        return {way: {"steps": {"100": ms * factor, "1000": 10 * ms * factor}, "sums": {"window": 0.2 * factor}}
                for way, ms in zip(scale.WAYS, (8, 10, 5, 4))}

    result = scale.summary([round_of(f) for f in (1, 3, 2)])
    row = result["rows"]["1000"]
    assert row["ms"] == {"alone": 160, "1 rank": 200, "2 ranks": 100, "2 threads, whole batches": 80}
    assert row["speedup"] == 1.6 and abs(row["overhead"] - 0.25) < 1e-12 and row["threads"] == 0.8
    assert result["sums"] == {"window": 0.4}
    (tmp_path / "scale.md").write_text(f"before\n{scale.BEGIN}\nold\n{scale.END}\nafter\n")
    scale.write(result, tmp_path)
    text = (tmp_path / "scale.md").read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| 100 | 16 | 20 | 10 | 8 | 0.80 | 0.80 |" in text and "window 0.40 ms" in text
    assert "(10GbE 30 us and 1.1 GB/s, 25GbE 15 us and 2.8 GB/s, 100G InfiniBand 2 us and 11 GB/s)" in text
    assert (tmp_path / "scale.png").stat().st_size > 5000


def test_the_guide_speaks_of_the_figure_of_scaling_only_where_it_is():
    page = (scale.ROOT / "docs" / "scale.md").read_text()
    before, after = page.split(scale.BEGIN)[0], page.split(scale.END)[1]
    assert "scale.png" not in before + after and "n the left" not in before + after
    assert ("(scale.png)" in page) == (scale.ROOT / "docs" / "scale.png").exists()


def test_the_model_of_a_network_is_latency_and_bandwidth():
    assert scale.exchange(1, 30e-6, 1e9) == 0
    assert abs(scale.exchange(1024, 30e-6, 1e9) - (20 * 30e-6 + 2 * 1023 / 1024 * 4.8e6 / 1e9)) < 1e-15
    assert abs(scale.efficiency(37e-3, 1024, *scale.NETWORKS["10GbE"]) - 0.80) < 5e-3     # 1,000 images a process
