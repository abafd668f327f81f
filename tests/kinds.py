"""Small networks, one a kind of layer or operation, and what is refused; the table in docs/kinds.md is made of them.

python tests/kinds.py > docs/kinds.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional

from prunectl.agents import Component, Controller
from prunectl.agents.tdmpc2.distributions import Bins


class Fake(Controller):
    """Any dataflow as a controller of observations of some shape and actions of 2 numbers, each child a component."""

    algorithm = "fake"
    action_space = spaces.Box(-1, 1, (2,))

    def __init__(self, networks: nn.Module, shape: tuple[int, ...] = (3,)) -> None:
        self.networks, self.observation_space = networks, spaces.Box(-1, 1, shape)

    @property
    def components(self) -> Mapping[str, Component]:
        return {name: Component(name, module, True) for name, module in self.networks.named_children()}

    @property
    def ties(self) -> Sequence[Sequence[str]]:
        return ()

    @property
    def mirrors(self) -> Mapping[str, str]:
        return {}

    def dataflow(self) -> nn.Module:
        return self.networks

    def inputs(self, observations: Any, actions: Any) -> tuple[torch.Tensor, ...]:
        return torch.as_tensor(observations), torch.as_tensor(actions)

    def act(self, observations: Any) -> Any:
        raise NotImplementedError

    def with_networks(self, networks: nn.Module) -> Fake:
        return Fake(networks, self.observation_space.shape)

    def save(self, path: Any, provenance: Any) -> tuple[str, ...]:
        raise NotImplementedError


class Net(nn.Module):
    """Layers by name below a body, a head on it, and a function that says how data passes."""

    def __init__(self, forward: Callable[[nn.ModuleDict, Tensor], Tensor], width: int, **layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.ModuleDict(layers)
        self.actor = nn.Sequential(nn.Linear(width, 6), nn.Tanh(), nn.Linear(6, 2))
        self._forward = forward

    def forward(self, observation: Tensor, action: Tensor) -> dict[str, Tensor]:
        return {"actor": self.actor(self._forward(self.body, observation))}


@dataclass(frozen=True)
class Known:
    """A network that is understood.

    ``unit`` says what leaves together, ``groups`` how many units each group has, worked out by hand. ``oracle`` says
    that Torch-Pruning takes it as well; ``statistics`` that what is left is normalised by itself, so that outputs
    change even where only units without weights go.
    """

    kind: str
    unit: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    groups: tuple[int, ...]
    oracle: bool = False
    statistics: bool = False


@dataclass(frozen=True)
class Refused:
    """A network that is not, and what is said."""

    kind: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    message: str


def _image(forward: Callable[[nn.ModuleDict, Tensor], Tensor], width: int, **layers: nn.Module) -> Callable[[], Net]:
    return lambda: Net(forward, width, **layers)


def _gated(layers: nn.ModuleDict, seen: Tensor) -> Tensor:
    value, gate = layers["wide"](seen).chunk(2, dim=1)
    return value * torch.sigmoid(gate)


def _heads(layers: nn.ModuleDict, seen: Tensor) -> Tensor:
    query, key, value = (layers[name](seen).unflatten(-1, (-1, 4)).transpose(1, 2) for name in ("q", "k", "v"))
    mixed = functional.scaled_dot_product_attention(query, key, value)
    return layers["out"](mixed.transpose(1, 2).flatten(2)).mean(dim=1)


def _looked_up(layers: nn.ModuleDict, seen: Tensor) -> Tensor:
    return layers["table"](seen[:, 0].abs().clamp(0, 4).long()) + layers["rest"](seen)


def _last(layers: nn.ModuleDict, seen: Tensor) -> Tensor:
    outputs, _ = layers["memory"](torch.tanh(layers["first"](seen)))
    return outputs[:, -1]


def _cell(layers: nn.ModuleDict, seen: Tensor) -> Tensor:
    state = layers["memory"](layers["first"](seen))
    return layers["memory"](layers["first"](seen), state)


class SimNorm(nn.Module):
    """A softmax over each run of four."""

    simplex = 4

    def forward(self, values: Tensor) -> Tensor:
        return torch.softmax(values.unflatten(-1, (-1, 4)), dim=-1).flatten(-2)


class Scaled(nn.Module):
    """A gain and an offset an index."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain, self.offset = nn.Parameter(torch.rand(width) + 0.5), nn.Parameter(torch.randn(1, width))


