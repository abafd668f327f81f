"""Whether a controller does what the model does that it was made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from torch import nn

from prunectl.agents.controller import Batch, Controller
from prunectl.agents.rows import observations_of, row_space
from prunectl.agents.sb3.families import NotRebuiltError
from prunectl.agents.sb3.networks import component_modules, q_network

#: Observations that both are shown, and how far actions may be apart, as a share of half the action range; of what
#: decides a choice, as a share of its spread, for on a few rows the same option may be the highest of other numbers.
ROWS, TOLERANCE = 8, 1e-3


def check_faithful(controller: Controller, normalise: nn.Module | None, model: BaseAlgorithm, where: str) -> None:
    """Raise NotRebuiltError unless a controller does as Stable-Baselines3's own ``model.predict``.

    A policy or an extractor of the user's own may do anything in its ``forward``. The model stays as it is.

    Args:
        controller: made of the model's policy.
        normalise: what the controller does to observations first.
        model: the live algorithm object.
        where: what the message begins with.
    """
    seen = _rows(row_space(model.observation_space))
    ours = controller.act(seen)
    shown = seen if normalise is None else normalise(torch.as_tensor(seen)).numpy()
    given = observations_of(model.observation_space, shown)
    training = model.policy.training
    with _heard(model.policy) as heard:
        theirs, _ = model.predict(given, deterministic=True)
    model.policy.set_training_mode(training)
    if isinstance(model.action_space, spaces.Box):
        low, high = (np.asarray(side, np.float64) for side in (model.action_space.low, model.action_space.high))
        apart = np.abs(ours - theirs) / np.clip(0.5 * (high - low), 1e-6, 1.0) if ours.shape == theirs.shape else np.inf
        same = not np.any(apart > TOLERANCE)
    else:
        same = np.array_equal(ours, theirs) and all(_alike(controller, seen, ours, deciding) for deciding in heard)
    if not same:
        raise NotRebuiltError(
            f"{where}: its networks alone do not act as Stable-Baselines3's predict does: something in its "
            f"{type(model.policy).__name__} or its features extractor is not known here and would be lost"
        )


@contextmanager
def _heard(policy: BasePolicy) -> Iterator[list[torch.Tensor]]:
    """What the last layers gave that decide a choice, where the policy calls them as Stable-Baselines3's do."""
    found: list[torch.Tensor] = []
    network = q_network(policy)
    last = getattr(policy, "action_net", None) if network is None else component_modules(policy)["q"]
    if not isinstance(last, nn.Module):
        yield found
        return
    handle = last.register_forward_hook(lambda module, given, answer: found.append(answer.detach()))
    try:
        yield found
    finally:
        handle.remove()


def _alike(controller: Controller, seen: Batch, actions: NDArray[Any], deciding: torch.Tensor) -> bool:
    """Whether the numbers that decide are the controller's own."""
    name = "q" if "q" in controller.components else "actor"
    with torch.no_grad():
        own = controller.dataflow()(*controller.inputs(seen, actions))[name]
    spread = float(deciding.std().clamp_min(1e-6))
    return own.shape == deciding.shape and float((own - deciding).abs().max()) <= TOLERANCE * max(spread, 1e-3)


def _rows(space: spaces.Box) -> NDArray[Any]:
    """Rows about 0; of whole numbers between bounds, all over them."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(ROWS, *space.shape))
    low, high = (np.asarray(side, np.float64) for side in (space.low, space.high))
    whole = (high - low < 1e6) & (np.floor(low) == low) & (np.floor(high) == high) & (high - low > 2)
    anywhere = np.floor(low + generator.random(values.shape) * np.where(whole, high - low + 1, 0))
    return np.clip(np.where(whole, anywhere, values), low, high).astype(space.dtype)
