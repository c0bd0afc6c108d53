"""npdvae.compare: its costs are the model's, its figures those of npdvae.verify, its files can be read. 13 s."""
import csv

import numpy as np
import pytest

from npdvae import backends, comparison, estimators, rng, train
from npdvae.compare import main
from npdvae.comparison_plots import bias, lines, spread
from npdvae.estimators.parts.outcomes import all_codes
from npdvae.estimators.rloo import RLOO
from npdvae.latents.categorical import Categorical
from npdvae.model import DiscreteVAE
from npdvae.verify import exact_gradient, moments

OPS = backends.load("numpy")
SMALL = ["--latents", "2", "--categories", "3", "--hidden", "8", "--images", "3", "--draws", "128"]


@pytest.fixture(scope="module")
def bench():
    model = DiscreteVAE(10, (7, 6), Categorical(2, 3, "exact", prior="learned"))
    params = model.init(rng.Generator(3, rng.INIT), np.float64)
    noise = np.random.default_rng(4)
    params["latent.prior"] = noise.normal(size=(2, 3))
    params = {k: 3 * v for k, v in params.items()}                  # far from the symmetric start
    x = noise.integers(0, 2, (40, 10)).astype(float)
    return comparison.Bench(model, params, x[:4], x[4:])


def test_model_cost_with_the_prior_adds_its_log_probability(bench):
    log_prior = bench.model.latent.prior.log_rows(bench.params)
    codes = all_codes(np, 2, 3)[:, None]                            # [9, 1, D]
    added = bench.joint(codes) - bench.cost(codes)                  # [9, B]
    expected = -(log_prior[0, codes[:, 0, 0]] + log_prior[1, codes[:, 0, 1]])
    assert np.abs(added - expected[:, None]).max() <= 1e-12
    assert abs(np.exp(-added[:, 0]).sum() - 1) <= 1e-12
    rows = np.eye(3)[np.broadcast_to(codes, (9, 4, 2))]
    assert np.abs(bench.joint(rows) - bench.joint(codes)).max() <= 1e-10
    assert np.abs(bench.joint.gradient(rows) - bench.joint.gradient(codes)).max() <= 1e-10


@pytest.mark.parametrize("name", ["straight_through", "reinmax", "reinforce_sampled_kl", "local_expectation"])
def test_enumerated_figures_are_those_of_the_moments(bench, name):
    estimator = estimators.get(name)
    result = comparison.compare(bench, name, estimator)
    state = comparison.fitted_state(bench, estimator, 0)
    cost = bench.cost_of(estimator)
    true = exact_gradient(bench.logits, cost, objective=estimator.objective)
    mean, covariance = moments(estimator, bench.logits, cost, cost.gradient, state=state)
    scale = np.linalg.norm(true)
    assert result.draws == 0
    assert abs(result.relative_bias - np.linalg.norm(mean - true) / scale) <= 1e-10
    assert abs(result.relative_deviation - np.sqrt(np.trace(covariance, axis1=1, axis2=2).sum()) / scale) <= 1e-10


def test_draws_agree_with_the_moments(bench):
    estimator = RLOO(samples=3)                                     # 729 outcomes, more than the 9 codes
    result = comparison.compare(bench, "rloo", estimator, draws=8192)
    true = exact_gradient(bench.logits, bench.cost)
    _, covariance = moments(estimator, bench.logits, bench.cost)
    deviation = np.sqrt(np.trace(covariance, axis1=1, axis2=2).sum()) / np.linalg.norm(true)
    assert result.draws == 8192 and result.relative_bias_low == 0
    assert abs(result.relative_deviation / deviation - 1) <= 0.05   # 1 / sqrt(2 * 8192) with room for heavy tails
    assert result.relative_bias_high <= 4 * deviation / np.sqrt(8192)
    assert abs(result.deviation_at_equal - result.relative_deviation * np.sqrt(3 / 100)) <= 1e-12


class HalfTooMuch(RLOO):
    name = "half_too_much"

    def backward(self, draw, cost, dcodes=None, state=None):
        return 1.5 * super().backward(draw, cost)


def test_draws_show_a_bias_with_its_interval(bench):
    result = comparison.compare(bench, "wrong", HalfTooMuch(samples=3), draws=8192)
    assert result.relative_bias_low < 0.5 < result.relative_bias_high
    assert result.relative_bias_high - result.relative_bias_low < 0.2


