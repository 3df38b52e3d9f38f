"""HDF5 files: what h5py writes is read the same; nothing leads out, nothing is larger than it."""

import struct

import h5py
import ml_dtypes
import numpy as np
import pytest

from recurrax.saving import Limits, LoadError
from recurrax.saving.hdf5 import read_file

from .hostile import h5, patched

DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u4", "u8", "?", ">f4", ">i8"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (0, 5)])
def test_arrays_come_back(dtype, shape):
    expected = (np.arange(24).reshape(2, 3, 4) % 2 * 3).astype(dtype)
    expected = np.resize(expected, shape).astype(dtype)
    got = read_file(h5(lambda f: f.create_dataset("a/b", data=expected))).arrays["a/b"]
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


def test_bfloat16_comes_back():
    expected = np.arange(5).astype(ml_dtypes.bfloat16)

    def write(file):
        file.create_dataset("a", data=expected).attrs["dtype"] = "bfloat16"

    got = read_file(h5(write)).arrays["a"]
    assert got.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_groups_and_attributes_come_back(libver, tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver=libver) as file:
        count = 300 if libver == "earliest" else 6
        for i in range(count):
            file[f"group/sub/{i}"] = np.float32(i)
        group = file["group"]
        group.attrs["text"] = "größer" * 100
        group.attrs["fixed"] = np.bytes_("abc")
        group.attrs["names"] = np.array([b"x", b"yy"])
        group.attrs["number"] = np.arange(3)
        group.attrs["strings"] = ["u", "vw"]
    file = read_file(path.read_bytes())
    assert sorted(file.groups["group/sub"], key=int) == [str(i) for i in range(count)]
    assert all(file.arrays[f"group/sub/{i}"] == i for i in range(count))
    attributes = file.attributes["group"]
    assert attributes["text"] == "größer" * 100
    assert attributes["fixed"] == "abc"
    assert attributes["names"].tolist() == [b"x", b"yy"]
    assert attributes["strings"].tolist() == ["u", "vw"]
    np.testing.assert_array_equal(attributes["number"], np.arange(3))


def _external(file):
    file.create_dataset("a", (3,), "f4", external=[("/etc/passwd", 0, 12)])


def _virtual(file):
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (3,))
    file.create_virtual_dataset("a", layout)


@pytest.mark.parametrize(
    ("write", "complaint"),
    [
        (lambda f: f.__setitem__("a", h5py.ExternalLink("other.h5", "/x")), "link"),
        (lambda f: f.__setitem__("a", h5py.SoftLink("/nowhere")), "soft link"),
        (_external, "in another file"),
        (_virtual, "virtual"),
        (lambda f: f.create_dataset("a", (2**40,), "f4", chunks=(2**10,)), "chunked"),
        (lambda f: f.create_dataset("a", (9,), "f4", compression="gzip"), "compressed"),
        (lambda f: f.create_dataset("a", (2**50,), "f4"), "holds 0"),
        (lambda f: f.create_dataset("a", (3,), "f4"), "holds 0"),
        (lambda f: f.create_dataset("a", (2**40, 0), "f4"), "has the shape"),
        (lambda f: f.create_dataset("a", data=["x", "y"]), "strings of variable length"),
        (lambda f: f.create_dataset("a", data=np.zeros(2, "c8")), "no weights"),
        (lambda f: f.create_dataset("a", data=np.zeros(2, [("x", "f4")])), "no weights"),
        (lambda f: f.create_dataset("a", (1,), h5py.ref_dtype), "no weights"),
        (lambda f: f.__setitem__("g/h", f), "in a circle"),
        (lambda f: f.create_dataset("a", (2,), h5py.vlen_dtype("f4")), "no weights"),
    ],
)
def test_what_leads_elsewhere_or_is_not_there_is_refused(write, complaint):
    with pytest.raises(LoadError, match=complaint):
        read_file(h5(write))


@pytest.mark.parametrize("libver", ["latest"])
@pytest.mark.parametrize("link", [h5py.SoftLink("/x"), h5py.ExternalLink("b.h5", "/x")])
def test_links_of_new_files_are_refused(libver, link, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", libver=libver) as file:
        file["a"] = link
    with pytest.raises(LoadError, match="link"):
        read_file((tmp_path / "a.h5").read_bytes())


def test_dense_groups_are_refused_with_the_mend(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        for i in range(50):
            file[str(i)] = 1.0
    with pytest.raises(LoadError, match=r"h5py.File\(path, 'w'\)"):
        read_file((tmp_path / "a.h5").read_bytes())


def test_a_shape_larger_than_the_bytes_is_refused():
    data = h5(lambda f: f.create_dataset("a", data=np.zeros((7, 1123), "f4")))
    shape = struct.pack("<QQ", 7, 1123)
    # The shape stands twice: as it is and as the most it may grow to.
    assert data.count(shape) == 2
    data = data.replace(shape, struct.pack("<QQ", 2**31, 2**31))
    with pytest.raises(LoadError, match="which is"):
        read_file(data)


def test_values_outside_the_file_are_refused():
    content = np.arange(100, dtype="f8") + 0.123
    data = h5(lambda f: f.create_dataset("a", data=content))
    start = data.index(content.tobytes())
    data = patched(data, struct.pack("<QQ", start, 800), struct.pack("<QQ", 2**40, 800))
    with pytest.raises(LoadError, match="cut off or damaged"):
        read_file(data)


def test_many_names_for_one_array_cost_nothing():
    def write(file):
        file["a"] = np.zeros(2**20, "f4")
        for i in range(500):
            file[f"b{i}"] = file["a"]

    file = read_file(h5(write))
    assert len(file.arrays) == 501
    assert all(np.shares_memory(a, file.arrays["a"]) for a in file.arrays.values())


def test_more_objects_than_the_limits_are_refused():
    def doubling(file):
        group = file
        for _ in range(30):  # 2^30 paths in a small file
            group = group.create_group("x")
            group.parent["y"] = group

    with pytest.raises(LoadError, match="h5_objects=1,000"):
        read_file(h5(doubling), Limits(h5_objects=1000))
    with pytest.raises(LoadError, match="h5_depth=5"):
        read_file(h5(lambda f: f.create_group("a/b/c/d/e/f/g")), Limits(h5_depth=5))


@pytest.mark.parametrize("keep", [0, 7, 8, 40, 95, 700, -1])
def test_a_cut_off_file_is_refused(keep):
    data = h5(lambda f: f.create_dataset("a/b", data=np.zeros(9)))
    with pytest.raises(LoadError):
        read_file(data[:keep])
