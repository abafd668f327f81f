"""A task as recoveries see it: which episodes it runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from prunectl import agents
from prunectl.experiments.episodes import task_loop as module
from prunectl.experiments.episodes.calibration import calibrate
from prunectl.experiments.episodes.evaluator import Episodes, evaluate
from prunectl.experiments.episodes.seeds import CALIBRATION, STRIDE, VALIDATION
from prunectl.experiments.episodes.task_loop import TaskLoop


def test_visits_and_validation_run_on_seeds_of_their_own(balancer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    controller = agents.load(balancer).controller
    ran: list[Episodes] = []

    def recording(*arguments: object, **options: object) -> Episodes:
        ran.append(evaluate(*arguments, **options))  # type: ignore[arg-type]
        return ran[-1]

    monkeypatch.setattr(module, "evaluate", recording)
    monkeypatch.setattr("prunectl.experiments.episodes.calibration.evaluate", recording)
    calibrate(controller, "CartPole-v1", 3)
    used = {seed for episodes in ran for seed in episodes.seeds}
    ran.clear()
    loop = TaskLoop("CartPole-v1", 3)
    first, second = loop.visit(controller, 0), loop.visit(controller, 1)
    far = loop.visit(controller, 10_000)
    value, again = loop.validate(controller), loop.validate(controller)
    *visits, validation, repeated = (episodes.seeds for episodes in ran)
    assert value == again == 500
    assert validation == repeated
    assert min(validation) == VALIDATION + 3 * STRIDE
    assert not set(visits[0]) & set(visits[1])
    for seeds in visits:
        assert not set(seeds) & used
        assert CALIBRATION + 3 * STRIDE <= min(seeds) <= max(seeds) < CALIBRATION + 4 * STRIDE
    assert first.mean_return == 500
    assert len(first.observations) == len(first.actions) == 500 * len(visits[0])
    assert len(visits[0]) == 20  # short episodes: as many as make 10,000 steps
    assert not np.array_equal(first.observations, second.observations)
    taken = first.actions != controller.act(first.observations)
    assert 0.01 < taken.mean() < 0.05  # a tenth of the actions of every second episode are random, half of them others
    assert len(far.observations) == len(first.observations)
