"""What tells algorithms apart that share a policy class, and statistics of observations that never move."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from prunectl.agents.sb3.families import recognise
from prunectl.agents.sb3.normalisation import Normalisation


@pytest.mark.parametrize(
    ("critics", "delay", "name"), [(1, 1, "ddpg"), (1, 2, "td3"), (2, 1, "td3"), (2, 2, "td3"), (None, 2, "td3")]
)
def test_ddpg_is_td3_with_one_critic_and_no_delay(critics: int | None, delay: int, name: str) -> None:
    data: dict[str, Any] = {
        "policy_class": {"__module__": "stable_baselines3.td3.policies"},
        "policy_kwargs": {} if critics is None else {"n_critics": critics},
        "policy_delay": delay,
    }
    assert recognise(data, "here") == name


def test_an_observation_that_never_moved_is_divided_by_the_root_of_epsilon() -> None:
    statistics = Normalisation(np.zeros(2), np.asarray([0.0, 3.0]), clip=10.0, epsilon=1e-4)
    seen = statistics.module()(torch.tensor([[0.01, 1.0], [1.0, 1.0]], dtype=torch.float64))
    # sqrt(0 + 1e-4) = 0.01; beyond it the clip holds.
    np.testing.assert_allclose(seen.numpy(), [[1.0, 1 / np.sqrt(3.0001)], [10.0, 1 / np.sqrt(3.0001)]], rtol=1e-5)
