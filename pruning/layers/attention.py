"""Multi-head attention, where a unit is a head: its run of the stream's indices and its rows of every projection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from prunectl.pruning.errors import PruningError
from prunectl.pruning.layers.base import Kind, Product, Run, Value, Watch

#: Keywords that change no weight's part in it.
_HARMLESS = {"need_weights", "average_attn_weights"}


class Attention(Kind):
    """`torch.nn.MultiheadAttention` (Vaswani et al. 2017, section 3.2.2), without masks.

    The module's heads are as wide together as the stream that it reads and writes, so a head can leave only with as
    many of the stream's indices.
    """

    def trace(
        self,
        run: Run,
        path: str,
        layer: nn.MultiheadAttention,
        arguments: Sequence[Any],
        named: Mapping[str, Any],
        output: Any,
    ) -> Any:
        known = dict(zip(("query", "key", "value"), arguments, strict=False)) | dict(named)
        streams = [known.pop(name, None) for name in ("query", "key", "value")]
        if set(known) - _HARMLESS or len(arguments) > 3 or not all(isinstance(stream, Value) for stream in streams):
            raise PruningError(f"layer '{path}' (MultiheadAttention) is not called with queries, keys and values alone")
        if layer.in_proj_weight is None or layer.bias_k is not None or layer.add_zero_attn:
            raise PruningError(
                f"layer '{path}': no units are known of a MultiheadAttention with sizes or rows of its own"
            )
        query = streams[0]
        stream = query.axes[-1]
        for other in streams[1:]:
            run.spaces.unify(stream, other.axes[-1], path)
        run.spaces.coarsen(stream, layer.head_dim, path)
        for number, name in enumerate("qkv"):
            run.product(f"{path}.{name}", stream, stream, streams[number].tensor)
        run.product(f"{path}.out_proj", stream, stream, query.tensor)
        run.own(layer.in_proj_weight, (stream * 3, stream))
        run.own(layer.out_proj.weight, (stream, stream))
        if layer.in_proj_bias is not None:
            run.own(layer.in_proj_bias, (stream * 3,))
            run.own(layer.out_proj.bias, (stream,))
        return query.axes, None if output[1] is None else _weights(query, streams[1], layer)

    def products(self, path: str, layer: nn.MultiheadAttention) -> tuple[Product, ...]:
        weights = layer.in_proj_weight.chunk(3)
        biases = [()] * 3 if layer.in_proj_bias is None else [(bias,) for bias in layer.in_proj_bias.chunk(3)]
        inner = [Product(f"{path}.{n}", (w,), b) for n, w, b in zip("qkv", weights, biases, strict=True)]
        out = layer.out_proj
        return (*inner, Product(f"{path}.out_proj", (out.weight,), () if out.bias is None else (out.bias,)))

    def run(
        self, path: str, layer: nn.MultiheadAttention, arguments: Sequence[Any], named: Mapping[str, Any], watch: Watch
    ) -> Any:
        known = dict(zip(("query", "key", "value"), arguments, strict=False)) | dict(named)
        *inner, out = self.products(path, layer)
        sides = []
        for product, name in zip(inner, ("query", "key", "value"), strict=True):
            stream = known[name] if layer.batch_first else known[name].transpose(0, 1)
            made = _linear(product, stream, watch)
            sides.append(made.reshape(*made.shape[:2], -1, layer.head_dim).transpose(1, 2))
        query, key, value = sides
        weights = torch.softmax(query @ key.transpose(-2, -1) / layer.head_dim**0.5, dim=-1)
        written = _linear(out, (weights @ value).transpose(1, 2).flatten(2), watch)
        if not known.get("need_weights", True):
            shown = None
        else:
            shown = weights.mean(dim=1) if known.get("average_attn_weights", True) else weights
        return written if layer.batch_first else written.transpose(0, 1), shown

    def restate(self, layer: nn.MultiheadAttention) -> None:
        layer.embed_dim = layer.kdim = layer.vdim = layer.out_proj.weight.shape[0]
        layer.num_heads = layer.embed_dim // layer.head_dim


def _linear(product: Product, given: Tensor, watch: Watch) -> Tensor:
    watch.before(product, given)
    bias = product.biases[0] if product.biases else None
    written = functional.linear(given, product.weights[0], bias)
    watch.after(product, given, written)
    return written


def _weights(query: Value, key: Value, layer: nn.MultiheadAttention) -> Any:
    """The axes of the attention weights, averaged over the heads."""
    rows, steps = query.axes[:2] if layer.batch_first else query.axes[1::-1]
    return rows, steps, key.axes[1 if layer.batch_first else 0]
