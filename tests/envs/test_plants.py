"""Plants: a state that is written is read back and observed, and mass and length do what physics says."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from prunectl import envs
from prunectl.envs.plants import PLANTS, Plant, plant

EVERY = pytest.mark.parametrize("spec", PLANTS.values(), ids=PLANTS)


@EVERY
def test_the_state_is_read_back_and_observed(spec: Plant) -> None:
    env, other = envs.make(spec.task), envs.make(spec.task)
    env.reset(seed=0)
    state = np.linspace(0.02, 0.05, len(spec.state))
    seen = spec.put(env, state)
    np.testing.assert_allclose(spec.state_of(env), state, atol=1e-12)
    # The same state elsewhere is observed alike and goes on alike: it is the whole state.
    other.reset(seed=7)
    assert env.observation_space.shape == seen.shape == spec.put(other, state).shape
    still = np.zeros(1, np.float32)
    for _ in range(3):
        np.testing.assert_array_equal(env.step(still)[0], other.step(still)[0])


@EVERY
def test_lengths_of_the_spec_fit_the_state(spec: Plant) -> None:
    assert len(spec.near) == len(spec.domain) == len(spec.state)
    env = envs.make(spec.task)
    env.reset(seed=0)
    assert env.observation_space.shape == (len(spec.noise),)
    assert spec.hold * spec.step >= 1.0
    inner = env.unwrapped
    for known in ("dt", "step_size"):
        assert getattr(inner, known, spec.step) == pytest.approx(spec.step)


@EVERY
@pytest.mark.parametrize("what", ["mass", "length"])
def test_what_is_lighter_or_shorter_moves_more(spec: Plant, what: str) -> None:
    if what not in spec.changes:
        pytest.skip(f"{spec.task} has no {what}")

    def moved(factor: float) -> float:
        env = envs.make(spec.task)
        spec.change(env, what, factor)
        env.reset(seed=0)
        spec.put(env, np.zeros(len(spec.state)))
        env.step(np.array([0.5], np.float32))
        return float(np.abs(spec.state_of(env)).max())

    assert moved(0.8) > moved(1.0) > moved(1.2)


def test_a_longer_mujoco_pole_keeps_its_mass() -> None:
    spec = PLANTS["InvertedDoublePendulum-v5"]
    before, after = envs.make(spec.task), envs.make(spec.task)
    spec.change(after, "length", 1.2)
    for env in (before, after):
        env.reset(seed=0)
        spec.put(env, np.zeros(6))
    models = [env.unwrapped.model for env in (before, after)]  # type: ignore[attr-defined]
    np.testing.assert_allclose(models[0].body_mass, models[1].body_mass)
    assert after.unwrapped.data.site_xpos[0, 2] == pytest.approx(1.44)  # type: ignore[attr-defined]
    # A thin rod's inertia would grow by 1.44; a capsule's round ends do not grow.
    assert 1.3 < models[1].body_inertia[2, 0] / models[0].body_inertia[2, 0] < 1.44


def test_angles_are_wrapped() -> None:
    spec = PLANTS["Pendulum-v1"]
    env = envs.make(spec.task)
    env.reset(seed=0)
    spec.put(env, np.array([2 * np.pi + 0.1, 0.0]))
    np.testing.assert_allclose(spec.state_of(env), [0.1, 0.0], atol=1e-12)


def test_a_task_without_a_goal_is_a_mistake() -> None:
    with pytest.raises(envs.TaskError, match="no goal to come to rest at"):
        plant("HalfCheetah-v5")


@pytest.mark.parametrize("task", PLANTS)
def test_a_plant_travels_by_its_name(task: str) -> None:
    assert pickle.loads(pickle.dumps(PLANTS[task])) is PLANTS[task]
