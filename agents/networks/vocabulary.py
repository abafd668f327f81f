"""What networks may be made of: the layers, functions and methods of PyTorch that a file can name.

None of them reads a file, draws at random while a controller acts, or makes more numbers than it is told to.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

#: Layers of `torch.nn` by name, and the arguments of their constructors that are attributes of the same name.
LAYERS: Mapping[str, tuple[str, ...]] = {
    "Linear": ("in_features", "out_features", "bias"),
    "Embedding": ("num_embeddings", "embedding_dim"),
    **{
        f"Conv{axes}d": (
            "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias",
            "padding_mode",
        )
        for axes in (1, 2)
    },
    **{
        f"ConvTranspose{axes}d": (
            "in_channels", "out_channels", "kernel_size", "stride", "padding", "output_padding", "groups", "bias",
            "dilation", "padding_mode",
        )
        for axes in (1, 2)
    },
    **{
        f"BatchNorm{axes}d": ("num_features", "eps", "momentum", "affine", "track_running_stats")
        for axes in (1, 2)
    },
    "LayerNorm": ("normalized_shape", "eps", "elementwise_affine", "bias"),
    "GroupNorm": ("num_groups", "num_channels", "eps", "affine"),
    "RNN": (
        "input_size", "hidden_size", "num_layers", "nonlinearity", "bias", "batch_first", "dropout", "bidirectional",
    ),
    "RNNCell": ("input_size", "hidden_size", "bias", "nonlinearity"),
    "GLU": ("dim",),
    **dict.fromkeys(
        ("LSTM", "GRU"),
        ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional"),
    ),
    **dict.fromkeys(("LSTMCell", "GRUCell"), ("input_size", "hidden_size", "bias")),
    "MultiheadAttention": ("embed_dim", "num_heads", "dropout", "bias", "kdim", "vdim", "batch_first"),
    **{f"MaxPool{axes}d": ("kernel_size", "stride", "padding", "dilation", "ceil_mode") for axes in (1, 2)},
    **{f"AvgPool{axes}d": ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad") for axes in (1, 2)},
    **{f"Adaptive{kind}Pool{axes}d": ("output_size",) for kind in ("Avg", "Max") for axes in (1, 2)},
    "Flatten": ("start_dim", "end_dim"),
    "Unflatten": ("dim", "unflattened_size"),
    **dict.fromkeys(("Dropout", "Dropout1d", "Dropout2d"), ("p",)),
    **dict.fromkeys(("Softmax", "LogSoftmax"), ("dim",)),
    **dict.fromkeys(("ELU", "CELU"), ("alpha",)),
    "LeakyReLU": ("negative_slope",),
    "GELU": ("approximate",),
    "Softplus": ("beta", "threshold"),
    "Hardtanh": ("min_val", "max_val"),
    "PReLU": ("num_parameters",),
    **dict.fromkeys(
        (
            "Identity", "ReLU", "ReLU6", "SELU", "SiLU", "Mish", "Tanh", "Sigmoid", "Softsign", "LogSigmoid",
            "Hardswish", "Hardsigmoid", "Tanhshrink",
        ),
        (),
    ),
}  # fmt: skip

#: Functions by the name that a file has for them.
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **{
        name: getattr(torch, name)
        for name in (
            "abs", "add", "argmax", "baddbmm", "bmm", "cat", "chunk", "clamp", "cos", "div", "exp", "flatten",
            "index_select", "log", "matmul", "maximum", "mean", "minimum", "mul", "neg", "permute", "pow", "relu",
            "reshape", "sigmoid", "sin", "softmax", "split", "sqrt", "square", "squeeze", "stack", "sub", "sum",
            "tanh", "transpose", "unflatten", "unsqueeze",
        )
    },
    **{
        f"functional.{name}": getattr(functional, name)
        for name in (
            "avg_pool2d", "elu", "gelu", "hardtanh", "leaky_relu", "log_softmax", "max_pool2d", "mish", "normalize",
            "relu", "sigmoid", "silu", "softmax", "softplus", "tanh",
        )
    },
    **{
        f"operator.{name}": getattr(operator, name)
        for name in ("add", "getitem", "matmul", "mul", "neg", "pow", "sub", "truediv")
    },
}  # fmt: skip

#: Methods of a tensor.
METHODS = frozenset([
    "abs", "add", "argmax", "bmm", "chunk", "clamp", "cos", "detach", "div", "exp", "flatten", "float", "log", "matmul",
    "mean", "mul", "neg", "permute", "pow", "relu", "reshape", "sigmoid", "sin", "size", "softmax", "split", "sqrt",
    "square", "squeeze", "sub", "sum", "tanh", "transpose", "unflatten", "unsqueeze", "view",
])  # fmt: skip

#: Words that an argument may be.
WORDS = frozenset(["none", "tanh", "relu", "zeros", "reflect", "replicate", "circular", "same", "valid"])


def layer_name(layer: nn.Module) -> str | None:
    """The name of a layer that files know, None for any other, one of a class derived from a layer's among them."""
    name = type(layer).__name__
    return name if name in LAYERS and type(layer) is getattr(nn, name) else None


def function_name(function: Callable[..., Any]) -> str | None:
    """The name of a function that files know; None for any other."""
    return next((name for name, known in FUNCTIONS.items() if known is function), None)
