"""MaskablePPO: agents that are told which of their options are allowed, from acting to exports."""

from __future__ import annotations

import copy
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import onnxruntime
import pytest
import torch
from conftest import missing
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from sb3_contrib.common.envs import InvalidActionEnvMultiBinary, InvalidActionEnvMultiDiscrete
from sb3_contrib.common.maskable.utils import get_action_masks

from prunectl import agents, envs
from prunectl.agents.choices import Choice, options
from prunectl.agents.rows import observations_of
from prunectl.agents.sb3.controller import SB3Controller
from prunectl.experiments.api.controllers import prune
from prunectl.experiments.api.exporting import export
from prunectl.experiments.episodes.calibration import calibrate
from prunectl.experiments.episodes.evaluator import evaluate, evaluate_random
from prunectl.experiments.episodes.finetuning import finetune
from prunectl.pruning import trace
from prunectl.pruning.fidelity import fidelities
from prunectl.pruning.plan import uncut
from prunectl.pruning.recovery.pupil import Lesson, choice_loss


class Roads(gym.Env[Any, Any]):
    """A walk over crossings, at each of which some roads are closed. A step pays what the observation says of its
    road; a closed one ends the world."""

    observation_space = spaces.Box(-1.0, 1.0, (8,))
    action_space = spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.open[action], f"road {action} is closed"
        reward = float(self.seen[action])
        return self._seen(), reward, False, False, {}

    def action_masks(self) -> list[bool]:
        return [bool(one) for one in self.open]

    def _seen(self) -> Any:
        self.seen = self.np_random.uniform(-1, 1, 8).astype(np.float32)
        self.open = self.np_random.random(4) < 0.6
        self.open[self.np_random.integers(4)] = True
        return self.seen


class Open(Roads):
    """All roads are open, and nobody says so."""

    action_masks: Any = property()  # an AttributeError, as where there is none

    def _seen(self) -> Any:
        seen = super()._seen()
        self.open[:] = True
        return seen


class Misled(Roads):
    def action_masks(self) -> list[bool]:
        return super().action_masks()[:3]


class Pictured(Roads):
    """The same by name, with a picture that says nothing."""

    observation_space: Any = spaces.Dict(
        {"road": spaces.Box(-1.0, 1.0, (8,)), "view": spaces.Box(0, 255, (1, 36, 36), np.uint8)}
    )

    def _seen(self) -> Any:
        return {"road": super()._seen(), "view": self.np_random.integers(0, 256, (1, 36, 36), np.uint8)}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.open[action], f"road {action} is closed"
        return self._seen(), 0.0, False, False, {}


gym.register("Roads-v0", Roads, max_episode_steps=30)
gym.register("OpenRoads-v0", Open, max_episode_steps=10)
gym.register("MisledRoads-v0", Misled, max_episode_steps=10)
gym.register("PicturedRoads-v0", Pictured, max_episode_steps=6)
gym.register(
    "MaskedLevers-v0",
    InvalidActionEnvMultiDiscrete,
    max_episode_steps=30,
    kwargs={"dims": [3, 2, 4], "n_invalid_actions": 3},
)
gym.register(
    "MaskedSwitches-v0", InvalidActionEnvMultiBinary, max_episode_steps=30, kwargs={"dims": 3, "n_invalid_actions": 2}
)
TASKS = {"Roads-v0": "Mlp", "MaskedLevers-v0": "Mlp", "MaskedSwitches-v0": "Mlp", "PicturedRoads-v0": "MultiInput"}
tasks = pytest.mark.parametrize("task", TASKS)


def model_of(task: str) -> Any:
    settings = {"net_arch": [24, 16], "ortho_init": False}
    policy = f"{TASKS.get(task, 'Mlp')}Policy"
    return MaskablePPO(policy, gym.make(task), policy_kwargs=settings, seed=1, device="cpu", n_steps=64)


