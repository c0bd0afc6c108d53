"""What a latent, an optimizer or a schedule cannot use is one line and exit code 2. Share: 2 s."""
import pytest

from npdvae import build, latents, train
from npdvae.settings import resolve

CONTINUOUS = {"gaussian", "laplace", "logistic", "student_t", "triangular", "uniform", "kumaraswamy", "gamma",
              "dirichlet"}
QUANTISERS = {"vq", "fsq", "lfq", "bsq"}
ESTIMATED = {"categorical", "soft_vq"}
OPTIONS = {                                     # of the command line, and the latents that can use it
    "kl-weight": ("0.5", CONTINUOUS | ESTIMATED), "kl-warmup": ("10", CONTINUOUS | ESTIMATED),
    "free-bits": ("0.1", CONTINUOUS - {"dirichlet"} | ESTIMATED), "estimator": ("rloo", ESTIMATED),
    "samples": ("3", CONTINUOUS | ESTIMATED), "temperature": ("0.5", set()), "baseline": ("none", set()),
    "estimator-options": ("anneal=linear", set()), "prior": ("learned", QUANTISERS | ESTIMATED),
    "categories": ("2", QUANTISERS | ESTIMATED)}
SMALL = ["--backend", "numpy", "--hidden", "8", "--epochs", "1", "--no-figures", "--batch-size", "500"]


def test_every_latent_of_the_registry_is_asked():
    assert CONTINUOUS | QUANTISERS | ESTIMATED == set(latents.names())


def settings(latent, option, value):
    """Arguments as the command line makes them."""
    kind = {"kl-weight": float, "free-bits": float, "temperature": float, "estimator-options": lambda v: [v]}
    kind |= dict.fromkeys(("samples", "categories", "kl-warmup"), int)
    return resolve({"latent": latent, option.replace("-", "_"): kind.get(option, str)(value), "backend": "numpy",
                    "hidden": [8]})


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("latent", latents.names())
def test_an_option_is_used_or_refused_in_one_line(latent, option, tmp_path, capsys):
    value, users = OPTIONS[option]
    if latent in users:
        assert build.build(settings(latent, option, value)).model.latent.name == latent
        return
    assert train.main([*SMALL, "--latent", latent, f"--{option}", value, "--out", str(tmp_path / "r")]) == 2
    error = capsys.readouterr().err
    named = f"--{option}" if option not in ("temperature", "baseline", "estimator-options") or latent not in ESTIMATED \
        else f"has no option '{'anneal' if option == 'estimator-options' else option}'"
    assert named in error and error.count("\n") == 1 and error.startswith("npdvae: error: ")
    assert latent in error or "estimator rloo" in error
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("arguments, message", [
    (["--momentum", "0.5"], "--momentum: optimizer adam cannot use it"),
    (["--momentum", "0.9"], "--momentum: optimizer adam cannot use it"),
    *(([f"--{part}-options", f"{word}=x"], f"has no option '{word}'") for word in ("name", "self")
      for part in ("latent", "estimator", "likelihood", "prior")),
    (["--optimizer", "radam", "--momentum", "0.5"], "--momentum: optimizer radam cannot use it"),
    (["--lr-decay", "0.9"], "--lr-decay: --lr-schedule constant cannot use it, only exponential"),
    (["--lr-schedule", "cosine", "--lr-interval", "10"], "--lr-interval: --lr-schedule cosine cannot use it"),
    (["--latent", "gaussian", "--latent-options", "kl=parameters", "--free-bits", "0.1"], "free bits are of a KL")])
def test_a_setting_that_nothing_reads_is_refused(arguments, message, tmp_path, capsys):
    assert train.main([*SMALL, *arguments, "--out", str(tmp_path / "r")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "r").exists()


@pytest.mark.parametrize("arguments", [["--optimizer", "sgd", "--momentum", "0.5"],
                                       ["--lr-schedule", "exponential", "--lr-decay", "0.5", "--lr-interval", "2"]])
def test_a_setting_that_is_read_is_taken_and_a_run_that_holds_it_goes_on(arguments, tmp_path, capsys):
    """A run's config.toml names every setting; on resume only what the command line says is asked."""
    assert train.main([*SMALL, *arguments, "--out", str(tmp_path / "r")]) == 0
    assert train.main(["--resume", str(tmp_path / "r"), "--epochs", "2"]) == 0
    assert train.main([*SMALL, "--config", str(tmp_path / "r" / "config.toml"), "--optimizer", "adam", "--lr-schedule",
                       "constant", "--out", str(tmp_path / "again")]) == 0
    capsys.readouterr()
    assert train.main([*SMALL, "--config", str(tmp_path / "r" / "config.toml"), "--optimizer", "adam", "--lr-schedule",
                       "cosine", *arguments[-2:], "--out", str(tmp_path / "no")]) == 2
    assert arguments[-2] in capsys.readouterr().err
    assert train.main(["--resume", str(tmp_path / "r"), "--epochs", "3", *arguments[-2:]]) == 0