class Stacked(nn.Module):
    """The same layer of five networks."""

    def __init__(self, reads: int, writes: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(5, reads, writes))
        self.biases = nn.Parameter(torch.randn(5, 1, writes))


def _ensemble(layers: nn.ModuleDict, seen: Tensor) -> Tensor:
    first, last = layers["a"], layers["b"]
    hidden = torch.baddbmm(first.biases, seen.unsqueeze(0).expand(5, -1, -1), first.weights).relu()
    return (hidden.bmm(last.weights) + last.biases).mean(dim=0)


def _conv(*norms: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), *norms, nn.ReLU(), nn.Conv2d(8, 4, 3), nn.ReLU())


KNOWN = (
    Known("Linear", "an output", lambda: Net(lambda m, x: torch.relu(m["a"](x)), 8, a=nn.Linear(3, 8)), (3,), (8, 6),
          True),
    Known("Conv1d", "a channel", _image(lambda m, x: m["a"](x).relu().mean(dim=2), 8, a=nn.Conv1d(3, 8, 3, padding=2)),
          (3, 9), (8, 6)),
    Known("Conv2d, Flatten", "a channel; a run of height x width indices once flattened",
          _image(lambda m, x: torch.relu(m["f"](m["c"](x).flatten(1))), 8, c=_conv(), f=nn.Linear(4 * 9, 8)),
          (3, 10, 10), (8, 4, 8, 6), True),
    Known("Conv2d, strided, dilated, padded otherwise", "a channel",
          _image(lambda m, x: m["a"](x).relu().flatten(1), 32,
                 a=nn.Conv2d(3, 8, (2, 3), stride=(2, 3), dilation=(1, 2), padding=(0, 1), padding_mode="circular")),
          (3, 4, 8), (8, 6)),
    Known("Conv2d, depthwise", "a channel, through every layer that keeps channels apart",
          _image(lambda m, x: m["c"](x).mean(dim=(2, 3)), 4,
                 c=nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv2d(8, 4, 1))),
          (3, 6, 6), (8, 4, 6), True),
    Known("Conv2d, grouped", "none: its channels stay",
          _image(lambda m, x: m["c"](x).mean(dim=(2, 3)), 4,
                 c=nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(), nn.Conv2d(8, 4, 1))),
          (3, 6, 6), (4, 6)),
    Known("ConvTranspose2d", "a channel", _image(lambda m, x: m["b"](m["a"](x).relu()).mean(dim=(2, 3)), 4,
          a=nn.Conv2d(3, 8, 3), b=nn.ConvTranspose2d(8, 4, 3)), (3, 6, 6), (8, 4, 6)),
    Known("ConvTranspose2d, strided, dilated, padded", "a channel", _image(
        lambda m, x: m["a"](x).relu().flatten(1), 8 * 8 * 7,
        a=nn.ConvTranspose2d(3, 8, (3, 2), stride=(3, 2), padding=(1, 0), output_padding=(2, 1), dilation=(2, 1))),
        (3, 2, 3), (8, 6)),
    Known("ConvTranspose1d, grouped", "none: its channels stay", _image(
        lambda m, x: m["b"](m["a"](x)).relu().mean(dim=2), 4, a=nn.Conv1d(3, 8, 3),
        b=nn.ConvTranspose1d(8, 4, 3, groups=2)), (3, 6), (6,)),
    Known("Pooling", "a channel", _image(lambda m, x: m["c"](x).flatten(1), 16, c=nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.AvgPool2d(2, 1), nn.AdaptiveAvgPool2d(2))), (3, 9, 9), (4, 6), True),
    Known("BatchNorm", "a channel, with its entries",
          _image(lambda m, x: m["c"](x).mean(dim=(2, 3)), 4, c=_conv(nn.BatchNorm2d(8))), (3, 9, 9), (8, 4, 6), True),
    Known("GroupNorm", "a group of the norm's",
          _image(lambda m, x: m["c"](x).mean(dim=(2, 3)), 4, c=_conv(nn.GroupNorm(4, 8))), (3, 9, 9), (4, 4, 6)),
    Known("LayerNorm", "an index, normalised by what is left",
          lambda: Net(lambda m, x: torch.relu(m["n"](m["a"](x))), 8, a=nn.Linear(3, 8), n=nn.LayerNorm(8)), (3,),
          (8, 6), statistics=True),
    Known("Residual sum", "the same unit of all that is added",
          _image(lambda m, x: (m["a"](x) + m["b"](m["a"](x).relu())).mean(dim=(2, 3)), 8, a=nn.Conv2d(3, 8, 1),
                 b=nn.Conv2d(8, 8, 3, padding=1)), (3, 6, 6), (8, 6), True),
    Known("Concatenation", "a unit of either", lambda: Net(
        lambda m, x: torch.cat([m["a"](x), m["b"](x).tanh()], dim=1), 12, a=nn.Linear(3, 8), b=nn.Linear(3, 4)), (3,),
        (8, 4, 6), True),
    Known("Sum of a concatenation", "a unit of either part, with the unit it is added to", lambda: Net(
        lambda m, x: torch.cat([m["a"](x), m["b"](x).tanh()], dim=1) + m["c"](x), 12, a=nn.Linear(3, 8),
        b=nn.Linear(3, 4), c=nn.Linear(3, 12)), (3,), (8, 4, 6)),
    Known("GLU, chunk", "an index of every chunk", lambda: Net(_gated, 6, wide=nn.Linear(3, 12)), (3,), (6, 6)),
    Known("Embedding", "a column of the table",
          lambda: Net(_looked_up, 8, table=nn.Embedding(5, 8), rest=nn.Linear(3, 8)), (3,), (8, 6)),
    Known("Parameters by unit", "an index, with its entries", lambda: Net(
        lambda m, x: m["s"].offset + torch.relu(m["a"](x)) * m["s"].gain, 8, a=nn.Linear(3, 8), s=Scaled(8)), (3,),
        (8, 6)),
    Known("PReLU", "an index, with its slope",
          lambda: Net(lambda m, x: m["p"](m["a"](x)), 8, a=nn.Linear(3, 8), p=nn.PReLU(8)), (3,), (8, 6), True),
    Known("SimNorm", "a whole simplex",
          lambda: Net(lambda m, x: m["n"](m["a"](x)), 16, a=nn.Linear(3, 16), n=SimNorm()), (3,), (4, 6)),
    Known("LSTM", "a hidden unit: a row in each gate, a column of what reads the state", lambda: Net(
        _last, 8, first=nn.Linear(3, 6), memory=nn.LSTM(6, 8, batch_first=True)), (5, 3), (6, 8, 6)),
    Known("LSTM of several layers", "a hidden unit of all of them", lambda: Net(
        _last, 8, first=nn.Linear(3, 6), memory=nn.LSTM(6, 8, num_layers=2, batch_first=True)), (5, 3), (6, 8, 6)),
    Known("GRU", "a hidden unit", lambda: Net(
        _last, 8, first=nn.Linear(3, 6), memory=nn.GRU(6, 8, batch_first=True)), (5, 3), (6, 8, 6)),
    Known("RNN", "a hidden unit", lambda: Net(
        _last, 8, first=nn.Linear(3, 6), memory=nn.RNN(6, 8, batch_first=True)), (5, 3), (6, 8, 6)),
    Known("GRUCell, called twice", "a hidden unit",
          lambda: Net(_cell, 8, first=nn.Linear(3, 6), memory=nn.GRUCell(6, 8)), (3,), (6, 8, 6)),
    Known("MultiheadAttention", "a head, with its share of the stream", lambda: Net(
        lambda m, x: m["mix"](*[m["a"](x)] * 3, need_weights=False)[0].mean(dim=1), 16, a=nn.Linear(3, 16),
        mix=nn.MultiheadAttention(16, 4, batch_first=True)), (5, 3), (4, 6)),
    Known("Attention by hand", "a head of the queries, keys and values", lambda: Net(
        _heads, 8, **{name: nn.Linear(3, 16) for name in ("q", "k", "v")}, out=nn.Linear(16, 8)), (5, 3), (4, 8, 6)),
    Known("Softmax, sum or mean over units", "none: they stay", lambda: Net(
        lambda m, x: torch.softmax(m["a"](x), dim=1), 8, a=nn.Linear(3, 8)), (3,), (6,)),
    Known("Bins of a distribution", "none: they lie evenly, so they stay", lambda: Net(
        lambda m, x: m["b"](m["a"](x)), 1, a=nn.Linear(3, 8), b=Bins(-2.0, 2.0)), (3,), (6,)),
    Known("A stack of matrices, matmul", "an index that all of them read or write", lambda: Net(
        lambda m, x: (torch.relu(m["a"](x)) @ m["e"].weights).relu().mean(dim=0), 4, a=nn.Linear(3, 8),
        e=Stacked(8, 4)), (3,), (8, 4, 6)),
    Known("A stack of matrices, baddbmm and bmm", "likewise", lambda: Net(_ensemble, 4, a=Stacked(3, 8),
          b=Stacked(8, 4)), (3,), (8, 4, 6)),
    Known("A stack of matrices, einsum", "likewise", lambda: Net(
        lambda m, x: torch.einsum("eni,eij->enj", torch.einsum("ni,eij->enj", x, m["a"].weights).tanh(),
                                  m["b"].weights).sum(dim=0), 4, a=Stacked(3, 8), b=Stacked(8, 4)), (3,), (8, 4, 6)),
    Known("A parameter multiplied as a matrix", "none of what it reads or writes alone: they stay", lambda: Net(
        lambda m, x: torch.relu(m["a"](x)) @ m["w"].weight, 4, a=nn.Linear(3, 8), w=nn.Linear(4, 8, bias=False)), (3,),
        (6,)),
    Known("A size written as a number", "none: they stay", lambda: Net(
        lambda m, x: m["a"](x).view(-1, 4, 2).flatten(1), 8, a=nn.Linear(3, 8)), (3,), (6,)),
)  # fmt: skip