def test_unbiased_square_is_unbiased():
    noise = np.random.default_rng(0)
    x = noise.normal(size=(4000, 5, 3)) + [1.0, 0, 0]               # 4000 experiments of 5 draws
    estimates = [comparison.unbiased_square(e.sum(0), (e ** 2).sum(), 5) for e in x]
    assert abs(np.mean(estimates) - 1) <= 4 * np.std(estimates) / np.sqrt(4000)


def test_the_exact_estimator_is_exact(bench):
    result = comparison.compare(bench, "exact", estimators.get("exact"))
    assert result.relative_bias <= 1e-12 and result.relative_deviation <= 1e-7 and abs(result.cosine - 1) <= 1e-12


def test_command_on_a_fresh_model(tmp_path, capsys):
    names = ["exact", "rloo", "straight_through", "vimco", "arm", "gumbel_softmax"]
    assert main([*SMALL, "--estimator", *names, "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "9 codes, 3 images of digits" in out
    assert "left out: arm" in out and "vimco (2 samples)" in out and "rloo (this run)" in out
    with open(tmp_path / "compare.csv") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 5 and {row["step"] for row in rows} == {"0"}
    assert float(rows[0]["relative_bias"]) <= 1e-6
    assert (tmp_path / "compare.png").read_bytes()[:4] == b"\x89PNG"


def test_command_on_a_run_and_its_checkpoints(tmp_path, capsys):
    run = tmp_path / "run"
    assert train.main(["--latents", "2", "--categories", "3", "--hidden", "8", "--epochs", "5", "--backend", "numpy",
                       "--estimator", "reinforce", "--keep-checkpoints", "0", "--out", str(run)]) == 0
    arguments = [str(run), "--images", "3", "--draws", "128", "--estimator", "reinforce", "straight_through"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "reinforce (this run)" in out and "reinforce (nvil)" in out and (run / "compare.csv").is_file()
    assert main([*arguments, "--checkpoints", "--out", str(tmp_path / "along")]) == 0
    with open(tmp_path / "along" / "compare.csv") as stream:
        steps = [int(row["step"]) for row in csv.DictReader(stream)]
    assert sorted(set(steps)) == [n * max(steps) // 5 for n in range(1, 6)]     # every epoch, beyond the usual three


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A file of 13 images, 11 of them to train on."""
    path = tmp_path_factory.mktemp("data") / "few.npy"
    np.save(path, np.random.default_rng(6).integers(0, 2, (13, 4, 4), np.uint8))
    return ["--data", str(path), "--latents", "2", "--categories", "2", "--hidden", "8", "--draws", "128"]


@pytest.mark.parametrize("images, count", [([], 10), (["--images", "3"], 3)])
def test_an_image_at_least_is_left_for_baselines(few, images, count, capsys):
    assert main([*few, *images, "--estimator", "rebar"]) == 0
    out = capsys.readouterr().out
    assert f", {count} images of" in out and f"for the {count} images" in out and "left out" not in out


def test_draws_are_counted_in_whole_blocks(tmp_path, capsys):
    assert main([*SMALL[:-2], "--draws", "129", "--estimator", "rloo", "--out", str(tmp_path)]) == 0
    assert "192 draws" in capsys.readouterr().out
    with open(tmp_path / "compare.csv") as stream:
        assert [row["draws"] for row in csv.DictReader(stream)] == ["192"]


def test_estimators_that_cannot_be_made_are_left_out(tmp_path, capsys):
    assert main([*SMALL, "--samples", "1", "--estimator", "rebar", "carms", "--out", str(tmp_path)]) == 0
    assert "left out: carms: estimator carms needs samples >= 2" in capsys.readouterr().out
    with open(tmp_path / "compare.csv") as stream:
        assert [row["estimator"] for row in csv.DictReader(stream)] == ["rebar"]


def test_nothing_compared_is_a_mistake(tmp_path, capsys):
    assert main([*SMALL, "--estimator", "arm", "disarm", "--out", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert "left out: arm" in shown.out and "left out: disarm" in shown.out and not any(tmp_path.iterdir())
    assert "nothing was compared" in shown.err and shown.err.count("\n") == 1


def test_an_exact_gradient_of_zero_is_one_line(bench, capsys):
    assert main(["--latents", "1", "--categories", "1", "--hidden", "8", "--estimator", "rebar"]) == 2
    error = capsys.readouterr().err
    assert "fresh model, step 0: the exact gradient is zero" in error and error.count("\n") == 1
    still = DiscreteVAE(10, (7, 6), Categorical(2, 3, "exact"))
    params = {k: 0 * v for k, v in bench.params.items()}            # no code differs from another
    with pytest.raises(ValueError, match="its exact gradient is zero"):
        comparison.compare(comparison.Bench(still, params, bench.x, bench.others), "exact", estimators.get("exact"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two epochs, whose checkpoints are kept."""
    path = tmp_path_factory.mktemp("runs") / "small"
    assert train.main(["--latents", "2", "--categories", "3", "--hidden", "8", "--epochs", "2", "--backend", "numpy",
                       "--no-figures", "--keep-checkpoints", "0", "--out", str(path)]) == 0
    return path


def fails_early(monkeypatch, capsys, *arguments):
    """The one line with which a command ends before anything is measured."""
    monkeypatch.setattr(comparison, "compare", lambda *_, **__: pytest.fail("measured before it was checked"))
    assert main([str(a) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_all_checkpoints_and_the_folder_are_tried_before_the_first_figure(run, tmp_path, monkeypatch, capsys):
    good = sorted(run.glob("checkpoint-*.safetensors"))[0]
    bad, file = tmp_path / "bad.safetensors", tmp_path / "file"
    bad.write_bytes(good.read_bytes()[:-1])
    file.write_bytes(b"")
    assert str(bad) in fails_early(monkeypatch, capsys, run, "--checkpoints", good, bad, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert f"{file}: File exists" in fails_early(monkeypatch, capsys, run, "--out", file)


@pytest.mark.parametrize("arguments, word", [
    (["RUN", "--latents", "2", "--data-dir", "x"], "has its own settings: drop --data-dir, --latents"),
    (["RUN", "--preset", "tutorial", "--hidden", "8"], "has its own settings: drop --preset, --hidden"),
    (["RUN", "--data", "digits"], "has its own settings: drop --data"),
    (["RUN", "--categories", "3"], "has its own settings: drop --categories"),
    (["--checkpoint", "best"], "--checkpoint needs RUN"),
    (["RUN", "--checkpoint", "best", "--checkpoints"], "drop --checkpoint"),
])
def test_options_that_do_not_apply_are_refused(run, arguments, word, monkeypatch, capsys):
    assert word in fails_early(monkeypatch, capsys, *(run if a == "RUN" else a for a in arguments))


def test_images_that_leave_none_for_baselines_are_refused(few, monkeypatch, capsys):
    for images in (11, 2000):
        error = fails_early(monkeypatch, capsys, *few, "--images", images)
        assert f"--images: got {images}, expected fewer than the 11 training images" in error


@pytest.mark.parametrize("arguments, word", [
    (["--images", "0"], "--images must be at least 1, got 0"),
    (["--draws", "5"], "--draws must be at least 128"),
    (["--estimator", "rlo"], "did you mean rloo"),
    (["--checkpoints"], "needs RUN"),
    (["nowhere"], "no run there"),
    (["--latents", "9", "--categories", "9"], "9**9"),
])
def test_command_answers_bad_input_in_one_line(arguments, word, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert word in error and error.count("\n") == 1


def result(name, step, bias, low, high, deviation=1.0):
    return comparison.Result(name, "expectation", bias, low, high, deviation, 0.5, 1, 1.0, 0.1, 0.1, 128, False, True,
                             step)


def test_a_bias_that_is_not_seen_is_drawn_at_the_most_that_it_can_be():
    assert bias(result("a", 1, 0.3, 0.2, 0.38)) == pytest.approx((0.3, 0.1, 0.08))
    assert bias(result("a", 1, 0.0, 0.0, 0.07)) == bias(result("a", 1, 0.05, 0.0, 0.07)) == (0.07, 0, 0)
    assert bias(result("a", 1, 0.3, 0.3, 0.3)) == (0.3, 0, 0)


def test_lines_that_coincide_are_one_with_both_names():
    rows = [result(name, step, x * step, x * step, x * step, y) for step in (2, 1) for name, x, y in (
        ("a", 0.1, 1), ("b", 0.2, 1), ("c", 0.1002, 0.999), ("d", 0.1, 1.1))]
    found = lines(rows)
    assert list(found) == ["a, c", "b", "d"] and [r.step for r in found["a, c"]] == [1, 2]


def test_names_in_the_figure_keep_their_distance():
    wanted = [0.1, 0.5, 0.5, 0.5, 0.52, 0.9]
    places = spread(wanted, 0.05)
    assert (np.diff(places) >= 0.05 - 1e-12).all()
    assert abs(places[0] - 0.1) <= 1e-12 and abs(places[-1] - 0.9) <= 1e-12
    assert abs(np.mean(places[1:5]) - np.mean(wanted[1:5])) <= 1e-12
