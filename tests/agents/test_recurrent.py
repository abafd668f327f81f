"""Controllers with a memory: RecurrentPPO with its LSTMs shared, apart, or for the actor alone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import missing, untrained
from sb3_contrib import RecurrentPPO
from torch import nn

from prunectl import agents, envs
from prunectl.agents.boundary_layers import RememberingStep
from prunectl.agents.deployment.metadata import Interface
from prunectl.agents.deployment.onnx_form import onnx_bytes
from prunectl.agents.deployment.program import program
from prunectl.agents.deployment.targets import TARGETS
from prunectl.agents.sb3.controller import SB3Controller
from prunectl.experiments.deploying.export import Form, export, write
from prunectl.experiments.episodes.evaluator import evaluate
from prunectl.experiments.episodes.task_loop import TaskLoop
from prunectl.pruning import Calibration, Method, PruningError, apply, prune, trace
from prunectl.pruning.dataflow_run import read
from prunectl.pruning.plan import describe

MEMORIES: dict[str, dict[str, Any]] = {
    "apart": {},
    "shared": {"shared_lstm": True, "enable_critic_lstm": False},
    "actor": {"enable_critic_lstm": False},
    "layers": {"n_lstm_layers": 2},
}
kinds = pytest.mark.parametrize("kind", MEMORIES)


def recurrent(kind: str, **settings: Any) -> SB3Controller:
    arguments = {"lstm_hidden_size": 8, **MEMORIES[kind], **settings}
    return untrained("recurrent_ppo", "Pendulum-v1", widths=(6,), policy_kwargs=arguments)


def halved(controller: SB3Controller) -> SB3Controller:
    graph = trace(controller)
    kept = {name: tuple(range(0, units, 2)) for name, units in graph.dense.items()}
    return apply(describe(graph, kept, 0.5), controller, graph)


@kinds
def test_it_acts_as_the_library_does_along_whole_episodes(kind: str, tmp_path: Path) -> None:
    for controller in (recurrent(kind), halved(recurrent(kind))):
        controller.save(tmp_path / "c.zip", {"task": "Pendulum-v1"})
        stock = RecurrentPPO.load(tmp_path / "c.zip")
        loaded = agents.load(tmp_path / "c.zip").controller
        policy, pair = loaded.policy((0,)), loaded.policy((0, 1))
        env = envs.make("Pendulum-v1")
        seen, state = env.reset(seed=0)[0], None
        for step in range(20):
            theirs, state = stock.predict(seen[None], state, np.array([step == 0]), deterministic=True)
            np.testing.assert_array_equal(policy(seen[None], np.arange(1)), theirs)
            np.testing.assert_allclose(pair(np.stack([seen, seen]), np.arange(2)), [theirs[0]] * 2, rtol=1e-4)
            seen = env.step(theirs[0])[0]


def test_episodes_do_not_share_what_they_remember() -> None:
    policy = recurrent("apart").policy((0, 1, 2))
    seen = np.random.default_rng(0).normal(size=(4, 3, 3)).astype(np.float32)
    together = [policy(rows, np.arange(3)) for rows in seen[:2]]
    together.append(policy(seen[2][[0, 2]], np.array([0, 2])))  # the second has ended
    for episode in (0, 2):
        alone = recurrent("apart").policy((0,))
        for step, actions in enumerate(together):
            row = episode if step < 2 else (0, 2).index(episode)
            own = alone(seen[step][[row]] if step < 2 else seen[2][[episode]], np.zeros(1, dtype=np.intp))
            np.testing.assert_allclose(own[0], actions[row], rtol=1e-5)


@kinds
def test_groups_are_hidden_units_with_all_their_gates(kind: str) -> None:
    controller = recurrent(kind)
    graph = trace(controller)
    group = next(group for name, group in graph.groups.items() if name.startswith("memory"))
    assert group.units == 8
    layers = 2 if kind == "layers" else 1
    # A unit: 4 gates of 3 weights in, 8 of the state, two biases; 4 x 8 weights of others that read its state, less the
    # 4 counted; and 6 to each head that reads it. A second layer reads the first's units in the place of the 3.
    own = 4 * (3 + 8 + 2) + 4 * 7
    above = 4 * (8 + 8 + 2) + 4 * 7 + 4 * 7 if layers == 2 else 0
    heads = 2 if kind == "shared" else 1
    assert graph.params_per_unit(group.name) == own + above + 6 * heads
    tied = {"apart": 1, "layers": 1, "actor": 1, "shared": 0}[kind]
    assert len(graph.ties) == tied


def test_what_is_recorded_is_what_was_remembered() -> None:
    controller = recurrent("apart")
    ran = evaluate(controller, "Pendulum-v1", (3,), record=True)
    assert ran.observations is not None
    assert ran.actions is not None
    assert ran.observations.shape == (200, 3 + controller.memory)
    assert not ran.observations[0, 3:].any()  # an episode begins with nothing
    np.testing.assert_allclose(controller.act(ran.observations), ran.actions, rtol=1e-5, atol=1e-6)
    # What the dataflow makes of the states before a step is what was recorded as the states before the next.
    with torch.no_grad():
        results = read(controller.dataflow(), controller.inputs(ran.observations, ran.actions)).results
    states = torch.cat([results[name].flatten(1) for name in ("memory_actor", "memory_value")], dim=1).numpy()
    np.testing.assert_allclose(states[:-1], ran.observations[1:, 3:], rtol=1e-5, atol=1e-6)


def test_a_visit_is_whole_episodes_with_what_the_teacher_would_have_remembered() -> None:
    teacher, student = recurrent("apart"), halved(recurrent("apart"))
    visit = TaskLoop("Pendulum-v1").visit(student, 0, teacher)
    assert visit.observations.shape[1] == 3 + teacher.memory
    assert visit.first is not None
    assert np.flatnonzero(visit.first).tolist() == list(range(0, len(visit.observations), 200))
    driver, policy = student.policy((0,)), teacher.policy((0,))
    for row, action in zip(visit.observations[:20], visit.actions, strict=False):  # the first episode is undisturbed
        np.testing.assert_allclose(driver(row[None, :3], np.zeros(1, dtype=np.intp))[0], action, atol=1e-6)
        np.testing.assert_allclose(policy.remembered(np.zeros(1, dtype=np.intp))[0], row[3:], atol=1e-6)  # type: ignore[attr-defined]
        policy(row[None, :3], np.zeros(1, dtype=np.intp))


@kinds
def test_it_is_pruned_by_any_importance_and_refitted(kind: str) -> None:
    controller = recurrent(kind)
    rows = evaluate(controller, "Pendulum-v1", (0, 1), record=True)
    assert rows.observations is not None
    assert rows.actions is not None
    data = Calibration(rows.observations[::2], rows.actions[::2], rows.observations[1::4], rows.actions[1::4])
    for importance in ("surgeon", "taylor", "fisher"):
        cut, small = (
            prune(controller, Method("component", importance, "uniform", recovery), 0.5, data)
            for recovery in ("none", "reconstruct")
        )
        assert small.plan.sparsity_total == pytest.approx(0.5, abs=0.1)
        assert sum(small.fidelity.values()) > sum(cut.fidelity.values())
        assert all(share > 0.9 for name, share in small.fidelity.items() if name.startswith("memory"))
    with pytest.raises(PruningError, match=r"linear layers and convolutions alone.*LSTM"):
        prune(controller, Method("stock-global", "magnitude", "uniform", "none"), 0.5, data)


@kinds
def test_every_exported_form_carries_its_memory_along_whole_episodes(kind: str, tmp_path: Path) -> None:
    controller = recurrent(kind)
    with pytest.raises(agents.ControllerError, match="memory has no path"):
        controller.deployed_path()
    rows = evaluate(controller, "Pendulum-v1", (0,), record=True)
    assert rows.observations is not None
    assert rows.actions is not None
    data = Calibration(rows.observations, rows.actions, rows.observations[:50], rows.actions[:50])
    loaded = agents.Loaded(controller, "c", "Pendulum-v1", None, "", None)
    seeds = (3, 4)
    wanted = evaluate(controller, "Pendulum-v1", seeds).returns
    forms: tuple[Form, ...] = ("onnx", "c") if shutil.which("gcc") else ("onnx",)
    for form in forms:
        made = export(loaded, "Pendulum-v1", data, tmp_path / f"small.{form}", form)
        assert made.difference.largest < 1e-5
        write(made.files, tmp_path)
        alone = agents.load(tmp_path / f"small.{form}", trust=True).controller
        assert alone.memory == (2 if kind == "layers" else 1) * 2 * 8  # the acting one's
        np.testing.assert_allclose(evaluate(alone, "Pendulum-v1", seeds).returns, wanted, rtol=1e-3)
    if not missing("cortex-m4"):
        made = export(loaded, "Pendulum-v1", data, tmp_path / "board.elf", "c", target=TARGETS["cortex-m4"])
        assert made.difference.largest < 1e-5
        write(made.files, tmp_path)
        alone = agents.load(tmp_path / "board.elf", trust=True).controller
        np.testing.assert_allclose(evaluate(alone, "Pendulum-v1", seeds).returns, wanted, rtol=1e-3)
    if "c" in forms:
        build_it = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "small_test.c", "small.c", "-lm"]
        subprocess.run(build_it, cwd=tmp_path, check=True, timeout=60)
        assert b"0 wrong" in subprocess.run([tmp_path / "a.out"], capture_output=True, timeout=60, check=True).stdout
    with pytest.raises(agents.ControllerError, match="a memory is not written in eight bits"):
        export(loaded, "Pendulum-v1", data, tmp_path / "c.c", "c", bits=8)


def test_a_layer_of_memory_by_hand() -> None:
    """One unit, which reads one number: gates of 0.5, a new value of tanh(1)."""
    lstm = nn.LSTM(1, 1)
    for parameter in lstm.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        lstm.bias_ih_l0[2] = 0.5
        lstm.bias_hh_l0[2] = 0.25
        lstm.weight_ih_l0[2, 0] = 0.25
    made = program(RememberingStep(nn.Sequential(), lstm, nn.Sequential(nn.Hardtanh(-9, 9))), 1)
    cell = 0.5 * 0.8 + 0.5 * np.tanh(1)
    action, after = made.decide(np.ones((1, 1)), np.array([[0.3, 0.8]]))
    np.testing.assert_allclose([*action[0], *after[0]], [0.5 * np.tanh(cell), 0.5 * np.tanh(cell), cell], rtol=1e-6)
    assert made.macs == 4 + 4
    assert made.memory == 2


def test_an_onnx_whose_memory_is_not_what_it_says_is_refused(tmp_path: Path) -> None:
    controller = recurrent("shared")
    said = Interface.of(controller).as_json({"task": "Pendulum-v1", "training_seed": 0})
    network = program(controller.deployed_step(), 3)
    for wrong in ({"memory": 0}, {"memory": 3}, {"memory": 10**9}, {"memory": True}, {"memory": 0, "masked": True}):
        (tmp_path / "c.onnx").write_bytes(onnx_bytes(network, {**said, **wrong}))
        with pytest.raises(agents.ControllerError, match=r"c\.onnx: "):
            agents.load(tmp_path / "c.onnx")
    (tmp_path / "c.onnx").write_bytes(onnx_bytes(network, said))
    assert agents.load(tmp_path / "c.onnx").controller.memory == 16
