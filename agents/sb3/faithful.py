"""Whether a controller does what the model does that it was made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import nn

from prunectl.agents.controller import Batch, ControllerError
from prunectl.agents.rows import observations_of, row_space

#: Observations that both are shown, and how far actions may be apart, as a share of half the action range.
ROWS, TOLERANCE = 8, 1e-3


def check_faithful(
    act: Callable[[Batch], NDArray[Any]], normalise: nn.Module | None, model: BaseAlgorithm, where: str
) -> None:
    """Raise ControllerError unless ``act`` does as Stable-Baselines3's own ``model.predict``.

    A policy or an extractor of the user's own may do anything in its ``forward``. The model stays as it is.

    Args:
        act: of the controller, from raw observations.
        normalise: what the controller does to observations first.
        model: the live algorithm object.
        where: what the message begins with.
    """
    seen = _rows(row_space(model.observation_space))
    ours = act(seen)
    shown = seen if normalise is None else normalise(torch.as_tensor(seen)).numpy()
    given = observations_of(model.observation_space, shown)
    training = model.policy.training
    theirs, _ = model.predict(given, deterministic=True)
    model.policy.set_training_mode(training)
    if isinstance(model.action_space, spaces.Box):
        low, high = (np.asarray(side, np.float64) for side in (model.action_space.low, model.action_space.high))
        apart = np.abs(ours - theirs) / np.clip(0.5 * (high - low), 1e-6, 1.0) if ours.shape == theirs.shape else np.inf
        same = not np.any(apart > TOLERANCE)
    else:
        same = np.array_equal(ours, theirs)
    if not same:
        raise ControllerError(
            f"{where}: its networks alone do not act as Stable-Baselines3's predict does: something in its "
            f"{type(model.policy).__name__} or its features extractor is not known here and would be lost"
        )


def _rows(space: spaces.Box) -> NDArray[Any]:
    """Rows about 0; of whole numbers between bounds, all over them."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(ROWS, *space.shape))
    low, high = (np.asarray(side, np.float64) for side in (space.low, space.high))
    whole = (high - low < 1e6) & (np.floor(low) == low) & (np.floor(high) == high) & (high - low > 2)
    anywhere = np.floor(low + generator.random(values.shape) * np.where(whole, high - low + 1, 0))
    return np.clip(np.where(whole, anywhere, values), low, high).astype(space.dtype)
