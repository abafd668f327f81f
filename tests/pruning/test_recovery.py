"""Reconstruction and fidelity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import untrained
from test_plan import calibration
from test_trace import Fake, WorldModel

from prunectl.pruning import Method, apply, prune, reconstruct, trace
from prunectl.pruning.fidelity import fidelities, integrity
from prunectl.pruning.output_gradients import row_weights
from prunectl.pruning.plan import describe
from prunectl.pruning.recovery.reconstruct import ridge


def test_ridge_is_weighted_least_squares_with_a_free_intercept() -> None:
    generator = np.random.default_rng(0)
    inputs, targets = generator.normal(size=(50, 3)) + 2, generator.normal(size=(50, 2)) + 7
    rows = generator.uniform(0.1, 3, size=(50, 1))
    weight, bias = ridge(inputs, targets, rows, penalty=0)
    design = np.concatenate([inputs, np.ones((50, 1))], axis=1)
    expected = np.linalg.lstsq(design * np.sqrt(rows), targets * np.sqrt(rows), rcond=None)[0]
    np.testing.assert_allclose(weight, expected[:3], atol=1e-8)
    np.testing.assert_allclose(bias, expected[3], atol=1e-8)
    per_column = np.concatenate([rows, np.ones((50, 1))], axis=1)
    columns, _ = ridge(inputs, targets, per_column, penalty=0)
    np.testing.assert_allclose(columns[:, 0], expected[:3, 0], atol=1e-8)
    assert not np.allclose(columns[:, 1], expected[:3, 1])
    # However strong the penalty, an offset is never charged for.
    _, offset = ridge(inputs, targets, np.ones((50, 1)), penalty=1e9)
    np.testing.assert_allclose(offset, targets.mean(axis=0), atol=1e-5)


def test_redundant_units_are_replaced_exactly() -> None:
    """Each hidden unit twice: dropping one of each pair and refitting gives back the same outputs."""
    controller = untrained("ppo", "Pendulum-v1", widths=(16, 16))
    with torch.no_grad():
        for component in controller.components.values():
            first, second, third = (m for m in component.module.modules() if isinstance(m, torch.nn.Linear))
            for layer in (first, second):
                layer.weight[8:] = layer.weight[:8]
                layer.bias[8:] = layer.bias[:8]
            third.bias.uniform_(-1, 1)
    graph = trace(controller)
    plan = describe(graph, {name: tuple(range(8)) for name in graph.groups}, 0.5)
    data = calibration(controller, 300)
    inputs = controller.inputs(data.observations, data.actions)
    cut = apply(plan, controller, graph)
    refitted = reconstruct(cut, controller, graph, plan, inputs)
    assert integrity(fidelities(cut, controller, graph, plan, inputs)) < 0.9
    assert integrity(fidelities(refitted, controller, graph, plan, inputs)) > 0.9999


@pytest.mark.parametrize("algorithm", ["sac", "td3"])
def test_target_networks_hold_what_a_recovery_made_of_their_twins(algorithm: str) -> None:
    controller = untrained(algorithm, "Pendulum-v1", widths=(24, 24))
    with torch.no_grad():  # targets lag behind, and a recovery ends that
        for name, tensor in controller.networks.named_parameters():
            if "_target" in name:
                tensor.add_(0.1)
    data = calibration(controller, 200)
    for recovery, equal in (("none", False), ("reconstruct", True)):
        state = prune(controller, Method(recovery=recovery), 0.5, data).controller.networks.state_dict()
        targets = [name for name in state if "_target." in name]
        assert targets
        for name in targets:
            assert torch.equal(state[name], state[name.replace("_target.", ".")]) == equal, name


@pytest.mark.parametrize("algorithm", ["sac", "crossq", "ppo"])
def test_reconstruction_raises_fidelity_and_leaves_its_argument_alone(algorithm: str) -> None:
    controller = untrained(algorithm, "Pendulum-v1", widths=(24, 24), encoder=(12, 12))
    data = calibration(controller, 300)
    before = prune(controller, Method(recovery="none"), 0.5, data)
    after = prune(controller, Method(recovery="reconstruct"), 0.5, data)
    assert after.plan == before.plan
    assert after.integrity > before.integrity
    assert set(after.fidelity) == set(controller.components)


def test_a_world_model_is_reconstructed_through_its_latent() -> None:
    torch.manual_seed(0)
    controller = Fake(WorldModel(latent=8))
    data = calibration(controller, 400)
    before = prune(controller, Method(recovery="none"), 0.4, data)
    after = prune(controller, Method(recovery="reconstruct"), 0.4, data)
    assert after.integrity > before.integrity


def test_rows_where_the_action_saturates_count_for_little() -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(8,))
    actor = controller.components["actor"].module
    with torch.no_grad():
        actor.mean.weight.mul_(30)
    data = calibration(controller, 400)
    inputs = controller.inputs(data.observations, data.actions)
    weights = row_weights(controller.dataflow(), trace(controller), inputs)["actor.mean"][:, 0]
    pressed = np.abs(controller.act(data.observations)[:, 0]) / 2
    assert weights.mean() == pytest.approx(1.5, rel=1e-3)
    assert weights[pressed > 0.99].mean() < 0.6
    assert weights[pressed < 0.8].mean() > 2


def test_fidelity_by_hand() -> None:
    controller = untrained("ppo", "Pendulum-v1", widths=(4,))
    graph = trace(controller)
    plan = describe(graph, {name: tuple(range(4)) for name in graph.groups}, 0.0)
    data = calibration(controller)
    inputs = controller.inputs(data.observations, data.actions)
    assert fidelities(controller, controller, graph, plan, inputs) == {"actor": 1.0, "value": 1.0}
    mute = apply(plan, controller, graph)
    with torch.no_grad():
        values = controller.dataflow()(*inputs)["value"]
        head = mute.components["value"].module[1]
        head.weight.zero_()
        head.bias.copy_(values.mean())
    found = fidelities(mute, controller, graph, plan, inputs)
    assert found["value"] == pytest.approx(0, abs=1e-5)  # it says the mean and nothing else
    assert integrity(found) == found["value"]
