"""The baselines are Torch-Pruning's own, and methods are named without doubt."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
import torch_pruning
from conftest import untrained
from gymnasium import spaces
from test_plan import calibration
from torch import nn

from prunectl.agents import Controller
from prunectl.agents.tdmpc.controller import TDMPCController
from prunectl.agents.tdmpc.networks import build
from prunectl.agents.tdmpc.planner import Planning
from prunectl.pruning import Ask, Method, PruningError, PruningPlan, Schedule, prune, trace
from prunectl.pruning.grouping import GROUPINGS
from prunectl.pruning.method import LIBRARIES
from prunectl.pruning.stock import _between_neighbours, _Pruner, _Step, cut_in_place, stock_plan

LIBRARYS_OWN = {
    "magnitude": torch_pruning.importance.MagnitudeImportance(p=2),
    "lamp": torch_pruning.importance.LAMPImportance(),
    "fpgm": torch_pruning.importance.FPGMImportance(),
}


def units_gone(pruner: torch_pruning.BasePruner, dataflow: nn.Module) -> dict[str, set[int]]:
    """The units that a pruner of the library's own would take, by the layer that writes them."""
    path_of = {id(module): path for path, module in dataflow.named_modules()}
    return {path_of[id(group[0].dep.target.module)]: set(group[0].idxs) for group in pruner.step(interactive=True)}


@pytest.mark.parametrize(("global_pruning", "isomorphic"), [(True, False), (False, False), (True, True)])
@pytest.mark.parametrize(
    ("importance", "ratio"), [("magnitude", 0.3), ("magnitude", 0.6), ("lamp", 0.5), ("fpgm", 0.5)]
)
def test_what_is_kept_is_what_the_library_leaves(
    global_pruning: bool, isomorphic: bool, importance: str, ratio: float
) -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(24, 18))
    graph = trace(controller)
    dataflow = controller.dataflow()
    example = (torch.randn(2, 3), torch.randn(2, 1))
    kept = _Pruner.of(controller, graph, example, importance, 0, global_pruning, isomorphic).kept(ratio, graph.groups)
    # The library's way from start to end, on a copy it may cut.
    cut = copy.deepcopy(dataflow)
    heads = [cut.actor.mean, cut.actor.spread, cut.critic_0[4], cut.critic_1[4]]
    torch_pruning.BasePruner(
        cut, example, importance=LIBRARYS_OWN[importance], global_pruning=global_pruning, isomorphic=isomorphic,
        pruning_ratio=ratio, ignored_layers=heads,
        output_transform=lambda outputs: list(outputs.values()),
    ).step()  # fmt: skip
    for layer, (_, output) in graph.layer_axes.items():
        if output[0].group is not None:
            original, left = dataflow.get_submodule(layer), cut.get_submodule(layer)
            assert left.out_features == len(kept[output[0].group])
            torch.testing.assert_close(left.bias, original.bias[list(kept[output[0].group])])


@pytest.mark.parametrize(
    ("name", "normalizer"), [("max", "max"), ("sum", "sum"), ("gaussian", "gaussian"), ("raw", None)]
)
def test_a_global_ranking_goes_by_the_normaliser_of_its_name(name: str, normalizer: str | None) -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(40, 6))
    graph, dataflow = trace(controller), controller.dataflow()
    example = (torch.randn(2, 3), torch.randn(2, 1))
    theirs = torch_pruning.BasePruner(
        dataflow, example, importance=torch_pruning.importance.MagnitudeImportance(p=2, normalizer=normalizer),
        global_pruning=True, pruning_ratio=0.4, output_transform=lambda outputs: list(outputs.values()),
        ignored_layers=[dataflow.actor.mean, dataflow.actor.spread, dataflow.critic_0[4], dataflow.critic_1[4]],
    )  # fmt: skip
    gone = units_gone(theirs, dataflow)
    ours, usual = (
        _Pruner.of(controller, graph, example, "magnitude", 0, True, False, normalizer=own).kept(0.4, graph.groups)
        for own in (normalizer, "mean")
    )
    for layer, (_, output) in graph.layer_axes.items():
        if (group := output[0].group) is not None:
            assert set(range(graph.groups[group].units)) - set(ours[group]) == gone.get(layer, set())
    assert ours != usual
    plan = GROUPINGS[f"stock-global-{name}"].plan
    assert plan is not None
    asked = stock_plan(controller, graph, example, Ask(0.5), global_pruning=True, normalizer=normalizer)
    assert plan(controller, graph, example, Ask(0.5), "magnitude", 0) == asked
    assert asked != stock_plan(controller, graph, example, Ask(0.5), global_pruning=True)


