"""Affine layers with weights of eight bits, each output with a scale of its own, calibrated on visited observations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunectl.agents.controller import ControllerError
from prunectl.agents.deployment.program import Program
from prunectl.agents.deployment.steps import MOST, Affine, Allowed, Floats, QuantisedAffine, Step, run

#: Damping of a layer's Gram matrix, as a share of its mean diagonal.
_DAMPING = 1e-4


def quantised(program: Program, observations: NDArray[Any]) -> Program:
    """The program with its affine layers quantised.

    What a layer reads becomes whole numbers between the ends that it was seen at: of eight bits behind the first layer;
    of sixteen in front of it, since an observation in eight bits is coarse to a controller of high gain, and there are
    few of them. Every layer is calibrated on what the quantised ones before it put out.

    Args:
        program: in float.
        observations: visited ones ``(n, inputs)``; what is beside them is not looked at.

    Raises:
        ControllerError: it has a memory.
    """
    if program.memory:
        raise ControllerError("a memory is not written in eight bits, where its roundings would add up: leave int8 out")
    steps: list[Step] = []
    exact = values = np.asarray(observations, dtype=np.float32)[:, : program.inputs]
    most = min(2**15 - 1, (2**31 - 1) // (MOST * max(program.inputs, 1)))
    for step in program.steps:
        if isinstance(step, Allowed):  # only a decision follows
            steps.append(step)
            continue
        following = run(step, exact)
        if isinstance(step, Affine):
            steps.append(_quantised(step, values, following, most))
            most = MOST
        else:
            steps.append(step)
        exact, values = following, run(steps[-1], values)
    return replace(program, steps=tuple(steps))


def _quantised(layer: Affine, inputs: Floats, outputs: Floats, most: int) -> QuantisedAffine:
    """A layer whose outputs for these inputs ``(n, in)`` should be ``(n, out)``.

    Weights are rounded one input after the other, and what a rounding errs by is made up for by the inputs that are
    still to come: the optimal brain surgeon's update (Hassibi & Stork 1993) as Frantar et al. 2022 (GPTQ) use it. The
    bias takes what is left of the mean error (Nagel et al. 2019).
    """
    low, high = inputs.min(0).astype(np.float64), inputs.max(0).astype(np.float64)
    centre, step = (low + high) / 2, (high - low) / (2 * most)
    moved = step > 1 / np.finfo(np.float32).max  # else its inverse is no float, and the input as good as still
    inverse_step = np.divide(1.0, step, out=np.zeros_like(step), where=moved)
    codes = np.rint((inputs - centre) * inverse_step)
    weight = layer.weight * step
    scale = np.abs(weight).max(1) / MOST
    scale[scale == 0] = 1.0
    rounded = error_fed(weight / scale[:, None], codes)
    bias = (outputs - (codes @ rounded.T) * scale).mean(0)
    scale, bias, centre, inverse_step = (part.astype(np.float32) for part in (scale, bias, centre, inverse_step))
    return QuantisedAffine(rounded.astype(np.int8), scale, bias, centre, inverse_step, most)


def error_fed(weight: NDArray[np.float64], codes: NDArray[np.float64], most: int = MOST) -> NDArray[np.float64]:
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
