"""Calibration data: where it comes from, how much there is, that it is a function of its seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from prunectl import agents
from prunectl.experiments.episodes import calibration as module
from prunectl.experiments.episodes.calibration import FITTED_ROWS, HELD_OUT_ROWS, START_STEPS, STARTS, calibrate
from prunectl.experiments.episodes.evaluator import Episodes, evaluate
from prunectl.experiments.episodes.seeds import CALIBRATION, STRIDE, VALIDATION
from tests.conftest import SaveTiny


def test_rows_are_limited_and_fit_together(balancer: Path) -> None:
    controller = agents.load(balancer).controller
    data = calibrate(controller, "CartPole-v1", 0)
    assert 0 < len(data.observations) <= FITTED_ROWS + STARTS * START_STEPS
    assert 0 < len(data.held_out_observations) <= HELD_OUT_ROWS
    assert data.observations.shape[1] == 4
    assert len(data.actions) == len(data.observations)
    assert len(data.held_out_actions) == len(data.held_out_observations)


def test_the_seed_decides_the_data(save_tiny: SaveTiny) -> None:
    controller = agents.load(save_tiny("sac", "Pendulum-v1")).controller
    one, same, other = (calibrate(controller, "Pendulum-v1", seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.observations, same.observations)
    np.testing.assert_array_equal(one.held_out_actions, same.held_out_actions)
    assert not np.array_equal(one.observations, other.observations)


def test_episodes_are_on_calibration_seeds_and_share_the_disturbances_and_no_episode_serves_twice(
    balancer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[tuple[int, ...], list[float]]] = []

    def spy(*given: Any, disturb: NDArray[np.float64], **named: Any) -> Episodes:
        calls.append((tuple(given[2]), disturb.tolist()))
        return evaluate(*given, disturb=disturb, **named)

    monkeypatch.setattr(module, "evaluate", spy)
    calibrate(agents.load(balancer).controller, "CartPole-v1", 3)
    used = [seed for seeds, _ in calls for seed in seeds]
    assert len(set(used)) == len(used)
    start = CALIBRATION + 3 * STRIDE
    assert all(start <= seed < start + STRIDE < VALIDATION for seed in used)
    for _, scales in calls:
        assert [scales.count(level) for level in module.DISTURBANCES] == [len(scales) // 5] * 5


def test_the_data_holds_the_actions_that_were_taken_not_those_meant(save_tiny: SaveTiny) -> None:
    controller = agents.load(save_tiny("sac", "Pendulum-v1")).controller
    data = calibrate(controller, "Pendulum-v1", 0)
    meant = controller.act(data.observations)
    off = np.abs(data.actions - meant).max(axis=1)
    clean = np.mean(off < 1e-5)
    assert 0.1 < clean < 0.35
    assert off.max() > 0.5
