"""What a training asks of its task and its folder before anything is made, and what it says while it goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gymnasium.wrappers import FlattenObservation
from stable_baselines3.common.preprocessing import is_image_space

from prunectl import envs
from prunectl.agents.supported import check_spaces
from prunectl.envs.packages import DMC

#: Seconds between two lines of progress.
PAUSE = 5.0


def check_task(task: str) -> None:
    """Make the task once and see whether `prunectl prune` could read what is trained on it.

    Observations that only a wrapper makes vectors of are refused, as agents of Stable-Baselines3 on them are when they
    are loaded; dm_control's are vectors in all but form.

    Raises:
        ControllerError: its spaces are not among those that are supported.
        TaskError: it cannot be made.
    """
    env = envs.make(task)
    observed = env.observation_space
    if isinstance(env, FlattenObservation) and not task.rpartition(":")[2].startswith(DMC):
        observed = env.env.observation_space
    env.close()
    check_spaces(observed, env.action_space, f"training on {task}")


def seen_in_training(task: str) -> envs.Env:
    """The task as an agent of Stable-Baselines3 sees it: images are images, all else is as `envs.make` gives it."""
    env = envs.make(task)
    if isinstance(env, FlattenObservation) and is_image_space(env.env.observation_space):
        return env.env
    return env


@contextmanager
def new_folder(path: Path) -> Iterator[None]:
    """Make a folder, with its parents, that is not left behind empty where the block fails.

    Raises:
        FileExistsError: it is there already.
    """
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # one that is not empty stays, with all above it
            for folder in made:
                folder.rmdir()
        raise


class Told:
    """Says on standard error how far a training is, every few seconds."""

    def __init__(self, steps: int) -> None:
        self.steps, self.last = steps, time.perf_counter()

    def say(self, done: int, mean_return: float | None) -> None:
        """A line, if the last one is long enough ago; the return is that of the last evaluation."""
        now = time.perf_counter()
        if now - self.last < PAUSE:
            return
        self.last = now
        returned = "not evaluated yet" if mean_return is None else f"last mean return {mean_return:.1f}"
        print(f"step {done:,} of {self.steps:,} ({done / self.steps:.0%}), {returned}", file=sys.stderr, flush=True)
