"""A controller whose weights are rounded to few bits, as numbers: for what that costs in return, wherever it runs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunectl.agents.controller import Controller
from prunectl.agents.deployment.int8 import error_fed
from prunectl.pruning.storage import float_bytes

C = TypeVar("C", bound=Controller)

#: Rows of what a layer reads that are looked at.
_ROWS = 4_000


def rounded(controller: C, bits: int, inputs: Sequence[Tensor]) -> tuple[C, int]:
    """The controller with the weights of what acts rounded, and the bytes that these components then take.

    Weights become whole numbers of so many bits times a scale, symmetric about zero, a scale for each index of their
    first axis: an output of a layer. Those of linear layers are rounded with error feedback on what the layers read
    (`int8.error_fed`), and the bias takes what is left of the mean error; others take the nearest number. What has one
    axis (biases, norms) stays float, and so do activations, which `prunectl export --int8` rounds as well.

    Args:
        controller: it stays as it is.
        bits: from 2 to 8.
        inputs: what its dataflow takes on visited observations, ``(n, ...)`` each.

    Raises:
        ValueError: another number of bits.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"weights are rounded to 2 to 8 bits, not {bits}")
    small = controller.with_networks(copy.deepcopy(controller.networks))
    acting = [component.module for component in small.components.values() if component.deployed]
    read = _read(small, [m for module in acting for m in module.modules() if isinstance(m, nn.Linear)], inputs)
    most, size = 2 ** (bits - 1) - 1, 0
    with torch.no_grad():
        layers = {layer.weight: layer for layer in read}
        for parameter in dict.fromkeys(p for module in acting for p in module.parameters()):
            if parameter.dim() < 2:
                size += float_bytes(parameter.numel())
                continue
            size += -(-parameter.numel() * bits // 8) + float_bytes(len(parameter))
            weight = parameter.flatten(1).double().numpy()
            scale = np.maximum(np.abs(weight).max(1, keepdims=True), np.finfo(np.float32).tiny) / most
            layer = layers.get(parameter)
            near = np.rint(weight / scale) if layer is None else error_fed(weight / scale, read[layer], most)
            if layer is not None and layer.bias is not None:
                layer.bias.add_(torch.as_tensor(read[layer].mean(0) @ (weight - near * scale).T))
            parameter.copy_(torch.as_tensor(near * scale).view_as(parameter))
    return small, size


def _read(
    controller: Controller, layers: Sequence[nn.Linear], inputs: Sequence[Tensor]
) -> dict[nn.Linear, NDArray[Any]]:
    """What those of the layers that the dataflow runs read, ``(n, in)``."""
    found: dict[nn.Linear, NDArray[Any]] = {}

    def keep(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.Linear)
        found[layer] = given[0].reshape(-1, layer.in_features).double().numpy()

    handles = [layer.register_forward_pre_hook(keep) for layer in layers]
    every = max(len(inputs[0]) // _ROWS, 1)
    with torch.no_grad():
        controller.dataflow()(*(tensor[::every] for tensor in inputs))
    for handle in handles:
        handle.remove()
    return found
