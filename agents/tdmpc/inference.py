"""Networks as plain functions, for speed: no module calls, no gradients, activations in place.

A decision asks small networks a few hundred times, so the price of a call counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunectl.agents.tdmpc.layers import SimNorm
from prunectl.agents.tdmpc.products import linear

Function = Callable[[Tensor], Tensor]

#: From so many numbers on, activations made of PyTorch's quick functions beat its own ones (exp2 takes a quarter of
#: exp's time, sigmoid an eighth of tanh's); they agree to 1e-7.
_MANY = 8192
_LOG2_E = 1.0 / math.log(2.0)
#: From here on Mish is the identity in float32, and its exponential has yet to overflow.
_FLAT = 20.0


def function(network: nn.Sequential) -> Function:
    """What the network computes, ``(n, in) -> (n, out)``, float32. Later changes of its weights in place are seen.

    Only for use without gradients. Results equal the module's up to rounding.
    """
    steps = [_step(layer) for layer in network]

    def run(values: Tensor) -> Tensor:
        for step in steps:
            values = step(values)
        return values

    return run


def _step(layer: nn.Module) -> Function:
    match layer:
        case nn.Linear() if type(layer) is nn.Linear:  # another's weight may be made anew at every call
            weight, bias = layer.weight, layer.bias
            return lambda values: linear(values, weight, bias)
        case nn.ELU() if layer.alpha == 1.0:
            return _elu
        case nn.LayerNorm():
            return lambda values: torch.layer_norm(values, layer.normalized_shape, layer.weight, layer.bias, layer.eps)
        case nn.Tanh():
            return _tanh
        case nn.Mish():
            return _mish
        case SimNorm():
            return lambda values: _simplices(values, layer.simplex)
        case _:
            return layer


def _elu(values: Tensor) -> Tensor:
    if values.numel() < _MANY:
        return F.elu_(values)
    below = (values * _LOG2_E).clamp_(max=0.0).exp2_().sub_(1.0)
    return torch.maximum(values, below, out=values)


def _tanh(values: Tensor) -> Tensor:
    if values.numel() < _MANY:
        return values.tanh_()
    return values.mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0)


def _mish(values: Tensor) -> Tensor:
    """x tanh(log(1 + e^x)), of one exponential: with w = e^x (e^x + 2) it is x w / (w + 2)."""
    grown = (values.clamp(max=_FLAT) * _LOG2_E).exp2_()
    grown.mul_(grown + 2.0)
    return values.mul_(grown).div_(grown.add_(2.0))


def _simplices(values: Tensor, simplex: int) -> Tensor:
    runs = values.view(len(values), values.shape[1] // simplex, simplex)
    grown = ((runs - runs.amax(2, keepdim=True)) * _LOG2_E).exp2_()
    return grown.div_(grown.sum(2, keepdim=True)).view(values.shape)
