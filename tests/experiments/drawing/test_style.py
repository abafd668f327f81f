"""Looks: each method's own, and the same whatever is drawn beside it."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from plotly.graph_objects import Scatter

from prunectl.experiments.drawing.canvas import save
from prunectl.experiments.drawing.style import COLOURS, FLOW, LOOK, Look, component_colour, look
from prunectl.pruning import ALLOCATIONS, GROUPINGS, IMPORTANCES, RECOVERIES, Method
from prunectl.pruning.errors import PruningError
from tests.conftest import FONTS


def every_method() -> list[Method]:
    found = []
    for names in product(GROUPINGS, IMPORTANCES, ALLOCATIONS, RECOVERIES):
        try:
            found.append(Method(*names))
        except PruningError:
            continue
    return found


def test_no_two_methods_look_alike_in_matplotlib_or_plotly() -> None:
    looks = [look(method) for method in every_method()]
    assert len({(own.colour, own.marker, str(own.dash)) for own in looks}) == len(looks)
    assert len({(own.colour, own.symbol, own.plotly_dash) for own in looks}) == len(looks)


def test_both_libraries_take_every_look() -> None:
    for method in every_method():
        own = look(method)
        Line2D([], [], **own.line)
        Scatter(line={"color": own.colour, "dash": own.plotly_dash}, marker={"symbol": own.symbol})


def test_colour_and_marker_say_what_is_cut_and_dashes_how_it_is_recovered() -> None:
    bare, refitted, taught = (look(Method(recovery=name)) for name in ("none", "reconstruct", "distill"))
    assert (bare.colour, bare.marker) == (refitted.colour, refitted.marker) == (taught.colour, taught.marker)
    assert len({str(own.dash) for own in (bare, refitted, taught)}) == 3
    assert len({bare.fill, refitted.fill, taught.fill}) == 3
    assert (bare.fill, taught.fill) == ("#FFFFFF", taught.colour)
    assert bare.symbol == f"{refitted.symbol}-open"
    other = look(Method("global", "magnitude", recovery="reconstruct"))
    assert other.dash == refitted.dash
    assert (other.colour, other.marker) != (refitted.colour, refitted.marker)


def test_the_methods_compared_most_differ_in_colour_and_in_marker() -> None:
    """Those of the paper's figure, the baselines among them: without one of the two they are still told apart."""
    looks = [
        look(Method.of(grouping, importance, allocation, "none"))
        for grouping, importance, allocation in (
            ("stock-global", None, "uniform"),
            ("stock-local", None, "uniform"),
            ("component", "surgeon", "uniform"),
            ("component", "activation", "ranked"),
            ("global", "surgeon", "uniform"),
            ("component", "magnitude", "uniform"),
        )
    ]
    assert len({own.colour for own in looks}) == len({own.marker for own in looks}) == len(looks)


def test_baselines_are_grey() -> None:
    for grouping in ("stock-global", "stock-local", "stock-isomorphic", "unstructured"):
        colour = look(Method.of(grouping, recovery="none")).colour
        assert colour[1:3] == colour[3:5] == colour[5:]


@pytest.mark.parametrize("name", ["actor", "critic.0", "critic.7", "encoder_actor", "dynamics", "reward", "policy"])
def test_components_have_a_colour_of_their_own(name: str) -> None:
    assert re.fullmatch("#[0-9A-F]{6}", component_colour(name))
    assert component_colour(name) not in (FLOW, "#FFFFFF")


def test_twins_are_shades_of_one_colour_and_flows_are_told_from_components() -> None:
    assert component_colour("critic.0") == component_colour("value") in COLOURS
    assert component_colour("critic.1") == "#F0C566"  # 40% of the way from #E69F00 to white
    assert component_colour("encoder->actor,value") == FLOW


def test_shares_beside_a_cut_change_its_colour_and_steps_leave_the_dashes() -> None:
    def of(grouping: str, recovery: str = "reconstruct") -> Look:
        return look(Method.recorded([grouping, "surgeon", "uniform", recovery]))

    plain = [of(name).colour for name in ("component", "global")]
    kept = [of(f"{name}[flow=0]").colour for name in ("component", "global")]
    assert len({*plain, *kept}) >= 3
    assert kept[0] not in (plain[0], kept[1])
    assert kept[1] != plain[1]
    assert of("component", "reconstruct[4 geometric steps]").dash == of("component").dash


def test_pdfs_carry_fonts_that_publishers_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TrueType, not the outlines (Type 3) that IEEE's and others' checks refuse."""
    assert FONTS == 42
    monkeypatch.setitem(LOOK, "pdf.fonttype", FONTS)
    figure = Figure()
    figure.text(0.5, 0.5, "return")
    written = save(figure, tmp_path / "figure")[0].read_bytes()
    assert b"/FontFile2" in written
    assert b"/Type3" not in written
