"""The deployed path as a short list of steps over float32 arrays: what every form of export is written from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib.common.torch_layers import BatchRenorm1d
from torch import nn

from prunectl.agents import boundary_layers as path
from prunectl.agents.controller import ControllerError
from prunectl.agents.tdmpc.layers import SimNorm

Floats = NDArray[np.float32]
#: What a bound at infinity becomes.
_LARGEST = float(np.finfo(np.float32).max)


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
    """``W x + b`` with weights of eight bits, and x about ``centre + q / inverse_step``, q whole in [-most, most].

    The input's steps are drawn into the weights before those are quantised, and the centre into the bias, so that
    ``y = scale * (weight @ q) + bias`` with one ``scale`` an output. An input that never moved has ``inverse_step`` 0.

    ``weight`` ``(out, in)`` int8; ``scale``, ``bias`` ``(out,)``; ``centre``, ``inverse_step`` ``(in,)``; ``most`` 127
    for codes of eight bits, more for sixteen.
    """

    weight: NDArray[np.int8]
    scale: Floats
    bias: Floats
    centre: Floats
    inverse_step: Floats
    most: int


@dataclass(frozen=True)
class Diagonal:
    """``x -> (x - shift) * weight + bias``, all ``(n,)``: normalisation and rescaling."""

    shift: Floats
    weight: Floats
    bias: Floats


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
class Argmax:
    """The index of the highest entry, the first of equals; only ever the last step. Where there are ``options``, an
    index each among so many entries, one after another."""

    options: tuple[int, ...] = ()


@dataclass(frozen=True)
class Switches:
    """1 where an entry is above 0, else 0; only ever the last step."""


Step = Affine | Convolution | QuantisedAffine | Diagonal | LayerNorm | Simplices | Bound | Map | Argmax | Switches


@dataclass(frozen=True)
class Program:
    """What a controller computes, from ``inputs`` numbers to ``outputs`` numbers (or indices, or one index)."""

    inputs: int
    steps: tuple[Step, ...]

    @property
    def outputs(self) -> int:
        """Numbers that come out; of one choice, 1."""
        last = self.steps[-1]
        return (len(last.options) or 1) if isinstance(last, Argmax) else self.widths[-1]

    @property
    def discrete(self) -> bool:
        """Whether indices or switches come out."""
        return isinstance(self.steps[-1], Argmax | Switches)

    @property
    def single(self) -> bool:
        """Whether one index comes out, without an axis of its own."""
        return self.steps[-1] == Argmax()

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers after each step, `Argmax` counted as one that changes nothing."""
        width, widths = self.inputs, []
        for step in self.steps:
            width = _width_after(step, width)
            widths.append(width)
        return tuple(widths)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one decision."""
        products = [step.weight.size for step in self.steps if isinstance(step, Affine | QuantisedAffine | Diagonal)]
        return sum(products) + sum(step.macs for step in self.steps if isinstance(step, Convolution))

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Run it with NumPy, ``(n, inputs) -> (n, outputs)``, or ``(n,)`` indices."""
        for step in self.steps:
            values = run(step, values)
        return values


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


def run(step: Step, values: NDArray[Any]) -> NDArray[Any]:
    """One step over rows ``(n, in)``."""
    return np.asarray(_run(step, np.asarray(values, dtype=np.float32)))


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


def program(layers: nn.Sequential, inputs: int) -> Program:
    """The steps of a sequence of layers; batch normalisations are folded into the affine layers behind them, and an
    affine layer that narrows another's outputs into that one.

    Raises:
        ControllerError: a layer that there is no step for.
    """
    image: tuple[int, ...] = ()
    width, steps = inputs, list[Step]()
    for layer in layers:
        if isinstance(layer, nn.Unflatten | nn.Flatten):  # rows stay rows; what they are read as changes
            image = tuple(layer.unflattened_size) if isinstance(layer, nn.Unflatten) else ()
            continue
        found = _convolution(layer, image) if isinstance(layer, nn.Conv2d) else _steps(layer, width)
        steps += found
        for step in found:
            width = _width_after(step, width)
            image = step.result if isinstance(step, Convolution) else image
    return Program(inputs, tuple(_folded(steps)))


def _width_after(step: Step, width: int) -> int:
    """How many numbers a row has after a step, of so many before it."""
    if isinstance(step, Convolution):
        return math.prod(step.result)
    return len(step.weight) if isinstance(step, Affine | QuantisedAffine) else width


def _convolution(layer: nn.Conv2d, image: tuple[int, ...]) -> list[Step]:
    if layer.groups != 1 or layer.dilation != (1, 1) or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise ControllerError("a convolution in groups, dilated or padded with other than zeros cannot be exported")
    if len(image) != 3:
        raise ControllerError("a convolution whose image is not known cannot be exported")
    bias = np.zeros(layer.out_channels) if layer.bias is None else _array(layer.bias)
    (down, right), (above, left), (channels, height, width) = layer.stride, layer.padding, image
    sides = (channels, height, width)
    return [Convolution(_array(layer.weight), _float(bias), (down, right), (int(above), int(left)), sides)]


