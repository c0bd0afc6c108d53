"""Configuration: layers of settings, refusals in one line, TOML there and back. Share of the suite: 2 s."""
import tomllib

import pytest

from npdvae import config, settings
from npdvae.presets import PRESETS


def test_layers_override_in_order(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text('epochs = 7\nlr = 2\nbatch-size = 9\n')
    c = settings.resolve({"batch_size": 11}, preset="tutorial", file=str(file))
    assert (c.latents, c.epochs, c.lr, c.batch_size) == (4, 7, 2.0, 11)
    assert isinstance(c.lr, float)


def test_toml_round_trip_keeps_every_setting():
    c = settings.resolve({"hidden": [5, 3], "estimator_options": ["a=1", 'b="x"', "c=true", "d=text"],
                        "tensorboard": True, "out": 'a "quoted" \\ path', "clip_norm": 0.1, "seeds": [1, 2]},
                       preset="tutorial")
    back = config.Config(**settings.from_mapping(tomllib.loads(settings.to_toml(c)), "text"))
    assert back == c
    assert back.estimator_options == {"a": 1, "b": "x", "c": True, "d": "text"}


def test_another_estimator_drops_the_options_of_the_presets():
    c = settings.resolve({"estimator": "exact"}, preset="tutorial")
    assert c.estimator_arguments() == {}
    assert settings.resolve({}, preset="tutorial").estimator_arguments() == {"baseline": "constant",
                                                                           "baseline_value": 125.0}


@pytest.mark.parametrize("text, message", [
    ("epoch = 3", "unknown key 'epoch', did you mean 'epochs'"),
    ("epochs = 3.5", "epochs must be int, got 3.5"),
    ("epochs = true", "epochs must be int"),
    ("hidden = [3, 'a']", "hidden must be list"),
    ("optimizer = 'adma'", "unknown optimizer 'adma'; did you mean adam"),
    ("lr = 'fast'", "lr must be float"),
    ("a = ", "not valid TOML"),
])
def test_a_file_with_a_fault_is_refused_by_name(tmp_path, text, message):
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        settings.resolve({}, file=str(file))
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("name, value", [
    ("latents", 0), ("categories", 0), ("epochs", 0), ("batch_size", -1), ("lr", 0.0), ("lr", float("nan")),
    ("lr", float("inf")), ("clip_norm", -1.0), ("kl_weight", -1.0), ("kl_weight", float("nan")), ("validation", 1.0),
    ("momentum", 1.0), ("seed", -1), ("seed", 2 ** 32), ("seeds", [1, -1]), ("hidden", [0]), ("samples", 0),
    ("threads", 0), ("free_bits", -0.1)])
def test_values_out_of_range_name_the_option(name, value):
    with pytest.raises(ValueError, match="--" + name.replace("seeds", "seed").replace("_", "-")):
        settings.resolve({name: value})


def test_unknown_preset_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean reinmax-8x4"):
        settings.resolve({}, preset="reinmax8x4")


def test_presets_hold_known_settings_only():
    for name, values in PRESETS.items():
        config.Config(**settings.from_mapping(values, name)).check()