@tasks
def test_it_acts_as_the_library_does_with_masks_along_whole_episodes(task: str, tmp_path: Path) -> None:
    model = model_of(task)
    model.save(tmp_path / "masked.zip")
    loaded = agents.load(tmp_path / "masked.zip").controller
    small = prune(model, 0.5, recovery="reconstruct").controller
    small.save(tmp_path / "small.zip", {})
    again = agents.load(tmp_path / "small.zip").controller
    assert again.parameters() < loaded.parameters() == SB3Controller.of("maskable_ppo", model).parameters()
    for controller, stock in ((loaded, model), (again, MaskablePPO.load(tmp_path / "small.zip", device="cpu"))):
        ran = evaluate(controller, task, (5,), record=True)
        assert ran.observations is not None
        assert ran.actions is not None
        width = math.prod(controller.observation_space.shape)
        seen, masks = observations_of(controller.observed, ran.observations[:, :width]), ran.observations[:, width:]
        unbarred = 0
        for step, action in enumerate(ran.actions):
            given = {key: part[step] for key, part in seen.items()} if isinstance(seen, dict) else seen[step]
            theirs, _ = stock.predict(given, deterministic=True, action_masks=masks[step] != 0)
            np.testing.assert_array_equal(action, theirs, err_msg=f"step {step}")
            unbarred += np.array_equal(theirs, stock.predict(given, deterministic=True)[0])
        assert unbarred < len(ran.actions) == ran.lengths[0]  # or the masks would not have been needed


def test_masks_are_those_of_the_moment() -> None:
    model = model_of("Roads-v0")
    ran = evaluate(SB3Controller.of("maskable_ppo", model), "Roads-v0", (5,))
    env = gym.make("Roads-v0")
    (seen, _), returned, ended = env.reset(seed=5), 0.0, False
    while not ended:
        action, _ = model.predict(seen, deterministic=True, action_masks=get_action_masks(env))
        seen, reward, _, ended, _ = env.step(action)
        returned += float(reward)
    assert ran.returns.tolist() == [returned]


def test_without_masks_it_chooses_among_all_as_the_library_does() -> None:
    model, controller = model_of("Roads-v0"), SB3Controller.of("maskable_ppo", model_of("Roads-v0"))
    seen = np.random.default_rng(0).uniform(-1, 1, (64, 8)).astype(np.float32)
    theirs = model.predict(seen, deterministic=True)[0]
    np.testing.assert_array_equal(controller.act(seen), theirs)
    ran = evaluate(controller, "OpenRoads-v0", (0,), record=True)
    assert ran.observations is not None
    assert ran.observations[:, 8:].all()
    np.testing.assert_array_equal(ran.actions, model.predict(ran.observations[:, :8], deterministic=True)[0])


@pytest.mark.parametrize("task", ["Roads-v0", "MaskedLevers-v0", "MaskedSwitches-v0"])
def test_whatever_is_drawn_at_random_is_allowed(task: str) -> None:
    controller = SB3Controller.of("maskable_ppo", model_of(task))
    evaluate_random(task, (0, 1), controller)  # a closed road would end it
    data = calibrate(controller, task)
    allowed = controller.allowed(data.observations)
    assert allowed is not None
    among = np.cumsum(options(controller.action_space))[:-1]
    chosen = data.actions.reshape(len(allowed), -1).T
    for open_ones, action in zip(np.split(allowed, among, axis=1), chosen, strict=True):
        assert open_ones[np.arange(len(action)), action].all()
    assert (data.actions != controller.act(data.observations)).mean() > 0.02


def test_it_is_taught_the_choice_among_what_is_allowed_alone() -> None:
    """Whatever the dense one says of what is never allowed there: nothing trained it."""
    wanted, allowed = torch.tensor([[0.0, 1.0, 50.0]]), torch.tensor([[True, True, False]])
    choice = Choice(spaces.Discrete(3))
    own = torch.tensor([[0.5, 0.0, 0.0]], requires_grad=True)
    (answer,), (teacher,) = choice.logits(own, allowed), choice.logits(wanted, allowed)
    loss = choice_loss(answer, teacher)
    loss.backward()  # type: ignore[no-untyped-call]
    assert own.grad is not None
    assert own.grad[0, 2] == 0
    assert own.grad[0, 0] > 0 > own.grad[0, 1]
    assert loss.item() == pytest.approx(choice_loss(own[:, :2], wanted[:, :2]).item())
    both = Lesson((own,), {"actor": wanted}, allowed) + Lesson((own,), {"actor": wanted}, ~allowed)
    assert both.allowed is not None
    assert both.allowed.tolist() == [[True, True, False], [False, False, True]]


def test_distillation_is_not_taken_up_by_what_is_never_allowed() -> None:
    model, generator = model_of("Roads-v0"), np.random.default_rng(0)
    with torch.no_grad():
        model.policy.action_net.bias[3] += 50.0  # so it would be chosen everywhere
    masks = np.tile([1, 1, 1, 0], (600, 1))
    seen, other = (np.concatenate([generator.uniform(-1, 1, (600, 8)), masks], axis=1) for _ in range(2))
    taught = prune(model, 0.6, inputs=seen, recovery="scratch", budget=60).controller
    wanted = SB3Controller.of("maskable_ppo", model).act(other)
    assert (wanted != 3).all()
    assert (taught.act(other) == wanted).mean() > 0.8


