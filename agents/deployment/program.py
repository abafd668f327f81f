"""The deployed path as a short list of steps: what every form of export is written from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib.common.torch_layers import BatchRenorm1d
from torch import nn

from prunectl.agents import boundary_layers as path
from prunectl.agents.controller import ControllerError
from prunectl.agents.deployment.steps import (
    LSTM,
    Affine,
    Allowed,
    Argmax,
    Bound,
    Convolution,
    Diagonal,
    Floats,
    LayerNorm,
    Map,
    Pick,
    QuantisedAffine,
    Simplices,
    Step,
    Switches,
    run,
    width_after,
)
from prunectl.agents.tdmpc.layers import SimNorm

#: What a bound at infinity becomes.
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Program:
    """What a controller computes, from ``inputs`` numbers to ``outputs`` numbers (or indices, or one index).

    ``beside`` is what it is given besides the observation, and how many numbers: its ``memory``, which a decision
    changes, or the ``mask`` of the options that are allowed, above 0.
    """

    inputs: int
    steps: tuple[Step, ...]
    beside: tuple[Literal["memory", "mask"], int] | None = None

    @property
    def memory(self) -> int:
        """How many numbers it remembers."""
        return self.beside[1] if self.beside is not None and self.beside[0] == "memory" else 0

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
            width = width_after(step, width)
            widths.append(width)
        return tuple(widths)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one decision."""
        products = [step.weight.size for step in self.steps if isinstance(step, Affine | QuantisedAffine | Diagonal)]
        products += [step.weight.size + step.recurrent.size for step in self.steps if isinstance(step, LSTM)]
        return sum(products) + sum(step.macs for step in self.steps if isinstance(step, Convolution))

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Run it with NumPy, ``(n, inputs) -> (n, outputs)``, or ``(n,)`` indices; rows end with what is beside."""
        return self.decide(values[:, : self.inputs], values[:, self.inputs :])[0]

    def decide(self, values: NDArray[Any], beside: NDArray[Any]) -> tuple[NDArray[Any], Floats]:
        """Actions for rows ``(n, inputs)`` and what is beside them ``(n, ...)``, and what is remembered then."""
        after = np.array(beside, dtype=np.float32)
        for step in self.steps:
            values = run(step, values, after)
        return values, after


def program(layers: nn.Module, inputs: int) -> Program:
    """The steps of a sequence of layers, or of a `deployed_step`; batch normalisations are folded into the affine
    layers behind them, and an affine layer that narrows another's outputs into that one.

    Raises:
        ControllerError: a layer that there is no step for.
    """
    if isinstance(layers, path.MaskedStep):
        before = _of_layers(path.flat(layers.before), inputs)
        steps = [*before, Allowed(), *_of_layers(path.flat(layers.decide), layers.beside[1])]
        return Program(inputs, tuple(steps), layers.beside)
    if isinstance(layers, path.RememberingStep):
        before = _of_layers(path.flat(layers.before), inputs)
        memory = _lstms(layers.lstm)
        after = _of_layers(path.flat(layers.after), memory[-1].hidden)
        return Program(inputs, (*before, *memory, *after), layers.beside)
    return Program(inputs, tuple(_of_layers(layers, inputs)))


def _lstms(lstm: nn.LSTM) -> list[LSTM]:
    """Its layers; what is remembered are all outputs, then all cells."""
    made, units = list[LSTM](), lstm.hidden_size
    for number, (weight, recurrent, *biases) in enumerate(lstm.all_weights):
        bias = sum((_array(part) for part in biases), np.zeros(4 * units, dtype=np.float32))
        places = number * units, (lstm.num_layers + number) * units
        made.append(LSTM(_array(weight), _array(recurrent), bias, *places))
    return made


def _of_layers(layers: nn.Module, width: int) -> list[Step]:
    if not isinstance(layers, nn.Sequential):
        raise ControllerError(f"a network of type {type(layers).__name__} is no sequence of layers to export")
    image: tuple[int, ...] = ()
    steps = list[Step]()
    for layer in layers:
        if isinstance(layer, nn.Unflatten | nn.Flatten):  # rows stay rows; what they are read as changes
            image = tuple(layer.unflattened_size) if isinstance(layer, nn.Unflatten) else ()
            continue
        found = _convolution(layer, image) if isinstance(layer, nn.Conv2d) else _steps(layer, width)
        steps += found
        for step in found:
            width = width_after(step, width)
            image = step.result if isinstance(step, Convolution) else image
    return _folded(steps)


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
        case path.Inputs():
            return [Pick(tuple(layer.index.tolist()))]
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
