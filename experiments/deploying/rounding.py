"""A controller whose weights are rounded to few bits, as numbers: for what that costs in return, wherever it runs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunectl.agents.controller import Controller
from prunectl.agents.deployment.whole_weights import error_fed
from prunectl.pruning.grids import most_of, scales
from prunectl.pruning.rounding import acting_bytes, nearest, weights_of

C = TypeVar("C", bound=Controller)

#: Rows of what a layer reads that are looked at.
_ROWS = 4_000


def rounded(controller: C, bits: int, inputs: Sequence[Tensor]) -> tuple[C, int]:
    """The controller with the weights of what acts rounded, and the bytes that these components then take.

    Weights become whole numbers of so many bits, symmetric about zero, times a scale of their output and one of their
    input (`pruning.grids`). Those of linear layers are rounded with error feedback on what the layers read
    (`whole_weights.error_fed`), and the bias takes what is left of the mean error; others take the nearest number. What
    has one axis (biases, norms) stays float, and so do activations, which `prunectl export` rounds as well.

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
    most = most_of(bits)
    with torch.no_grad():
        layers = {layer.weight: layer for layer in read}
        for parameter in dict.fromkeys(w for module in acting for w in weights_of(module)):
            if (layer := layers.get(parameter)) is None:
                parameter.copy_(nearest(parameter, bits))
                continue
            weight, scale = parameter.double().numpy(), scales(parameter, bits).double().numpy()
            # An input is read in its own scale; the first output's step is as good as any to take that from.
            near = error_fed(weight / scale, read[layer] * (scale[0] / scale[0].max()), most)
            if layer.bias is not None:
                layer.bias.add_(torch.as_tensor(read[layer].mean(0) @ (weight - near * scale).T))
            parameter.copy_(torch.as_tensor(near * scale))
    return small, sum(acting_bytes(small, bits).values())


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
