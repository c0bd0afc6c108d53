"""Checkpoints: round trip, every truncation and bit flip, power loss at every instant. Share: 1 s."""
import errno
import itertools
import os
import pathlib
import random
import struct
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open

from npdvae import checkpoint, files
from npdvae.checkpoint import CheckpointError

ARRAYS = {"weight": np.arange(6.0).reshape(2, 3), "step": np.array(7, np.int64), "empty": np.zeros((0, 3), np.float32),
          "half": np.array([1.5, -0.0], np.float32), "mask": np.array([True, False, True])}
META = {"step": "7", "model": "4 latents \u00d7 8 \"quoted\""}


def assert_same(arrays, expected):
    assert arrays.keys() == expected.keys()
    for name, a in arrays.items():
        assert a.dtype == expected[name].dtype and a.shape == expected[name].shape
        assert a.tobytes() == np.ascontiguousarray(expected[name]).tobytes()
        assert a.flags.writeable


def test_checkpoint_round_trip_keeps_every_bit(tmp_path):
    special = {**ARRAYS, "nan": np.array([np.nan, np.inf, -0.0, 5e-324]), "turned": np.arange(6).reshape(2, 3).T,
               "big_endian": np.arange(3, dtype=">i4")}
    path = checkpoint.save(tmp_path, special, META)
    assert path == tmp_path / "checkpoint-00000007.safetensors"
    arrays, meta = checkpoint.load(path)
    assert meta == META
    assert arrays.pop("big_endian").tolist() == [0, 1, 2]
    assert_same(arrays, {k: v for k, v in special.items() if k != "big_endian"})


def test_checkpoint_is_a_safetensors_file_that_others_read(tmp_path):
    path = checkpoint.save(tmp_path, ARRAYS, META)
    with safe_open(str(path), "numpy") as file:
        assert file.metadata()["model"] == META["model"] and len(file.metadata()["sha256"]) == 64
        for name, a in ARRAYS.items():
            assert (file.get_tensor(name) == a).all()


def test_checkpoint_bytes_depend_on_the_content_alone():
    reverse = dict(reversed(ARRAYS.items())), dict(reversed(META.items()))
    assert checkpoint.encode(*reverse) == checkpoint.encode(ARRAYS, META)


