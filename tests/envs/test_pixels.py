"""Tasks through a camera: what a frame shows, that frames show velocities, and that the tasks are the same."""

from __future__ import annotations

import time
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.torch_layers import NatureCNN

from prunectl import envs
from prunectl.envs.cartpole_swingup import RAIL, State
from prunectl.envs.pixels import FRAMES, SIDE, CartPoleSwingUpPixels, PendulumPixels, Pixels

CART_POLE, PENDULUM = "prunectl/CartPoleSwingUpPixels-v0", "prunectl/PendulumPixels-v0"
EVERY = pytest.mark.parametrize("task", [CART_POLE, PENDULUM])


def frame(state: State) -> NDArray[np.uint8]:
    env = CartPoleSwingUpPixels()
    env.cart_pole.state = state
    return env.frame()


def pendulum(theta: float) -> NDArray[np.uint8]:
    env = PendulumPixels()
    env.pendulum.state = np.array([theta, 0.0])
    return env.frame()


def middle(picture: NDArray[np.uint8]) -> tuple[float, float]:
    """Row and column around which the brightness lies."""
    weight = picture / picture.sum()
    places = np.arange(SIDE)
    return float((weight.sum(1) * places).sum()), float((weight.sum(0) * places).sum())


def test_a_frame_shows_the_pole_where_it_is() -> None:
    upright, hanging, right = frame((0, 0, 0, 0)), frame((0, 0, -np.pi, 0)), frame((0, 0, np.pi / 2, 0))
    centre = (SIDE - 1) / 2
    np.testing.assert_array_equal(upright, hanging[::-1])  # the cart is as high as the middle
    np.testing.assert_array_equal(upright, upright[:, ::-1])
    assert middle(upright)[0] < centre - 5
    assert middle(right)[1] > centre + 1
    # The tip of 1 m is 36 / 2.4 rows above the hinge, which is between rows 17 and 18: in row 2 or 3.
    assert np.flatnonzero(upright.max(axis=1))[0] == 2


def test_the_scene_is_as_wide_as_the_pole_can_reach() -> None:
    """A cart at the end of the rail with its pole lying outwards touches the edge and is not cut."""
    picture = frame((RAIL, 0, np.pi / 2, 0))
    assert picture[:, -1].max() > 0
    assert picture[:, -2].max() == picture.max()
    np.testing.assert_array_equal(picture, frame((-RAIL, 0, -np.pi / 2, 0))[:, ::-1])


def test_a_frame_moves_with_the_cart_by_parts_of_a_pixel() -> None:
    pixel = 2 * (RAIL + 1.0) / SIDE  # metres
    still = frame((0, 0, 0, 0))
    np.testing.assert_array_equal(frame((2 * pixel, 0, 0, 0)), np.roll(still, 2, axis=1))
    moved = [middle(frame((share * pixel, 0, 0, 0)))[1] - middle(still)[1] for share in (0.1, 0.25, 0.5, 0.75, 0.9)]
    np.testing.assert_allclose(moved, [0.1, 0.25, 0.5, 0.75, 0.9], atol=0.07)


def test_two_frames_tell_a_slow_turn() -> None:
    """0.1 rad/s turn the pole by 0.008 rad between frames: some pixel tells by ten of 255, and faster ones by more."""
    before = frame((0, 0, 0.02, 0)).astype(int)
    changes = [np.abs(frame((0, 0, 0.02 + 0.08 * rate, 0)) - before).max() for rate in (0.1, 0.2, 0.4)]
    assert changes[0] >= 8
    assert changes == sorted(set(changes))


@pytest.mark.parametrize("theta", [0.0, 0.4, np.pi / 2, -2.5])
def test_the_pendulum_leans_where_gymnasium_draws_it(theta: float) -> None:
    full = gym.make("Pendulum-v1", render_mode="rgb_array")
    full.reset(seed=0)
    inner: Any = full.unwrapped
    inner.state, inner.last_u = np.array([theta, 0.0]), None
    picture: Any = full.render()
    rod = np.argwhere((picture[..., 0] > 150) & (picture[..., 1] < 120)).mean(axis=0) - 250.0
    ours = np.array(middle(pendulum(theta))) - (SIDE - 1) / 2
    np.testing.assert_allclose(ours / np.linalg.norm(ours), rod / np.linalg.norm(rod), atol=0.05)
    full.close()


@pytest.mark.parametrize(
    ("task", "shown", "held"), [(CART_POLE, "prunectl/CartPoleSwingUp-v0", 4), (PENDULUM, "Pendulum-v1", 2)]
)
def test_the_task_is_the_one_with_its_state_shown_and_every_action_held(task: str, shown: str, held: int) -> None:
    pixels, plain = envs.make(task), envs.make(shown)
    pixels.reset(seed=4), plain.reset(seed=4)
    assert pixels.action_space == plain.action_space
    pixels.action_space.seed(0)
    over, steps = False, 0
    while not over:
        action = pixels.action_space.sample()
        _, reward, terminated, over, _ = pixels.step(action)
        assert not terminated
        expected = 0.0
        for _ in range(held):
            _, one, _, plain_over, _ = plain.step(action)
            expected += float(one)
        assert reward == pytest.approx(expected, rel=1e-12)
        steps += 1
    assert plain_over
    assert steps == envs.lookup(task).horizon == envs.lookup(shown).horizon / held


@EVERY
def test_frames_are_the_last_three_the_newest_last(task: str) -> None:
    env = gym.make(task)
    inner = env.unwrapped
    assert isinstance(inner, Pixels)
    observation, _ = env.reset(seed=1)
    assert observation.max() == 255 or observation.max() > 190
    assert (observation == observation[0]).all()
    seen = [observation[-1]] * FRAMES
    for _ in range(5):
        observation, *_ = env.step(np.ones(1, np.float32))
        seen = [*seen[1:], inner.frame()]
        np.testing.assert_array_equal(observation, seen)
    assert (seen[0] != seen[1]).any()
    observation[:] = 0  # what was given is the caller's
    np.testing.assert_array_equal(env.step(np.ones(1, np.float32))[0][0], seen[1])


@EVERY
def test_a_new_episode_forgets_the_last_one(task: str) -> None:
    env = gym.make(task)
    first, _ = env.reset(seed=2)
    env.step(np.ones(1, np.float32))
    np.testing.assert_array_equal(env.reset(seed=2)[0], first)


@EVERY
def test_stable_baselines_takes_it_for_images_and_its_own_cnn_reads_them(task: str) -> None:
    space = gym.make(task).observation_space
    assert isinstance(space, gym.spaces.Box)
    assert space.shape == (FRAMES, SIDE, SIDE)
    assert is_image_space(space)
    assert is_image_space_channels_first(space)
    NatureCNN(space)  # raises where the image is too small


@EVERY
def test_gymnasiums_checker_has_no_complaint(task: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*symmetric and normalized space")  # Gymnasium's own pendulum has [-2, 2]
        check_env(gym.make(task, render_mode="rgb_array").unwrapped)


def test_it_needs_no_seconds_for_a_thousand_frames() -> None:
    env = CartPoleSwingUpPixels()
    env.cart_pole.state = (0.5, 0, 1.0, 0)
    env.frame()
    started = time.process_time()
    for _ in range(1000):
        env.frame()
    assert time.process_time() - started < 1.0


def test_a_step_before_the_first_reset_says_so() -> None:
    with pytest.raises(gym.error.ResetNeeded, match="call reset"):
        CartPoleSwingUpPixels().step(np.zeros(1, np.float32))
