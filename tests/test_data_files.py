"""IDX, .npy and .npz readers: what they accept, and one clear line for everything else. Share of the suite: 3 s."""
import gzip
import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from npdvae import data
from npdvae.data import arrays, idx

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 3, 2)).astype(np.uint8)


def idx_bytes(array, code=0x08):
    """An IDX file in memory."""
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def npy_bytes(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def refused(call, *words):
    """The call raises ValueError with one line that holds the words."""
    with pytest.raises(ValueError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    for word in words:
        assert word in message, message


def write(path, content):
    path.write_bytes(content)
    return path


# IDX

@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("code, dtype", [(0x08, "u1"), (0x0D, ">f4"), (0x0E, ">f8")])
def test_idx_reads_what_was_written(tmp_path, packed, code, dtype):
    array = IMAGES.astype(dtype)
    content = idx_bytes(array, code)
    path = write(tmp_path / "a", gzip.compress(content) if packed else content)
    np.testing.assert_array_equal(idx.read(path), array)


def test_idx_refuses_every_truncation_and_any_extension(tmp_path):
    content = idx_bytes(IMAGES)
    for n in range(len(content)):
        path = write(tmp_path / "a", content[:n])
        refused(lambda path=path: idx.read(path), str(path))
    path = write(tmp_path / "a", content + b"0")
    refused(lambda: idx.read(path), "longer than its header says", "58 bytes expected", "got 59")


def test_idx_refuses_every_truncation_and_bit_flip_of_a_gzip_file(tmp_path):
    packed = gzip.compress(idx_bytes(IMAGES), mtime=0)
    for n in range(2, len(packed)):
        path = write(tmp_path / "a", packed[:n])
        refused(lambda path=path: idx.read(path), str(path))
    padding = 0
    for bit in range(8 * 10, 8 * len(packed)):                      # after gzip's own header, which carries no pixels
        flipped = bytearray(packed)
        flipped[bit // 8] ^= 1 << bit % 8
        path = write(tmp_path / "a", flipped)
        try:
            array = idx.read(path)
        except ValueError as fault:
            assert str(path) in str(fault)
        else:
            np.testing.assert_array_equal(array, IMAGES)
            padding += 1
    assert padding < 8                                              # the unused bits of deflate's last byte


@pytest.mark.parametrize("content, words", [
    (b"", ["not an IDX file", "nothing"]),
    (b"\x89PNG\r\n", ["not an IDX file", "89 50 4e 47"]),
    (b"\0\0\x08\0", ["not an IDX file"]),
    (b"\0\0\x0c\x01\0\0\0\1" + b"\0" * 4, ["IDX type 0x0c is not supported"]),
    (b"\0\0\x08\x03\0\0", ["truncated within its header", "16 bytes expected, got 6"]),
])
def test_idx_refuses_bad_headers(tmp_path, content, words):
    path = write(tmp_path / "a", content)
    refused(lambda: idx.read(path), *words)
    packed = write(tmp_path / "a.gz", gzip.compress(content))
    refused(lambda: idx.read(packed), *words)


@pytest.mark.parametrize("packed", [False, True])
def test_idx_allocates_nothing_for_a_header_that_lies(tmp_path, packed):
    content = b"\0\0\x08\x03" + struct.pack(">3I", 2 ** 32 - 1, 2 ** 32 - 1, 2 ** 32 - 1) + b"1234"
    path = write(tmp_path / "a", gzip.compress(content) if packed else content)
    tracemalloc.start()
    refused(lambda: idx.read(path), "79228162458924105385300197391")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 ** 20


def test_idx_reads_no_more_of_a_gzip_bomb_than_its_header_promises(tmp_path):
    path = write(tmp_path / "a", gzip.compress(idx_bytes(IMAGES) + bytes(2 ** 25), 9))
    tracemalloc.start()
    refused(lambda: idx.read(path), "longer than its header says", "58 bytes expected")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 ** 20


def test_folder_of_idx_files(tmp_path):
    folder = tmp_path / "fashion"
    folder.mkdir()
    refused(lambda: data.load(folder), str(folder), "no train images", "train-images-idx3-ubyte[.gz]")
    write(folder / "train-images-idx3-ubyte.gz", gzip.compress(idx_bytes(IMAGES)))
    refused(lambda: data.load(folder), "no test images")
    write(folder / "t10k-images.idx3-ubyte", idx_bytes(IMAGES[:2]))
    dataset = data.load(str(folder))
    assert (dataset.name, dataset.shape, dataset.levels, dataset.train_labels) == ("fashion", (3, 2), 255, None)
    np.testing.assert_array_equal(dataset.train, IMAGES.reshape(7, 6))
    np.testing.assert_array_equal(dataset.test, IMAGES[:2].reshape(2, 6))
    write(folder / "train-labels-idx1-ubyte", idx_bytes(np.arange(7, dtype=np.uint8)))
    np.testing.assert_array_equal(data.load(folder).train_labels, np.arange(7))
    write(folder / "train-labels-idx1-ubyte", idx_bytes(np.arange(6, dtype=np.uint8)))
    refused(lambda: data.load(folder), "train has 7 images but 6 labels")
    write(folder / "other-t10k-images-idx3-ubyte", idx_bytes(IMAGES[:2]))
    refused(lambda: data.load(folder), "ambiguous")


# .npy and .npz

@pytest.mark.parametrize("array, levels, shape", [
    (IMAGES, 255, (3, 2)),
    (IMAGES.reshape(7, 6), 255, (1, 6)),
    (np.zeros((7, 9)) + 0.25, 1, (3, 3)),
    (np.asfortranarray(IMAGES / 255), 1, (3, 2)),
    ((IMAGES / 255).astype(">f4"), 1, (3, 2)),
    ((IMAGES / 255).astype(np.float16), 1, (3, 2)),
    (IMAGES[:, None], 255, (3, 2)),
    (IMAGES[..., None], 255, (3, 2)),
    (IMAGES > 99, 1, (3, 2)),
    ((IMAGES > 99).astype(np.uint8), 1, (3, 2)),
])
def test_npy_layouts_and_types(tmp_path, array, levels, shape):
    np.save(tmp_path / "a.npy", array)
    dataset = data.load(tmp_path / "a.npy")
    assert (dataset.levels, dataset.shape, len(dataset.train), len(dataset.test)) == (levels, shape, 6, 1)
    assert dataset.train.dtype == (np.float32 if array.dtype.kind == "f" else np.uint8)
    rows = array.reshape(7, -1).astype(dataset.train.dtype)
    np.testing.assert_array_equal(np.sort(np.concatenate([dataset.train, dataset.test]), 0), np.sort(rows, 0))


@pytest.mark.parametrize("keys", [("train", "test"), ("x_train", "x_test")])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_with_its_own_test_part(tmp_path, keys, save):
    save(tmp_path / "a.npz", **{keys[0]: IMAGES, keys[1]: IMAGES[:3], "y_train": np.arange(7)})
    dataset = data.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(dataset.train, IMAGES.reshape(7, 6))
    np.testing.assert_array_equal(dataset.test, IMAGES[:3].reshape(3, 6))


def test_npz_without_a_test_part_is_split_like_npy(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=np.arange(7))
    np.savez(tmp_path / "b.npz", whatever=IMAGES)
    np.save(tmp_path / "c.npy", IMAGES)
    a, b, c = (data.load(tmp_path / name) for name in ("a.npz", "b.npz", "c.npy"))
    np.testing.assert_array_equal(a.train, c.train)
    np.testing.assert_array_equal(b.test, c.test)


@pytest.mark.parametrize("array, words", [
    (np.where(np.arange(42).reshape(7, 6) == 20, np.nan, 0.5), ["pixel 2 of image 3 is nan", "0..1"]),
    (np.where(np.arange(42).reshape(7, 6) == 41, -1e-3, 0.5), ["pixel 5 of image 6 is -0.001"]),
    (IMAGES.astype(np.float32), ["pixel 0 of image 0 is", "floats within 0..1"]),
    (np.full((7, 6), np.inf), ["is inf"]),
    (IMAGES.astype(np.int64), ["int64", "expected uint8 (0..255)"]),
    (IMAGES.ravel(), ["expected images [N, P] or [N, H, W]", "[42]"]),
    (IMAGES[:0], ["[0, 3, 2]"]),
    (IMAGES[:, :0], ["[7, 0, 2]"]),
    (IMAGES[:1], ["at least 2 images"]),
    (np.array(3.0), ["[N, H, W], none empty, got shape []"]),
    (np.zeros((2, 3, 4, 5)), ["[2, 3, 4, 5]"]),
    (np.array([["a", "b"]] * 3), ["<U1"]),
])
def test_npy_refuses_pixels_it_cannot_use(tmp_path, array, words):
    np.save(tmp_path / "a.npy", array)
    refused(lambda: data.load(tmp_path / "a.npy"), *words)


def test_pickles_are_refused(tmp_path):
    evil = np.array([[{"a": 1}] * 4] * 4, dtype=object)
    np.save(tmp_path / "a.npy", evil)
    np.savez(tmp_path / "a.npz", images=evil)
    for name in ("a.npy", "a.npz"):
        refused(lambda name=name: data.load(tmp_path / name), name, "pickled Python objects, which are refused")


def test_npy_refuses_every_truncation_and_any_extension(tmp_path):
    content = npy_bytes(IMAGES)
    for n in range(len(content)):
        path = write(tmp_path / "a.npy", content[:n])
        refused(lambda path=path: data.load(path), str(path))
    path = write(tmp_path / "a.npy", content + b"0")
    refused(lambda: data.load(path), "longer than its header says", "got 43")


@pytest.mark.parametrize("shape", ["(99999999999999999999, 6)", "(7, 2147483648)", "(-7, 6)", "('a', 6)", "7", "(7,"])
def test_npy_refuses_a_header_that_lies(tmp_path, shape):
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    path = write(tmp_path / "a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + b"0" * 42)
    tracemalloc.start()
    refused(lambda: data.load(path), str(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 ** 20


def test_npz_refuses_every_truncation(tmp_path):
    stream = io.BytesIO()
    np.savez_compressed(stream, images=IMAGES)
    content = stream.getvalue()
    for n in range(len(content)):
        path = write(tmp_path / "a.npz", content[:n])
        refused(lambda path=path: data.load(path), str(path))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_bit_flips_are_refused_or_harmless(tmp_path, save):
    stream = io.BytesIO()
    save(stream, images=IMAGES)
    content, expected = stream.getvalue(), arrays.from_arrays(IMAGES)
    accepted = 0
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path = write(tmp_path / "a.npz", flipped)
        try:
            dataset = data.load(path)
        except ValueError as fault:
            assert "a.npz" in str(fault) and "\n" not in str(fault)
            continue
        accepted += 1                                               # dates, versions and attributes of the zip format
        np.testing.assert_array_equal(dataset.train, expected.train)
    assert accepted < 4 * len(content)


def test_npz_bomb_is_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", npy_bytes(IMAGES) + bytes(2 ** 25))
    tracemalloc.start()
    refused(lambda: data.load(tmp_path / "a.npz"), "longer than its header says")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 ** 21


def test_npz_refuses_what_it_cannot_name(tmp_path):
    np.savez(tmp_path / "a.npz", first=IMAGES, second=IMAGES)
    refused(lambda: data.load(tmp_path / "a.npz"), "expected arrays train and test", "got first, second")
    np.savez(tmp_path / "b.npz", train=IMAGES, test=IMAGES[:, :2])
    refused(lambda: data.load(tmp_path / "b.npz"), "test images are 2 x 2 pixels, training images 3 x 2")
    np.savez(tmp_path / "c.npz", train=IMAGES, test=IMAGES / 255)
    refused(lambda: data.load(tmp_path / "c.npz"), "train is uint8 and test is float32")


def test_from_arrays_takes_arrays_in_memory():
    dataset = arrays.from_arrays(IMAGES / 255, IMAGES[:2] / 255)
    assert dataset.train.shape == (7, 6) and dataset.test.shape == (2, 6) and dataset.levels == 1
    refused(lambda: arrays.from_arrays(IMAGES * 1.0), "train: pixel")


def test_npz_with_a_name_that_is_no_text_is_named(tmp_path):
    """The flag for UTF-8 names, and a name that is none."""
    stream = io.BytesIO()
    np.savez(stream, images=IMAGES)
    entry = stream.getvalue().rindex(b"PK\x01\x02")
    content = bytearray(stream.getvalue())
    content[entry + 9] |= 8
    content[entry + 46] = 0xFF
    refused(lambda: data.load(write(tmp_path / "a.npz", content)), "a.npz: damaged or unsupported")
