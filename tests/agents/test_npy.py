"""Rows and statistics in NumPy's files: read as they are, and no more than the file has."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prunectl.agents import ControllerError
from prunectl.agents.npy import read_npy, read_npz
from prunectl.experiments.cli import mistake
from prunectl.experiments.cli.common import rows_of
from tests import hostile
from tests.agents.test_hostile import DEPTHS, Spoil, fuzz

LIMIT = 2**20


def saved(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def with_header(header: str, content: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + content


def claimed(shape: str, descr: str = "'<f4'", content: bytes = bytes(64)) -> bytes:
    return with_header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n", content)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4),
        np.asfortranarray(np.arange(12, dtype=np.uint8).reshape(3, 4)),
        np.arange(12, dtype=">i4").reshape(3, 2, 2),
        np.zeros((0, 3), np.float16),
        np.array([True, False]),
        np.array(1.5),
    ],
    ids=["floats", "columns first", "big-endian", "none", "truth", "one"],
)
def test_arrays_are_read_as_numpy_reads_them(tmp_path: Path, array: Any) -> None:
    (tmp_path / "a.npy").write_bytes(saved(array))
    read = read_npy(tmp_path / "a.npy", LIMIT)
    np.testing.assert_array_equal(read, array)
    assert (read.dtype, read.shape) == (array.dtype, array.shape)
    np.savez_compressed(tmp_path / "a.npz", first=array, second=array)
    np.testing.assert_array_equal(read_npz(tmp_path / "a.npz", ("first", "second"), LIMIT), [array, array])


class Runs:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/prunectl-ran",)


@pytest.mark.parametrize(
    "content",
    [
        saved(np.array([Runs()], dtype=object)),
        claimed("(1000000000000,)"),
        claimed("(4611686018427387904, 4)"),
        claimed("(4294967296, 4294967296)"),
        claimed("(-1,)"),
        claimed("(0, 9999999999999999999)"),
        claimed("(1,)", "'<f1'"),
        claimed("(0, 10000000000000000000000)"),
        claimed("(2.0,)"),
        claimed("(3,)", "[('a', '<f4'), ('b', '<f4')]"),
        claimed("(1,)", "'|V1000000000'", bytes(8)),
        claimed("(1,)", "'<U99'", bytes(400)),
        claimed("(1,)", "'|O'"),
        claimed("(" + "1," * 5000 + ")"),
        claimed("__import__('os').system('touch /tmp/prunectl-ran')"),
        with_header("(" * 60_000),
        saved(np.arange(12.0))[:-1],
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
        b"",
        b"PK",
    ],
)  # fmt: skip
def test_what_is_no_plain_array_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rows.npy").write_bytes(content)
    with hostile.watched(), pytest.raises((ValueError, OSError)) as raised:
        read_npy(tmp_path / "rows.npy", LIMIT)
    assert not isinstance(raised.value.__cause__, MemoryError)
    assert not Path("/tmp/prunectl-ran").exists()


def test_the_command_line_says_which_file(tmp_path: Path) -> None:
    (tmp_path / "rows.npy").write_bytes(claimed("(1000000000000,)"))
    os.mkfifo(tmp_path / "pipe.npy")
    with (tmp_path / "large.npy").open("wb") as stream:
        stream.truncate(2**30 + 1)
    for name, says in (("rows", "no array of numbers"), ("pipe", "no regular file"), ("large", "over 1024 MiB")):
        with hostile.watched(), pytest.raises((ControllerError, OSError)) as raised:
            rows_of(tmp_path / f"{name}.npy")
        line = mistake(raised.value)
        assert line is not None
        assert line.startswith(str(tmp_path / f"{name}.npy"))
        assert says in line


def test_an_archive_that_unpacks_to_more(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mean.npy", claimed("(200000000,)", content=bytes(2**27)))
    with hostile.watched(), pytest.raises(zipfile.BadZipFile, match="would unpack to over 1 MiB"):
        read_npz(tmp_path / "bomb.npz", ("mean",), LIMIT)


@pytest.mark.parametrize("depth", DEPTHS)
def test_spoilt_bytes(tmp_path: Path, depth: int) -> None:
    good, path = saved(np.arange(12.0).reshape(3, 4)), tmp_path / "spoilt.npy"

    def spoilt(spoil: Spoil) -> None:
        path.write_bytes(spoil(good))
        with hostile.watched(), contextlib.suppress(ValueError, OSError):
            read_npy(path, LIMIT)

    fuzz(depth, spoilt, hostile.byte_edits)
