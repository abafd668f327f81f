"""A controller goes on with Stable-Baselines3's own learn: same networks, fresh optimisers, statistics carried."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import untrained
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import VecNormalize

from prunectl import envs
from prunectl.agents.controller import ControllerError
from prunectl.agents.load import load
from prunectl.agents.sb3.controller import SB3Controller
from prunectl.agents.sb3.normalisation import Normalisation, RewardScale
from prunectl.agents.sb3.resume import _Phases, algorithm_of, continue_learning, controller_of, vectorised
from prunectl.pruning import apply, make_plan, score, trace
from prunectl.pruning.plan import describe

FAMILIES = [
    ("sac", "Pendulum-v1", {"batch_size": 16, "encoder": (12, 12)}),
    ("sac", "Pendulum-v1", {"batch_size": 16, "use_sde": True}),
    ("tqc", "Pendulum-v1", {"batch_size": 16}),
    ("td3", "Pendulum-v1", {"batch_size": 16}),
    ("ddpg", "Pendulum-v1", {"batch_size": 16}),
    ("crossq", "Pendulum-v1", {"batch_size": 16}),
    ("ppo", "CartPole-v1", {"n_steps": 16, "batch_size": 16}),
    ("a2c", "Pendulum-v1", {}),
    ("trpo", "Pendulum-v1", {"n_steps": 16, "batch_size": 16}),
    ("dqn", "CartPole-v1", {"batch_size": 16, "target_update_interval": 20}),
    ("qrdqn", "CartPole-v1", {"batch_size": 16, "encoder": (12, 12)}),
    ("recurrent_ppo", "Pendulum-v1", {"n_steps": 16, "batch_size": 16, "policy_kwargs": {"lstm_hidden_size": 8}}),
    ("maskable_ppo", "CartPole-v1", {"n_steps": 16, "batch_size": 16}),
]


def pruned(controller: SB3Controller, sparsity: float = 0.5) -> SB3Controller:
    graph = trace(controller)
    observations = np.random.default_rng(0).normal(size=(32, *controller.observation_space.shape)).astype(np.float32)
    scores = score(controller, graph, "magnitude", controller.inputs(observations, controller.act(observations)))
    return apply(make_plan(graph, scores, sparsity=sparsity), controller, graph)


def shapes(module: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def optimised(model: Any) -> set[int]:
    """The tensors that the algorithm's own optimisers step."""
    owners = [model.policy, getattr(model, "actor", None), getattr(model, "critic", None)]
    found = [owner.optimizer for owner in owners if getattr(owner, "optimizer", None) is not None]
    return {id(tensor) for optimiser in found for group in optimiser.param_groups for tensor in group["params"]}


@pytest.mark.parametrize("family", FAMILIES)
def test_optimisers_cover_exactly_the_pruned_parameters(family: tuple[str, str, dict[str, Any]]) -> None:
    small = pruned(untrained(family[0], family[1], **family[2]))
    model = algorithm_of(small, vectorised(small, [envs.make(family[1])]), {})
    named = dict(model.policy.named_parameters())
    targets = tuple(small.mirrors.values())
    trained = {id(tensor) for name, tensor in named.items() if not name.startswith(targets or ("none",))}
    assert optimised(model) == trained
    assert shapes(model.policy) == shapes(small.networks)
    for name, tensor in small.networks.state_dict().items():
        assert torch.equal(model.policy.state_dict()[name], tensor)
    for online, target in small.mirrors.items():
        # An encoder that the critics share with the actor hangs below the actor alone, its target below theirs.
        twins = {n.removeprefix(target): t.shape for n, t in named.items() if n.startswith(target)}
        assert {
            n.removeprefix(online): t.shape for n, t in named.items() if n.startswith(online)
        }.items() <= twins.items()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_goes_on_learning(family: tuple[str, str, dict[str, Any]]) -> None:
    small = pruned(untrained(family[0], family[1], **family[2]))
    before = {name: tensor.clone() for name, tensor in small.networks.state_dict().items()}
    shown: list[tuple[int, SB3Controller]] = []
    state = random.getstate(), torch.get_rng_state()
    done = continue_learning(
        small, lambda count: [envs.make(family[1]) for _ in range(count)], 160, 7, 80, lambda *now: shown.append(now)
    )
    assert 100 <= done <= 160
    assert shown[-1][0] == done
    last = shown[-1][1]
    assert shapes(last.networks) == shapes(small.networks)
    for role in ("actor", "critic.0", "value", "q"):
        if role in small.components:
            pairs = zip(
                small.components[role].module.parameters(), last.components[role].module.parameters(), strict=True
            )
            assert any(not torch.equal(one, other) for one, other in pairs), role
    assert last.blueprint.settings == small.blueprint.settings
    assert last.blueprint.variables == small.blueprint.variables
    # What was given and the process's random numbers are as they were.
    assert all(torch.equal(before[name], tensor) for name, tensor in small.networks.state_dict().items())
    assert random.getstate() == state[0]
    assert torch.equal(torch.get_rng_state(), state[1])


def test_critics_learn_before_what_acts_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 steps 10 fill the replay, 20 are the critics' alone; then what acts learns too."""
    controller = untrained("sac", "Pendulum-v1", batch_size=8)
    moved: dict[int, tuple[bool, bool]] = {}
    after = _Phases._after_update

    def differs(model: Any, role: str) -> bool:
        ours, theirs = getattr(controller.networks, role), getattr(model.policy, role)
        return any(not torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))

    def watched(phases: _Phases) -> None:
        after(phases)
        moved[phases.num_timesteps] = differs(phases.model, "actor"), differs(phases.model, "critic")

    monkeypatch.setattr(_Phases, "_after_update", watched)
    continue_learning(controller, lambda count: [envs.make("Pendulum-v1")], 100, 0, 100, lambda *_: None)
    assert [steps for steps, (_, critic) in moved.items() if not critic] == list(range(11))
    assert [steps for steps, (actor, _) in moved.items() if not actor] == list(range(31))


