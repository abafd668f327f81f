"""Tensors from files that anybody may have written.

``torch.load(weights_only=True)`` runs no code, but it believes what a file says of sizes: a deflated record or a
storage of claimed length takes any amount of memory. This reads the same files, the two forms of ``torch.save``, and
takes no more than a few times what they hold.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from prunectl.agents.controller import ControllerError
from prunectl.agents.files import open_zip, read_entry
from prunectl.agents.pickles import PickleError, hold, read_pickle
from prunectl.registry import one_line

#: No file of tensors that we read is larger; a controller's weights are far smaller, a zip bomb is not.
LARGEST_WEIGHTS = 512 * 2**20
#: Names, shapes and our own JSON among the tensors.
LARGEST_STRUCTURE = 16 * 2**20

_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
#: No tensor has more axes.
_AXES = 8
#: What the form of before PyTorch 1.6 starts with, and the protocol after it.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def read_tensors(raw: bytes) -> Any:
    """What ``torch.save`` wrote: plain data, and tensors on the CPU that share nothing.

    Raises:
        ControllerError: anything else in it, or sizes that its bytes do not bear out.
    """
    try:
        return _of_zip(raw) if raw[:2] == b"PK" else _of_stream(raw)
    except (PickleError, zipfile.BadZipFile, zipfile.zlib.error, KeyError, EOFError, struct.error) as error:  # type: ignore[attr-defined]
        raise ControllerError(one_line(error)) from error
    except (RuntimeError, NotImplementedError, OSError, UnicodeDecodeError) as error:  # zipfile's, of odd entries
        raise ControllerError(one_line(error)) from error


def check_finite(state: Mapping[str, Tensor], where: str) -> None:
    """Raise ControllerError if a weight is NaN or infinite, naming the tensor."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ControllerError(f"{where}: weights '{name}' hold NaN or infinity; the file is damaged")


def _of_zip(raw: bytes) -> Any:
    with open_zip(io.BytesIO(raw)) as archive:
        structure = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(structure) != 1:
            raise PickleError("it has no 'data.pkl'")
        top = structure[0].removesuffix("data.pkl")
        if f"{top}byteorder" in archive.namelist() and read_entry(archive, f"{top}byteorder", 16) != b"little":
            raise PickleError("it was written on a big-endian machine")
        reader = _Reader(lambda key, size: read_entry(archive, f"{top}data/{key}", size))
        return read_pickle(
            io.BytesIO(read_entry(archive, structure[0], LARGEST_STRUCTURE)), reader.admit, reader.persistent
        )


def _of_stream(raw: bytes) -> Any:
    """Five pickles (magic number, protocol, machine, data, keys), then the storages: each its length and its bytes."""
    stream = io.BytesIO(raw)
    if [read_pickle(stream, _nothing) for _ in range(2)] != [_MAGIC, _PROTOCOL]:
        raise PickleError("neither of the forms that PyTorch writes")
    machine, start = read_pickle(stream, _nothing), stream.tell()
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise PickleError("it was written on a big-endian machine")
    sizes: dict[str, int] = {}

    def measure(said: Any) -> None:
        dtype, key, count = _storage(said)
        sizes[key] = count * dtype.itemsize

    read_pickle(stream, _any_storage, measure)
    keys = read_pickle(stream, _nothing)
    storages = {}
    if not (isinstance(keys, list) and all(type(key) is str for key in keys)):
        raise PickleError("keys that are no text")
    for key in keys:
        (count,) = struct.unpack("<q", stream.read(8))
        storages[key] = stream.read(sizes[key] if count >= 0 else 0)
    stream.seek(start)
    reader = _Reader(lambda key, size: storages[key])
    return read_pickle(stream, reader.admit, reader.persistent)


class _Reader:
    """Builds the tensors of one file, and keeps count of what they take."""

    def __init__(self, content: Callable[[str, int], bytes]) -> None:
        self.content = content
        self.storages: dict[str, Tensor] = {}
        self.taken = 0

    def admit(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, *_: data
        if (module, name) == ("collections", "OrderedDict"):
            return _empty
        if module == "torch" and name in ("Size", "device"):  # which TD-MPC2's authors keep among the tensors
            return hold
        return _storage_type(module, name)

    def persistent(self, said: Any) -> Tensor:
        dtype, key, count = _storage(said)
        if key not in self.storages:
            size = count * dtype.itemsize
            self._take(size)
            content = self.content(key, size)
            if len(content) != size:
                raise PickleError(f"storage '{key[:20]}' is said to hold {size} bytes, and has {len(content)}")
            empty = torch.empty(0, dtype=dtype)
            self.storages[key] = torch.frombuffer(bytearray(content), dtype=dtype) if count else empty
        return self.storages[key]

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
        # A tensor could stand here as well, and be taken apart into millions of them.
        if not (type(size) is type(stride) is tuple and len(size) == len(stride) <= _AXES):
            raise PickleError("a tensor of no sensible shape")
        numbers = (offset, *size, *stride)
        if not isinstance(storage, Tensor) or not all(type(n) is int and 0 <= n < 2**40 for n in numbers):
            raise PickleError("a tensor of no sensible shape")
        count = math.prod(size)
        # Strides of zero show one number as any number of them.
        if count > storage.numel():
            raise PickleError(f"a tensor of {count} numbers from a storage of {storage.numel()}")
        self._take(count * storage.element_size())
        return storage.as_strided(size, stride, offset).clone()

    def _take(self, size: int) -> None:
        self.taken += size
        if self.taken > 2 * LARGEST_WEIGHTS:
            raise PickleError(f"its tensors would take over {2 * LARGEST_WEIGHTS // 2**20} MiB")


def _storage(said: Any) -> tuple[torch.dtype, str, int]:
    """Type, key and length of a storage, from the persistent id that stands for it."""
    if type(said) is not tuple or len(said) not in (5, 6):
        raise PickleError("a reference to what is no storage")
    kind, make, key, _, count, *view = said
    dtype = make.function() if hasattr(make, "function") else None
    if kind != "storage" or not isinstance(dtype, torch.dtype) or any(part is not None for part in view):
        raise PickleError("a reference to what is no storage")
    if type(key) is not str or type(count) is not int or not 0 <= count * dtype.itemsize <= LARGEST_WEIGHTS:
        raise PickleError("a storage of no sensible length or name")
    return dtype, key, count


def _storage_type(module: str, name: str) -> Callable[..., Any]:
    if module != "torch" or name not in _STORAGES:
        raise PickleError(f"it names {module[:40]}.{name[:40]}, and weights do not")
    return lambda: _STORAGES[name]


def _empty() -> dict[str, Any]:
    """A table that takes no arguments: of one, `dict` would hash any key, and copy a large one any number of times."""
    return {}


def _any_storage(module: str, name: str) -> Callable[..., Any]:
    return _storage_type(module, name) if module == "torch" else hold


def _nothing(module: str, name: str) -> Callable[..., Any]:
    raise PickleError(f"it names {module[:40]}.{name[:40]}, and weights do not")
