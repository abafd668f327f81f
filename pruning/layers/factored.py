"""A linear layer of limited rank, while it is learned: two thin matrices in the place of one."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from prunectl.pruning.layers.base import Product


class Factored(nn.Linear):
    """``left @ right`` in the place of a weight ``(out, in)``, with ``rank`` columns and rows between.

    It is called, and looked at, as the layer that it stands for; what trains it trains the factors.
    """

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        """A layer's truncated singular value decomposition."""
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.rank = layer.in_features, layer.out_features, rank
        self.left, self.right = map(nn.Parameter, _factors(layer.weight.detach(), rank))
        # Typed as always there, which it is not.
        bias: Tensor | None = layer.bias
        self.bias: Any = None if bias is None else nn.Parameter(bias.detach().clone(), bias.requires_grad)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The product of the factors."""
        return self.left @ self.right

    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(functional.linear(input, self.right), self.left, self.bias)

    def whole(self) -> nn.Linear:
        """The plain layer that does the same."""
        layer = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        layer.weight = nn.Parameter(self.weight.detach().clone())
        if self.bias is not None:
            layer.bias = nn.Parameter(self.bias.detach().clone())
        return layer.train(self.training)


class FactoredProduct(Product):
    """The matrix product of a factored layer: ``weights`` are its two factors."""

    @classmethod
    def of(cls, name: str, layer: Factored) -> Self:
        """The one of this layer."""
        return cls(name, (layer.left, layer.right), () if layer.bias is None else (layer.bias,))

    @property
    def rank(self) -> int | None:
        return len(self.weights[1])

    def matrix(self) -> Tensor:
        left, right = self.weights
        return left.detach() @ right.detach()

    def write(self, matrix: Tensor, bias: Tensor) -> None:
        """Set the factors to the nearest of their rank."""
        with torch.no_grad():
            for own, value in zip(self.weights, _factors(matrix, len(self.weights[1])), strict=True):
                own.copy_(value)
            for own in self.biases:
                own.copy_(bias)


def _factors(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """``(out, rank)`` and ``(rank, in)``, both scaled by the roots of the singular values."""
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    roots = values[:rank].sqrt()
    return (left[:, :rank] * roots).to(matrix.dtype), (roots[:, None] * right[:rank]).to(matrix.dtype)
