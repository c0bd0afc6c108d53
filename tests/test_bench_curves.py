"""bench.growth and bench.elbo: rows by their fields, the first epoch at a target, figures from results. Share: 2 s."""
import pytest

from bench import elbo, growth, problem


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
