"""Where compiled CPU kernels are kept. Share: 1 s."""
import os
import pathlib
import time

from npdvae.kernels.cpu import compiler


def test_cache_of_other_sources_is_kept_for_a_month(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ages = {"kernels-old": 31, "kernels-recent": 29, "mnist": 400}
    for name, days in ages.items():
        (tmp_path / "npdvae" / name).mkdir(parents=True)
        (tmp_path / "npdvae" / name / "file").touch()
        os.utime(tmp_path / "npdvae" / name, (time.time() - days * 86400,) * 2)
    own = pathlib.Path(compiler.cache_folder())
    assert own.parent == tmp_path / "npdvae"
    assert {p.name for p in own.parent.iterdir()} == {own.name, "kernels-recent", "mnist"}


def test_own_cache_counts_as_used(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    own = compiler.cache_folder()
    os.utime(own, (0, 0))
    assert compiler.cache_folder() == own and time.time() - os.stat(own).st_mtime < 3600


def test_no_cache_where_nothing_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compiler.cache_folder() is None
