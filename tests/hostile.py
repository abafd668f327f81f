"""What the tests of hostile files share: a watch over what loading does, and ways to spoil a good file."""

from __future__ import annotations

import copy
import io
import json
import resource
import signal
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from conftest import ROOT
from hypothesis import strategies as st

from prunectl import agents
from prunectl.agents import Controller, ControllerError
from prunectl.experiments.cli import mistake, printable
from prunectl.pruning import trace

#: What loading a file may take in memory besides what the process has; the files here hold kilobytes.
MEMORY = 700 * 2**20
#: Nobody waits longer: a hang fails the test instead of hanging it.
PATIENCE = 120

_WATCHED = ("os.", "subprocess.", "socket.", "shutil.", "ctypes.", "pickle.find_class")
_HARMLESS = {"os.listdir", "os.scandir", "os.walk", "os.fwalk"}
_seen: list[str] | None = None
_folder: str | None = None
_ran: list[str] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _folder is not None and event == "exec" and arguments[0].co_filename.startswith(_folder):
        _ran.append(arguments[0].co_filename)
    if _seen is None:
        return
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    # A module of ours or of a library that is imported late runs its own code; `<string>` is a dataclass in it.
    runs = event == "exec" and not arguments[0].co_filename.startswith((sys.prefix, sys.base_prefix, str(ROOT), "<"))
    if writes or runs or (event.startswith(_WATCHED) and event not in _HARMLESS):
        _seen.append(f"{event} {str(arguments)[:200]}")


sys.addaudithook(_hook)  # for good: Python cannot take one away


class Hang(BaseException):
    """Not an Exception, so that no loader takes it for damage."""


@contextmanager
def watched() -> Iterator[None]:
    """Fail if what is done here runs, writes, connects, or takes long or much memory."""
    global _seen

    def give_up(*_: Any) -> None:
        raise Hang(f"over {PATIENCE} s")

    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, give_up)
    events: list[str] = []
    signal.alarm(PATIENCE)
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, hard))
    _seen = events
    try:
        yield
    finally:
        _seen = None
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert not events, events


@contextmanager
def nothing_runs_from(folder: Path) -> Iterator[None]:
    """Fail if code that lies in this folder is run; libraries may be imported late, and do what they do then."""
    global _folder
    _folder = str(folder)
    _ran.clear()
    try:
        yield
    finally:
        _folder = None
    assert not _ran


def said(reference: Path) -> str | None:
    """Load and use what can be loaded: None, or the one line that the user reads."""
    with watched():
        try:
            use(agents.load(reference).controller)
        except (ControllerError, OSError) as error:
            raised: Exception = error
        else:
            return None
    # Running out of memory is a ControllerError too: it is told from a limit that held.
    for reason in (raised, raised.__cause__):
        assert not isinstance(reason, MemoryError), raised
    assert "allocate" not in str(raised), raised
    line = mistake(raised)
    assert line is not None, raised
    assert printable(line).isprintable()
    assert len(line) < 1000, line
    return printable(line)


def use(controller: Controller) -> None:
    """What every command does first."""
    trace(controller)
    controller.act(np.zeros((1, *controller.observation_space.shape)))


# Spoiling bytes

_NUMBERS = [0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**40, 2**63 - 1, 2**64 - 1]