def test_checkpoint_refuses_every_single_bit_flip_and_every_truncation(tmp_path):
    good = checkpoint.encode({"w": np.arange(3.0), "n": np.array([1], np.uint8)}, {"step": "3"})
    checkpoint.decode(good)
    for bit in range(8 * len(good)):
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CheckpointError):
            checkpoint.decode(bytes(flipped))
    path = tmp_path / "checkpoint-00000003.safetensors"
    for size in range(len(good)):
        path.write_bytes(good[:size])
        with pytest.raises(CheckpointError) as caught:
            checkpoint.load(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def damage(good, r, kind):
    """One of seven ways to spoil a file."""
    length = struct.unpack("<Q", good[:8])[0]
    if kind == 0:
        spoilt = bytearray(good)
        for _ in range(r.choice([1, 2, 8])):
            spoilt[r.randrange(len(spoilt))] ^= 1 << r.randrange(8)
        return bytes(spoilt)
    if kind == 1:
        size = r.choice([0, 1, 2 ** 31, 2 ** 63, 2 ** 64 - 1, len(good), length + r.randint(-9, 9)])
        return struct.pack("<Q", size) + good[8:]
    if kind == 2:
        return good + r.randbytes(r.randrange(1, 64))
    if kind == 3:
        old = r.choice([b'"shape":[2,3]', b'"dtype":"F64"', b'"data_offsets":[0,48]', b"{", b"}", b'"step":"7"'])
        new = r.choice([b'"shape":[99999999999,99999999999]', b'"shape":[-1,-6]', b'"shape":[true,6]', b'"dtype":null',
                        b'"data_offsets":[0,1e9]', b"[[[[", b"NaN", b'{"a":' * 50, b'"shape":' + b"[" * 5000])
        return good[:8] + good[8:].replace(old, new, 1)
    if kind == 4:
        start, stop = sorted(r.randrange(len(good)) for _ in range(2))
        return good[:start] + good[stop + 1:]
    if kind == 5:
        return good[:8] + good[8:8 + length] * 2 + good[8 + length:]
    return r.randbytes(r.randrange(2000))


def fuzz(cases, seed):
    """Damage a checkpoint `cases` times, half of them with the digest made to fit again: (refused, accepted)."""
    good, r, refused, accepted = checkpoint.encode(ARRAYS, META), random.Random(seed), 0, []
    for case in range(cases):
        spoilt = damage(good, r, case % 7)
        if case // 7 % 2 and len(spoilt) > checkpoint.DIGEST.stop:
            spoilt = seal(spoilt)
        try:
            accepted.append((spoilt, checkpoint.decode(spoilt)))
        except CheckpointError as error:
            assert "\n" not in str(error)
            refused += 1
    return refused, [(data, content) for data, content in accepted if data != good]


def seal(data):
    """Give altered bytes a digest that fits, as an attacker would."""
    data = bytearray(data)
    data[checkpoint.DIGEST] = checkpoint.ZEROS
    data[checkpoint.DIGEST] = checkpoint.hashlib.sha256(data).hexdigest().encode()
    return bytes(data)


def test_checkpoint_refuses_damaged_files_with_one_line():
    refused, accepted = fuzz(3000, seed=0)
    assert refused > 2000
    for data, (arrays, _) in accepted:          # only resealed values or names: no array outside the file's bytes
        assert data == seal(data) and sum(a.nbytes for a in arrays.values()) < len(data)


@pytest.mark.long
def test_checkpoint_fuzz_campaign():
    refused, accepted = fuzz(100_000, seed=1)
    assert all(data == seal(data) for data, _ in accepted)
    print(refused, "refused,", len(accepted), "resealed and accepted")


def test_checkpoint_latest_falls_back_and_says_why(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, {"w": np.full(4, float(step))}, {"step": str(step)})
    newest, middle = (tmp_path / f"checkpoint-0000000{n}.safetensors" for n in (3, 2))
    newest.write_bytes(newest.read_bytes()[:-1])
    middle.write_bytes(b"")
    found = checkpoint.latest(tmp_path)
    assert found.meta["step"] == "1" and found.arrays["w"].tolist() == [1.0] * 4
    assert [path in line for path, line in zip((str(newest), str(middle)), found.refused)] == [True, True]
    assert "sha256" in found.refused[0] and "header" in found.refused[1]
    found.path.unlink()
    with pytest.raises(CheckpointError, match="no usable checkpoint in .*refused.*refused"):
        checkpoint.latest(tmp_path)
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        checkpoint.latest(tmp_path / "missing")


def test_checkpoint_keeps_the_last_three_and_clears_stale_files(tmp_path):
    (tmp_path / "checkpoint-00000001.safetensors.123.tmp").write_bytes(b"cut")
    (tmp_path / "notes.tmp").write_bytes(b"the user's own")
    checkpoint.save(tmp_path / "best.safetensors", ARRAYS, {"step": "2"})
    for step in (5, 99_999_999, 100_000_000, 100_000_001):
        checkpoint.save(tmp_path, ARRAYS, {"step": str(step)})
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "best.safetensors", "checkpoint-100000000.safetensors", "checkpoint-100000001.safetensors",
        "checkpoint-99999999.safetensors", "notes.tmp"]
    assert checkpoint.latest(tmp_path).meta["step"] == "100000001"
    assert checkpoint.load(tmp_path / "best.safetensors")[1] == {"step": "2"}


@pytest.mark.parametrize("keep", [0, 1, 4])
def test_checkpoint_keeps_as_many_as_told(tmp_path, keep):
    for step in range(1, 7):
        checkpoint.save(tmp_path, ARRAYS, {"step": str(step)}, keep)
    assert [int(p.stem[-8:]) for p in checkpoint.listing(tmp_path)] == [6, 5, 4, 3, 2, 1][:keep or 6]


def test_checkpoint_pruning_never_removes_what_was_just_saved(tmp_path):
    for step in (10, 20, 30, 40):
        checkpoint.save(tmp_path, ARRAYS, {"step": str(step)})
    for path in checkpoint.listing(tmp_path):
        path.write_bytes(b"damaged")
    path = checkpoint.save(tmp_path, ARRAYS, {"step": "5"})         # resumed from an older run
    assert checkpoint.latest(tmp_path).path == path