REFUSED = (
    Refused("A function that is not known", lambda: Net(lambda m, x: m["a"](x).flip(1), 8, a=nn.Linear(3, 8)), (3,),
            "operation 'flip' at 'flip': its effect on units is not known"),
    Refused("Joining rows of a batch", lambda: Net(lambda m, x: torch.cat([m["a"](x)] * 2), 8, a=nn.Linear(3, 8)), (3,),
            "operation 'cat' at 'cat' does not join values of the dataflow along their units"),
    Refused("A mean over a batch", lambda: Net(lambda m, x: m["a"](x) - m["a"](x).mean(dim=0), 8, a=nn.Linear(3, 8)),
            (3,), "'mean' mixes the rows of a batch"),
    Refused("A tensor that nothing holds", lambda: Net(lambda m, x: m["a"](x) * torch.rand(8), 8, a=nn.Linear(3, 8)),
            (3,), "no component holds as a parameter or buffer"),
    Refused("An LSTM that is bidirectional or projected", lambda: Net(
        _last, 16, first=nn.Linear(3, 6), memory=nn.LSTM(6, 8, bidirectional=True, batch_first=True)), (5, 3),
        "layer 'body.memory': no units are known of a bidirectional or projected LSTM"),
    Refused("Attention under a mask", lambda: Net(
        lambda m, x: m["mix"](*[m["a"](x)] * 3, attn_mask=m["w"].weight)[0].mean(dim=1), 16,
        a=nn.Linear(3, 16), w=nn.Linear(5, 5), mix=nn.MultiheadAttention(16, 4, batch_first=True)), (5, 3),
        "is not called with queries, keys and values alone"),
    Refused("Control flow that depends on values", lambda: Net(
        lambda m, x: m["a"](x) if x.sum() > 0 else -m["a"](x), 8, a=nn.Linear(3, 8)), (3,),
        "the controller's dataflow cannot be traced"),
)  # fmt: skip


