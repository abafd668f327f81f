"""Every kind of layer that can be pruned, and what is refused: the rows of docs/kinds.md."""

from __future__ import annotations

import copy
from importlib import import_module
from pathlib import Path
from typing import Any

import kinds
import numpy as np
import pytest
import torch
import torch_pruning
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import KNOWN, REFUSED, Fake, Known, Refused, example
from torch import nn

from prunectl.pruning import Method, PruningError, apply, reconstruct, trace
from prunectl.pruning.dataflow_run import products_of, read
from prunectl.pruning.fidelity import fidelities
from prunectl.pruning.graph import ComponentGraph, axis_width, columns
from prunectl.pruning.importance import score
from prunectl.pruning.pipeline import plan_for
from prunectl.pruning.plan import describe, uncut
from prunectl.pruning.recovery.pupil import outputs_of, products_called

reconstruction: Any = import_module("prunectl.pruning.recovery.reconstruct")
known_kinds = pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.kind)


def built(known: Known) -> tuple[Fake, ComponentGraph]:
    torch.manual_seed(0)
    controller = Fake(known.make().eval(), known.shape)
    return controller, trace(controller)


def halves(graph: ComponentGraph) -> dict[str, tuple[int, ...]]:
    """Every second unit."""
    return {name: tuple(range(0, group.units, 2)) for name, group in graph.groups.items()}


@known_kinds
def test_units_are_what_the_table_says(known: Known) -> None:
    controller, graph = built(known)
    assert tuple(group.units for group in graph.groups.values()) == known.groups
    with torch.no_grad():
        plain = controller.networks(*example(known))["actor"]
        kept = apply(uncut(graph), controller, graph).networks(*example(known))["actor"]
        seen = read(controller.networks, example(known)).results["actor"]
    assert torch.equal(plain, kept)
    torch.testing.assert_close(seen, plain)  # a recurrent layer is looked at step by step
    plan = describe(graph, halves(graph), 0.5)
    small = apply(plan, controller, graph)
    assert small.parameters() == plan.params_pruned < controller.parameters()
    assert small.networks(*example(known))["actor"].shape == plain.shape
    assert trace(small).dense == {name: len(units) for name, units in halves(graph).items()}
    assert trace(small).deployed_macs(trace(small).dense) == plan.macs_deployed


@known_kinds
def test_units_that_nothing_reads_leave_without_a_trace(known: Known) -> None:
    if known.statistics:
        pytest.skip("what is left is normalised by itself")
    controller, graph = built(known)
    silence(controller.networks, graph)
    small = apply(describe(graph, halves(graph), 0.5), controller, graph)
    seen = example(known)
    torch.testing.assert_close(small.networks(*seen)["actor"], controller.networks(*seen)["actor"])


def silence(networks: nn.Module, graph: ComponentGraph) -> None:
    """Zero what reads every second unit."""
    products = products_of(networks)
    for name, group in graph.groups.items():
        for layer in group.consumers:
            matrix, where = products[layer].matrix().clone(), columns(graph.layer_axes[layer][0], name)
            indices = np.arange(group.units) + where.start if isinstance(where, slice) else where
            matrix[:, np.ravel(indices[1::2])] = 0.0
            bias = products[layer].bias()
            products[layer].write(matrix, torch.zeros(()) if bias is None else bias.clone())


@known_kinds
def test_units_that_say_what_others_say_are_made_up_for(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    # Means over random channels hardly move, and the usual ridge would keep them from being fitted to the last.
    ridge = reconstruction.ridge
    monkeypatch.setattr(
        reconstruction, "ridge", lambda x, y, rows, _=None, intercept=True: ridge(x, y, rows, 1e-9, intercept)
    )
    controller, graph = built(known)
    repeat(controller.networks, graph)
    plan = describe(graph, halves(graph), 0.5)
    inputs = example(known, 400)
    small = apply(plan, controller, graph)
    refitted = reconstruct(small, controller, graph, plan, inputs)
    assert fidelities(refitted, controller, graph, plan, example(known, 50))["actor"] > 0.999
    whole = reconstruct(controller, controller, graph, uncut(graph), inputs)
    assert all(map(torch.equal, whole.networks.state_dict().values(), controller.networks.state_dict().values()))


def repeat(networks: nn.Module, graph: ComponentGraph) -> None:
    """Let every second unit be what the one before it is: its rows in what writes it, its entries, its columns of a
    table."""
    tensors = dict(networks.named_parameters()) | dict(networks.named_buffers())
    with torch.no_grad():
        for name, tensor in tensors.items():
            layer = networks.get_submodule(name.rpartition(".")[0])
            transposed = isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d) and tensor.dim() > 1
            row = isinstance(layer, nn.Embedding) or (tensor.dim() == 2 and len(tensor) == 1)
            dimension = -1 if row or isinstance(layer, kinds.Stacked) else 1 if transposed else 0
            axis = graph.tensors[name].axes[dimension] if tensor.dim() else ()
            for group in {segment.group for segment in axis} - {None}:
                where = columns(axis, str(group))
                units = graph.groups[str(group)].units
                indices = np.arange(units) + where.start if isinstance(where, slice) else where
                even, odd = (torch.as_tensor(np.ravel(indices[first::2])) for first in (0, 1))
                values = tensor.index_select(dimension, even[: len(odd)])
                tensor.index_copy_(dimension, odd, values)