def test_checkpoint_rejects_what_it_cannot_store():
    with pytest.raises(ValueError, match="'z' .*complex128"):
        checkpoint.encode({"z": np.zeros(1, complex)}, {})
    with pytest.raises(ValueError, match="'step'"):
        checkpoint.encode({}, {"step": 3})
    with pytest.raises(ValueError, match="'sha256'"):
        checkpoint.encode({}, {"sha256": "0"})


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_checkpoint_full_disk_leaves_the_old_files(tmp_path, monkeypatch, call):
    checkpoint.save(tmp_path, ARRAYS, {"step": "1"})
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, call, full)
    with pytest.raises(OSError, match="cannot save checkpoint .*00000002.safetensors: No space left") as caught:
        checkpoint.save(tmp_path, ARRAYS, {"step": "2"})
    assert caught.value.errno == errno.ENOSPC and "\n" not in str(caught.value)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_checkpoint_write_that_stops_half_way_leaves_nothing(tmp_path):
    pytest.importorskip("resource", reason="file-size limits need a POSIX system")
    script = ("import resource, sys, numpy as np; from npdvae import checkpoint\n"
              "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
              "try: checkpoint.save(sys.argv[1], {'w': np.zeros(10_000)}, {'step': '2'})\n"
              "except OSError as error: print(error)")
    checkpoint.save(tmp_path, ARRAYS, {"step": "1"})
    out = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True,
                         cwd=pathlib.Path(__file__).parents[1])
    assert "cannot save checkpoint" in out.stdout and out.stdout.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-00000001.safetensors"]


def test_checkpoint_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="cannot save checkpoint .*file/run/checkpoint"):
        checkpoint.save(tmp_path / "file" / "run", ARRAYS, {"step": "1"})


# Power loss: record the real calls of a save, then enumerate what a disk may hold after a crash at any instant.

def record(path, monkeypatch, save=None):
    """The durable-state operations of one real save, of step 2 unless another is given, in order."""
    log, names, folder = [], {}, path if path.is_dir() else path.parent

    class Recorded:
        """A file whose writes are logged under the file's name."""

        def __init__(self, path, mode):
            self.file, self.name = open(path, mode), os.path.basename(path)
            names[self.file.fileno()] = self.name
            log.append(("create", self.name))

        def write(self, data):
            log.append(("write", self.name, bytes(data)))
            return self.file.write(data)

        def __getattr__(self, attribute):
            return getattr(self.file, attribute)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

    real = {call: getattr(os, call) for call in ("fsync", "replace", "open", "unlink")}

    def fsync(descriptor):
        log.append(("fsync", names.pop(descriptor)))
        real["fsync"](descriptor)

    def os_open(path, *flags, **kinds):
        descriptor = real["open"](path, *flags, **kinds)
        names[descriptor] = os.path.basename(path)
        return descriptor

    def replace(source, target):
        log.append(("rename", os.path.basename(source), os.path.basename(target)))
        real["replace"](source, target)

    def unlink(path, **kinds):
        log.append(("unlink", os.path.basename(path)))
        real["unlink"](path, **kinds)

    with monkeypatch.context() as patch:
        patch.setattr(files, "open", Recorded, raising=False)
        for call, function in (("fsync", fsync), ("open", os_open), ("replace", replace), ("unlink", unlink)):
            patch.setattr(os, call, function)
        if save is None:
            checkpoint.save(path, {"w": np.full(5, 2.0)}, {"step": "2"}, keep=1)
        else:
            save()
    unlinks = [i for i, o in enumerate(log) if o[0] == "unlink"]
    where = unlinks[0] if unlinks else len(log)                     # the old one goes once the new one counts
    return [("sync_folder",) if o == ("fsync", folder.name) else o for o in log[:where]] + [("saved",)] + log[where:]


def contents(written, durable):
    """What a file may hold after a crash: what was synced, prefixes of what was written, zeros for the rest."""
    n, cuts = len(written), range(len(durable), len(written) + 1)
    return {durable, *(written[:c] for c in cuts), *(written[:c] + bytes(n - c) for c in cuts)}


