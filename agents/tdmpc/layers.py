"""Plain sequences of layers, and how a checkpoint describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from prunectl.agents.controller import ControllerError
from prunectl.registry import one_line

#: The authors' networks have six layers at most.
MOST_LAYERS = 100

KINDS: dict[str, type[nn.Module]] = {
    "linear": nn.Linear,
    "layer_norm": nn.LayerNorm,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
}


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
    return [name for name in found if name is not None]


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
            else:
                network.append(KINDS[kind]())
        network.load_state_dict(dict(state), assign=True)
    except (KeyError, ValueError, RuntimeError) as error:
        raise ControllerError(f"{where}: weights and layers do not fit: {one_line(error)}") from error
    return network


def width(network: nn.Sequential) -> int:
    """How many numbers a network puts out."""
    return next(layer.out_features for layer in reversed(network) if isinstance(layer, nn.Linear))