def _steps(layer: nn.Module, width: int) -> list[Step]:
    match layer:
        case nn.Linear():
            bias = np.zeros(layer.out_features) if layer.bias is None else _array(layer.bias)
            return [Affine(_array(layer.weight), _float(bias))]
        case nn.LayerNorm():
            return [LayerNorm(_array(layer.weight), _array(layer.bias), layer.eps)]
        case BatchRenorm1d():
            deviation = np.sqrt(_array(layer.ra_var, np.float64) + layer.eps)
            weight = _array(layer.scale) / deviation
            return [Diagonal(_array(layer.ra_mean), _float(weight), _array(layer.bias))]
        case path.Normalise():
            mean, deviation = layer.mean.numpy(), layer.deviation.numpy().copy()
            clip = np.full(width, layer.clip)
            if layer.columns is not None:
                left_alone = ~layer.columns.numpy()
                clip[left_alone], deviation[left_alone] = np.inf, 1.0
            return [Diagonal(_float(mean), _float(1 / deviation), _float(np.zeros(width))), _bound(-clip, clip)]
        case path.Pixels():
            return [Diagonal(_float(np.zeros(width)), _float(np.full(width, 1 / 255)), _float(np.zeros(width)))]
        case path.OneHot():  # of a whole number c, 1 - |c - i| is 1 where c is i, and at most 0 elsewhere
            index = np.concatenate([np.arange(size) for size in layer.sizes])
            chosen = np.repeat(np.eye(len(layer.sizes)), layer.sizes, axis=0)
            ones = np.ones(len(index))
            return [
                Affine(_float(chosen), _float(-index)),
                Map("abs"),
                Diagonal(_float(np.zeros(len(index))), _float(-ones), _float(ones)),
                Map("relu"),
            ]
        case path.Rescale():
            low, half = layer.low.numpy(), 0.5 * layer.range.numpy()
            return [Diagonal(_float(np.full(width, -1)), _float(half), _float(low))]
        case path.Elementwise():
            numbers = (np.broadcast_to(t.numpy(), width) for t in (layer.shift, layer.weight, layer.bias))
            return [Diagonal(*map(_float, numbers))]
        case path.Clip():
            return [_bound(layer.low.numpy(), layer.high.numpy())]
        case nn.Hardtanh():
            return [_bound(np.full(width, layer.min_val), np.full(width, layer.max_val))]
        case path.QuantileMean():
            mean = np.tile(np.eye(layer.actions), layer.quantiles) / layer.quantiles
            return [Affine(_float(mean), _float(np.zeros(layer.actions)))]
        case path.Argmax():
            return [Argmax()]
        case path.ArgmaxEach():
            return [Argmax(tuple(layer.options))]
        case path.Switches():
            return [Switches()]
        case SimNorm():
            return [Simplices(layer.simplex)]
        case nn.ReLU() | nn.Tanh() | nn.Sigmoid() | nn.SiLU() | nn.Mish():
            return [Map(type(layer).__name__.lower())]
        case nn.ELU():
            return [Map("elu", layer.alpha)]
        case nn.LeakyReLU():
            return [Map("leaky_relu", layer.negative_slope)]
    known = "Linear, Conv2d, LayerNorm, BatchRenorm, ReLU, LeakyReLU, ELU, SiLU, Mish, Sigmoid, Tanh, Hardtanh, SimNorm"
    raise ControllerError(f"a layer of type {type(layer).__name__} cannot be exported; these can: {known}")


def _folded(steps: list[Step]) -> list[Step]:
    """``W ((x - s) w + b) + c = (W w) x + (W (b - s w) + c)``, summed in float64; and ``W (V x + b) + c`` likewise."""
    folded: list[Step] = []
    for step in steps:
        before = folded[-1] if folded else None
        if isinstance(step, Affine) and isinstance(before, Diagonal):
            wide, weight = step.weight.astype(np.float64), before.weight.astype(np.float64)
            offset = before.bias - before.shift * weight
            folded[-1] = Affine(_float(wide * weight), _float(wide @ offset + step.bias))
        elif isinstance(step, Affine) and isinstance(before, Affine) and len(step.bias) <= len(before.bias):
            wide = step.weight.astype(np.float64)
            folded[-1] = Affine(_float(wide @ before.weight), _float(wide @ before.bias + step.bias))
        else:
            folded.append(step)
    return folded


def _bound(low: NDArray[Any], high: NDArray[Any]) -> Bound:
    return Bound(_float(np.maximum(low, -_LARGEST)), _float(np.minimum(high, _LARGEST)))


def _array(tensor: torch.Tensor, dtype: type[Any] = np.float32) -> NDArray[Any]:
    return tensor.detach().numpy().astype(dtype)


def _float(values: NDArray[Any]) -> Floats:
    return np.asarray(values, dtype=np.float32)