@known_kinds
@pytest.mark.parametrize(
    "importance", ["magnitude", "taylor", "activation", "surgeon", "gradient", "fisher", "uncertainty"]
)
def test_every_importance_tells_a_unit_that_nothing_reads(known: Known, importance: str) -> None:
    controller, graph = built(known)
    silence(controller.networks, graph)
    scores = score(controller, graph, importance, example(known, 40))
    for name, group in graph.groups.items():
        assert np.isfinite(scores[name]).all()
        assert scores[name].shape == (group.units,)
        if importance in ("taylor", "activation", "surgeon") and group.units > 1:
            assert scores[name][1::2].max() <= scores[name][::2].min() + 1e-9


def test_members_of_a_stack_are_products_each_which_the_dataflow_calls() -> None:
    known = next(known for known in KNOWN if known.kind.endswith("baddbmm and bmm"))
    controller, graph = built(known)
    assert products_called(outputs_of(controller.networks, ["actor"])) == set(graph.layer_axes)
    products, stack = products_of(controller.networks), controller.networks.get_parameter("body.a.weights")
    torch.testing.assert_close(products["body.a.weights.3"].matrix(), stack[3].T)
    products["body.a.weights.3"].write(torch.full((8, 3), 7.0), torch.full((8,), 5.0))
    assert (stack[3] == 7).all()
    assert not (stack[2] == 7).any()
    assert (controller.networks.get_parameter("body.a.biases")[3] == 5).all()
    with pytest.raises(PruningError, match=r"layers alone, and 'body.a.weights' is a stack of matrices"):
        plan_for(controller, graph, Method("stock-global", "magnitude", "uniform", "none"), 0.5, example(known))


def test_an_activation_in_place_overwrites_nothing_that_was_seen() -> None:
    def scores(inplace: bool) -> dict[str, Any]:
        torch.manual_seed(0)
        body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace), nn.Conv2d(8, 4, 3), nn.ReLU(inplace), nn.Flatten())
        controller = Fake(kinds.Net(lambda m, x: m["c"](x), 4 * 4, c=body), (3, 6, 6))
        seen = torch.randn(32, 3, 6, 6, generator=torch.Generator().manual_seed(1)), torch.zeros(32, 2)
        return dict(score(controller, trace(controller), "fisher", seen))

    for one, other in zip(scores(True).values(), scores(False).values(), strict=True):
        np.testing.assert_allclose(one, other)


@pytest.mark.parametrize("known", [known for known in KNOWN if known.oracle], ids=lambda known: known.kind)
def test_torch_pruning_takes_the_same_with_a_unit(known: Known) -> None:
    controller, graph = built(known)
    for name, group in graph.groups.items():
        kept = {other: tuple(range(units)) for other, units in graph.dense.items()}
        ours = apply(describe(graph, kept | {name: kept[name][1:]}, 0.1), controller, graph)
        theirs = copy.deepcopy(controller.networks)
        path = group.producers[0]
        layer = theirs.get_submodule(path)
        linear = isinstance(layer, nn.Linear)
        prune: Any = torch_pruning.prune_linear_out_channels if linear else torch_pruning.prune_conv_out_channels
        where = columns(graph.layer_axes[path][1], name)
        assert isinstance(where, slice)
        dependencies = torch_pruning.DependencyGraph().build_dependency(
            theirs, example_inputs=example(known, 2), output_transform=lambda results: list(results.values())
        )
        dependencies.get_pruning_group(layer, prune, [where.start]).prune()
        assert {n: t.shape for n, t in theirs.state_dict().items()} == {
            n: t.shape for n, t in ours.networks.state_dict().items()
        }
        assert all(map(torch.equal, theirs.state_dict().values(), ours.networks.state_dict().values()))


