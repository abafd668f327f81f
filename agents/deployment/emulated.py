"""An image of ours as a controller: a board in QEMU runs it, observations in and actions out, decision by decision.

The emulator executes one instruction after the other and counts them (``-icount``): a board's timer goes on by 1024 ns
with each, so that its ticks tell instructions apart, the same number at every run.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunectl.agents.controller import ControllerError
from prunectl.agents.deployment.c_run import LARGEST_FILE
from prunectl.agents.deployment.emulators import SHIFT, Emulator
from prunectl.agents.deployment.exported import Exported
from prunectl.agents.deployment.image import require
from prunectl.agents.deployment.metadata import KEY, Interface, read
from prunectl.agents.deployment.steps import Floats
from prunectl.agents.deployment.targets import target_of
from prunectl.agents.files import read_bounded

#: Bytes that are on their way at once: less than a pipe holds, so that neither side waits for the other.
_AT_ONCE = 32_768
#: Seconds without a single byte after which a board is taken to have hung; the largest network decides within two.
PATIENCE = 60.0


class EmulatedController(Exported):
    """``decide`` asks the image row by row; ``instructions`` has what each decision took, since the beginning."""

    def __init__(self, image: Path, emulator: Emulator, interface: Interface) -> None:
        super().__init__(interface, str(image))
        kind, numbers = self.acts_in
        self.reply = np.dtype(
            [("action", kind, (numbers,)), ("after", np.float32, (interface.memory,)), ("count", np.uint32)]
        ).newbyteorder("<")
        self.instructions: list[int] = []
        self.emulator = emulator
        self.process = _started(image, emulator)
        weakref.finalize(self, self.process.kill)

    def decide(self, observations: Floats, beside: Floats) -> tuple[NDArray[Any], Floats]:
        rows = np.concatenate([observations, beside], axis=1).astype("<f4")
        some = max(1, _AT_ONCE // max(4 * rows.shape[1], self.reply.itemsize))
        replies = np.concatenate([self._asked(rows[at : at + some]) for at in range(0, len(rows), some)])
        self.instructions += np.rint(replies["count"] / self.emulator.counted).astype(int).tolist()
        after = replies["after"].astype(np.float32) if self.memory else beside
        return self.as_actions(replies["action"]), after

    def _asked(self, rows: NDArray[np.float32]) -> NDArray[Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        answer, wanted = b"", len(rows) * self.reply.itemsize
        with suppress(BrokenPipeError):
            self.process.stdin.write(rows.tobytes())
        while len(answer) < wanted:
            if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
                self.process.kill()
                raise ControllerError(f"{self.where}: the emulated board has not answered for {PATIENCE:g} s")
            if not (more := os.read(self.process.stdout.fileno(), wanted - len(answer))):
                raise ControllerError(f"{self.where}: the emulated board stopped: {_last_words(self.process)}")
            answer += more
        return np.frombuffer(answer, self.reply)

    def stack(self) -> int:
        """End it, and read how many bytes of painted stack the decisions until now have written over."""
        depth, _ = self.process.communicate()
        return int.from_bytes(depth[:4], "little")


def load_elf(path: Path, trust: bool) -> tuple[EmulatedController, dict[str, Any]]:
    """The controller in an image that `prunectl export` wrote, and what the file says of itself.

    Raises:
        ControllerError: not trusted, none of ours, or there is no QEMU.
    """
    content = read_bounded(path, LARGEST_FILE)
    found = re.search(rb"/\* " + KEY.encode() + rb": (.*?) \*/", content)
    if not content.startswith(b"\x7fELF") or found is None:
        raise ControllerError(f"{path}: it does not say its spaces: only images that `prunectl export` wrote do")
    interface, data = read(found[1].decode(errors="replace"), str(path))
    target = target_of(str(data.get("target")))
    if target.emulator is None:
        raise ControllerError(f"{path}: it is for {target.name}, which nothing here emulates")
    if not trust:
        raise ControllerError(
            f"{path}: evaluating an image means running it, in an emulator that opens this machine's files to it: "
            "--trust, on your word"
        )
    require(target)
    return EmulatedController(path, target.emulator, interface), data


def _started(image: Path, emulator: Emulator) -> subprocess.Popen[bytes]:
    quiet = ["-display", "none", "-monitor", "none", "-serial", "none", "-nodefaults"]
    console = ["-semihosting-config", "enable=on,target=native", "-icount", f"shift={SHIFT}"]
    command = [*emulator.command, "-kernel", str(image.absolute()), *quiet, *console]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe)


def _last_words(process: subprocess.Popen[bytes]) -> str:
    process.kill()
    said = process.communicate()[1].decode(errors="replace").split("\n")[0].strip()
    return said[:200] or "it says nothing"
