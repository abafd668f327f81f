"""What controllers take on a microcontroller, in floats and in few bits, and the boards that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from prunectl.agents.deployment.c_form import c_source
from prunectl.agents.deployment.metadata import Interface
from prunectl.agents.deployment.program import program
from prunectl.agents.deployment.targets import Board, Target
from prunectl.experiments.bench.timing import Section
from prunectl.experiments.deploying.export import deployed
from prunectl.experiments.deploying.few_bits import Bits, in_few_bits
from prunectl.experiments.deploying.latency import Contender, contender, with_task
from prunectl.experiments.deploying.on_target import CLOCK, OnTarget, measured

#: Observations whose decisions are counted; the longest of them is told.
DECISIONS, QUICK = 200, 20
_FORMATS = {
    "sparsity": ".3f",
    "parameters": ",",
    "flash": ",",
    "ram": ",.0f",
    "instructions": ",.0f",
    "times_fewer": ".1f",
    f"rate_{CLOCK}mhz": ",.0f",
}
_REMARK = (
    "flash: bytes of code and constants, linked, libm's functions among them; ram: bytes that it keeps and the deepest "
    "that a painted stack was written over; instructions: of the longest decision, counted by QEMU, the same at every "
    f"run; times_fewer: than the first controller in the same form; rate_{CLOCK}mhz: decisions a second at most, if "
    f"every instruction took one cycle at {CLOCK} MHz: memory and floats take more, so a board is slower. For a world "
    "model it is the policy alone."
)
_BOARDS = (
    "Decisions a second at most at the board's clock, an instruction a cycle; or what of flash and RAM does not hold "
    "the controller, which has the board to itself here."
)


def of(references: Sequence[str], target: Target, quick: bool) -> list[Section]:
    """Two tables of these checkpoints: what they take, each against the first; and the boards of the target.

    Raises:
        ControllerError: no such checkpoint, one that names no task or that has no C, or a tool is absent.
    """
    found = [
        (one, form, taken)
        for one in (contender(*with_task(reference)) for reference in references)
        for form, taken in _taken(one, target, QUICK if quick else DECISIONS).items()
    ]
    rows, first = list[dict[str, Any]](), dict[str, OnTarget]()
    for one, form, taken in found:
        reference = first.setdefault(form, taken).instructions
        rows.append(
            {
                "controller": one.name,
                "sparsity": one.sparsity,
                "parameters": one.controller.parameters(deployed=True),
                "form": form,
                "flash": taken.flash,
                "ram": taken.ram,
                "instructions": taken.instructions,
                "times_fewer": reference / taken.instructions if reference and taken.instructions else None,
                f"rate_{CLOCK}mhz": taken.rate(CLOCK),
            }
        )
    sections = [Section(f"latency on {target.name}", pd.DataFrame(rows), _FORMATS, _REMARK)]
    boards = found[0][2].boards
    if boards:
        held = {f"{one.name}, {form}": [_held(taken, board) for board in boards] for one, form, taken in found}
        kept = {
            "board": [board.name for board in boards],
            "flash": [board.flash for board in boards],
            "ram": [board.ram for board in boards],
            "MHz": [board.clock for board in boards],
        }
        sections.append(Section("boards", pd.DataFrame(kept | held), {"flash": ",", "ram": ","}, _BOARDS))
    return sections


def _taken(one: Contender, target: Target, decisions: int) -> dict[str, OnTarget]:
    """By form."""
    controller, interface = one.controller, Interface.of(one.controller)
    rows = np.ascontiguousarray(one.observations, dtype=np.float32).reshape(len(one.observations), -1)
    steps = program(deployed(controller), interface.observations)
    few: tuple[Bits, ...] = () if steps.memory else (8, 4)
    forms = {"float": steps} | {f"int{bits}": in_few_bits(steps, rows, bits) for bits in few}
    chosen = rows[np.linspace(0, len(rows) - 1, min(decisions, len(rows))).astype(int)]
    said, found = interface.as_json({}), dict[str, OnTarget]()
    for form, made in forms.items():
        source = c_source(made, "x.c", {}, chosen[:1], 0.0)
        files = {"x.c": source.code.encode(), "x.h": source.header.encode()}
        found[form] = measured(files, "x", made, said, chosen, target)[0]
    return found


def _held(taken: OnTarget, board: Board) -> str:
    if taken.fits(board):
        rate = taken.rate(board.clock)
        return "fits" if rate is None else f"{rate:,.0f}"
    return "flash" if taken.flash > board.flash else "RAM"
