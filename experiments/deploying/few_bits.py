"""A deployed path with weights of eight or four bits."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from numpy.typing import NDArray

from prunectl.agents.deployment.program import Program
from prunectl.agents.deployment.whole_weights import quantised
from prunectl.pruning.grids import grid_of

#: How many bits a weight may have where it is no float.
Bits = Literal[8, 4]


def in_few_bits(program: Program, observations: NDArray[Any], bits: Bits) -> Program:
    """The program quantised on visited observations ``(n, inputs)``: in four bits on the grids that its weights lie on
    since they were taught so, or lie nearest to (`pruning.grids`).

    Raises:
        ControllerError: it has a memory.
    """
    return quantised(program, observations, None if bits == 8 else partial(_grid, bits=bits))


def _grid(weight: NDArray[Any], bits: int) -> tuple[NDArray[Any], NDArray[Any]]:
    rows, columns = grid_of(torch.as_tensor(weight), bits)
    return rows.numpy(), columns.numpy()
