"""Where compiled CPU kernels are kept, who may write there, and what becomes of damage. Share: 1 s."""
import os
import pathlib
import stat
import subprocess
import sys
import time

import numpy as np
import pytest

from npdvae.kernels.cpu import store

posix = pytest.mark.skipif(os.name != "posix", reason="permissions and owners as POSIX has them")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of its own for this process, safe whatever the umask."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(store, "CHOSEN", [])
    return tmp_path


def test_cache_of_other_sources_is_kept_for_a_month(cache):
    ages = {"kernels-old": 31, "kernels-recent": 29, "mnist": 400}
    (cache / "npdvae").mkdir(mode=0o700)
    for name, days in ages.items():
        (cache / "npdvae" / name).mkdir()
        (cache / "npdvae" / name / "file").touch()
        os.utime(cache / "npdvae" / name, (time.time() - days * 86400,) * 2)
    own = store.cache_folder()
    assert own.parent == cache / "npdvae"
    assert {p.name for p in own.parent.iterdir()} == {own.name, "kernels-recent", "mnist"}


def test_own_cache_counts_as_used(cache):
    own = store.cache_folder()
    os.utime(own, (0, 0))
    assert store.cache_folder() == own and time.time() - os.stat(own).st_mtime < 3600


def test_no_cache_where_nothing_can_be_written(cache, monkeypatch, capfd):
    (cache / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "file"))
    assert store.cache_folder() is None
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and "compiled kernels are not kept" in said and str(cache / "file") in said


def test_no_cache_without_a_home(cache, monkeypatch, capfd):
    monkeypatch.delenv("XDG_CACHE_HOME")

    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(pathlib.Path, "home", nowhere)
    monkeypatch.setattr(sys, "platform", "linux")
    assert store.cache_folder() is None and "home directory" in capfd.readouterr().err


@posix
def test_the_cache_is_open_to_nobody_else_whatever_the_umask(cache):
    before = os.umask(0)
    try:
        own = store.folder()
        store.save("kernel", b"code")
    finally:
        os.umask(before)
    for path, mode in ((own, 0o700), (own.parent, 0o700), (own / "kernel", 0o600)):
        assert stat.S_IMODE(path.stat().st_mode) == mode


@posix
@pytest.mark.parametrize("mode", [0o770, 0o702])
@pytest.mark.parametrize("which", ["kernels", "npdvae"])
def test_a_cache_that_others_may_write_to_is_not_used(cache, capfd, mode, which):
    own = store.cache_folder()
    path = own if which == "kernels" else own.parent
    path.chmod(mode)
    assert store.cache_folder() is None
    said = capfd.readouterr().err
    assert said == f"npdvae: compiled kernels are not kept: others may write to {path} (chmod go-w)\n"
    path.chmod(0o755)                           # they may read
    assert store.cache_folder() == own


@posix
def test_a_cache_below_a_folder_that_everybody_may_write_to_is_not_used(cache):
    own = store.cache_folder()
    cache.chmod(0o777)
    assert str(cache) in store.open_to(own)
    cache.chmod(0o1777)                         # sticky, as /tmp: nobody renames what is another's
    assert store.open_to(own) is None
    cache.chmod(0o770)                          # a private group's home
    assert store.open_to(own) is None


@posix
def test_a_cache_of_another_user_is_not_used(cache, monkeypatch):
    own, me = store.cache_folder(), os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    assert store.open_to(own) == f"{own} belongs to user {me}"


@posix
def test_a_link_to_an_open_folder_is_not_used(cache):
    own = store.cache_folder()
    elsewhere = cache / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    elsewhere.chmod(0o777)
    own.rmdir()
    own.symlink_to(elsewhere)
    assert str(elsewhere) in store.open_to(own)


def test_what_was_kept_comes_back(cache):
    for data in (b"", b"code", np.random.default_rng(0).bytes(10000)):
        store.save("kernel", data)
        assert store.load("kernel") == data
    assert store.load("another") is None and [p.name for p in store.folder().iterdir()] == ["kernel"]


@pytest.mark.parametrize("damage", [
    lambda b: b"", lambda b: b[:5], lambda b: b[:30], lambda b: b[:-1], lambda b: b + b"x", lambda b: b[::-1],
    lambda b: b[:60] + bytes([b[60] ^ 1]) + b[61:], lambda b: bytes([b[0] ^ 1]) + b[1:],
    lambda b: b[:20] + bytes([b[20] ^ 128]) + b[21:]],
    ids=["empty", "mark cut", "digest cut", "short", "long", "reversed", "code", "mark", "digest"])
def test_damage_is_thrown_away_and_said_in_a_line(cache, capfd, damage):
    store.save("kernel", b"machine code " * 9)
    path = store.folder() / "kernel"
    path.write_bytes(damage(path.read_bytes()))
    assert store.load("kernel") is None and not path.exists()
    said = capfd.readouterr().err
    assert said == f"npdvae: a damaged compiled kernel is thrown away, and compiled again: {path}\n"
    assert store.load("kernel") is None and not capfd.readouterr().err


def test_a_cache_removed_while_running_is_done_without(cache):
    own = store.folder()
    store.save("kernel", b"code")
    (own / "kernel").unlink()
    own.rmdir()
    store.save("kernel", b"code")
    assert store.load("kernel") is None and not own.exists()


@pytest.mark.parametrize("call", ["open", "replace"])
def test_a_full_disk_keeps_nothing_and_leaves_nothing(cache, monkeypatch, call):
    own = store.folder()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store.os, call, full)
        store.save("kernel", b"code")
    assert not list(own.iterdir())
    store.save("kernel", b"code")
    assert store.load("kernel") == b"code"


def test_nothing_is_kept_without_a_folder(monkeypatch):
    monkeypatch.setattr(store, "CHOSEN", [None])
    store.save("kernel", b"code")
    assert store.load("kernel") is None


def test_a_temporary_folder_goes_with_its_process(tmp_path):
    """And not with one forked from it."""
    code = ("import os, sys; from npdvae.kernels.cpu import store\n"
            "own = store.folder(); store.save('kernel', b'code')\n"
            "if hasattr(os, 'fork') and os.fork() == 0: sys.exit()\n"
            "if hasattr(os, 'fork'): os.wait()\n"
            "assert store.load('kernel') == b'code'; print(own)")
    (tmp_path / "file").touch()
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], text=True, capture_output=True,
                         env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "file"), "TMPDIR": str(tmp_path)})
    assert run.returncode == 0, run.stderr
    own = pathlib.Path(run.stdout.split()[-1])
    assert own.parent == tmp_path and not own.exists()