def test_every_form_of_group_loses_the_same_share_under_isomorphic_pruning() -> None:
    # A world model has three forms: the latent, which everyone reads or writes; the critics' first layers, which are
    # normalised; and all the other layers.
    torch.manual_seed(0)
    networks = build(3, 1, latent=10, encoder=20, hidden=20)
    online = networks.online
    # Drawn orthogonal, or zero, units would weigh the same, and rounding would say how many pass the threshold.
    for layer in online.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight)
    box = spaces.Box(-1.0, 1.0, (3,)), spaces.Box(-1.0, 1.0, (1,))
    controller = TDMPCController(networks, Planning(), 1, 1.0, *box)
    graph = trace(controller)
    inputs = controller.inputs(np.zeros((2, 3), dtype=np.float32), np.zeros((2, 1), dtype=np.float32))

    def widths(isomorphic: bool) -> dict[str, int]:
        kept = _Pruner.of(controller, graph, inputs, "magnitude", 0, True, isomorphic).kept(0.3, graph.groups)
        return {name: len(units) for name, units in kept.items()}

    forms = widths(True)
    others = {name for name in forms if "->" not in name and name not in ("critic.0/0", "critic.1/0")}
    assert forms[graph.flows[0]] == 7
    assert forms["critic.0/0"] + forms["critic.1/0"] == 28
    assert sum(forms[name] for name in others) == pytest.approx(0.7 * 20 * len(others), abs=1)
    assert len({forms[name] for name in others}) > 1  # one ranking for all of them, not one each
    assert widths(False)[graph.flows[0]] != 7


@pytest.mark.parametrize("sparsity", [0.3, 0.7])
def test_isomorphic_pruning_meets_the_asked_sparsity(sparsity: float) -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(48, 48))
    inputs = controller.inputs(np.zeros((2, 3), dtype=np.float32), np.zeros((2, 1), dtype=np.float32))
    plan = stock_plan(controller, trace(controller), inputs, Ask(sparsity), global_pruning=True, isomorphic=True)
    assert plan.sparsity_total == pytest.approx(sparsity, abs=0.02)


@pytest.mark.parametrize("grouping", ["stock-global", "stock-local"])
@pytest.mark.parametrize("sparsity", [0.3, 0.7])
def test_the_ratio_is_driven_until_parameters_are_gone(grouping: str, sparsity: float) -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(48, 48))
    method = Method(grouping, "magnitude", "uniform", "none")
    assert prune(controller, method, sparsity, calibration(controller)).plan.sparsity_total == pytest.approx(
        sparsity, abs=0.01 if grouping == "stock-global" else 0.02
    )


def small_plan(sparsity: float, *, global_pruning: bool, isomorphic: bool = False) -> PruningPlan:
    """Of PPO on CartPole with two layers of 8 units under actor and value: at width w they have 2w2 + 15w + 3."""
    controller = untrained("ppo", "CartPole-v1", widths=(8, 8))
    inputs = controller.inputs(np.zeros((2, 4), dtype=np.float32), np.zeros(2, dtype=np.int64))
    form = {"global_pruning": global_pruning, "isomorphic": isomorphic}
    return stock_plan(controller, trace(controller), inputs, Ask(sparsity), **form)


def test_between_two_steps_the_nearer_one_is_taken() -> None:
    # A unit from every layer at once: 251, 206, 165, ... parameters, sparsities 0, 0.179, 0.343, ...
    assert small_plan(0.25, global_pruning=False).params_pruned == 206
    assert small_plan(0.27, global_pruning=False).params_pruned == 165


@pytest.mark.parametrize(("global_pruning", "isomorphic"), [(True, False), (False, False), (True, True)])
@pytest.mark.parametrize("sparsity", [0.95, 0.999])
def test_what_lies_beyond_the_last_step_is_refused(sparsity: float, global_pruning: bool, isomorphic: bool) -> None:
    # Locally the last step leaves 20 of 251 parameters, less than one step of 47 away from what is asked.
    nearest = r"0\.920$" if not global_pruning else r"0\.\d+$"
    with pytest.raises(PruningError, match=f"cannot reach sparsity {sparsity:g}: the nearest it gives is {nearest}"):
        small_plan(sparsity, global_pruning=global_pruning, isomorphic=isomorphic)


@pytest.mark.parametrize("grouping", LIBRARIES)
def test_a_librarys_pruner_knows_no_least_width(grouping: str) -> None:
    controller = untrained("ppo", "CartPole-v1", widths=(8, 8))
    method = Method.of(grouping, recovery="none")
    with pytest.raises(PruningError, match=f"'{grouping}' knows no least width: min_width must be 1, not 4"):
        prune(controller, method, 0.5, calibration(controller), min_width=4)


