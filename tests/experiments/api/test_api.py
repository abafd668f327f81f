"""`import prunectl`, on models in memory as a user has them."""

from __future__ import annotations

import doctest
import importlib
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import TQC
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

import prunectl
from prunectl.agents.sb3.controller import SB3Controller


def sac() -> BaseAlgorithm:
    model = SAC("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [24, 24]}, learning_starts=50, seed=1)
    return model.learn(150)


def ppo() -> BaseAlgorithm:
    return PPO("MlpPolicy", "CartPole-v1", n_steps=64, learning_rate=lambda left: 1e-3 * left, seed=1).learn(128)


def tqc() -> BaseAlgorithm:
    settings: Any = {"policy_kwargs": {"net_arch": [24, 24], "n_quantiles": 5}, "learning_starts": 50, "seed": 1}
    return TQC("MlpPolicy", make_vec_env("Pendulum-v1", 2), **settings).learn(150)


def normalised_ppo() -> BaseAlgorithm:
    vector = VecNormalize(make_vec_env("Pendulum-v1", 2), clip_obs=5.0)
    return PPO("MlpPolicy", vector, n_steps=64, seed=1).learn(256)


def weights(model: BaseAlgorithm) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}


FEWER_INPUTS = {"overall": 0.6, "observation": 0.34}


@pytest.mark.parametrize(
    ("make", "ask"),
    [(sac, 0.6), (ppo, 0.6), (tqc, 0.6), (normalised_ppo, 0.6), (sac, FEWER_INPUTS), (normalised_ppo, FEWER_INPUTS)],
    ids=["sac", "ppo", "tqc", "normalised_ppo", "sac-inputs", "normalised_ppo-inputs"],
)
def test_the_five_lines(make: Any, ask: Any, tmp_path: Path) -> None:
    model = make()
    vector = model.get_env()
    before, steps, state = weights(model), model.num_timesteps, torch.get_rng_state()
    seen = np.random.default_rng(0).normal(size=(5, *vector.observation_space.shape)).astype(np.float32)
    dense_actions = model.predict(seen, deterministic=True)[0]

    small = prunectl.prune(model, ask, env=vector, recovery="reconstruct")
    assert torch.equal(state, torch.get_rng_state())
    assert small.plan.sparsity_total == pytest.approx(0.6, abs=0.02)
    assert f"dense {small.dense.mean_return:.1f}" in str(small)
    assert f"integrity {small.integrity:.3f}" in str(small)

    assert type(small.model) is type(model)
    assert small.model.num_timesteps == steps
    assert sum(p.numel() for p in small.model.policy.parameters()) < sum(t.numel() for t in before.values())
    if hasattr(model, "replay_buffer"):
        assert small.model.replay_buffer.size() == model.replay_buffer.size() > 0  # type: ignore[attr-defined]
        assert small.model.replay_buffer is not model.replay_buffer  # type: ignore[attr-defined]
    assert small.model.lr_schedule(0.5) == model.lr_schedule(0.5)
    fresh = weights(small.model)
    small.model.learn(200)
    assert any(not torch.equal(tensor, fresh[name]) for name, tensor in small.model.policy.state_dict().items())

    # The dense model is as it was, its replay and its statistics too.
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.policy.state_dict().items())
    np.testing.assert_array_equal(model.predict(seen, deterministic=True)[0], dense_actions)
    assert model.num_timesteps == steps

    small.save(tmp_path / "small.zip")
    stock = type(model).load(tmp_path / "small.zip")
    np.testing.assert_array_equal(  # what it has learned since is in the file
        stock.predict(seen, deterministic=True)[0], small.model.predict(seen, deterministic=True)[0]
    )
    exported = small.export(tmp_path / "small.c")
    assert [path.name for path in exported] == ["small.c", "small.h", "small_test.c"]


def test_what_prune_gave_is_run_pruned_and_exported_like_any_controller(tmp_path: Path) -> None:
    small = prunectl.prune(sac(), 0.5, recovery="none")
    assert small.pruned is not None
    again = prunectl.evaluate(small, episodes=10)
    np.testing.assert_array_equal(again.returns, small.pruned.returns)
    light = prunectl.evaluate(small, env=lambda: gym.make("Pendulum-v1", g=1.0), episodes=1)
    assert light.returns[0] != again.returns[0]
    smaller = prunectl.prune(small, 0.5, recovery="none")
    assert smaller.plan.params_dense == small.plan.params_pruned
    assert prunectl.trace(small).parameters(prunectl.trace(small).dense) == small.plan.params_pruned
    assert [path.name for path in prunectl.export(small, tmp_path / "small.onnx").paths] == ["small.onnx"]


