"""Widths read off a state dict: the shapes are the truth, whatever a zip's text says of its architecture."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gymnasium import spaces
from torch import Tensor
from torch.nn import functional

from prunectl.agents.controller import ControllerError
from prunectl.agents.sb3.families import NotRebuiltError

State = Mapping[str, Tensor]


def policy_arguments(state: State, algorithm: str, actions: spaces.Space[Any]) -> dict[str, Any]:
    """The width-bearing keyword arguments of the algorithm's SB3 policy that this state dict belongs to.

    Returns:
        ``net_arch``, and where the policy has them ``n_critics``, ``n_quantiles``, ``lstm_hidden_size``,
        ``n_lstm_layers``, ``with_bias`` and ``features_extractor_kwargs``.

    Raises:
        ControllerError: the state dict is not laid out as any policy that we rebuild.
    """
    if any(key.startswith("mlp_extractor.shared_net") for key in state):
        raise ControllerError("layers shared inside the MLP extractor are no longer built by Stable-Baselines3")
    if algorithm == "ars":
        arguments: dict[str, Any] = {"net_arch": _widths(state, "action_net.")[:-1]}
        arguments["with_bias"] = any(key.endswith(".bias") for key in state)
        return arguments
    if any(key.startswith(("mlp_extractor.", "action_net.")) for key in state):
        hidden = {"pi": _widths(state, "mlp_extractor.policy_net."), "vf": _widths(state, "mlp_extractor.value_net.")}
        arguments = {"net_arch": hidden}
        encoders = [_extractor(state, f"{prefix}features_extractor.") for prefix in ("", "vf_")]
        if (recurrent := state.get("lstm_actor.weight_hh_l0")) is not None:
            layers = sum(key.startswith("lstm_actor.weight_hh_l") for key in state)
            arguments |= {"lstm_hidden_size": recurrent.shape[-1], "n_lstm_layers": layers}
    elif all(any(key.startswith(part) for key in state) for part in ("actor.", "critic.qf0.")):
        actor = _widths(state, "actor.latent_pi.")
        if not any(key.startswith("actor.latent_pi.") for key in state):
            actor = _widths(state, "actor.mu.")[:-1]
        critic = _widths(state, "critic.qf0.")
        arguments = {"net_arch": {"pi": actor, "qf": critic[:-1]}, "n_critics": len(_twins(state, "critic."))}
        if algorithm == "tqc":
            arguments["n_quantiles"] = critic[-1]
        encoders = [_extractor(state, f"{reader}.features_extractor.") for reader in ("actor", "critic")]
    elif isinstance(actions, spaces.Discrete) and any(key.startswith(("q_net.", "quantile_net.")) for key in state):
        network = "quantile_net" if algorithm == "qrdqn" else "q_net"
        *hidden_widths, outputs = _widths(state, f"{network}.{network}.") or [0]
        arguments = {"net_arch": hidden_widths}
        if algorithm == "qrdqn":
            arguments["n_quantiles"] = outputs // int(actions.n)
        encoders = [_extractor(state, f"{network}.features_extractor.")]
    else:
        raise NotRebuiltError(f"its weights ({', '.join(list(state)[:3])}, ...) are not those of a known policy")
    encoders = [encoder for encoder in encoders if encoder]
    if any(encoder != encoders[0] for encoder in encoders):
        raise NotRebuiltError(f"the encoders differ in width ({encoders}); Stable-Baselines3 builds both from one list")
    if encoders:
        arguments["features_extractor_kwargs"] = encoders[0]
    return arguments


def pad_twins(state: State) -> tuple[dict[str, Tensor], int]:
    """Give twin critics of different widths equal ones by adding dead units, which change no output.

    A dead unit has zero weights in and zero weights out. Returns the padded state dict and the number of dead units.
    """
    padded = dict(state)
    dead = 0
    for prefix in ("critic.", "critic_target."):
        twins = _twins(state, prefix)
        first = f"{prefix}qf0."
        for suffix in [key.removeprefix(first) for key in state if key.startswith(first)]:
            tensors = [state[f"{twin}.{suffix}"] for twin in twins]
            shape = [max(sizes) for sizes in zip(*(t.shape for t in tensors), strict=True)]
            for twin, tensor in zip(twins, tensors, strict=True):
                missing = [wide - narrow for wide, narrow in zip(shape, tensor.shape, strict=True)]
                # functional.pad counts from the last axis, (before, after) each
                amounts = [side for amount in reversed(missing) for side in (0, amount)]
                padded[f"{twin}.{suffix}"] = functional.pad(tensor, amounts) if any(missing) else tensor
                if prefix == "critic." and tensor.dim() == 2:
                    dead += missing[0]
    return padded, dead


def _extractor(state: State, prefix: str) -> dict[str, Any]:
    """The arguments of ours that say widths: of an `MlpExtractor`, a `CnnExtractor`, or several of these by part."""
    parts = sorted(
        {
            match[1]
            for key in state
            if (match := re.match(re.escape(prefix) + r"extractors\.([^.]+)\.net\.0\.weight", key))
        }
    )
    if parts:
        return {"cnns": {part: _extractor(state, f"{prefix}extractors.{part}.") for part in parts}}
    widths = _widths(state, f"{prefix}net.")
    filters = [state[key] for key in state if re.fullmatch(re.escape(prefix) + r"net\.\d+\.weight", key)]
    filters = [tensor for tensor in filters if tensor.dim() == 4]
    if not filters:
        return {"widths": widths} if widths else {}
    sides = {"channels": [len(tensor) for tensor in filters], "kernels": [tensor.shape[-1] for tensor in filters]}
    return {**sides, "features_dim": widths[-1]}


def _widths(state: State, prefix: str) -> list[int]:
    """Output widths of the linear layers under a prefix, in order."""
    found = [
        (int(match[1]), tensor.shape[0])
        for key, tensor in state.items()
        if (match := re.fullmatch(re.escape(prefix) + r"(\d+)\.weight", key)) and tensor.dim() == 2
    ]
    return [width for _, width in sorted(found)]


def _twins(state: State, prefix: str) -> list[str]:
    names = {match[0] for key in state if (match := re.match(re.escape(prefix) + r"qf\d+", key))}
    return sorted(names, key=lambda name: int(name.rsplit("qf", 1)[1]))