def test_neighbouring_steps_differ_by_a_unit_a_layer_and_none_comes_back() -> None:
    def step(ratio: float, achieved: float, *widths: int) -> _Step:
        return _Step(ratio, {str(layer): tuple(range(width)) for layer, width in enumerate(widths)}, achieved)

    below = step(0.5, 0.4, 4, 4)
    assert _between_neighbours([step(0.6, 0.6, 3, 4), below], 0.5)
    assert _between_neighbours([below, step(0.6, 0.6, 3, 3)], 0.5)
    assert _between_neighbours([below, step(0.6, 0.5, 3, 3)], 0.5)
    for above in (step(0.6, 0.6, 2, 4), step(0.6, 0.6, 3, 8), step(0.4, 0.6, 3, 4), step(0.6, 0.45, 3, 4)):
        assert not _between_neighbours([below, above], 0.5)
    # Next to each other means that nothing lies between.
    assert not _between_neighbours([below, step(0.55, 0.1, 4, 8), step(0.6, 0.6, 3, 4)], 0.5)


@pytest.mark.parametrize(
    "family",
    [
        ("crossq", "Pendulum-v1", {}),
        ("sac", "Pendulum-v1", {"use_sde": True}),
        ("td3", "Pendulum-v1", {"encoder": (12, 12)}),
        ("ppo", "CartPole-v1", {}),
    ],
)
def test_every_family_passes_through_the_library(family: tuple[str, str, dict]) -> None:  # type: ignore[type-arg]
    controller = untrained(family[0], family[1], widths=(32, 32), **family[2])
    plan = prune(controller, Method("stock-global", "magnitude", "uniform", "none"), 0.5, calibration(controller)).plan
    assert plan.sparsity_total == pytest.approx(0.5, abs=0.02)


def test_method_names() -> None:
    assert Method().label == "component + surgeon + distill"
    assert Method("stock-global", "magnitude", "uniform", "none").label == "stock-global"
    with pytest.raises(PruningError, match="unknown grouping 'componnet': did you mean 'component'"):
        Method(grouping="componnet")
    with pytest.raises(PruningError, match="unknown recovery 'magic'"):
        Method(recovery="magic")
    assert Method("stock-global", "taylor", "uniform", "none").label == "stock-global + taylor"
    with pytest.raises(
        PruningError, match=r"takes importance 'magnitude', 'taylor', .* or 'random' and .* not 'surgeon'"
    ):
        Method("stock-local", "surgeon")
    with pytest.raises(PruningError, match=r"takes importance 'magnitude' and allocation 'uniform', not 'lamp'"):
        Method("unstructured", "lamp", "uniform", "none")


def test_the_library_cuts_what_it_is_given_and_spares_the_outputs() -> None:
    dataflow = copy.deepcopy(untrained("sac", "Pendulum-v1", widths=(24, 18)).dataflow())
    cut_in_place(
        dataflow, trace(untrained("sac", "Pendulum-v1", widths=(24, 18))), (torch.zeros(2, 3), torch.zeros(2, 1)), 0.5
    )
    widths = [layer.out_features for layer in dataflow.modules() if isinstance(layer, nn.Linear)]
    assert sorted(widths) == sorted([12, 9, 1, 1] + 2 * [12, 9, 1])


# Driven by who knows it