def test_training_goes_on_with_masks_and_without() -> None:
    controller = SB3Controller.of("maskable_ppo", model_of("Roads-v0"))
    for task in ("Roads-v0", "OpenRoads-v0"):
        tuned = finetune(controller, task, 64, 0)
        assert tuned.after >= tuned.before


@pytest.mark.parametrize("task", ["Roads-v0", "MaskedSwitches-v0"])
def test_every_exported_form_is_told_what_is_allowed(task: str, tmp_path: Path) -> None:
    model, seeds = model_of(task), (5, 6)
    controller = SB3Controller.of("maskable_ppo", model)
    ran = evaluate(controller, task, seeds, record=True)
    assert ran.observations is not None
    export(model, tmp_path / "masked.onnx")
    seen, mask = np.split(ran.observations.astype(np.float32), [-sum(options(controller.action_space))], axis=1)
    session = onnxruntime.InferenceSession(tmp_path / "masked.onnx")
    np.testing.assert_array_equal(session.run(None, {"observation": seen, "mask": mask})[0], ran.actions)
    files = [tmp_path / "masked.onnx"]
    if shutil.which("gcc"):
        export(model, tmp_path / "masked.c")
        files += [tmp_path / "masked.c"]
        build_it = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "masked_test.c", "masked.c", "-lm"]
        subprocess.run(build_it, cwd=tmp_path, check=True, timeout=60)
        assert b"0 wrong" in subprocess.run([tmp_path / "a.out"], capture_output=True, timeout=60, check=True).stdout
    if not missing("cortex-m4"):
        export(model, tmp_path / "board.elf", target="cortex-m4")
        files += [tmp_path / "board.elf"]
    for file in files:
        alone = agents.load(file, trust=True).controller
        np.testing.assert_array_equal(alone.act(ran.observations), ran.actions)
        np.testing.assert_array_equal(alone.act(seen), controller.act(seen))  # nothing said: all are
        found = evaluate(alone, task, seeds).returns
        assert task != "Roads-v0" or found.tolist() == ran.returns.tolist()  # the others draw at random, unseeded


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc to compile the C with")
def test_in_eight_bits_it_is_told_too(tmp_path: Path) -> None:
    export(model := model_of("Roads-v0"), tmp_path / "eighth.c", bits=8)
    alone, rows = agents.load(tmp_path / "eighth.c", trust=True).controller, np.zeros((4, 12), np.float32)
    rows[:, 8:] = np.eye(4)  # one road open at a time
    assert alone.act(rows).tolist() == SB3Controller.of("maskable_ppo", model).act(rows).tolist() == [0, 1, 2, 3]


def test_masks_of_another_size_are_refused() -> None:
    model = model_of("Roads-v0")
    with pytest.raises(envs.TaskError, match="action_masks says of 3 options, its actions have 4"):
        evaluate(SB3Controller.of("maskable_ppo", model), "MisledRoads-v0", (0,))


def test_fidelity_is_of_what_was_said_of_allowed_options() -> None:
    dense = SB3Controller.of("maskable_ppo", model_of("Roads-v0"))
    graph = trace(dense)
    plan = uncut(graph)
    other = dense.with_networks(copy.deepcopy(dense.networks))
    with torch.no_grad():
        other.networks.action_net.bias[3] += 5.0  # type: ignore[operator,index,union-attr]
    rows = np.random.default_rng(0).uniform(-1, 1, (50, 8)).astype(np.float32)
    inputs = dense.inputs(rows, dense.act(rows))
    allowed = torch.ones(50, 4, dtype=torch.bool)
    assert fidelities(other, dense, graph, plan, inputs, allowed)["actor"] < 0
    allowed[:, 3] = False
    assert fidelities(other, dense, graph, plan, inputs, allowed) == {"actor": 1.0, "value": 1.0}
    # The mean that it is held against is that of the rows where an option was allowed.
    allowed[:, 1] = torch.arange(50) < 25
    with torch.no_grad():
        silent = dense.with_networks(copy.deepcopy(dense.networks))
        for tensor in silent.components["actor"].module.parameters():
            tensor.zero_()
        logits = dense.dataflow()(*inputs)["actor"].double()
        parts = [logits[:25, 1], logits[:, 0], logits[:, 2]]
        spread = sum(((part - part.mean()) ** 2).sum() for part in parts)
        wanted = 1 - sum((part**2).sum() for part in parts) / spread
    found = fidelities(silent, dense, graph, plan, inputs, allowed)["actor"]
    assert found == pytest.approx(float(wanted))
