"""The kinds of layers: each says in one place how units pass through it, and nothing else knows layer types."""

from __future__ import annotations

from torch import nn

from prunectl.pruning.layers.attention import Attention
from prunectl.pruning.layers.base import Kind, Product, Value, Watch, at
from prunectl.pruning.layers.matrices import Convolution, Embedding, Linear, TransposedConvolution
from prunectl.pruning.layers.passing import (
    Bins,
    ByChannel,
    Flatten,
    Glu,
    GroupNorm,
    LayerNorm,
    Other,
    Passing,
    Pooling,
    SimNorm,
    Unflatten,
)
from prunectl.pruning.layers.recurrent import Recurrent, carried_along
from prunectl.pruning.layers.stacked import Stack, stack_of, stacks

__all__ = [
    "KINDS",
    "Kind",
    "Product",
    "Stack",
    "Value",
    "Watch",
    "at",
    "carried_along",
    "is_layer",
    "kind_of",
    "stack_of",
    "stacks",
    "writes",
]

#: Layer class -> its kind. Subclasses are of no kind but `Other`, since nobody knows what they do.
KINDS: dict[type[nn.Module], Kind] = {
    **dict.fromkeys((nn.Linear,), Linear()),
    **dict.fromkeys((nn.Conv1d, nn.Conv2d), Convolution()),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d), TransposedConvolution()),
    **dict.fromkeys((nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell), Recurrent()),
    nn.Embedding: Embedding(),
    nn.MultiheadAttention: Attention(),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.PReLU), ByChannel()),
    nn.LayerNorm: LayerNorm(),
    nn.GroupNorm: GroupNorm(),
    **dict.fromkeys(
        (
            nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d,
            nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.Upsample,
        ),
        Pooling(),
    ),
    nn.Flatten: Flatten(),
    nn.Unflatten: Unflatten(),
    nn.GLU: Glu(),
    **dict.fromkeys(
        (
            nn.Identity, nn.ReLU, nn.ELU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Mish, nn.LeakyReLU, nn.SELU,
            nn.CELU, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.ReLU6, nn.LogSigmoid,
            nn.Dropout,
        ),
        Passing(),
    ),
}  # fmt: skip
_OTHER, _SIMPLEX, _BINS, _LINEAR = Other(), SimNorm(), Bins(), KINDS[nn.Linear]


def kind_of(layer: nn.Module) -> Kind:
    """What is known of a layer."""
    if (kind := KINDS.get(type(layer))) is not None:
        return kind
    if isinstance(layer, nn.Linear):
        return _LINEAR
    if isinstance(getattr(layer, "simplex", None), int):
        return _SIMPLEX
    return _BINS if callable(getattr(layer, "two_hot", None)) else _OTHER


def is_layer(module: nn.Module) -> bool:
    """Whether a dataflow's call of this module is one step: it has no children, or it is of a kind that has."""
    return type(module) in KINDS or not any(True for _ in module.children())


def writes(path: str, module: nn.Module) -> tuple[Product, ...]:
    """The matrix products of a module, none where it has none."""
    return kind_of(module).products(path, module)