def group_by_hand(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Torch-Pruning's reduction and normaliser as they come: the mean over a group's layers, over that of its units."""
    mean = (rows.sum(dim=1) + columns.sum(dim=0)) / 2
    return mean / mean.mean()


@pytest.mark.parametrize("importance", ["taylor", "hessian"])
def test_gradients_are_of_the_outputs_and_of_all_rows(importance: str) -> None:
    """One hidden layer, one linear output o over its deviation: a row's gradients are those of o, whatever the sign."""
    torch.manual_seed(0)
    first, last = nn.Linear(3, 6), nn.Linear(6, 1)
    networks = {"actor": nn.Sequential(first, nn.Tanh(), last)}
    controller = Controller.of(networks, lambda of, x: {"actor": of["actor"](x)}, lambda of, x: of["actor"](x), 3)
    rows = torch.randn(8, 3)
    hidden = torch.tanh(first(rows))
    scale = last(hidden).std(correction=0)
    slope = (1 - hidden**2) * last.weight / scale
    by_first = torch.einsum("nu,ni->nui", slope, rows)
    squares_first, squares_last = (by_first**2).mean(dim=0), (hidden**2 / scale**2).mean(dim=0)
    if importance == "taylor":
        expected = group_by_hand(first.weight.abs() * squares_first.sqrt(), last.weight.abs() * squares_last.sqrt())
    else:
        expected = group_by_hand(first.weight**2 * squares_first, last.weight**2 * squares_last)
    order = expected.argsort().tolist()
    graph = trace(controller)
    pruner = _Pruner.of(controller, graph, (rows,), importance, 0, True, False)
    for gone in range(1, 6):
        (kept,) = pruner.kept((gone - 0.5) / 6, graph.groups).values()
        assert kept == tuple(sorted(order[gone:]))
    assert all(parameter.grad is None for parameter in controller.networks.parameters())


def test_magnitude_is_what_the_library_calls_group_norm() -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(24, 18))
    graph, dataflow = trace(controller), controller.dataflow()
    example = (torch.randn(2, 3), torch.randn(2, 1))
    theirs = torch_pruning.pruner.GroupNormPruner(
        dataflow, example, torch_pruning.importance.GroupMagnitudeImportance(p=2), global_pruning=True,
        pruning_ratio=0.4, output_transform=lambda outputs: list(outputs.values()),
        ignored_layers=[dataflow.actor.mean, dataflow.actor.spread, dataflow.critic_0[4], dataflow.critic_1[4]],
    )  # fmt: skip
    gone = units_gone(theirs, dataflow)
    kept = _Pruner.of(controller, graph, example, "magnitude", 0, True, False).kept(0.4, graph.groups)
    assert sum(map(len, gone.values())) > 20
    for path, units in gone.items():
        (group,) = {segment.group for segment in graph.layer_axes[path][1]}
        assert units == set(range(graph.dense[str(group)])) - set(kept[str(group)])


@pytest.mark.parametrize("grouping", ["stock-global", "stock-local", "unstructured"])
@pytest.mark.parametrize(
    ("said", "acting"), [({"deployed": 0.6}, ("encoder", "actor")), ({"actor": 0.6, "flow": 0}, ("actor",))]
)
def test_only_what_acts_is_pruned_where_only_that_is_asked(
    grouping: str, said: dict[str, float], acting: tuple[str, ...]
) -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(32, 32), encoder=(24, 16))
    plan = prune(controller, Method.of(grouping, recovery="none"), said, calibration(controller)).plan
    dense, pruned = (
        sum(getattr(plan.components[name], counted) for name in acting) for counted in ("params_dense", "params_pruned")
    )
    assert 1 - pruned / dense == pytest.approx(0.6, abs=0.03)
    for name in ("critic.0", "critic.1"):
        assert plan.components[name].widths_pruned == plan.components[name].widths_dense


def test_random_units_are_the_seeds() -> None:
    controller = untrained("ppo", "CartPole-v1", widths=(16, 16))
    data, method = calibration(controller), Method("stock-local", "random", "uniform", "none")
    kept = [prune(controller, method, 0.5, data, seed=seed).plan.kept for seed in (1, 1, 2)]
    assert kept[0] == kept[1] != kept[2]


# In steps


def half_dead(controller: Controller, dead: int) -> None:
    """Let the last units of the actor's second layer never fire, so that by gradients they all score zero."""
    layer = controller.networks.get_submodule("actor.latent_pi.2")
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight[-dead:] = 0.0
        layer.bias[-dead:] = -1.0


def test_a_level_within_a_jump_is_passed_over_and_the_last_one_is_met() -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(48, 48))
    half_dead(controller, 24)
    method = Method("stock-global", "taylor", "uniform", "none")
    data = calibration(controller)
    with pytest.raises(PruningError, match=r"cannot reach sparsity 0\.2 of 'deployed': the nearest"):
        prune(controller, method, {"deployed": 0.2}, data)
    in_steps = prune(controller, method, {"deployed": 0.8}, data, schedule=Schedule(4, "linear"))
    assert in_steps.plan.sparsity_deployed == pytest.approx(0.8, abs=0.01)
    inputs = controller.inputs(data.observations, data.actions)
    level = Ask(None, (("deployed", 0.2),), math.inf)
    on_the_way = stock_plan(controller, trace(controller), inputs, level, "taylor", global_pruning=True)
    assert on_the_way.sparsity_deployed <= 0.2
    assert on_the_way.widths["actor/1"] == 48


def test_a_later_step_comes_as_near_in_parameters_as_one_would() -> None:
    """At a tenth of what there was, a tolerance of what is left is ten times that of the whole."""
    controller = untrained("sac", "Pendulum-v1", widths=(48, 48))
    method = Method("component", "magnitude", "uniform", "none")
    small = prune(controller, method, 0.9, calibration(controller)).controller
    ask = Ask(0.95).relative(trace(controller), trace(small))
    assert ask.overall == pytest.approx(0.5, abs=0.03)
    assert ask.within == pytest.approx(0.05, rel=0.06)