def crash_states(log, before):
    """(saved, {name: bytes}) for a crash after every prefix of the log; unsynced folder entries in any combination."""
    for cut in range(len(log) + 1):
        inodes = dict(enumerate([(data, data) for data in before.values()]))   # number: (written, durable)
        names = {name: i for i, name in enumerate(before)}
        durable, pending, saved = dict(names), [], False
        for kind, *o in log[:cut]:
            if kind == "create":
                names[o[0]] = len(inodes)
                inodes[len(inodes)] = (b"", b"")
                pending.append({o[0]: names[o[0]]})
            elif kind == "write":
                written, synced = inodes[names[o[0]]]
                inodes[names[o[0]]] = (written + o[1], synced)
            elif kind == "fsync" and o[0] in names:
                inodes[names[o[0]]] = (inodes[names[o[0]]][0],) * 2
            elif kind == "rename":
                names[o[1]] = names.pop(o[0])
                pending.append({o[0]: None, o[1]: names[o[1]]})
            elif kind == "unlink":
                names.pop(o[0])
                pending.append({o[0]: None})
            elif kind == "sync_folder":
                durable, pending = dict(names), []
            saved |= kind == "saved"
        for kept in itertools.product([False, True], repeat=len(pending)):
            entries = dict(durable)
            for change in itertools.compress(pending, kept):
                entries.update(change)
            entries = {name: i for name, i in entries.items() if i is not None}
            for data in itertools.product(*(contents(*inodes[i]) for i in entries.values())):
                yield saved, dict(zip(entries, data))


def judge(log, before):
    """(states, states with nothing to load, states that lost a saved checkpoint) over all crashes."""
    cache, states, nothing, lost = {}, 0, 0, 0

    def good(data):
        if data not in cache:
            try:
                cache[data] = checkpoint.decode(data)[1]["step"]
            except CheckpointError:
                cache[data] = None
        return cache[data]

    for saved, there in crash_states(log, before):
        steps = [good(data) for name, data in there.items() if name.endswith(".safetensors")]
        states += 1
        nothing += not any(steps)
        lost += saved and "2" not in steps
    return states, nothing, lost


def recorded(folder, monkeypatch, fixed_name):
    """The log of a save beside an older checkpoint, or over it, and the folder as it was before."""
    path = folder / "best.safetensors" if fixed_name else folder
    old = checkpoint.save(path, {"w": np.full(5, 1.0)}, {"step": "1"})
    before = {old.name: old.read_bytes()}
    return record(path, monkeypatch), before


@pytest.mark.parametrize("fixed_name", [False, True])
def test_checkpoint_survives_power_loss_at_every_instant(tmp_path, monkeypatch, fixed_name):
    log, before = recorded(tmp_path, monkeypatch, fixed_name)
    calls = [o[0] for o in log if o[0] != "fsync" or o[1] == log[0][1]]
    assert calls == ["create", "write", "fsync", "rename", "sync_folder", "saved", "unlink"][:6 if fixed_name else 7]
    states, nothing, lost = judge(log, before)
    assert states > 300 and nothing == 0 and lost == 0


@pytest.mark.parametrize("fault, fixed_name", [
    ("no fsync", False), ("no folder sync", False), ("old one removed first", False), ("fsync after rename", True),
    ("in place", True)])
def test_power_loss_model_catches_broken_protocols(tmp_path, monkeypatch, fault, fixed_name):
    log, before = recorded(tmp_path, monkeypatch, fixed_name)
    temporary, target, old = log[0][1], next(o[2] for o in log if o[0] == "rename"), next(iter(before))
    if fault == "no fsync":
        log = [o for o in log if o[0] != "fsync"]
    elif fault == "no folder sync":
        log = [o for o in log if o[0] != "sync_folder"]
    elif fault == "old one removed first":
        log = [("unlink", old)] + [o for o in log if o[0] != "unlink"]
    elif fault == "fsync after rename":
        log = [*log[:2], ("rename", temporary, target), ("fsync", target), *log[4:]]
    else:
        log = [(kind, target, *rest[1:]) for kind, *rest in log[:3]] + log[4:]
    _, nothing, lost = judge(log, before)
    assert nothing + lost > 0
