"""What a deployed path is made of: steps over float32 arrays, and each of them with NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunectl.agents.choices import FORBIDDEN

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Affine:
    """``x -> W x + b``; ``weight`` ``(out, in)``, ``bias`` ``(out,)``."""

    weight: Floats
    bias: Floats


@dataclass(frozen=True)
class Convolution:
    """Images ``(channels, height, width)`` as rows to images as rows: ``weight`` ``(out, channels, kernel, kernel)``,
    ``bias`` ``(out,)``; ``stride`` and ``padding`` (zeros) of rows and of columns, ``image`` the form of what it
    reads."""

    weight: Floats
    bias: Floats
    stride: tuple[int, int]
    padding: tuple[int, int]
    image: tuple[int, int, int]

    @property
    def result(self) -> tuple[int, int, int]:
        """The form of what it gives."""
        sides = zip(self.image[1:], self.weight.shape[2:], self.stride, self.padding, strict=True)
        height, width = ((side + 2 * padding - kernel) // stride + 1 for side, kernel, stride, padding in sides)
        return len(self.weight), height, width

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.weight.size * math.prod(self.result[1:])


#: Whole numbers of eight bits run from -MOST to MOST.
MOST = 127


@dataclass(frozen=True)
class QuantisedAffine:
    """``W x + b`` with weights of few bits, and x about ``centre + q / inverse_step``, q whole in [-most, most].

    The input's steps are drawn into the weights before those are quantised, and the centre into the bias, so that
    ``y = scale * (weight @ q) + bias`` with one ``scale`` an output. An input that never moved has ``inverse_step`` 0.

    ``weight`` ``(out, in)``; ``scale``, ``bias`` ``(out,)``; ``centre``, ``inverse_step`` ``(in,)``; ``most`` 127 for
    codes of eight bits, more for sixteen; ``bits`` of a weight, 8 or 4.
    """

    weight: NDArray[np.int8]
    scale: Floats
    bias: Floats
    centre: Floats
    inverse_step: Floats
    most: int
    bits: int


@dataclass(frozen=True)
class Diagonal:
    """``x -> (x - shift) * weight + bias``, all ``(n,)``: normalisation and rescaling."""

    shift: Floats
    weight: Floats
    bias: Floats


@dataclass(frozen=True)
class Pick:
    """Some entries of a row, by their indices, ascending."""

    index: tuple[int, ...]


@dataclass(frozen=True)
class LayerNorm:
    """``x -> (x - mean(x)) / sqrt(var(x) + epsilon) * weight + bias`` over the units."""

    weight: Floats
    bias: Floats
    epsilon: float


@dataclass(frozen=True)
class Simplices:
    """A softmax over each run of ``size`` units."""

    size: int


@dataclass(frozen=True)
class Bound:
    """``x -> min(max(x, low), high)``, both ``(n,)``."""

    low: Floats
    high: Floats


@dataclass(frozen=True)
class Map:
    """An activation of `FUNCTIONS`, unit by unit; ``alpha`` is its parameter where it has one."""

    function: str
    alpha: float = 0.0


@dataclass(frozen=True)
class LSTM:
    """One layer of long short-term memory: what it reads and its last output to its next one, ``(hidden,)``.

    ``weight`` ``(4 hidden, in)``, ``recurrent`` ``(4 hidden, hidden)`` and ``bias`` ``(4 hidden,)`` have the gates in
    PyTorch's order: input, forget, cell, output. Its states lie in what is remembered, at ``output`` and at ``cell``.
    """

    weight: Floats
    recurrent: Floats
    bias: Floats
    output: int
    cell: int

    @property
    def hidden(self) -> int:
        """Its units."""
        return len(self.recurrent) // 4


@dataclass(frozen=True)
class Allowed:
    """Logits of options that the mask does not allow fall out of reach."""


@dataclass(frozen=True)
class Argmax:
    """The index of the highest entry, the first of equals; only ever the last step. Where there are ``options``, an
    index each among so many entries, one after another."""

    options: tuple[int, ...] = ()


@dataclass(frozen=True)
class Switches:
    """1 where an entry is above 0, else 0; only ever the last step."""


#: Steps that look at what comes beside the observation.
Beside = LSTM | Allowed
Numeric = Affine | Convolution | QuantisedAffine | Diagonal | Pick | LayerNorm | Simplices | Bound | Map
Step = Numeric | Beside | Argmax | Switches


_OUT = np.float32(FORBIDDEN)
#: Activations, with NumPy: ``(values, alpha) -> values``.
FUNCTIONS: dict[str, Callable[[Floats, float], NDArray[Any]]] = {
    "relu": lambda x, _: np.maximum(x, 0),
    "tanh": lambda x, _: np.tanh(x),
    "sigmoid": lambda x, _: 1 / (1 + np.exp(-x)),
    "silu": lambda x, _: x / (1 + np.exp(-x)),
    "elu": lambda x, alpha: np.where(x > 0, x, np.float32(alpha) * np.expm1(np.minimum(x, 0))),
    "mish": lambda x, _: x * np.tanh(np.logaddexp(x, np.float32(0))),
    "abs": lambda x, _: np.abs(x),
    "leaky_relu": lambda x, alpha: np.where(x > 0, x, np.float32(alpha) * x),
}


def run(step: Step, values: NDArray[Any], beside: Floats | None = None) -> NDArray[Any]:
    """One step over rows ``(n, in)``. ``beside`` ``(n, ...)`` is the mask, or what is remembered, which is changed."""
    values = np.asarray(values, dtype=np.float32)
    if isinstance(step, Beside):
        assert beside is not None
        return _remembered(step, values, beside) if isinstance(step, LSTM) else np.where(beside > 0, values, _OUT)
    return np.asarray(_run(step, values))


def _remembered(step: LSTM, values: Floats, memory: Floats) -> Floats:
    output, cell = memory[:, step.output : step.output + step.hidden], memory[:, step.cell : step.cell + step.hidden]
    sigmoid = FUNCTIONS["sigmoid"]
    gates = values @ step.weight.T + output @ step.recurrent.T + step.bias
    write, forget, new, show = np.split(gates, 4, axis=1)
    cell[:] = sigmoid(forget, 0) * cell + sigmoid(write, 0) * np.tanh(new)
    output[:] = sigmoid(show, 0) * np.tanh(cell)
    return output.copy()


def _run(step: Step, values: Floats) -> Any:
    match step:
        case Affine():
            return values @ step.weight.T + step.bias
        case QuantisedAffine():  # rounded as in C, halves away from zero
            codes = np.clip((values - step.centre) * step.inverse_step, -step.most, step.most)
            codes = np.trunc(codes + np.where(codes < 0, np.float32(-0.5), np.float32(0.5)))
            sums = codes.astype(np.int32) @ step.weight.T.astype(np.int32)
            return sums.astype(np.float32) * step.scale + step.bias
        case Convolution():
            above, left = step.padding
            images = np.pad(values.reshape(-1, *step.image), ((0, 0), (0, 0), (above, above), (left, left)))
            patches = np.lib.stride_tricks.sliding_window_view(images, step.weight.shape[2:], axis=(2, 3))
            patches = patches[:, :, :: step.stride[0], :: step.stride[1]]
            made = np.einsum("nchwij,ocij->nohw", patches, step.weight, optimize=True)
            return (made + step.bias[:, None, None]).reshape(len(values), -1)
        case Diagonal():
            return (values - step.shift) * step.weight + step.bias
        case Pick():
            return values[:, step.index]
        case LayerNorm():
            centred = values - values.mean(1, keepdims=True)
            spread = np.sqrt((centred**2).mean(1, keepdims=True) + np.float32(step.epsilon))
            return centred / spread * step.weight + step.bias
        case Simplices():
            runs = values.reshape(len(values), -1, step.size)
            grown = np.exp(runs - runs.max(2, keepdims=True))
            return (grown / grown.sum(2, keepdims=True)).reshape(values.shape)
        case Bound():
            return np.clip(values, step.low, step.high)
        case Map():
            return FUNCTIONS[step.function](values, step.alpha)
        case Argmax(options) if options:
            parts = np.split(values, np.cumsum(options)[:-1], axis=1)
            return np.stack([part.argmax(1) for part in parts], axis=1)
        case Argmax():
            return values.argmax(1)
        case Switches():
            return (values > 0).astype(np.int64)


def width_after(step: Step, width: int) -> int:
    """How many numbers a row has after a step, of so many before it."""
    match step:
        case Convolution():
            return math.prod(step.result)
        case LSTM():
            return step.hidden
        case Pick():
            return len(step.index)
        case Affine() | QuantisedAffine():
            return len(step.weight)
    return width
