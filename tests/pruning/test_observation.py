"""Numbers of the observation that are not read any more."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from conftest import untrained, untrained_planner
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stable_baselines3 import PPO
from test_distill import FakeLoop
from test_plan import calibration, rising
from torch import Tensor, nn

from prunectl import agents
from prunectl.agents.controller import Controller, ControllerError
from prunectl.agents.sb3.controller import SB3Controller
from prunectl.agents.sb3.normalisation import Normalisation
from prunectl.pruning import (
    Calibration,
    Method,
    PruningError,
    PruningPlan,
    apply,
    make_plan,
    plan_for,
    prune,
    trace,
)
from prunectl.pruning.ask import Ask, Schedule
from prunectl.pruning.observation import still_remark
from prunectl.pruning.recovery import Budget
from prunectl.pruning.surgery import select_inputs

NONE = Method(recovery="none")
REFITTED = Method(recovery="reconstruct")


def normalised(controller: SB3Controller) -> SB3Controller:
    seen = controller.observation_space.shape[0]
    return dataclasses.replace(
        controller, normalisation=Normalisation(np.linspace(-1, 1, seen), np.linspace(0.5, 4, seen), 1.5, 1e-8)
    )


def still(controller: Controller, columns: list[int], count: int = 400) -> Calibration:
    """Calibration data in which these numbers of the observation never move."""
    data = calibration(controller, count)
    for rows in (data.observations, data.held_out_observations):
        rows[:, columns] = 0.75
    return data


def test_widths_parameters_and_names_by_hand() -> None:
    controller = untrained("ppo", "CartPole-v1", widths=(8, 6))
    graph = trace(controller, observed=True)
    (flow,) = graph.flows
    group = graph.groups[flow]
    assert (flow, graph.observation, group.units) == ("observation->actor,value", flow, 4)
    assert (group.producers, group.components) == ((), ("actor", "value"))
    assert graph.params_per_unit(flow) == 8 + 8
    assert trace(controller).observation is None
    found = prune(controller, NONE, {"observation": 0.5}, calibration(controller, 100))
    # Nothing but the columns of the two first layers goes: 2 of 4 inputs, 8 units each.
    assert controller.parameters() - found.controller.parameters() == 2 * (8 + 8)
    assert found.plan.widths[flow] == 2
    assert found.plan.components["actor"].widths_pruned == (8, 6, 2)


def test_what_is_not_read_may_be_anything() -> None:
    controller = normalised(untrained("sac", "Pendulum-v1"))
    data = calibration(controller, 200)
    found = prune(controller, REFITTED, {"overall": 0.5, "observation": 0.34}, data)
    (kept,) = (kept for name, kept in found.plan.kept.items() if name.startswith("observation->"))
    assert len(kept) == 2
    assert found.controller.inputs_read == kept
    expected = found.controller.act(data.observations)
    others = data.observations.copy()
    others[:, [column for column in range(3) if column not in kept]] = np.nan
    np.testing.assert_array_equal(found.controller.act(others), expected)
    others[:, kept[0]] += 1
    assert not np.array_equal(found.controller.act(others), expected)


def test_what_never_moves_goes_first_and_is_made_up_for() -> None:
    """It is no zero: the refit has to take its part over."""
    controller = untrained("ppo", "CartPole-v1", widths=(12, 12))
    data = still(controller, [0, 2])
    found = prune(controller, REFITTED, {"observation": 0.5}, data)
    assert found.plan.kept["observation->actor,value"] == (1, 3)
    assert found.fidelity["actor"] > 0.999
    raw = prune(controller, NONE, {"observation": 0.5}, data)
    assert raw.plan == found.plan
    assert raw.fidelity["actor"] < found.fidelity["actor"]


@pytest.mark.parametrize(
    ("algorithm", "task"),
    [
        ("ppo", "CartPole-v1"),
        ("sac", "Pendulum-v1"),
        ("td3", "Pendulum-v1"),
        ("tqc", "Pendulum-v1"),
        ("crossq", "Pendulum-v1"),
        ("dqn", "CartPole-v1"),
        ("qrdqn", "CartPole-v1"),
        ("recurrent_ppo", "CartPole-v1"),
        ("maskable_ppo", "CartPole-v1"),
    ],
)
def test_saved_and_loaded_it_acts_the_same(algorithm: str, task: str, tmp_path: Path) -> None:
    controller = untrained(algorithm, task)
    controller = normalised(controller) if algorithm in ("ppo", "sac", "recurrent_ppo") else controller
    before = {name: value.clone() for name, value in controller.networks.state_dict().items()}
    data = calibration(controller, 100)
    found = prune(controller, NONE, {"overall": 0.4, "observation": 0.5}, data)
    found.controller.save(tmp_path / "small.zip", {"task": task, "plan": found.plan.to_json()})
    loaded = agents.load(tmp_path / "small.zip")
    assert isinstance(loaded.controller, SB3Controller)
    assert loaded.controller.inputs_read == found.controller.inputs_read
    assert loaded.controller.observation_space == controller.observation_space
    seen = data.observations
    np.testing.assert_array_equal(loaded.controller.act(seen), found.controller.act(seen))
    assert loaded.controller.parameters() == found.plan.params_pruned == found.controller.parameters()
    plan = PruningPlan.from_json(json.loads(json.dumps(loaded.plan)))
    assert plan == found.plan
    again = apply(plan, controller, trace(controller, plan.observed))
    np.testing.assert_array_equal(again.act(seen), found.controller.act(seen))
    assert all(torch.equal(value, controller.networks.state_dict()[name]) for name, value in before.items())
    # It can lose more: what is left is counted from what was there at first.
    second = prune(loaded.controller, NONE, {"observation": 0.4}, data).controller
    assert second.inputs_read is not None
    assert set(second.inputs_read) < set(found.controller.inputs_read or ())


def test_plain_stable_baselines3_loads_it_and_learns_on(tmp_path: Path) -> None:
    controller = untrained("ppo", "CartPole-v1", n_steps=32, batch_size=16)
    data = calibration(controller, 100)
    small = prune(controller, NONE, {"observation": 0.5}, data).controller
    (remark,) = small.save(tmp_path / "small.zip", {})
    assert "InputsExtractor" in remark
    model = PPO.load(tmp_path / "small.zip", env=gymnasium.make("CartPole-v1"), device="cpu")
    np.testing.assert_array_equal(model.predict(data.observations, deterministic=True)[0], small.act(data.observations))
    model.learn(32)
    after = SB3Controller.of("ppo", model)
    assert after.inputs_read == small.inputs_read


@pytest.mark.parametrize("arguments", [[], [2, 1], [0, 4], [-1, 2], [0, 0], "all", [0.5]], ids=str)
def test_a_file_that_names_no_such_numbers_is_one_line(
    arguments: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = untrained("ppo", "CartPole-v1")
    small = prune(controller, NONE, {"observation": 0.5}, calibration(controller, 100)).controller
    small.save(tmp_path / "small.zip", {})
    import zipfile

    with zipfile.ZipFile(tmp_path / "small.zip") as before, zipfile.ZipFile(tmp_path / "other.zip", "w") as after:
        for name in before.namelist():
            content = before.read(name)
            if name == "data":
                said = json.loads(content)
                said["policy_kwargs"]["features_extractor_kwargs"] = {"inputs": arguments}
                content = json.dumps(said).encode()
            after.writestr(name, content)
    with pytest.raises(ControllerError) as raised:
        agents.load(tmp_path / "other.zip")
    assert "\n" not in str(raised.value)


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 2))

    def forward(self, observation: Tensor) -> Tensor:
        given: Tensor = self.body(observation)
        return given


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
def test_own_networks_read_less_too(scaled: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    controller = Controller.of(
        {"actor": Own()},
        lambda parts, observation: {"actor": parts["actor"](observation)},
        lambda parts, observation: parts["actor"](observation).clamp(-1, 1),
        spaces.Box(-2, 2, (6,), np.float32),
        observe=(lambda rows: (rows - 0.5) / 2) if scaled else None,
    )
    data = still(controller, [1, 4, 5])
    found = prune(controller, REFITTED, {"observation": 0.5}, data)
    assert found.plan.kept["observation->actor"] == (0, 2, 3)
    np.testing.assert_allclose(found.controller.act(data.observations), controller.act(data.observations), atol=5e-3)
    found.controller.save(tmp_path / "small.safetensors", {})
    loaded = agents.load(tmp_path / "small.safetensors").controller
    np.testing.assert_array_equal(loaded.act(data.observations), found.controller.act(data.observations))
    path = found.controller.deployed_path()
    assert [type(layer).__name__ for layer in path][-4:] == ["Linear", "Tanh", "Linear", "Hardtanh"]
    second = prune(loaded, REFITTED, {"observation": 0.34}, data)
    assert second.plan.units["observation->actor"] == 3
    assert second.plan.widths["observation->actor"] == 2


def test_steps_count_from_the_first_observation() -> None:
    controller = untrained("sac", "Pendulum-v1", encoder=(), widths=(24, 24))
    data = still(controller, [1])
    found = prune(controller, REFITTED, {"overall": 0.7, "observation": 0.6}, data, schedule=Schedule(3))
    (flow,) = (name for name in found.plan.kept if name.startswith("observation->"))
    assert found.plan.kept[flow] == found.controller.inputs_read
    assert len(found.plan.kept[flow]) == 1
    assert 1 not in found.plan.kept[flow]
    assert found.plan.params_pruned == found.controller.parameters()


def test_distillation_teaches_what_reads_less() -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(24, 24))
    data = still(controller, [2])
    ask = {"overall": 0.5, "observation": 0.34}
    taught = prune(controller, Method(), ask, data, loop=FakeLoop(), budget=Budget(steps=300))
    assert taught.plan == prune(controller, NONE, ask, data).plan
    assert taught.controller.inputs_read == tuple(taught.plan.kept["observation->actor,critic.0,critic.1"])


def test_the_grouping_finds_how_many_are_needed() -> None:
    """Those that never move are not, and their weights are spent on hidden units; where all matter, all are read."""
    torch.manual_seed(1)
    controller = Controller.of(
        {"actor": nn.Sequential(nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 2))},
        lambda parts, observation: {"actor": parts["actor"](observation)},
        lambda parts, observation: parts["actor"](observation),
        spaces.Box(-1, 1, (32,), np.float32),
    )
    data = still(controller, list(range(4, 32)), 1500)
    method = Method("inputs", recovery="reconstruct")
    found = prune(controller, method, 0.8, data)
    assert found.plan.kept["observation->actor"] == (0, 1, 2, 3)
    assert found.plan.sparsity_asked == 0.8
    assert found.plan.sparsity_total == pytest.approx(0.8, abs=0.02)
    assert found.fidelity["actor"] > prune(controller, REFITTED, 0.8, data).fidelity["actor"] + 0.03
    # As many whatever is asked. With all of them one unit is more than is to be left at 0.96.
    with pytest.raises(PruningError, match="cannot be met"):
        prune(controller, REFITTED, 0.96, data)
    assert prune(controller, method, 0.96, data).plan.kept["observation->actor"] == (0, 1, 2, 3)
    # Where they would take more than is asked, fewer go: of 562 parameters 16 with each.
    less = prune(controller, method, 0.3, data).plan
    assert less.sparsity_total == pytest.approx(0.3, abs=0.02)
    assert less.widths["observation->actor"] == 32 - 562 * 3 // 10 // 16
    with pytest.raises(PruningError, match="cannot be met"):
        prune(controller, method, 0.999, data)
    # Alone, one number matters as much as any other here.
    few = untrained("ppo", "CartPole-v1", widths=(16, 16))
    data = calibration(few, 900)
    kept = prune(few, method, 0.2, data)
    assert kept.controller.inputs_read is None
    np.testing.assert_array_equal(
        kept.controller.act(data.observations), prune(few, REFITTED, 0.2, data).controller.act(data.observations)
    )


def test_the_grouping_takes_a_share_that_is_named_and_other_allocations() -> None:
    controller = untrained("sac", "Pendulum-v1")
    data = calibration(controller, 120)
    for allocation in ("uniform", "ranked", "sensitivity"):
        method = Method("inputs", allocation=allocation, recovery="none")
        found = prune(controller, method, {"overall": 0.5, "observation": 0.34}, data)
        assert found.plan.widths["observation->actor,critic.0,critic.1"] == 2
        assert prune(controller, method, 0.5, data).plan.sparsity_total == pytest.approx(0.5, abs=0.05)


def test_where_nothing_can_be_left_out() -> None:
    planner, data = untrained_planner(), calibration(untrained_planner(), 50)
    with pytest.raises(PruningError, match="'tdmpc' controller sees can be left out: leave 'observation' out"):
        prune(planner, NONE, {"overall": 0.5, "observation": 0.5}, data)
    encoded = untrained("ppo", "CartPole-v1", encoder=(8,))
    with pytest.raises(PruningError, match="leave 'observation' out of what is asked"):
        prune(encoded, NONE, {"observation": 0.5}, calibration(encoded, 50))
    # The grouping reads all of it there, as `component` does.
    for controller in (planner, encoded):
        data = calibration(controller, 50)
        one, other = (prune(controller, Method(g, recovery="none"), 0.5, data).plan for g in ("inputs", "component"))
        assert one == other
    plain = untrained("ppo", "CartPole-v1")
    with pytest.raises(PruningError, match=r"with 1 of its 4 units left, flow 'observation->actor,value' reaches 0.75"):
        prune(plain, NONE, {"observation": 0.9}, calibration(plain, 50))
    with pytest.raises(ControllerError, match="reads all of them"):
        encoded.reading([0])


def test_a_layer_less_and_fewer_inputs_go_together(tmp_path: Path) -> None:
    controller = untrained("ppo", "CartPole-v1", widths=(16, 12))
    data = still(controller, [2])
    found = prune(controller, Method("shallow", recovery="reconstruct"), {"overall": 0.6, "observation": 0.25}, data)
    assert found.controller.inputs_read == (0, 1, 3)
    (width, actions) = found.plan.components["actor"].widths_pruned
    # Of 80 + 204 + 26 parameters 124 are to be left: with one layer of w units 4 w + 2 w + 2.
    assert (width, actions) == (min(16, round((124 - 2) / 6)), 2)
    found.controller.save(tmp_path / "small.zip", {})
    loaded = agents.load(tmp_path / "small.zip").controller
    np.testing.assert_array_equal(loaded.act(data.observations), found.controller.act(data.observations))


@pytest.mark.parametrize("grouping", ["global", "layer", "component"])
def test_nothing_of_it_goes_unasked(grouping: str) -> None:
    controller = untrained("ppo", "CartPole-v1")
    data = still(controller, [0, 1, 2])
    assert prune(controller, Method(grouping, recovery="none"), 0.8, data).controller.inputs_read is None
    found = prune(controller, Method(grouping, recovery="none"), {"overall": 0.8, "flow": 0.5}, data)
    assert found.controller.inputs_read is None


def test_a_plan_ahead_is_what_prune_does() -> None:
    controller = untrained("sac", "Pendulum-v1")
    data = calibration(controller, 300)
    inputs = controller.inputs(data.observations, data.actions)
    method = Method("inputs", recovery="none")
    ahead = plan_for(controller, trace(controller, observed=True), method, Ask(0.6), inputs)
    assert ahead == prune(controller, method, 0.6, data).plan


def test_much_that_never_moves_is_said() -> None:
    seen = torch.rand(50, 16)
    seen[:, 3] = 0.5
    assert still_remark(seen) is None
    seen[:, 7] = 0.0
    said = still_remark(seen)
    assert said is not None
    assert said.startswith("2 of the 16 numbers that it sees never moved: grouping 'inputs'")


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    algorithm=st.sampled_from(["sac", "td3", "tqc", "crossq", "ppo", "a2c", "recurrent_ppo"]),
    widths=st.lists(st.integers(2, 12), min_size=1, max_size=3).map(tuple),
    sparsity=st.floats(0.0, 0.8),
    seed=st.integers(0, 10_000),
)
def test_surgery_equals_silencing_what_is_not_read(
    algorithm: str, widths: tuple[int, ...], sparsity: float, seed: int
) -> None:
    """Of any architecture: the same outputs as the networks give that are shown means of nothing in its place."""
    controller = untrained(algorithm, "Pendulum-v1", widths)
    graph = trace(controller, observed=True)
    flow = graph.observation
    assert flow is not None
    plan = make_plan(graph, rising(graph), sparsity=Ask(None, (("observation", 0.34),)))
    small = apply(plan, controller, graph)
    assert small.parameters() == plan.params_pruned
    assert trace(small, observed=True).dense == plan.widths
    rows = np.random.default_rng(seed)
    example = controller.inputs(calibration(controller, 5).observations, calibration(controller, 5).actions)
    inputs = [torch.as_tensor(rows.normal(size=tensor.shape), dtype=torch.float32) for tensor in example]
    gone = [index for index in range(3) if index not in plan.kept[flow]]
    silenced = [inputs[0].clone(), *inputs[1:]]
    silenced[0][:, gone] = 0
    if algorithm == "crossq":  # whose norm takes a zero for another number
        for module in controller.networks.modules():
            mean = getattr(module, "ra_mean", None)
            if mean is not None and len(mean) == 3:
                silenced[0][:, gone] = mean[gone]
    with torch.no_grad():
        expected, found = controller.dataflow()(*silenced), small.dataflow()(*select_inputs(inputs, graph, plan.kept))
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