def test_a_zip_of_a_q_network_goes_on_at_the_pace_that_it_learned_at(tmp_path: Path) -> None:
    paced = {"train_freq": (24, "step"), "gradient_steps": 7, "exploration_final_eps": 0.07, "learning_starts": 10}
    small = pruned(untrained("dqn", "CartPole-v1", **paced))
    small.save(tmp_path / "q.zip", {})
    ours = load(tmp_path / "q.zip").controller
    assert isinstance(ours, SB3Controller)
    assert ours.blueprint.settings == small.blueprint.settings
    assert ours.blueprint.settings["train_freq"] == (24, "step")
    stock = DQN.load(tmp_path / "q.zip", env=envs.make("CartPole-v1"), device="cpu")
    assert (stock.train_freq.frequency, stock.gradient_steps) == (24, 7)  # type: ignore[union-attr]
    stock.learn(96)
    assert stock._n_updates == 4 * 7
    assert shapes(stock.policy) == shapes(small.networks)


def test_arss_fine_tuning_is_refused() -> None:
    with pytest.raises(ControllerError, match="ARS starts over from other weights"):
        continue_learning(untrained("ars", "Pendulum-v1"), lambda count: [], 100, 0, 10, lambda *_: None)


def test_twins_of_different_widths_come_back_as_they_were() -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(16, 16))
    graph = trace(controller)
    kept = {name: tuple(range(group.units)) for name, group in graph.groups.items()}
    kept |= {"critic.0/0": (1, 2, 5), "critic.1/1": (0, 3)}
    small = apply(describe(graph, kept, 0.5), controller, graph)
    model = algorithm_of(small, vectorised(small, [envs.make("Pendulum-v1")]), {"learning_starts": 10})
    model.learn(60)
    back = controller_of(small, model)
    assert shapes(back.networks) == shapes(small.networks)
    # Nothing has reached the units that padding added: cutting them off changes no value.
    inputs = torch.randn(8, 4)
    whole = model.policy.critic.qf0(inputs)  # type: ignore[union-attr,operator]
    torch.testing.assert_close(back.components["critic.0"].module(inputs), whole)


def test_statistics_are_carried_and_frozen() -> None:
    controller = replace(
        untrained("sac", "Pendulum-v1", learning_starts=10),
        normalisation=Normalisation(np.array([0.5, -0.5, 2.0]), np.array([4.0, 1.0, 9.0]), 1.5, 1e-8),
        rewards=RewardScale(25.0, 2.0, 1e-8),
    )
    env = vectorised(controller, [envs.make("Pendulum-v1")])
    assert isinstance(env, VecNormalize)
    env.seed(3)
    seen = env.reset()
    raw = env.get_original_obs()
    np.testing.assert_allclose(seen[0], np.clip((raw[0] - [0.5, -0.5, 2.0]) / [2.0, 1.0, 3.0], -1.5, 1.5), rtol=1e-6)
    _, reward, _, _ = env.step(np.zeros((1, 1), dtype=np.float32))
    np.testing.assert_allclose(reward, np.clip(env.get_original_reward() / 5.0, -2.0, 2.0), rtol=1e-6)
    model = algorithm_of(controller, env, {})
    model.learn(50)
    back = controller_of(controller, model)
    assert back.normalisation is controller.normalisation
    assert env.ret_rms.var == 25.0
    np.testing.assert_array_equal(env.obs_rms.mean, [0.5, -0.5, 2.0])  # type: ignore[union-attr]


def test_the_reward_scale_survives_saving(tmp_path: Path) -> None:
    controller = replace(untrained("ppo", "Pendulum-v1"), rewards=RewardScale(25.0, 10.0, 1e-8))
    controller.save(tmp_path / "scaled.zip", {})
    loaded = load(tmp_path / "scaled.zip").controller
    assert isinstance(loaded, SB3Controller)
    assert loaded.rewards == controller.rewards


STOCK = """
import sys
sys.modules.update(dict.fromkeys(("agents", "envs", "experiments", "pruning")))  # importing ours would fail
import stable_baselines3, gymnasium
model = stable_baselines3.SAC.load(sys.argv[1], env=gymnasium.make("Pendulum-v1"), device="cpu")
model.learning_starts = 20
model.learn(60)
print([layer.out_features for layer in model.actor.latent_pi if hasattr(layer, "out_features")])
"""


def test_the_zip_goes_on_learning_in_plain_stable_baselines3(tmp_path: Path) -> None:
    small = pruned(untrained("sac", "Pendulum-v1", widths=(16, 16)))
    shown: list[SB3Controller] = []
    make = lambda count: [envs.make("Pendulum-v1") for _ in range(count)]  # noqa: E731
    continue_learning(small, make, 60, 0, 60, lambda _, now: shown.append(now))
    shown[-1].save(tmp_path / "tuned.zip", {})
    done = subprocess.run(
        [sys.executable, "-c", STOCK, str(tmp_path / "tuned.zip")], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    widths = [m.out_features for m in small.networks.actor.latent_pi if isinstance(m, torch.nn.Linear)]  # type: ignore[union-attr]
    assert done.stdout.strip() == str(widths)
