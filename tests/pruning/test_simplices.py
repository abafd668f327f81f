"""TD-MPC2 is pruned by every method: whole simplices leave the latent, and critics stay alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_distill import FakeLoop
from test_plan import calibration

from prunectl.agents.tdmpc.controller import TDMPCController
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


@pytest.mark.slow
def test_refitting_brings_the_outputs_back_and_distilling_more_of_them() -> None:
    agent = planner()
    seen = calibration(agent, 200)
    plain, refitted = (prune(agent, Method(recovery=recovery), 0.5, seen) for recovery in ("none", "reconstruct"))
    distilled = prune(agent, Method(recovery="distill"), 0.5, seen, loop=FakeLoop(), budget=Budget(200))
    for name in agent.components:
        assert plain.fidelity[name] < refitted.fidelity[name] < distilled.fidelity[name]
    assert refitted.integrity > 0.7
