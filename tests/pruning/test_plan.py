"""Allocation, plan and surgery: hand-worked widths, and properties over random architectures."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from conftest import untrained
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_trace import Fake, WorldModel

from prunectl.agents import Controller
from prunectl.pruning import ALLOCATIONS, Calibration, Method, PruningError, PruningPlan, apply, make_plan, prune, trace
from prunectl.pruning.allocation import Damage, Widths, allocate
from prunectl.pruning.ask import TOLERANCE
from prunectl.pruning.graph import ComponentGraph
from prunectl.pruning.plan import uncut


def rising(graph: ComponentGraph) -> dict[str, np.ndarray]:
    """Scores by which unit 0 of each group is the cheapest."""
    return {name: np.arange(1, units + 1) / 100 for name, units in graph.dense.items()}


def made_up(graph: ComponentGraph, seed: int = 0) -> tuple[Damage, Callable[[Widths], float]]:
    """Damages as no measurement gives them, rising and falling, and an error to match."""
    generator = np.random.default_rng(seed)
    widths = {name: tuple(sorted({1, (units + 1) // 2, units})) for name, units in graph.dense.items()}
    errors = {name: (*generator.random(len(tried) - 1), 0.0) for name, tried in widths.items()}
    weight = dict(zip(graph.dense, generator.random(len(graph.dense)), strict=True))
    return Damage(widths, errors), lambda now: sum(weight[name] / width for name, width in now.items())


def calibration(controller: Controller, count: int = 60) -> Calibration:
    controller.observation_space.seed(1)
    controller.action_space.seed(1)
    seen = np.clip(np.stack([controller.observation_space.sample() for _ in range(count)]), -5, 5)
    actions = np.stack([controller.action_space.sample() for _ in range(count)])
    return Calibration(seen, actions, seen[:20], actions[:20])


# Allocation


def test_uniform_keeps_one_width_ratio_in_a_component_and_one_share_across() -> None:
    controller = untrained("sac", "Pendulum-v1", policy_kwargs={"net_arch": {"pi": [40, 20], "qf": [80, 80]}})
    graph = trace(controller)
    widths = allocate(graph, rising(graph), "component", "uniform", 0.5)
    shares = [graph.parameters(widths, c) / graph.parameters(graph.dense, c) for c in graph.components]
    assert shares == pytest.approx([0.5] * 3, abs=0.03)
    assert widths["actor/0"] / 40 == pytest.approx(widths["actor/1"] / 20, abs=0.06)
    assert widths["critic.0/0"] / 80 == pytest.approx(widths["critic.0/1"] / 80, abs=0.03)


def test_layer_scopes_keep_one_ratio_everywhere() -> None:
    controller = untrained("sac", "Pendulum-v1", policy_kwargs={"net_arch": {"pi": [40, 20], "qf": [80, 60]}})
    graph = trace(controller)
    widths = allocate(graph, rising(graph), "layer", "uniform", 0.6)
    ratio = widths["critic.0/0"] / 80
    assert all(abs(widths[name] - ratio * units) <= 1.5 for name, units in graph.dense.items())


def test_a_global_ranking_lets_one_component_pay_for_another() -> None:
    controller = untrained("ppo", "Pendulum-v1", widths=(32, 32))
    graph = trace(controller)
    scores = {name: np.full(32, 10.0 if name.startswith("actor") else 0.1) + np.arange(32) for name in graph.groups}
    widths = allocate(graph, scores, "global", "uniform", 0.4)
    assert widths["actor/0"] > 1.5 * widths["value/0"]
    same = allocate(graph, scores, "component", "uniform", 0.4)
    assert abs(same["actor/0"] - same["value/0"]) <= 1
    # Made comparable across scopes, the size of a component's scores alone no longer decides.
    fair = allocate(graph, {n: s * (100 if n.startswith("actor") else 1) for n, s in rising(graph).items()},
                    "component", "ranked", 0.4)  # fmt: skip
    assert abs(fair["actor/0"] - fair["value/0"]) <= 1


@pytest.mark.parametrize("grouping", ["global", "layer", "component"])
@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_twins_stay_equally_wide(grouping: str, allocation: str) -> None:
    graph = trace(untrained("sac", "Pendulum-v1", widths=(24, 24)))
    generator = np.random.default_rng(0)
    scores = {name: generator.random(units) for name, units in graph.dense.items()}
    widths = allocate(graph, scores, grouping, allocation, 0.6, 1, *made_up(graph))
    assert widths["critic.0/0"] == widths["critic.1/0"]
    assert widths["critic.0/1"] == widths["critic.1/1"]


def test_an_ask_that_cannot_be_met_names_the_scope_and_what_can() -> None:
    graph = trace(untrained("sac", "Pendulum-v1", widths=(4, 4)))
    with pytest.raises(PruningError, match=r"scope 'actor' reaches (0\.\d+) at most") as caught:
        allocate(graph, rising(graph), "component", "uniform", 0.95)
    highest = float(str(caught.value).split("reaches ")[1].split(" ")[0])
    allocate(graph, rising(graph), "component", "uniform", highest - 0.01)
    with pytest.raises(PruningError, match="3 units a layer"):
        allocate(graph, rising(graph), "component", "uniform", 0.5, min_width=3)


def test_an_encoder_without_hidden_layers_shrinks_with_its_flow() -> None:
    graph = trace(untrained("sac", "Pendulum-v1", widths=(32, 32), encoder=(24,)))
    widths = allocate(graph, rising(graph), "component", "uniform", 0.7)
    assert 1 - graph.parameters(widths) / graph.parameters(graph.dense) == pytest.approx(0.7, abs=TOLERANCE)
    assert widths["encoder->actor,critic.0,critic.1"] < 24


def test_one_component_at_a_time_leaves_the_others_dense() -> None:
    graph = trace(untrained("sac", "Pendulum-v1", widths=(32, 32), encoder=(24, 16)))
    widths = allocate(graph, rising(graph), "component", "uniform", {"critic.1": 0.8})
    assert {name for name, width in widths.items() if width < graph.dense[name]} == {"critic.1/0", "critic.1/1"}
    share = graph.parameters(widths, "critic.1") / graph.parameters(graph.dense, "critic.1")
    assert share == pytest.approx(0.2, abs=0.05)
    (flow,) = graph.flows
    assert allocate(graph, rising(graph), "component", "uniform", {flow: 0.75}) == {**graph.dense, flow: 4}
    # 1 of 16 units is 0.9375 of them gone.
    assert allocate(graph, rising(graph), "component", "uniform", {flow: 0.9375}) == {**graph.dense, flow: 1}
    with pytest.raises(PruningError, match=r"with 1 of its 16 units left, flow 'encoder->.*' reaches 0\.9375 at most"):
        allocate(graph, rising(graph), "component", "uniform", {flow: 0.95})
    with pytest.raises(PruningError, match=r"with 4 of its 16 units left, .* reaches 0\.75 at most"):
        allocate(graph, rising(graph), "component", "uniform", {flow: 0.8}, min_width=4)
    with pytest.raises(PruningError, match="unknown scope 'critc'"):
        allocate(graph, rising(graph), "component", "uniform", {"critc": 0.5})


# Plans


def test_a_plan_keeps_the_best_units_and_survives_json() -> None:
    graph = trace(untrained("sac", "Pendulum-v1", widths=(16, 16), encoder=(8, 8)))
    plan = make_plan(graph, rising(graph), sparsity=0.5)
    for name, kept in plan.kept.items():
        assert kept == tuple(range(graph.dense[name] - len(kept), graph.dense[name]))
    assert PruningPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert plan.sparsity_total == pytest.approx(0.5, abs=TOLERANCE)


def test_printing_a_plan_says_what_goes() -> None:
    graph = trace(untrained("sac", "Pendulum-v1", widths=(16, 16), encoder=(8, 8)))
    text = str(make_plan(graph, rising(graph), sparsity=0.5))
    assert "16-16-1-1 -> " in text
    assert "couples encoder, actor, critic.0, critic.1" in text
    assert "asked 0.5" in text
    lines = text.split("\n")
    assert [line.split()[0] for line in lines[1:-1]] == ["encoder", "actor", "critic.0", "critic.1"]
    assert [line.split("  ")[-1] for line in lines[1:-1]] == ["deployed"] * 2 + ["training only"] * 2


def test_a_plan_that_cuts_nothing_of_what_acts_says_so() -> None:
    graph = trace(untrained("sac", "Pendulum-v1", policy_kwargs={"net_arch": {"pi": [], "qf": [32]}}))
    plan = make_plan(graph, rising(graph), sparsity=0.8)
    assert plan.sparsity_deployed == 0 < plan.sparsity_total
    assert plan.remark is not None
    assert "nothing of what acts is cut: all that goes is of critic.0, critic.1," in plan.remark
    assert str(plan).endswith(plan.remark)
    assert uncut(graph).remark is None
    whole = trace(untrained("sac", "Pendulum-v1", widths=(16, 16)))
    assert make_plan(whole, rising(whole), sparsity=0.5).remark is None
    assert make_plan(whole, rising(whole), sparsity={"actor": 0.5}).remark is None
    assert "of critic.1," in (make_plan(whole, rising(whole), sparsity={"critic.1": 0.5}).remark or "")


def test_a_plan_for_another_controller_is_refused() -> None:
    one, other = untrained("ppo", "CartPole-v1", widths=(16,)), untrained("ppo", "CartPole-v1", widths=(12,))
    plan = make_plan(trace(one), rising(trace(one)), sparsity=0.3)
    with pytest.raises(PruningError, match="another controller"):
        apply(plan, other, trace(other))


@pytest.mark.parametrize("sparsity", [1.0, -0.1, 1.5])
def test_sparsities_outside_are_refused(sparsity: float) -> None:
    controller = untrained("ppo", "CartPole-v1")
    with pytest.raises(PruningError, match=r"outside \[0, 1\)"):
        prune(controller, Method(recovery="reconstruct"), sparsity, calibration(controller))


def test_zero_sparsity_leaves_actions_bit_identical() -> None:
    controller = untrained("sac", "Pendulum-v1", use_sde=True)
    for grouping, importance in [("component", "surgeon"), ("stock-global", "magnitude"), ("global", "taylor")]:
        method = Method(grouping, importance, "uniform", "reconstruct")
        small = prune(controller, method, 0.0, calibration(controller)).controller
        seen = calibration(controller).observations
        np.testing.assert_array_equal(small.act(seen), controller.act(seen))


# Surgery

ARCHITECTURES = st.fixed_dictionaries(
    {
        "algorithm": st.sampled_from(["sac", "td3", "tqc", "crossq", "ppo", "a2c"]),
        "widths": st.lists(st.integers(1, 20), min_size=1, max_size=3).map(tuple),
        "encoder": st.lists(st.integers(1, 12), max_size=2).map(tuple),
        "gsde": st.booleans(),
        "seed": st.integers(0, 3),
    }
)


def build(architecture: dict[str, Any]) -> Controller:
    extra = {"use_sde": True} if architecture["gsde"] and architecture["algorithm"] not in ("td3",) else {}
    return untrained(
        architecture["algorithm"], "Pendulum-v1", architecture["widths"], architecture["encoder"],
        architecture["seed"], **extra,
    )  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    architecture=ARCHITECTURES,
    grouping=st.sampled_from(["global", "layer", "component", "bounded"]),
    allocation=st.sampled_from(ALLOCATIONS.builtin),
    sparsity=st.floats(0.05, 0.97),
    min_width=st.integers(1, 3),
    seed=st.integers(0, 10_000),
)
def test_plans_meet_what_is_asked_and_surgery_does_what_they_say(
    architecture: dict[str, Any], grouping: str, allocation: str, sparsity: float, min_width: int, seed: int
) -> None:
    controller = build(architecture)
    graph = trace(controller)
    generator = np.random.default_rng(seed)
    scores = {name: generator.random(units) for name, units in graph.dense.items()}
    try:
        damage, error = made_up(graph, seed)
        plan = make_plan(graph, scores, grouping, allocation, sparsity, min_width, damage=damage, error=error)
    except PruningError:
        narrowest = {name: min(min_width, units) for name, units in graph.dense.items()}
        reached = [1 - graph.parameters(narrowest, c) / graph.parameters(graph.dense, c) for c in graph.components]
        whole = 1 - graph.parameters(narrowest) / graph.parameters(graph.dense)
        assert sparsity > min([whole, *reached])
        return
    finest = max(sum(graph.params_per_unit(n) for n in tie) for tie in [*graph.ties, *((n,) for n in graph.groups)])
    slack = max(TOLERANCE, finest / graph.parameters(graph.dense))
    assert abs(plan.sparsity_total - sparsity) <= slack + 1e-9
    assert all(min(min_width, graph.dense[n]) <= len(kept) <= graph.dense[n] for n, kept in plan.kept.items())

    before = {name: tensor.clone() for name, tensor in controller.networks.state_dict().items()}
    small = apply(plan, controller, graph)
    for name, tensor in controller.networks.state_dict().items():
        assert torch.equal(tensor, before[name]), f"surgery touched the dense {name}"
    assert small.parameters() == plan.params_pruned
    assert trace(small).dense == plan.widths
    for online, target in controller.mirrors.items():
        shapes = {name: tensor.shape for name, tensor in small.networks.state_dict().items()}
        for name, shape in shapes.items():
            if name.startswith(online):
                assert shapes[target + name.removeprefix(online)] == shape


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(architecture=ARCHITECTURES, sparsity=st.floats(0.1, 0.8), seed=st.integers(0, 10_000))
def test_surgery_equals_silencing_the_units_in_the_dense_network(
    architecture: dict[str, Any], sparsity: float, seed: int
) -> None:
    """Cutting a unit is the same as setting every weight that reads it to zero."""
    controller = build(architecture)
    graph = trace(controller)
    generator = np.random.default_rng(seed)
    kept = {
        name: tuple(sorted(generator.choice(units, max(1, round((1 - sparsity) * units)), replace=False).tolist()))
        for name, units in graph.dense.items()
    }
    from prunectl.pruning.plan import describe

    small = apply(describe(graph, kept, sparsity), controller, graph)
    with torch.no_grad():
        silenced = controller.dataflow()
        for layer, (inputs, _) in graph.layer_axes.items():
            start = 0
            for segment in inputs:
                if segment.group is not None:
                    gone = [start + unit for unit in range(segment.units) if unit not in kept[segment.group]]
                    silenced.get_submodule(layer).weight[:, gone] = 0
                start += segment.units
        data = calibration(controller, 10)
        tensors = controller.inputs(data.observations, data.actions)
        expected, found = silenced(*tensors), small.dataflow()(*tensors)
    for name in found:
        if found[name].shape == expected[name].shape:
            torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)


def test_a_world_models_latent_is_cut_everywhere_at_once() -> None:
    controller = Fake(WorldModel(latent=8))
    graph = trace(controller)
    plan = make_plan(graph, rising(graph), sparsity=0.4)
    small = apply(plan, controller, graph)
    (flow,) = graph.flows
    latent = len(plan.kept[flow])
    assert latent < 8
    assert small.networks.encoder[2].out_features == latent
    assert small.networks.dynamics[2].out_features == latent
    assert small.networks.dynamics[0].in_features == latent + 2
    assert small.networks.reward[1].normalized_shape == (len(plan.kept["reward/0"]),)
    small.networks(torch.randn(4, 3), torch.randn(4, 2))
