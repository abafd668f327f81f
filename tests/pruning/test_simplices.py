"""TD-MPC2 is pruned by every method: whole simplices leave the latent, and critics stay alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_distill import FakeLoop
from test_plan import calibration

from prunectl.agents.tdmpc.controller import TDMPCController
from prunectl.agents.tdmpc2.distributions import Bins
from prunectl.pruning import GROUPINGS, Method, prune, trace
from prunectl.pruning.allocation import ALLOCATIONS
from prunectl.pruning.recovery import Budget
from tests.conftest import untrained_planner2

LATENT = "encoder,dynamics->dynamics,reward,actor," + ",".join(f"critic.{index}" for index in range(5))


def planner() -> TDMPCController:
    return untrained_planner2(simplices=4, hidden=16)


def test_a_unit_of_the_latent_is_a_simplex() -> None:
    agent = planner()
    graph = trace(agent)
    assert graph.dense[LATENT] == 4
    twins = [{name for name in graph.groups if name.startswith(f"critic.{index}/")} for index in range(5)]
    assert all(len(own) == 2 for own in twins)


def test_nothing_removed_is_nothing_changed() -> None:
    agent = planner()
    same = prune(agent, Method(recovery="reconstruct"), 0.0, calibration(agent)).controller
    seen = calibration(agent).observations
    np.testing.assert_array_equal(same.act(seen), agent.act(seen))
    ours, theirs = agent.networks.state_dict(), same.networks.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


#: Every grouping, and every allocation with the components alone; one that runs the task needs more than a planner.
# All that cut units of it: there is a norm behind each hidden layer, so none can go whole.
CUTS = {name: GROUPINGS[name] for name in GROUPINGS.builtin}
WHOLE = [name for name, own in CUTS.items() if own.cut is None and own.begins is None and not own.tries]
NAMES = [(name, "uniform") for name in WHOLE] + [
    ("component", name) for name in ALLOCATIONS.builtin if name != "uniform" and not ALLOCATIONS[name].looks_at_task
]
SLOW = {("component", "searched"), ("component", "sensitivity"), ("stock-local", "uniform")}


@pytest.mark.parametrize(
    ("grouping", "allocation"),
    [pytest.param(*names, marks=pytest.mark.slow) if names in SLOW else names for names in NAMES],
)
def test_every_method_keeps_simplices_whole_and_slow_copies_alike(grouping: str, allocation: str) -> None:
    agent = planner()
    method = Method(grouping, "magnitude", allocation, "none")
    pruned = prune(agent, method, 0.5, calibration(agent))
    small = pruned.controller
    assert pruned.plan.sparsity_total == pytest.approx(0.5, abs=0.1)
    assert small.parameters() == pruned.plan.params_pruned < agent.parameters()
    online, target = small.networks.online, small.networks.target
    assert online.latent % 8 == 0
    assert online.dynamics(torch.zeros(1, online.latent + 1)).shape == (1, online.latent)
    joint = torch.rand(5, online.latent + 1)
    for own, slow in zip(online.critics, target.critics, strict=True):
        torch.testing.assert_close(slow(joint), own(joint))  # untrained, they were the same
    widths = {tuple(layer.out_features for layer in own if hasattr(layer, "out_features")) for own in online.critics}
    assert len(widths) == 1 or grouping.startswith("stock")
    actions = small.act(calibration(agent).observations)
    assert np.isfinite(actions).all()


def test_bins_that_nothing_falls_on_go_first() -> None:
    agent = planner()
    online = agent.networks.online
    with torch.no_grad():
        for network in (online.reward, *online.critics, *agent.networks.target.critics):
            network[-2].bias[:40], network[-2].bias[60:] = -60.0, -60.0
    seen = calibration(agent)

    def bins(sparsity: Any, grouping: str = "component") -> set[tuple[int, str]]:
        pruned = prune(agent, Method(grouping, "magnitude", recovery="none"), sparsity, seen)
        assert pruned.plan.params_pruned == pruned.controller.parameters()
        assert pruned.plan.params_dense == agent.parameters()
        assert not isinstance(sparsity, float) or pruned.plan.sparsity_total == pytest.approx(sparsity, abs=0.02)
        networks = pruned.controller.networks
        assert repr(networks.online.critics[0][-1]) == repr(networks.target.critics[0][-1])
        return {
            (network[-2].out_features, repr(network[-1]))
            for network in (networks.online.reward, *networks.online.critics)
        }

    assert bins(0.0) == {(101, "Bins(-10.0 10.0)")}
    # 6 times 81 bins of 17 numbers each are 0.45 of all: with them more would go than is asked.
    assert bins(0.4) == {(101, "Bins(-10.0 10.0)")}
    fewer = bins(0.8)
    assert len(fewer) <= 2  # those of the reward, and those of all critics
    assert all(10 <= count <= 20 for count, _ in fewer)
    assert bins(0.8, "coupled") == fewer
    # What nothing is asked of stays whole.
    (critics,) = (one for one in bins({"critic": 0.8}) if one[0] != 101)
    assert bins({"critic": 0.8}) == {(101, "Bins(-10.0 10.0)"), critics}
    assert bins({"actor": 0.5, "reward": 0.0}) == {(101, "Bins(-10.0 10.0)")}
    assert bins(0.8, "stock-global") == {(101, "Bins(-10.0 10.0)")}


@pytest.mark.slow
def test_refitting_brings_the_outputs_back_and_distilling_more_of_them() -> None:
    agent = planner()
    for network in (agent.networks.online.reward, *agent.networks.online.critics):
        network[-1] = Bins(-1.0, 1.0)  # drawn at random they say numbers in the hundreds now and then
    seen = calibration(agent, 200)
    plain, refitted = (prune(agent, Method(recovery=recovery), 0.5, seen) for recovery in ("none", "reconstruct"))
    distilled = prune(agent, Method(recovery="distill"), 0.5, seen, loop=FakeLoop(), budget=Budget(200))
    for name in agent.components:
        assert plain.fidelity[name] < refitted.fidelity[name] < distilled.fidelity[name]
    # What is refitted are logits, whose number may be far when a layer drawn at random gives a hundred of them.
    assert min(refitted.fidelity[name] for name in ("encoder", "dynamics", "actor")) > 0.7
    assert distilled.integrity > 0.7
