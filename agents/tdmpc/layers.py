"""Plain sequences of layers, and how a checkpoint describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from prunectl.agents.controller import ControllerError
from prunectl.agents.tdmpc2.distributions import Bins
from prunectl.registry import one_line

#: The authors' networks have six layers at most.
MOST_LAYERS = 100
#: A simplex is 8 of them.
MOST_NUMBERS = 10_000
#: The authors' bins lie between symmetric logarithms of 10, and float32 ends at 88.
FARTHEST_BIN = 80.0


class SimNorm(nn.Module):
    """A softmax over each run of ``simplex`` numbers of the last axis (Hansen et al. 2024, section 3.1)."""

    def __init__(self, simplex: int) -> None:
        super().__init__()
        self.simplex = simplex

    def forward(self, values: Tensor) -> Tensor:
        return torch.softmax(values.reshape(*values.shape[:-1], -1, self.simplex), -1).reshape(values.shape)

    def extra_repr(self) -> str:
        return str(self.simplex)


KINDS: dict[str, type[nn.Module]] = {
    "linear": nn.Linear,
    "layer_norm": nn.LayerNorm,
    "elu": nn.ELU,
    "mish": nn.Mish,
    "tanh": nn.Tanh,
    "sim_norm": SimNorm,
    "bins": Bins,
}
#: Those whose settings stand behind their names.
_SET = (SimNorm, Bins)


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two hidden layers of ELUs: dynamics, reward, and the policy before its squashing."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ELU(), nn.Linear(hidden, hidden), nn.ELU(), nn.Linear(hidden, outputs)
    )


def q_function(inputs: int, hidden: int) -> nn.Sequential:
    """A Q-function: its first layer is normalised."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.LayerNorm(hidden),
        nn.Tanh(),
        nn.Linear(hidden, hidden),
        nn.ELU(),
        nn.Linear(hidden, 1),
    )


def kinds(network: nn.Sequential) -> list[str]:
    """The layers by kind, in order: with a state dict, all that `rebuild` needs.

    Raises:
        ControllerError: a layer that a checkpoint has no word for.
    """
    names = {kind: name for name, kind in KINDS.items()}
    found = [names.get(type(layer)) for layer in network]
    if None in found:
        odd = type(network[found.index(None)]).__name__
        raise ControllerError(f"a TD-MPC checkpoint cannot hold a layer of type {odd}; it knows {', '.join(KINDS)}")
    said = zip(network, found, strict=True)
    return [f"{name} {layer.extra_repr()}" if isinstance(layer, _SET) else str(name) for layer, name in said]


def rebuild(layers: Sequence[str], state: Mapping[str, Tensor], where: str) -> nn.Sequential:
    """The network with these layers, its widths read off the tensors ``INDEX.weight`` of ``state``, weights loaded.

    Raises:
        ControllerError: a tensor is missing, left over or of the wrong shape, or there are too many layers.
    """
    if not isinstance(layers, list) or len(layers) > MOST_LAYERS:
        many = f"{len(layers)} layers" if isinstance(layers, list) else "no layers"
        raise ControllerError(f"{where}: {many} where a list of at most {MOST_LAYERS} belongs")
    network = nn.Sequential()
    try:
        for index, kind in enumerate(layers):
            if kind == "linear":
                outputs, inputs = state[f"{index}.weight"].shape
                network.append(nn.Linear(inputs, outputs, device="meta"))
            elif kind == "layer_norm":
                network.append(nn.LayerNorm(len(state[f"{index}.weight"]), device="meta"))
            elif kind.startswith("sim_norm "):
                simplex = int(kind.removeprefix("sim_norm "))
                if not 1 <= simplex <= MOST_NUMBERS:
                    raise ValueError(f"simplices of {simplex} numbers")
                network.append(SimNorm(simplex))
            elif kind.startswith("bins"):
                lowest, highest = map(float, kind.split()[1:])
                if not -FARTHEST_BIN <= lowest < highest <= FARTHEST_BIN or width(network) < 2:
                    raise ValueError(f"{width(network)} bins from {lowest:g} to {highest:g}")
                network.append(Bins(lowest, highest))
            else:
                network.append(KINDS[kind]())
        network.load_state_dict(dict(state), assign=True)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ControllerError(f"{where}: weights and layers do not fit: {one_line(error)}") from error
    return network


def width(network: nn.Sequential) -> int:
    """How many numbers a network puts out."""
    return next(layer.out_features for layer in reversed(network) if isinstance(layer, nn.Linear))
