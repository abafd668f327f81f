"""What a controller takes on the machine that it is for: linked, and run by an emulator that counts."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from prunectl.agents.controller import Batch
from prunectl.agents.deployment.c_texts import comment
from prunectl.agents.deployment.image import image, linked_size
from prunectl.agents.deployment.program import Program
from prunectl.agents.deployment.targets import BOARDS, Board, Target

#: MHz of a usual Cortex-M4, for which decisions a second are said.
CLOCK = 80


@dataclass(frozen=True)
class OnTarget:
    """Bytes of ``flash`` (code and constants, linked) and of ``ram`` (what it keeps, and the deepest that its stack
    went), and ``instructions`` of the longest decision; both None where nothing emulates the target."""

    target: Target
    flash: int
    ram: int | None
    instructions: int | None

    def rate(self, megahertz: int) -> float | None:
        """Decisions a second at most: no core of these finishes more than an instruction a cycle."""
        return None if self.instructions is None else 1e6 * megahertz / self.instructions

    def fits(self, board: Board) -> bool:
        """Whether the board has so much memory; whatever else runs there comes on top."""
        return self.flash <= board.flash and (self.ram or 0) <= board.ram

    @property
    def boards(self) -> tuple[Board, ...]:
        """The boards of its target."""
        return tuple(board for board in BOARDS if board.target == self.target.name)


@dataclass(frozen=True)
class Ran:
    """What the emulated board answered, ``actions`` for the rows, and the ``image`` that it ran."""

    image: bytes
    actions: NDArray[Any]


def measured(
    files: Mapping[str, bytes], name: str, program: Program, said: Mapping[str, Any], rows: Batch, target: Target
) -> tuple[OnTarget, Ran | None]:
    """Link a controller's C for a target and run it there, None where nothing emulates that.

    Args:
        files: the C and its header by name, the C first.
        name: what its function is named after.
        program: what the C was made of.
        said: what the image says of itself, to be a controller again.
        rows: observations ``(n, ...)``, with what is beside them.
        target: what to compile for.

    Raises:
        ControllerError: a tool is absent, or the controller is larger than the emulated board.
    """
    from prunectl.agents.deployment.emulated import load_elf

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        code = folder / next(iter(files))
        size = linked_size(code, name, target)
        if target.emulator is None:
            return OnTarget(target, size.flash, None, None), None
        text = comment({**said, "target": target.name})
        content = image(code, name, _beside(program), program.discrete, text, target)
        (folder / "image.elf").write_bytes(content)
        running, _ = load_elf(folder / "image.elf", trust=True)
        actions = running.act(rows)
        instructions, ram = max(running.instructions), size.memory + running.stack()
    return OnTarget(target, size.flash, ram, instructions), Ran(content, actions)


def _beside(program: Program) -> dict[str, int]:
    return {} if program.beside is None else {program.beside[0]: program.beside[1]}


def in_words(found: OnTarget) -> str:
    """A line on what it takes, and one on the boards that it fits."""
    lines = [f"{found.target.name}: {found.flash:,} bytes of flash"]
    if found.instructions is None:
        lines[0] += " without the C library's functions; nothing here emulates it"
    else:
        lines[0] += (
            f", {found.ram:,} of RAM, {found.instructions:,} instructions a decision: "
            f"{found.rate(CLOCK):,.0f} a second at most at {CLOCK} MHz"
        )
    fitting = [f"{board.name}{_at_most(found, board)}" for board in found.boards if found.fits(board)]
    short = [board.name for board in found.boards if not found.fits(board)]
    if found.boards:
        lines.append(f"fits {', '.join(fitting) or 'no board'}" + (f"; not {', '.join(short)}" if short else ""))
    return "\n".join(lines)


def _at_most(found: OnTarget, board: Board) -> str:
    rate = found.rate(board.clock)
    return "" if rate is None else f" ({rate:,.0f}/s)"


def as_json(found: OnTarget) -> dict[str, Any]:
    """The same as plain data."""
    return {
        "target": found.target.name,
        "flash": found.flash,
        "ram": found.ram,
        "instructions": found.instructions,
        f"rate_{CLOCK}mhz": found.rate(CLOCK),
        "boards": {board.name: found.fits(board) for board in found.boards},
    }
