"""What is asked of tensors that come from a file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from agents.controller import ControllerError


def check_finite(state: Mapping[str, Tensor], where: str) -> None:
    """Raise ControllerError if a weight is NaN or infinite, naming the tensor."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ControllerError(f"{where}: weights '{name}' hold NaN or infinity; the file is damaged")
