"""Archives: good ones are read, and every published way to bite with one is refused."""

import io
import struct
import tracemalloc
import zipfile
import zlib

import pytest

from recurrax.saving import Limits, LoadError
from recurrax.saving.archive import read_directory, read_member

from .hostile import raw_zip, zipped

CONTENT = {"config.json": b"{}" * 50, "model.weights.h5": bytes(range(256)) * 40}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_come_back_as_they_were(method):
    data = zipped(CONTENT, method)
    directory = read_directory(data)
    assert {name: bytes(read_member(data, m)) for name, m in directory.items()} == CONTENT


def test_an_archive_with_sizes_of_64_bits_is_read():
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w") as archive,
        archive.open("config.json", "w", force_zip64=True) as file,
    ):
        file.write(b"{}")
    data = buffer.getvalue()
    assert bytes(read_member(data, read_directory(data)["config.json"])) == b"{}"


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "a/../../evil",
        "/etc/passwd",
        "C:\\x",
        "C:/x",
        "a\\..\\b",
        "a//b",
        ".",
        "",
        "a\x00b",
    ],
)
def test_a_name_that_leads_out_of_the_archive_is_refused(name):
    with pytest.raises(LoadError, match="leads out of it"):
        read_directory(raw_zip([{"name": name, "data": b"x"}]))


def test_a_symbolic_link_is_refused():
    link = {"name": "assets/x", "data": b"/etc/passwd", "attributes": 0o120777 << 16}
    with pytest.raises(LoadError, match="symbolic link"):
        read_directory(raw_zip([link]))


def test_a_name_twice_is_refused():
    with pytest.raises(LoadError, match="two members"):
        read_directory(raw_zip([{"name": "config.json"}, {"name": "config.json"}]))


def test_a_bomb_is_refused_by_what_it_declares():
    data = raw_zip([{"name": "config.json", "data": bytes(2**24), "method": 8}])
    with pytest.raises(LoadError, match="expansion=200"):
        read_directory(data)


def test_a_bomb_that_lies_about_its_size_stops_there():
    bomb = {"name": "config.json", "data": bytes(2**26), "method": 8, "size": 100}
    data = raw_zip([bomb])
    tracemalloc.start()
    with pytest.raises(LoadError, match="does not unpack to the 100 bytes"):
        read_member(data, read_directory(data)["config.json"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_a_declared_size_beyond_the_limit_is_refused():
    data = zipped({"a": bytes(1000)})
    with pytest.raises(LoadError, match="unpacked_bytes=999"):
        read_directory(data, Limits(unpacked_bytes=999))


def test_members_that_share_bytes_are_refused():
    inner = raw_zip([{"name": "b", "data": b"y"}])
    outer = {"name": "a", "data": inner[: 30 + 2]}
    with pytest.raises(LoadError, match="lies over"):
        read_directory(raw_zip([outer, {"name": "b", "data": b"y", "start": 31}]))


def test_too_many_members_are_refused():
    data = raw_zip([{"name": f"a{i}"} for i in range(20)])
    with pytest.raises(LoadError, match="members=10"):
        read_directory(data, Limits(members=10))


def test_an_encrypted_member_and_an_unknown_method_are_refused():
    with pytest.raises(LoadError, match="encrypted"):
        read_directory(raw_zip([{"name": "a", "flags": 1}]))
    with pytest.raises(LoadError, match="unknown method 12"):
        read_directory(raw_zip([{"name": "a", "method": 12}]))


def test_a_directory_that_contradicts_the_member_is_refused():
    data = raw_zip([{"name": "config.json", "data": b"{}"}])
    where = data.index(b"config.json")
    with pytest.raises(LoadError, match="contradicts"):
        read_directory(data[:where] + b"CONFIG.json" + data[where + 11 :])


@pytest.mark.parametrize("keep", [0, 1, 10, 22, 100, -1, -20])
def test_a_cut_off_archive_is_refused(keep):
    data = zipped(CONTENT)
    with pytest.raises(LoadError):
        read_directory(data[:keep])


def test_a_flipped_bit_is_found():
    data = bytearray(zipped(CONTENT))
    data[data.index(bytes(range(256)))] ^= 1
    with pytest.raises(LoadError, match="checksum"):
        read_member(bytes(data), read_directory(bytes(data))["model.weights.h5"])


def test_a_damaged_stream_is_refused():
    entry = {"name": "a", "data": b"x" * 50, "method": 8, "packed": b"\xff" * 20}
    data = raw_zip([entry])
    with pytest.raises(LoadError, match="cannot be unpacked"):
        read_member(data, read_directory(data)["a"])
    packed = zlib.compress(b"x" * 50)[2:-4]
    data = raw_zip([{**entry, "packed": packed[:-2]}])
    with pytest.raises(LoadError, match="cut off"):
        read_member(data, read_directory(data)["a"])


def test_bytes_after_the_end_and_parts_of_several_are_refused():
    with pytest.raises(LoadError, match="follow"):
        read_directory(zipped(CONTENT) + b"more")
    data = bytearray(zipped(CONTENT))
    struct.pack_into("<H", data, len(data) - 18, 3)
    with pytest.raises(LoadError, match="one part"):
        read_directory(bytes(data))
