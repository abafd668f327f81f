"""Wrappers that do what a library's vectorised ones do."""

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from prunectl.envs import make
from prunectl.envs.wrapping import wrapped


def test_frames_stacks_as_the_library_does() -> None:
    task = "prunectl/CartPoleSwingUpPixels-v0"
    ours = wrapped(make(task, flat=False), [("stable_baselines3.common.vec_env.VecFrameStack", {"n_stack": 3})])
    theirs = VecFrameStack(DummyVecEnv([lambda: make(task, flat=False)]), 3)
    theirs.seed(4)
    assert ours.observation_space == theirs.observation_space
    np.testing.assert_array_equal(ours.reset(seed=4)[0], theirs.reset()[0])
    for push in (1.0, -1.0, 0.5, 0.5):
        action = np.float32([push])
        np.testing.assert_array_equal(ours.step(action)[0], theirs.step(action[None])[0][0])