def example(known: Known, rows: int = 64) -> tuple[Tensor, Tensor]:
    """What its dataflow takes."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, *known.shape, generator=generator), torch.randn(rows, 2, generator=generator)


def table() -> str:
    """The page of the documentation."""
    lines = [
        "# Which networks can be pruned",
        "",
        "A controller's components may be made of these layers and operations, in any combination. Each row is proved",
        "by tests (`tests/pruning/test_kinds.py`): what is left has as many parameters as the plan says, a plan that",
        "removes nothing changes no output by a bit, units that nothing reads leave without a trace, and units that",
        "say what others say are made up for by `reconstruct`.",
        "",
        "| layer or operation | a unit is | Torch-Pruning finds the same |",
        "| --- | --- | --- |",
        *(f"| {known.kind} | {known.unit} | {'yes' if known.oracle else ''} |" for known in KNOWN),
        "",
        "Activations, dropout, `Identity`, elementwise functions, slices of what stays, `permute`, `stack`, `squeeze`",
        "and their like pass units on. A layer of another library without parameters is tried with its inputs",
        "permuted; one with an entry an index of its last axis is taken for a normalisation.",
        "",
        "What is not known is refused, and the message names it:",
        "",
        "| refused | message |",
        "| --- | --- |",
        *(f"| {refused.kind} | ... {refused.message} ... |" for refused in REFUSED),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
