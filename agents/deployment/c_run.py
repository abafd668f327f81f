"""C of ours as a controller: compiled into a library of its own and called from here. That is running its code."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunectl.agents.controller import ControllerError
from prunectl.agents.deployment.exported import Exported
from prunectl.agents.deployment.metadata import KEY, Interface, read
from prunectl.agents.deployment.steps import Floats
from prunectl.agents.files import read_bounded

#: What a user who has measured nothing would compile with; and what one who has would.
PLAIN, FAST = ("-O2",), ("-O3", "-march=native", "-ffast-math")
#: No controller's source is so large.
LARGEST_FILE = 256 * 2**20


class CController(Exported):
    """``decide`` calls the compiled function row by row."""

    def __init__(self, library: ctypes.CDLL, function: str, interface: Interface, where: str) -> None:
        super().__init__(interface, where)
        self.library = library
        self.function = library[function]
        self.function.argtypes = [ctypes.c_void_p] * (3 if interface.beside else 2)
        self.function.restype = None

    def decide(self, observations: Floats, beside: Floats) -> tuple[NDArray[Any], Floats]:
        kind, numbers = self.acts_in
        actions, after = np.empty((len(observations), numbers), kind), np.array(beside)
        arrays = (observations, after, actions) if self.interface.beside else (observations, actions)
        places, strides = [array.ctypes.data for array in arrays], [array.strides[0] for array in arrays]
        for _ in range(len(observations)):
            self.function(*places)
            places = [place + stride for place, stride in zip(places, strides, strict=True)]
        return self.as_actions(actions), after


def load_c(path: Path, trust: bool) -> tuple[CController, dict[str, Any]]:
    """The controller in a file that `prunectl export` wrote, its header beside it, and what the file says of itself.

    Raises:
        ControllerError: not trusted, none of ours, or it does not compile.
    """
    text = read_bounded(path, LARGEST_FILE).decode(errors="replace")
    said = re.search(rf"^/\* {KEY}: (.*) \*/$", text, re.MULTILINE)
    name = re.search(r"^void (\w+)_act\(", text, re.MULTILINE)
    if said is None or name is None:
        raise ControllerError(f"{path}: it does not say its spaces: only C that `prunectl export` wrote does")
    interface, data = read(said[1], str(path))
    if not trust:
        raise ControllerError(f"{path}: evaluating C means running it, whatever it does: --trust, on your word")
    return CController(compiled([path]), f"{name[1]}_act", interface, str(path)), data


def compiled(sources: Sequence[Path], flags: Sequence[str] = PLAIN) -> ctypes.CDLL:
    """A shared library of C files, built in a temporary folder. The flags are for compiling alone: linked with
    -ffast-math, gcc's libraries switch the whole process that loads them to numbers without subnormals.

    Raises:
        ControllerError: there is no gcc, or it refuses.
    """
    with tempfile.TemporaryDirectory() as folder:
        library, objects = Path(folder, "controller.so"), []
        for source in sources:
            objects.append(str(Path(folder, f"{source.stem}.o")))
            compile_c([*flags, "-fPIC", "-c", str(source), "-o", objects[-1]])
        compile_c(["-shared", *objects, "-o", str(library), "-lm"])
        return ctypes.CDLL(str(library))  # it stays mapped when the file is gone


def compile_c(arguments: Sequence[str]) -> None:
    """Call gcc for C99.

    Raises:
        ControllerError: there is no gcc, or it refuses.
    """
    if shutil.which("gcc") is None:
        raise ControllerError("there is no gcc here, which running C needs")
    done = subprocess.run(["gcc", "-std=c99", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise ControllerError(f"gcc refuses: {' '.join(done.stderr.split())[:200]}")
