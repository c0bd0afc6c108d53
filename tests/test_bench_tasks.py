"""What the benchmarks of all estimators compare, and the tables that they draw. Share: 1 s."""
import pytest

from bench import estimators as bench
from bench import tables, tasks
from npdvae import estimators


@pytest.mark.parametrize("name", [n for n in estimators.names() if n not in bench.ELSEWHERE])
@pytest.mark.parametrize("row", tasks.ROWS)
def test_the_reference_of_an_estimator_has_as_many_evaluations(row, name):
    task = tasks.of_estimator(row, name)
    own, reference = estimators.get(name), tasks.reference(task)
    other = estimators.get(reference.estimator, **dict(reference.options))
    assert own.evaluations(task.D, task.K) == other.evaluations(task.D, task.K)
    assert own.needs_dcodes == other.needs_dcodes and task.D * task.K == tasks.ROWS[row][0] * tasks.ROWS[row][1]


def test_tasks_pass_through_json():
    task = tasks.reference(tasks.of_estimator("small", "vimco"))
    assert tasks.made(*[list(v) if isinstance(v, tuple) else v for v in task]) == task


def test_tables_have_a_line_for_each_entry_and_a_cell_for_each_column():
    ratio = {"median": 1.26, "low": 1.2, "high": 1.3}
    entry = {"evaluations": 2, "reference": "rloo", "median": {"npdvae": 4.0}, "to_reference": ratio,
             "to_peer": {"torch": ratio}}
    head, rule, *lines = tables.estimators({"rows": {"small": {"disarm": entry}, "medium": {"vimco": entry}}})
    assert [line.split(" ")[1] for line in lines] == ["disarm", "vimco"] and "| 2 | 4 | 1.26 | 1.26 |" in lines[0]
    latent = {"median": {"npdvae": 3.0, "torch": 6.3}, "best_ratio": 2.1}
    drawn = [[head, rule, *lines], tables.latent_steps({"rows": {"small": {"vq": latent}}})]
    assert all(len({line.count("|") for line in table}) == 1 for table in drawn)
