"""Arrays of numbers in NumPy's files that anybody may have written: no pickle, and nothing beyond the bytes."""

from __future__ import annotations

import errno
import io
import math
import re
import struct
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from prunectl.agents.files import check_regular, open_zip, read_entry

#: What NumPy writes of an array of numbers or truth values, but for the two bytes of the header's length; NumPy itself
#: reads a header as Python.
_HEADER = (
    rb"\x93NUMPY\x01\x00\{'descr': '(?P<type>[<>|](f[248]|[iu][1248]|b1))', 'fortran_order': (?P<columns>True|False), "
    rb"'shape': \((?P<shape>(\d{1,19}(, ?|(?=\))))*)\), ?\}\s*"
)


def read_npy(path: Path, limit: int) -> NDArray[Any]:
    """The array that `numpy.save` wrote, of numbers or truth values.

    Raises:
        ValueError: something else, or a file that is cut short.
        OSError: it cannot be read, is no regular file, or is larger than ``limit`` bytes.
    """
    check_regular(path)
    if (size := path.stat().st_size) > limit:
        raise OSError(errno.EFBIG, f"over {limit // 2**20} MiB, no such file is read", str(path))
    with path.open("rb") as stream:
        return _array(stream, size)


def read_npz(path: Path, names: tuple[str, ...], limit: int) -> tuple[NDArray[Any], ...]:
    """The arrays of these names that `numpy.savez` wrote, of at most ``limit`` bytes each.

    Raises:
        ValueError, zipfile.BadZipFile, KeyError: something else.
        OSError: it cannot be read, or is no regular file.
    """
    check_regular(path)
    with path.open("rb") as stream, open_zip(stream) as archive:
        entries = [read_entry(archive, f"{name}.npy", limit) for name in names]
    return tuple(_array(io.BytesIO(entry), len(entry)) for entry in entries)


def _array(stream: IO[bytes], size: int) -> NDArray[Any]:
    """The array in a stream of so many bytes, which bear out what its header says."""
    start = stream.read(10)
    length = struct.unpack("<H", start[8:])[0] if len(start) == 10 else 0
    header = re.fullmatch(_HEADER, start[:8] + stream.read(length))
    if header is None:
        raise ValueError("another form, or no numbers")
    dtype, sides = np.dtype(header["type"].decode()), [int(side) for side in re.findall(rb"\d+", header["shape"])]
    count = math.prod(sides[:32])
    if len(sides) > 32 or max(sides, default=0) > size or count * dtype.itemsize > size - stream.tell():
        raise ValueError(f"an array {'x'.join(map(str, sides[:4]))} in {size} bytes")
    content = bytearray(stream.read(count * dtype.itemsize))
    return np.frombuffer(content, dtype).reshape(sides, order="F" if header["columns"] == b"True" else "C")