def test_statistics_of_vecnormalize_are_taken_and_copied() -> None:
    model = normalised_ppo()
    vector = model.get_vec_normalize_env()
    assert vector is not None
    mean = vector.obs_rms.mean.copy()
    small = prunectl.prune(model, 0.0, recovery="none")
    controller = small.controller
    assert isinstance(controller, SB3Controller)
    assert controller.normalisation is not None
    np.testing.assert_array_equal(controller.normalisation.mean, mean)
    assert controller.normalisation.clip == 5.0
    raw = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    expected = model.predict(vector.normalize_obs(raw), deterministic=True)[0]
    np.testing.assert_allclose(controller.act(raw), np.clip(expected, -2, 2), atol=1e-5)
    small.model.learn(256)  # its statistics go on changing, those of the dense model's do not
    np.testing.assert_array_equal(vector.obs_rms.mean, mean)
    learned = small.controller
    assert isinstance(learned, SB3Controller)
    assert learned.normalisation is not None
    assert not np.array_equal(learned.normalisation.mean, mean)


def test_zero_sparsity_leaves_every_action_as_it_was() -> None:
    model = sac()
    seen = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    small = prunectl.prune(model, 0.0, recovery="none")
    np.testing.assert_array_equal(
        small.model.predict(seen, deterministic=True)[0], model.predict(seen, deterministic=True)[0]
    )


class Scaled(gym.RewardWrapper[Any, Any]):
    """A wrapper of the user's own: its rewards are those of Pendulum times 10."""

    def reward(self, reward: Any) -> float:
        return 10.0 * float(reward)


def test_an_environment_is_known_by_its_id_or_copied_as_it_is() -> None:
    plain = prunectl.evaluate("sac-pendulum", episodes=2)
    assert plain.task == "Pendulum-v1"
    mine = gym.make("Pendulum-v1")
    mine.reset(seed=3)
    state = mine.unwrapped.state.copy()  # type: ignore[attr-defined]
    np.testing.assert_array_equal(prunectl.evaluate("sac-pendulum", mine, 2).returns, plain.returns)
    np.testing.assert_array_equal(mine.unwrapped.state, state)  # type: ignore[attr-defined]  # it was not stepped
    wrapped = prunectl.evaluate("sac-pendulum", Scaled(gym.make("Pendulum-v1")), 2)
    np.testing.assert_allclose(wrapped.returns, 10 * plain.returns)
    lighter = prunectl.evaluate("sac-pendulum", gym.make("Pendulum-v1", g=2.0), 2)
    made = prunectl.evaluate("sac-pendulum", lambda: gym.make("Pendulum-v1", g=2.0), 2)
    np.testing.assert_array_equal(lighter.returns, made.returns)
    assert lighter.mean_return != plain.mean_return
    shorter = prunectl.evaluate("sac-pendulum", gym.make("Pendulum-v1", max_episode_steps=7), 2)
    assert shorter.lengths.tolist() == [7, 7]
    vector = prunectl.evaluate("sac-pendulum", DummyVecEnv([lambda: gym.make("Pendulum-v1")]), 2)
    np.testing.assert_array_equal(vector.returns, plain.returns)


def test_a_name_of_this_process_is_forgotten_with_its_place() -> None:
    before = set(gym.registry)
    prunectl.evaluate("sac-pendulum", gym.make("Pendulum-v1", g=2.0), 1)
    assert set(gym.registry) == before
    small = prunectl.prune("sac-pendulum", 0.5, env=gym.make("Pendulum-v1", g=2.0), recovery="none")
    assert prunectl.evaluate(small.controller, small.subject.task, 1).lengths.tolist() == [200]
    assert small.provenance()["task"] is None  # it would mean nothing to whoever reads the file


def test_threads_are_limited_for_the_call_alone() -> None:
    torch.set_num_threads(2)
    seen: list[int] = []
    try:
        prunectl.prune("ppo-cartpole", 0.5, budget=500, progress=lambda share: seen.append(torch.get_num_threads()))
        assert seen
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
        with pytest.raises(prunectl.Error):
            prunectl.prune("ppo-cartpole", 1.5)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_gradients_are_had_whatever_the_caller_set() -> None:
    with torch.no_grad():
        small = prunectl.prune("ppo-cartpole", 0.5, budget=500)
    assert small.pruned.mean_return > 400


