"""Affine layers with whole numbers of eight or four bits for weights, calibrated on visited observations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunectl.agents.controller import ControllerError
from prunectl.agents.deployment.program import Program
from prunectl.agents.deployment.steps import MOST, Affine, Allowed, Floats, QuantisedAffine, Step, run

#: From a matrix ``(out, in)`` to a scale for each output and one for each input, whose products times whole numbers of
#: four bits it is made of, or nearly.
Grid = Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]

#: Whole numbers of four bits run from -MOST_OF_FOUR to MOST_OF_FOUR.
MOST_OF_FOUR = 7
#: Damping of a layer's Gram matrix, as a share of its mean diagonal.
_DAMPING = 1e-4


def quantised(program: Program, observations: NDArray[Any], grid: Grid | None = None) -> Program:
    """The program with its affine layers quantised.

    What a layer reads becomes whole numbers between the ends that it was seen at. Beside weights of eight bits they
    have eight bits behind the first layer; sixteen in front of it, since an observation in eight bits is coarse to a
    controller of high gain, and there are few of them. Beside weights of four bits they have sixteen everywhere. Every
    layer is calibrated on what the quantised ones before it put out.

    Args:
        program: in float.
        observations: visited ones ``(n, inputs)``; what is beside them is not looked at.
        grid: what finds it, for weights of four bits; None for eight.

    Raises:
        ControllerError: it has a memory.
    """
    if program.memory:
        few = "eight bits, where its roundings would add up: leave int8" if grid is None else "four bits: leave int4"
        raise ControllerError(f"a memory is not written in {few} out")
    steps: list[Step] = []
    exact = values = np.asarray(observations, dtype=np.float32)[:, : program.inputs]
    most = _most_code(program.inputs)
    for step in program.steps:
        if isinstance(step, Allowed):  # only a decision follows
            steps.append(step)
            continue
        following = run(step, exact)
        if not isinstance(step, Affine):
            steps.append(step)
        elif grid is None:
            steps.append(_quantised(step, values, following, most))
            most = MOST
        else:
            steps.append(_on_a_grid(step, values, following, grid))
        exact, values = following, run(steps[-1], values)
    return replace(program, steps=tuple(steps))


def _most_code(inputs: int) -> int:
    """How large codes of sixteen bits may be for so many of them, times weights of eight bits, to add up to 32 bits."""
    return min(2**15 - 1, (2**31 - 1) // (MOST * max(inputs, 1)))


def _quantised(layer: Affine, inputs: Floats, outputs: Floats, most: int) -> QuantisedAffine:
    """A layer with weights of eight bits whose outputs for these inputs ``(n, in)`` should be ``(n, out)``, each output
    with a scale of its own and each input with steps of its own, which are drawn into the weights."""
    low, high = _ends(inputs)
    step = (high - low) / (2 * most)
    scale = np.abs(layer.weight * step).max(1) / MOST
    scale[scale == 0] = 1.0
    return _rounded(layer, inputs, outputs, step, scale, most, 8)


def _on_a_grid(layer: Affine, inputs: Floats, outputs: Floats, grid: Grid) -> QuantisedAffine:
    """A layer with weights of four bits whose outputs for these inputs ``(n, in)`` should be ``(n, out)``.

    An input's step is the inverse of its weights' scale, so that weights which lie on a grid, since they were taught
    so, stay those that they are.
    """
    rows, columns = grid(layer.weight.astype(np.float64))
    low, high = _ends(inputs)
    most = _most_code(inputs.shape[1])
    widest = float((columns * (high - low)).max()) / (2 * most)
    if widest == 0:  # nothing moves
        widest = 1.0
    return _rounded(layer, inputs, outputs, widest / columns, rows * widest, most, 4)


def _ends(inputs: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return inputs.min(0).astype(np.float64), inputs.max(0).astype(np.float64)


def _rounded(
    layer: Affine,
    inputs: Floats,
    outputs: Floats,
    step: NDArray[np.float64],
    scale: NDArray[np.float64],
    most: int,
    bits: int,
) -> QuantisedAffine:
    """The layer for codes of these steps ``(in,)`` and weights of these scales ``(out,)`` of them.

    Weights are rounded one input after the other, and what a rounding errs by is made up for by the inputs that are
    still to come: the optimal brain surgeon's update (Hassibi & Stork 1993) as Frantar et al. 2022 (GPTQ) use it. The
    bias takes what is left of the mean error (Nagel et al. 2019).
    """
    low, high = _ends(inputs)
    centre = (low + high) / 2
    # Else its inverse is no float, or the input as good as still.
    moved = (high > low) & (step > 1 / np.finfo(np.float32).max)
    inverse_step = np.divide(1.0, step, out=np.zeros_like(step), where=moved)
    codes = np.rint((inputs - centre) * inverse_step)
    rounded = error_fed(layer.weight * step / scale[:, None], codes, MOST if bits == 8 else MOST_OF_FOUR)
    bias = (outputs - (codes @ rounded.T) * scale).mean(0)
    d, b, c, r = (part.astype(np.float32) for part in (scale, bias, centre, inverse_step))
    return QuantisedAffine(rounded.astype(np.int8), d, b, c, r, most, bits)


def error_fed(weight: NDArray[np.float64], codes: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Whole numbers from -most to most in place of ``weight`` ``(out, in)``, so that their products with the inputs
    ``codes`` ``(n, in)`` differ little."""
    gram = codes.T @ codes / len(codes)
    gram[np.diag_indices_from(gram)] += max(_DAMPING * np.diag(gram).mean(), 1e-12)
    update = np.linalg.cholesky(np.linalg.inv(gram)).T
    left, rounded = weight.copy(), np.zeros_like(weight)
    for i in range(weight.shape[1]):
        rounded[:, i] = np.clip(np.rint(left[:, i]), -most, most)
        left[:, i:] -= np.outer((left[:, i] - rounded[:, i]) / update[i, i], update[i, i:])
    return rounded
