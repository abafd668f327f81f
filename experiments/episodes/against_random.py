"""Whether a controller does anything on its task."""

from __future__ import annotations

import math

from prunectl.experiments.episodes.evaluator import Episodes


def no_better_than_random(dense: Episodes, random: Episodes) -> str | None:
    """A remark where a controller's mean return is not above that of random actions by two standard errors of the
    difference: then something that it was trained with is missing, and pruning it means nothing.

    Args:
        dense: episodes of the controller.
        random: episodes of random actions in the environment that it needs (`evaluate_random`).
    """
    error = math.sqrt(dense.returns.var() / len(dense.returns) + random.returns.var() / len(random.returns))
    if dense.mean_return > random.mean_return + 2 * error:
        return None
    return (
        f"its return on {dense.task}, {dense.mean_return:.1f}, is no better than random actions' "
        f"{random.mean_return:.1f}: is this its task (--task ID), and are its observation statistics missing "
        "(--normalisation FILE)?"
    )
