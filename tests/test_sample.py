"""Samples of a small run, as a picture and as arrays. Share of the suite: 2 s."""
import numpy as np
import pytest

from npdvae import sample, train
from npdvae.run import Run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of one epoch on the digits, D=3, K=5."""
    path = tmp_path_factory.mktemp("runs") / "small"
    assert train.main(["--epochs", "1", "--latents", "3", "--categories", "5", "--hidden", "20", "--backend", "numpy",
                       "--batch-size", "100", "--out", str(path)]) == 0
    return path


def test_sample_writes_pictures_and_arrays(folder, tmp_path):
    assert sample.main([str(folder)]) == 0
    assert (folder / "figures" / "samples.png").read_bytes()[:4] == b"\x89PNG"
    for name, options in (("a", []), ("b", []), ("c", ["--seed", "1"]), ("d", ["--binary"])):
        assert sample.main([str(folder), "--count", "9", "--out", str(tmp_path / f"{name}.npz"), *options]) == 0
    a, b, c, d = (dict(np.load(tmp_path / f"{n}.npz")) for n in "abcd")
    assert a["codes"].shape == (9, 3) and a["images"].shape == (9, 8, 8)
    np.testing.assert_array_equal(a["images"], b["images"])
    assert not np.array_equal(a["codes"], c["codes"])
    np.testing.assert_array_equal(a["codes"], d["codes"])
    np.testing.assert_allclose(a["images"].reshape(9, 64), Run.load(folder).decode(a["codes"]), atol=1e-6)   # float32
    assert set(np.unique(d["images"])) == {0, 1} and np.all((0 < a["images"]) & (a["images"] < 1))


@pytest.mark.parametrize("arguments, message", [
    (["nowhere"], "nowhere: no run there"),
    (["RUN", "--count", "-1"], "--count: got -1, expected at least 1"),
    (["RUN", "--out", "x.jpg"], "--out: got x.jpg, expected a name that ends in .png or .npz"),
])
def test_mistakes_get_one_line_and_exit_code_2(folder, capsys, arguments, message):
    assert sample.main([a.replace("RUN", str(folder)) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and error.startswith("npdvae: error: ")