@pytest.mark.parametrize("refused", REFUSED, ids=lambda refused: refused.kind)
def test_what_is_not_known_is_refused_by_name(refused: Refused) -> None:
    with pytest.raises(PruningError) as caught:
        trace(Fake(refused.make(), refused.shape))
    assert refused.message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_documented_table_is_the_tested_one() -> None:
    page = Path(__file__).parents[2] / "docs" / "kinds.md"
    assert page.read_text().strip() == kinds.table().strip(), "python tests/kinds.py > docs/kinds.md"


# Random architectures


class Random(nn.Module):
    """An encoder of convolutions, some with a norm, a residual or two branches side by side, shared by two heads."""

    def __init__(self, draw: st.DataObject) -> None:
        super().__init__()
        width = st.integers(2, 6)
        self.plan, layers, channels = [], {}, 2
        for number in range(draw.draw(st.integers(1, 3))):
            kind = draw.draw(st.sampled_from(["plain", "norm", "residual", "branches", "depthwise", "gated"]))
            out = channels if kind in ("residual", "depthwise") else draw.draw(width)
            wide = 2 * out if kind == "gated" else out
            groups = channels if kind == "depthwise" else 1
            layers[f"a{number}"] = nn.Conv2d(channels, wide, 3, padding=1, groups=groups, bias=draw.draw(st.booleans()))
            if kind == "norm":
                layers[f"n{number}"] = nn.BatchNorm2d(out)
            if kind == "branches":
                layers[f"b{number}"] = nn.Conv2d(channels, 3, 1)
            self.plan.append((kind, number))
            channels = out + 3 if kind == "branches" else out
        self.pooled = draw.draw(st.booleans())
        self.encoder = nn.ModuleDict(layers)
        features = channels if self.pooled else channels * 16
        self.actor = nn.Sequential(nn.Linear(features, draw.draw(width)), nn.Tanh())
        self.actor.append(nn.Linear(self.actor[0].out_features, 2))
        self.critic = nn.Sequential(nn.Linear(features + 2, 5), nn.ReLU(), nn.Linear(5, 1))

    def forward(self, observation: torch.Tensor, action: torch.Tensor) -> dict[str, torch.Tensor]:
        layers, values = self.encoder, observation
        for kind, number in self.plan:
            made = layers[f"a{number}"](values)
            if kind == "norm":
                made = layers[f"n{number}"](made)
            elif kind == "residual":
                made = made + values
            elif kind == "branches":
                made = torch.cat([made, layers[f"b{number}"](values)], dim=1)
            elif kind == "gated":
                made = nn.functional.glu(made, dim=1)
            values = torch.relu(made)
        features = values.mean(dim=(2, 3)) if self.pooled else values.flatten(1)
        return {"actor": self.actor(features), "critic": self.critic(torch.cat([features, action], dim=1))}


@settings(max_examples=25, deadline=None)
@given(draw=st.data())
def test_random_convolutional_controllers(draw: st.DataObject) -> None:
    networks = Random(draw).eval()
    controller = Fake(networks, (2, 4, 4))
    graph = trace(controller)
    seen = torch.randn(8, 2, 4, 4), torch.randn(8, 2)
    kept = {
        name: tuple(sorted(draw.draw(st.sets(st.integers(0, group.units - 1), min_size=1), label=name)))
        for name, group in graph.groups.items()
    }
    with torch.no_grad():
        whole = apply(uncut(graph), controller, graph).networks(*seen)
        assert all(torch.equal(values, whole[name]) for name, values in networks(*seen).items())
        products = products_of(networks)
        for name, group in graph.groups.items():
            gone = sorted(set(range(group.units)) - set(kept[name]))
            for layer in group.consumers:
                where = columns(graph.layer_axes[layer][0], name)
                indices = np.arange(group.units) + where.start if isinstance(where, slice) else where
                matrix, bias = products[layer].matrix().clone(), products[layer].bias()
                matrix[:, np.ravel(indices[gone])] = 0.0
                products[layer].write(matrix, torch.zeros(()) if bias is None else bias.clone())
        plan = describe(graph, kept, 0.5)
        small = apply(plan, controller, graph)
        assert small.parameters() == plan.params_pruned
        for tensor in graph.tensors.values():
            shape = tuple(axis_width(axis, plan.widths) for axis in tensor.axes)
            assert tuple(small.networks.state_dict()[tensor.name].shape) == shape
        for name, values in networks(*seen).items():
            torch.testing.assert_close(small.networks(*seen)[name], values, atol=1e-5, rtol=1e-4)
