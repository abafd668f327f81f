"""The baselines are Torch-Pruning's own, and methods are named without doubt."""

from __future__ import annotations

import copy

import pytest
import torch
import torch_pruning
from conftest import untrained
from test_plan import calibration

from pruning import Method, PruningError, prune, trace
from pruning.stock import _kept


@pytest.mark.parametrize("global_pruning", [True, False])
@pytest.mark.parametrize("ratio", [0.3, 0.6])
def test_what_is_kept_is_what_the_library_leaves(global_pruning: bool, ratio: float) -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(24, 18))
    graph = trace(controller)
    dataflow = controller.dataflow()
    example = (torch.randn(2, 3), torch.randn(2, 1))
    kept = _kept(dataflow, graph, example, ratio, global_pruning)
    # The library's way from start to end, on a copy it may cut.
    cut = copy.deepcopy(dataflow)
    heads = [cut.actor.mean, cut.actor.spread, cut.critic_0[4], cut.critic_1[4]]
    torch_pruning.BasePruner(
        cut, example, importance=torch_pruning.importance.MagnitudeImportance(p=2), global_pruning=global_pruning,
        pruning_ratio=ratio, ignored_layers=heads, output_transform=lambda outputs: list(outputs.values()),
    ).step()  # fmt: skip
    for layer, (_, output) in graph.layer_axes.items():
        if output[0].group is not None:
            original, left = dataflow.get_submodule(layer), cut.get_submodule(layer)
            assert left.out_features == len(kept[output[0].group])
            torch.testing.assert_close(left.bias, original.bias[list(kept[output[0].group])])


@pytest.mark.parametrize("grouping", ["stock-global", "stock-local"])
@pytest.mark.parametrize("sparsity", [0.3, 0.7])
def test_the_ratio_is_driven_until_parameters_are_gone(grouping: str, sparsity: float) -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(48, 48))
    method = Method(grouping, "magnitude", "uniform", "none")
    assert prune(controller, method, sparsity, calibration(controller)).plan.sparsity_total == pytest.approx(
        sparsity, abs=0.01 if grouping == "stock-global" else 0.02
    )


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
    with pytest.raises(PruningError, match="as it comes"):
        Method("stock-local", "surgeon")