@st.composite
def _edit(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    # Places are shares of the file, and often its last bytes: the directory of a zip lies there.
    share, length = draw(st.floats(0, 1)), draw(st.integers(1, 64))
    from_end = draw(st.booleans())
    kind = draw(st.sampled_from(["flip", "insert", "delete", "repeat", "number", "cut"]))
    content = draw(st.binary(min_size=length, max_size=length))
    number = draw(st.sampled_from(_NUMBERS))
    width = draw(st.sampled_from("BHIQ"))

    def edit(raw: bytes) -> bytes:
        span = min(len(raw), 800) if from_end else len(raw)
        at = len(raw) - span + int(share * span)
        if kind == "flip":
            return raw[:at] + content + raw[at + length :]
        if kind == "number":
            packed = struct.pack("<" + width, number % 2 ** (8 * struct.calcsize(width)))
            return raw[:at] + packed + raw[at + len(packed) :]
        if kind == "cut":
            return raw[:at]
        return {
            "insert": raw[:at] + content + raw[at:],
            "delete": raw[:at] + raw[at + length :],
            "repeat": raw[: at + length] + raw[at:],
        }[kind]

    return edit


@st.composite
def _edits(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    chosen = draw(st.lists(_edit(), min_size=1, max_size=6))

    def spoil(raw: bytes) -> bytes:
        for edit in chosen:
            raw = edit(raw)
        return raw

    return spoil


#: Functions from good bytes to bad ones.
byte_edits = _edits()


# Spoiling JSON


def _deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


#: Values that no honest file has where they may turn up.
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2, 0.5, 10**9, -(10**9), 2**63, 2**64, 10**30, 10**400, 1e308, 1e-320,
    float("nan"), float("inf"), -float("inf"), "", "nan", "inf", "-1", "1e999", "9" * 5000, "x" * 100_000,
    "\x1b[2J\n\r", "../../etc/passwd", "(1000000000,)",
    "(100000, 100000)", "(0,)", "(-1,)", "(3, 3)", "[0. 0. 0.]", "[nan nan nan]",
    "[inf]", "os:system", "<class 'torch.nn.modules.activation.MultiheadAttention'>",
    "<class 'torch.nn.modules.activation.torch'>", "<class 'os.system'>", "<class 'torch.optim.sgd.Optimizer'>",
    "<class 'torch.optim.lbfgs.LBFGS'>", "float64", "object", "V1000000000", "(1000000000,)f8", "f8,f8", "int8", "U99",
    [], [0], [[]], [10**9] * 3, [0.0] * 4, [float("nan")] * 4, ["a"] * 3, {}, {"a": 1}, {":type:": "box.Box"},
    _deep(200),
]  # fmt: skip


@st.composite
def _json_edits(draw: st.DrawFn) -> Callable[[Any], Any]:
    changes = draw(
        st.lists(
            st.tuples(
                st.lists(st.integers(0, 10**6), min_size=1, max_size=4),
                st.sampled_from(ODD) | st.integers() | st.floats() | st.text(max_size=20),
                st.booleans(),
            ),
            min_size=1,
            max_size=3,
        )
    )

    def spoil(data: Any) -> Any:
        data = json.loads(json.dumps(data))
        for path, value, delete in changes:
            place = data
            for position, index in enumerate(path):
                keys = list(place) if isinstance(place, dict) else list(range(len(place)))
                if not keys:
                    break
                key = keys[index % len(keys)]
                if position + 1 < len(path) and isinstance(place[key], dict | list) and place[key]:
                    place = place[key]
                    continue
                if delete:
                    del place[key]
                else:
                    place[key] = copy.deepcopy(value)
                break
        return data

    return spoil


#: Functions from good JSON to bad.
json_edits = _json_edits()


# Spoiling zips


def entries_of(raw: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(entries: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


def with_entry(raw: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    """The zip with one entry changed."""
    entries = entries_of(raw)
    return zipped({**entries, name: change(entries[name])})


def with_structure(raw: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """What `torch.save` wrote, with its pickle changed and its tensors as they were."""
    (name,) = (name for name in entries_of(raw) if name.endswith("/data.pkl"))
    return with_entry(raw, name, change)


# Pickles


def _text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def _called(module: str, name: str, argument: str, by: str) -> bytes:
    """Opcodes that make Python's own unpickler call ``module.name(argument)``."""
    return {
        "REDUCE": b"c%s\n%s\n" % (module.encode(), name.encode()) + _text(argument) + b"\x85R",
        "STACK_GLOBAL": _text(module) + _text(name) + b"\x93" + _text(argument) + b"\x85R",
        "INST": b"(" + _text(argument) + b"i%s\n%s\n" % (module.encode(), name.encode()),
        "OBJ": b"(c%s\n%s\n" % (module.encode(), name.encode()) + _text(argument) + b"o",
        "NEWOBJ": b"c%s\n%s\n" % (module.encode(), name.encode()) + _text(argument) + b"\x85\x81",
        "BUILD": b"c%s\n%s\n" % (module.encode(), name.encode()) + b"}" + _text("__call__") + _text(argument) + b"sb",
        "EXT1": b"\x82\x01" + _text(argument) + b"\x85R",
        "PERSID": b"P" + argument.encode() + b"\n",
        "BINPERSID": _text(argument) + b"Q",
    }[by]


_WAYS = ["REDUCE", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "BUILD", "EXT1", "PERSID", "BINPERSID"]
_TARGETS = [
    ("os", "system"),
    ("posix", "system"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "__import__"),
    ("builtins", "getattr"),
    ("subprocess", "Popen"),
    ("socket", "create_connection"),
    ("torch", "load"),
    ("torch.hub", "load"),
    ("numpy", "load"),
    ("numpy", "ndarray"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("collections", "OrderedDict"),
    ("builtins", "bytearray"),
    ("pathlib", "Path.touch"),
]


@st.composite
def _pickles(draw: st.DrawFn) -> bytes:
    mark = str(draw(st.sampled_from(["touch /tmp/prunectl-ran", "__import__('os').system('true')", "os", "x"])))
    pieces = st.one_of(
        st.tuples(st.sampled_from(_TARGETS), st.sampled_from(_WAYS)).map(
            lambda chosen: _called(*chosen[0], mark, chosen[1])
        ),
        st.sampled_from([bytes([code]) for code in range(256)]),
        st.sampled_from(
            [b"}", b"]", b")", b"(", b"s", b"u", b"a", b"e", b"t", b"\x85", b"\x86", b"\x87", b"R", b"b", b"0"]
        ),
        st.sampled_from(["epsilon", "obs_rms", "mean", "var", "clip_obs", "storage", "0", "cpu"]).map(_text),
        st.sampled_from(
            [
                b"r\xff\xff\xff\x7f",  # LONG_BINPUT at 2^31
                b"\x96" + struct.pack("<Q", 2**40),  # BYTEARRAY8
                b"\x8d" + struct.pack("<Q", 2**40),  # BINUNICODE8
                b"\x8b" + struct.pack("<i", 2**30),  # LONG4
                b"\x95" + struct.pack("<Q", 2**40),  # FRAME
                b"X\xff\xff\xff\xff",  # BINUNICODE
                b"J" + struct.pack("<i", -1),
                b"J" + struct.pack("<i", 10**9),
                b"h\x00",
                b"q\x00",
                b"\x94",
                b"G\x7f\xf8\x00\x00\x00\x00\x00\x00",
            ]
        ),
    )
    return b"\x80\x04" + b"".join(draw(st.lists(pieces, min_size=1, max_size=15))) + b"."


#: Pickles put together from opcodes, most of which call something.
pickles = _pickles()


def calls() -> Iterator[bytes]:
    """One pickle for every way to call every target, inside a dict, as a state dict or statistics would be."""
    for module, name in _TARGETS:
        for way in _WAYS:
            call = _called(module, name, "touch /tmp/prunectl-ran", way)
            yield b"\x80\x04}" + _text("epsilon") + call + b"s."
