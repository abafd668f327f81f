"""The picture of one controller says what its graph and its plan say."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunectl.experiments.cli import run
from prunectl.experiments.drawing.component_graph import controller_figure
from prunectl.pruning import trace
from prunectl.pruning.plan import describe, uncut
from prunectl.pruning.stock import stock_groups
from tests.conftest import untrained


def test_dense_stands_beside_pruned_with_parameters_widths_and_flows() -> None:
    agent = untrained("sac", "Pendulum-v1", widths=(8, 8), encoder=(10, 6))
    graph = trace(agent)
    (flow,) = graph.flows
    kept = {name: tuple(range(units // 2)) for name, units in graph.dense.items()}
    plan = describe(graph, kept, 0.5)
    figure = controller_figure("mine", graph, plan, stock_groups(agent, graph))
    dense, pruned, layers, sizes = figure.axes
    before, after = ([text.get_text() for text in axes.texts] for axes in (dense, pruned))
    assert before[:3] == ["encoder", f"{plan.components['encoder'].params_dense:,}", "10-6"]
    assert after[:3] == ["encoder", f"{plan.components['encoder'].params_pruned:,}", "5-3"]
    assert (before[-1], after[-1]) == ("6 units", "3 of 6 units")
    assert f"{plan.params_pruned:,} parameters" in pruned.get_title()
    # Of the arrows, the pruned flow's trunk is half as thick.
    assert pruned.lines[-1].get_linewidth() == dense.lines[-1].get_linewidth() / 2
    # Dashed: what only serves training.
    styles = {patch.get_linestyle() for patch in dense.patches if not patch.get_fill()}
    assert styles == {"-", "--"}
    bars = dict(zip(graph.groups, sizes.patches, strict=True))
    assert bars[flow].get_width() == graph.params_per_unit(flow)  # type: ignore[attr-defined]
    rings = dict(zip(layers.lines[0].get_ydata(), layers.lines[0].get_xdata(), strict=True))
    assert rings[list(graph.groups).index(flow)] == 4  # the encoder's last layer, and a first one of each reader


def test_the_observation_is_a_flow_from_outside() -> None:
    agent = untrained("ppo", "CartPole-v1", widths=(8, 8))
    graph = trace(agent, observed=True)
    kept = {name: tuple(range(units // 2)) for name, units in graph.dense.items()}
    dense, pruned, *_ = controller_figure("mine", graph, describe(graph, kept, 0.5), stock_groups(agent, graph)).axes
    for axes, said in ((dense, "4 units"), (pruned, "2 of 4 units")):
        texts = [text.get_text() for text in axes.texts]
        assert texts[0] == "observation"
        assert texts[-1] == said
    assert pruned.lines[-1].get_linewidth() == dense.lines[-1].get_linewidth() / 2


def test_a_dense_controller_without_flows_says_so() -> None:
    agent = untrained("sac", "Pendulum-v1", widths=(8, 8))
    graph = trace(agent)
    dense, beside, *_ = controller_figure("mine", graph, uncut(graph), stock_groups(agent, graph)).axes
    assert any("no flow" in text.get_text() for text in dense.texts)
    assert not beside.texts


def test_inspect_draws_and_does_not_overwrite_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mine"
    assert run(["inspect", "ppo-cartpole-1", "--figure", str(out)]) == 0
    assert (tmp_path / "mine.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "mine.png").is_file()
    assert run(["inspect", "ppo-cartpole-1", "--figure", str(out)]) == 2
    assert "mine.pdf" in capsys.readouterr().err
