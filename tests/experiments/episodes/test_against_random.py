"""When a controller is said to do nothing on its task."""

from __future__ import annotations

import numpy as np
import pytest

from prunectl.experiments.episodes.against_random import no_better_than_random
from prunectl.experiments.episodes.evaluator import Episodes, evaluate, evaluate_random
from tests.conftest import untrained


def episodes(*returns: float) -> Episodes:
    return Episodes("Task-v0", tuple(range(len(returns))), np.asarray(returns), np.ones(len(returns), np.int64))


@pytest.mark.parametrize(
    ("dense", "random", "remarked"),
    [
        ((-200.0, -200.0), (-200.0, -200.0), True),  # as on a task that random actions never solve
        ((-199.0, -199.0), (-200.0, -200.0), False),
        ((10.0, -10.0), (0.0, 0.0), True),
        ((3.0, 1.0, 3.0, 1.0), (1.0, 1.0, 1.0, 1.0), True),  # 1 above, and an error of 0.5
        ((3.1, 1.1, 3.1, 1.1), (1.0, 1.0, 1.0, 1.0), False),
        ((-1057.0, -1000.0), (-280.0, -290.0), True),
    ],
)
def test_two_standard_errors(dense: tuple[float, ...], random: tuple[float, ...], remarked: bool) -> None:
    said = no_better_than_random(episodes(*dense), episodes(*random))
    assert (said is not None) == remarked
    assert said is None or f"{np.mean(dense):.1f}" in said


def test_an_untrained_controller_is_remarked() -> None:
    controller = untrained("sac", "Pendulum-v1")
    random = evaluate_random("Pendulum-v1", range(10), controller)
    assert no_better_than_random(evaluate(controller, "Pendulum-v1", range(10)), random) is not None