def test_what_is_said_to_have_been_done_is_what_was_done() -> None:
    by_default, named = (prunectl.prune(sac(), 0.5, budget=20, recovery=name) for name in (None, "distill"))
    assert by_default.method.recovery == by_default.provenance()["method"]["recovery"] == "distill-restarts"
    assert (by_default.method.grouping, by_default.provenance()["cut"]) == ("chosen", "component")
    assert by_default.as_json()["cut"] == "component"
    assert "of the cuts tried it is that of grouping 'component'" in str(by_default)
    assert named.method.recovery == "distill"


def test_the_stages_are_what_prune_does() -> None:
    plan = prunectl.plan("ppo-cartpole", 0.7)
    by_hand = prunectl.apply(plan, "ppo-cartpole")
    small = prunectl.prune("ppo-cartpole", 0.7, recovery="none")
    assert plan == small.plan
    seen = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    np.testing.assert_array_equal(by_hand.act(seen), small.controller.act(seen))
    assert prunectl.PruningPlan.from_json(plan.to_json()) == plan


def test_what_is_no_better_than_random_actions_is_remarked(caplog: pytest.LogCaptureFixture) -> None:
    untrained = SAC("MlpPolicy", "InvertedPendulum-v5", policy_kwargs={"net_arch": [8]}, seed=0)
    with torch.no_grad():
        for parameter in untrained.actor.parameters():
            parameter.fill_(3.0)  # full force to one side
    with caplog.at_level(logging.WARNING, "prunectl"):
        small = prunectl.prune(untrained, 0.3, recovery="none")
    assert "no better than random actions'" in caplog.text
    assert "cannot be said" in str(small)


def test_that_nothing_of_what_acts_was_cut_is_remarked(caplog: pytest.LogCaptureFixture) -> None:
    model = SAC("MlpPolicy", "InvertedPendulum-v5", policy_kwargs={"net_arch": {"pi": [], "qf": [16]}}, seed=0)
    with caplog.at_level(logging.WARNING, "prunectl"):
        small = prunectl.prune(model, 0.5, recovery="none")
    assert "nothing of what acts is cut" in caplog.text
    assert "nothing of what acts is cut" in str(small)
    assert small.as_json()["remark"] in caplog.text


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: prunectl.prune("sac-pendulm", 0.5), "did you mean sac-pendulum"),
        (lambda: prunectl.prune("sac-pendulum", 0.5, importance="magic"), "unknown importance 'magic'"),
        (lambda: prunectl.prune("sac-pendulum", 0.5, budget="long"), "budget long: write steps as 24000"),
        (lambda: prunectl.prune("sac-pendulum", 0.5, env="CartPole-v1"), "actions"),
        (lambda: prunectl.evaluate("random"), "say which with env="),
        (lambda: prunectl.prune(torch.nn.Linear(2, 2), 0.5), "a Linear is no controller: pass a model"),
        (
            lambda: prunectl.evaluate("sac-pendulum", VecFrameStack(make_vec_env("Pendulum-v1"), 2)),
            "VecFrameStack",
        ),
        pytest.param(
            lambda: prunectl.prune("tdmpc-pendulum", 0.5, recovery="none").model,
            "no Stable-Baselines3 model",
            marks=pytest.mark.slow,
        ),
        (lambda: prunectl.sweep({"controllers": "sac-pendulum"}, out="x"), "config: methods: this key is missing"),
        (lambda: prunectl.sweep({"controllers": "sac-pendulum", "methods": {}, "sparsities": 0.5}), "out="),
        (lambda: prunectl.report("nowhere"), "nowhere"),
        (lambda: prunectl.export("sac-pendulum", "x.pdf"), "ends in .onnx, .c or .elf"),
    ],
)
def test_mistakes_are_one_line(call: Any, says: str) -> None:
    with pytest.raises(prunectl.Error) as raised:
        call()
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    small = prunectl.prune("ppo-cartpole", 0.5, recovery="none")
    path = tmp_path / "small.zip"
    small.save(path)
    with pytest.raises(FileExistsError):
        small.save(path)
    small.save(path, force=True)


def test_importing_it_costs_nothing() -> None:
    code = (
        "import sys, prunectl\nassert prunectl.__version__\n"
        "heavy = {'torch', 'stable_baselines3', 'gymnasium', 'pandas', 'dask', 'matplotlib', 'pydantic'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there() -> None:
    for name in prunectl.__all__:
        assert getattr(prunectl, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'prun'"):
        _ = prunectl.prun  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", ["controllers", "exporting", "sweeps"])
def test_the_examples_of_the_docstrings_run(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    home = importlib.import_module(f"prunectl.experiments.api.{module}")
    failed, tried = doctest.testmod(home, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried
    assert not failed
