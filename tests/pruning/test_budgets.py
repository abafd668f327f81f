"""Shares of components and flows, and pruning in several steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from conftest import untrained
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_plan import calibration, made_up, rising

from prunectl.agents import Controller
from prunectl.pruning import (
    Ask,
    Method,
    PruningError,
    PruningPlan,
    Schedule,
    Variant,
    apply,
    pipeline,
    prune,
    trace,
    variants,
)
from prunectl.pruning.allocation import ALLOCATIONS, allocate
from prunectl.pruning.ask import TOLERANCE
from prunectl.pruning.graph import ComponentGraph
from prunectl.pruning.importance import Scores, score

SHARED = trace(untrained("sac", "Pendulum-v1", widths=(32, 32), encoder=(24, 16)))
(FLOW,) = SHARED.flows
#: Most of its parameters read the flow.
WIDE = trace(untrained("sac", "Pendulum-v1", widths=(12, 12), encoder=(96,)))


def gone(graph: ComponentGraph, widths: dict[str, int], component: str | None = None) -> float:
    return 1 - graph.parameters(widths, component) / graph.parameters(graph.dense, component)


ALONE = untrained("sac", "Pendulum-v1", widths=(32, 16))
APART = trace(ALONE)


@pytest.mark.parametrize("observed", [False, True])
def test_one_ranking_is_had_where_a_flow_ties_components_and_each_alone_where_none_does(observed: bool) -> None:
    """What all see ties nobody."""
    said = Ask.of({"overall": 0.6, "observation": 0.34} if observed else 0.6)
    apart = trace(ALONE, observed)
    for graph, asked, same, other in (
        (SHARED, Ask.of(0.6), "global", "component"),
        (apart, said, "component", "global"),
    ):
        rng = np.random.default_rng(0)
        scores = {
            name: rng.exponential(1 + number, group.units) for number, (name, group) in enumerate(graph.groups.items())
        }
        coupled, alike, unlike = (allocate(graph, scores, of, "uniform", asked) for of in ("coupled", same, other))
        assert coupled == alike != unlike


def test_one_ranking_that_is_bounded_starves_nobody() -> None:
    """By hand: ``component`` leaves the actor 20 and 11 of its 32 and 16 units, so 5 and 3 are safe, whatever the
    critics are worth; all else is as one ranking has it."""
    rng = np.random.default_rng(0)
    scores = {name: rng.random(group.units) + 5 * ("critic" in name) for name, group in APART.groups.items()}
    apart, bounded, free = (
        list(allocate(APART, scores, of, "uniform", 0.5).values()) for of in ("component", "bounded", "global")
    )
    assert list(APART.groups)[:2] == ["actor/0", "actor/1"]
    assert (apart[:2], bounded[:2], free[:2]) == ([20, 11], [5, 3], [1, 1])
    assert all(alone < most <= all_ for alone, most, all_ in zip(apart[2:], bounded[2:], free[2:], strict=True))
    # Where the floor binds nobody it is the one ranking; and it is never below the least width that is asked for.
    level = {name: rng.random(group.units) for name, group in APART.groups.items()}
    assert allocate(APART, level, "bounded", "uniform", 0.5) == allocate(APART, level, "global", "uniform", 0.5)
    assert list(allocate(APART, scores, "bounded", "uniform", 0.7, min_width=6).values())[:2] == [6, 6]


@settings(max_examples=30, deadline=None)
@given(sparsity=st.floats(0.1, 0.97), seed=st.integers(0, 1000), shared=st.booleans())
def test_no_group_falls_below_its_floor(sparsity: float, seed: int, shared: bool) -> None:
    graph, rng = SHARED if shared else APART, np.random.default_rng(seed)
    scores = {name: rng.exponential(10 ** rng.normal(), group.units) for name, group in graph.groups.items()}
    try:
        apart = allocate(graph, scores, "component", "uniform", sparsity)
    except PruningError:
        return
    bounded = allocate(graph, scores, "bounded", "uniform", sparsity)
    assert all(4 * bounded[name] >= apart[name] for name in graph.groups)
    assert abs(gone(graph, bounded) - sparsity) < 0.02


# What is asked


@pytest.mark.parametrize(
    ("text", "ask"),
    [
        ("0.9", Ask(0.9)),
        ("encoder=0.5, dynamics=0.9,flow=0", Ask(None, (("encoder", 0.5), ("dynamics", 0.9), ("flow", 0.0)))),
        ("critic=0.5,0.9", Ask(0.9, (("critic", 0.5),))),
    ],
)
def test_an_ask_is_a_line_of_text_and_the_same_again(text: str, ask: Ask) -> None:
    assert Ask.parse(text) == Ask.parse(str(ask)) == ask
    assert Ask.of({"overall": ask.overall, **dict(ask.shares)} if ask.overall else dict(ask.shares)) == ask


@pytest.mark.parametrize("text", ["", "much", "0.9,0.8", "=0.5", "flow", "flow=", "a=b", "0.9,"])
def test_what_is_no_ask_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(PruningError, match=r"write 0\.9, or by component"):
        Ask.parse(text)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"actor": 0.5, "overall": 1.0}, r"sparsity 1 is outside \[0, 1\)"),
        ({"actor": 1.5}, r"sparsity 1\.5 is outside"),
        ({}, "no sparsity is asked for"),
        (
            {"actr": 0.5},
            r"unknown scope 'actr': did you mean 'actor'\? there are encoder, actor, critic\.0, critic\.1, encoder->",
        ),
        (
            {"overall": 0.5, "critic.0": 0.5},
            "critic.0, critic.1 must be equally wide: name all with one",
        ),
        ({"actor": 0.9999}, r"scope 'actor' reaches 0\.\d+ at most"),
        ({"overall": 0.1, "critic": 0.9}, r"what is named takes 0\.\d+ of all parameters already, more than the 0\.1"),
        ({"overall": 0.9, "critic": 0.5}, r"sparsity 0\.9 cannot be met by what has no share .* is to keep 0\.3"),
        ({"overall": 0.9, "actor": 0.5, "critic": 0.5, "encoder": 0.5}, "every component has a share of its own"),
    ],
)
def test_what_cannot_be_met_is_one_line(said: dict[str, float], why: str) -> None:
    with pytest.raises(PruningError, match=why):
        allocate(SHARED, rising(SHARED), "component", "uniform", said)


def test_a_name_is_a_component_a_family_a_flow_or_all_flows_and_the_more_exact_one_holds() -> None:
    said = Ask.of({"flow": 0.5, "critic": 0.25, "critic.1": 0.75})
    assert said.by_scope(SHARED) == {"critic.0": 0.25, "critic.1": 0.75, FLOW: 0.5}
    assert Ask.of({FLOW: 0.0, "flow": 0.5}).by_scope(SHARED) == {FLOW: 0.0}


def test_where_nothing_is_coupled_all_flows_are_none() -> None:
    graph = trace(untrained("ppo", "CartPole-v1"))
    plain, kept = (
        allocate(graph, rising(graph), "component", "uniform", ask) for ask in (0.5, {"overall": 0.5, "flow": 0})
    )
    assert plain == kept


# Widths


@pytest.mark.parametrize("allocation", ALLOCATIONS.builtin)
@pytest.mark.parametrize("grouping", ["component", "layer", "global"])
def test_what_is_named_has_its_share_and_the_rest_meets_the_overall_one(grouping: str, allocation: str) -> None:
    said = {"overall": 0.6, "critic": 0.5, "flow": 0}
    widths = allocate(SHARED, rising(SHARED), grouping, allocation, said, 1, *made_up(SHARED))
    assert widths[FLOW] == 16
    assert gone(SHARED, widths) == pytest.approx(0.6, abs=TOLERANCE)
    for critic in ("critic.0", "critic.1"):
        assert gone(SHARED, widths, critic) == pytest.approx(0.5, abs=0.03)  # a unit of 32 is as much
    assert widths["critic.0/0"] == widths["critic.1/0"]
    # 0.6 of all, less half of two thirds of it: the rest gives up more than that.
    assert gone(SHARED, widths, "actor") > 0.7


def test_shares_alone_leave_all_else_whole_and_a_flow_shrinks_what_reads_it() -> None:
    widths = allocate(SHARED, rising(SHARED), "component", "uniform", {"actor": 0.75, FLOW: 0.5})
    assert {name for name, width in widths.items() if width < SHARED.dense[name]} == {FLOW, "actor/0", "actor/1"}
    assert widths[FLOW] == 8
    # By hand, w units in both layers, biases counted, two heads: 8w + w + w^2 + w + 2 (w + 1), of which a quarter of
    # 16 * 32 + 32 + 32 * 32 + 32 + 2 * 33 = 1666 is nearest at w = 15 (407) rather than 16 (450).
    assert widths["actor/0"] == widths["actor/1"] == 15


def test_a_component_that_its_flow_leaves_less_than_is_asked_is_not_cut_further() -> None:
    widths = allocate(SHARED, rising(SHARED), "component", "uniform", {"encoder": 0.1, FLOW: 0.75})
    assert widths == {**SHARED.dense, FLOW: 4}


@given(
    shares=st.dictionaries(st.sampled_from(["encoder", "actor", "critic", "flow"]), st.floats(0, 0.8), max_size=2),
    overall=st.floats(0.05, 0.9),
    grouping=st.sampled_from(["component", "layer", "global"]),
    graph=st.sampled_from([SHARED, WIDE]),
)
@example(
    shares={"encoder": 0.0, "critic": 0.0}, overall=0.25, grouping="component", graph=SHARED
)  # they shrink with the flow
@settings(max_examples=60, deadline=None)
def test_an_ask_is_met_or_refused(
    shares: dict[str, float], overall: float, grouping: str, graph: ComponentGraph
) -> None:
    (flow,) = graph.flows
    try:
        widths = allocate(graph, rising(graph), grouping, "uniform", {"overall": overall, **shares})
    except PruningError:
        return
    assert gone(graph, widths) == pytest.approx(overall, abs=0.03)
    if "flow" in shares:
        assert widths[flow] == max(round((1 - shares["flow"]) * graph.dense[flow]), 1)


@pytest.mark.parametrize("overall", np.arange(0.05, 1, 0.05).round(2))
def test_beyond_what_is_left_to_cut_every_ask_is_refused(overall: float) -> None:
    narrowest = {**dict.fromkeys(WIDE.groups, 1), WIDE.flows[0]: 96}
    most = gone(WIDE, narrowest)
    asked = {"overall": overall, "flow": 0}
    if overall < most - 0.05:
        assert gone(WIDE, allocate(WIDE, rising(WIDE), "component", "uniform", asked)) == pytest.approx(
            overall, abs=0.03
        )
    elif overall > most:
        with pytest.raises(PruningError, match=rf"sparsity {overall:g} cannot be met by what has no share of its own"):
            allocate(WIDE, rising(WIDE), "component", "uniform", asked)


def test_libraries_pruners_know_no_shares_and_zeros_no_steps() -> None:
    controller = untrained("ppo", "CartPole-v1")
    data = calibration(controller)
    for grouping, said, schedule, why in (
        (
            "stock-global",
            {"overall": 0.5, "actor": 0.5},
            Schedule(),
            r"divides no rest: .* not for '0\.5,act",
        ),
        ("unstructured", 0.5, Schedule(2), "removes no unit, so 2 steps come to what one does"),
    ):
        with pytest.raises(PruningError, match=why):
            prune(controller, Method.of(grouping, recovery="none"), said, data, schedule=schedule)


@pytest.mark.parametrize("allocation", ["uniform", pytest.param("searched", marks=pytest.mark.slow)])
def test_what_acts_gives_its_share_and_only_what_reads_a_flow_is_smaller_besides(allocation: str) -> None:
    def of(said: dict[str, float]) -> dict[str, int]:
        return dict(allocate(SHARED, rising(SHARED), "component", allocation, said, 1, *made_up(SHARED)))

    widths = of({"deployed": 0.7})
    assert 1 - SHARED.deployed_parameters(widths) / SHARED.deployed_parameters(SHARED.dense) == pytest.approx(
        0.7, abs=0.02
    )
    assert widths[FLOW] < 16
    assert all(widths[name] == 32 for name in SHARED.groups if name.startswith("critic"))
    kept = of({"deployed": 0.5, FLOW: 0.0})
    assert kept[FLOW] == 16
    assert gone(SHARED, kept, "critic.0") == 0
    with pytest.raises(PruningError, match=r"unknown scope 'critic': .*there are encoder, actor, encoder->"):
        of({"deployed": 0.5, "critic": 0.5})
    with pytest.raises(PruningError, match=r"0\.9 is asked of all parameters and 0\.5 of what acts"):
        Ask.parse("0.9,deployed=0.5")


def test_where_components_share_nothing_what_acts_is_the_actor() -> None:
    graph = trace(untrained("sac", "Pendulum-v1", widths=(32, 32)))
    one, other = (allocate(graph, rising(graph), "component", "uniform", {name: 0.8}) for name in ("actor", "deployed"))
    assert {name: width for name, width in one.items() if "actor" not in name} == dict.fromkeys(
        [name for name in graph.groups if "actor" not in name], 32
    )
    assert (
        max(abs(one[name] - other[name]) for name in graph.groups) <= 1
    )  # what rounding leaves is settled there alone


# Steps


@pytest.mark.parametrize("grouping", ["component", "stock-global"])
def test_steps_meet_the_share_of_what_acts(grouping: str) -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(32, 32), encoder=(24, 16))
    method = Method.of(grouping, recovery="none")
    plan = prune(controller, method, {"deployed": 0.7}, calibration(controller), schedule=Schedule(2)).plan
    assert plan.sparsity_deployed == pytest.approx(0.7, abs=0.03)
    assert plan.widths["critic.0/0"] == 32


def test_levels_are_those_of_the_schedule() -> None:
    geometric, linear = (Schedule(3, form).levels(Ask(0.875, (("actor", 0.5),))) for form in ("geometric", "linear"))
    # An eighth in three steps: each leaves a half.
    assert [level.overall for level in geometric] == pytest.approx([0.5, 0.75, 0.875])
    assert [level.overall for level in linear] == pytest.approx([0.875 / 3, 1.75 / 3, 0.875])
    assert [dict(level.shares)["actor"] for level in linear] == pytest.approx([1 / 6, 1 / 3, 0.5])
    assert geometric[-1] == linear[-1] == Ask(0.875, (("actor", 0.5),))
    for wrong, why in (({"steps": 0}, "takes one"), ({"form": "cubic"}, "there are geometric, linear")):
        with pytest.raises(PruningError, match=why):
            Schedule(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("grouping", ["component", "stock-local"])
@pytest.mark.parametrize("recovery", ["none", "reconstruct"])
def test_steps_end_where_one_does_and_their_plan_is_of_the_dense_controller(grouping: str, recovery: str) -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(32, 32), encoder=(24, 16))
    data = calibration(controller)
    method = Method.of(grouping, recovery=recovery)
    once, thrice = (prune(controller, method, 0.7, data, schedule=Schedule(steps)) for steps in (1, 3))
    assert thrice.plan.sparsity_total == pytest.approx(once.plan.sparsity_total, abs=0.03)
    assert thrice.plan.sparsity_asked == 0.7
    assert PruningPlan.from_json(thrice.plan.to_json()) == thrice.plan
    by_plan = apply(thrice.plan, controller, trace(controller))
    found, expected = thrice.controller.networks.state_dict(), by_plan.networks.state_dict()
    assert {name: tensor.shape for name, tensor in found.items()} == {n: t.shape for n, t in expected.items()}
    if recovery == "none":  # nothing else was done to the weights
        assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_scores_are_worked_out_again_on_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    controller = untrained("ppo", "CartPole-v1", widths=(16, 16))
    scored = []

    def noted(now: Controller, graph: ComponentGraph, *rest: Any) -> Scores:
        scored.append((graph.dense["actor/0"], now.components["actor"].parameters))
        return score(now, graph, *rest)

    monkeypatch.setattr(pipeline, "score", noted)
    plan = prune(controller, Method(recovery="none"), 0.75, calibration(controller), schedule=Schedule(2)).plan
    # Half of 16 * 5 + 16 * 17 + 2 * 17 = 386 parameters; 11 * 5 + 10 * 12 + 2 * 11 = 197 is the nearest to it.
    assert scored == [(16, 386), (11, 197)]
    assert plan.widths["actor/0"] < 11


def test_steps_meet_shares_of_components_too() -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(32, 32), encoder=(24, 16))
    asked = {"overall": 0.6, "critic": 0.5, "flow": 0.25}
    plan = prune(controller, Method(recovery="none"), asked, calibration(controller), schedule=Schedule(4)).plan
    assert plan.widths[FLOW] == 12
    assert gone(SHARED, plan.widths, "critic.0") == pytest.approx(0.5, abs=0.04)
    assert plan.sparsity_total == pytest.approx(0.6, abs=0.02)


def test_zero_in_many_steps_is_the_controller_itself() -> None:
    controller = untrained("ppo", "CartPole-v1")
    data = calibration(controller)
    same = prune(controller, Method(recovery="reconstruct"), 0.0, data, schedule=Schedule(3)).controller
    assert np.array_equal(same.act(data.observations), controller.act(data.observations))


# Names


def test_results_go_by_names_that_say_what_was_set() -> None:
    method, stock, zeros = Method(), Method.of("stock-global"), Method.of("unstructured")
    assert Variant(method, (("flow", 0.0),), Schedule(4)).names == (
        "component[flow=0]",
        "surgeon",
        "uniform",
        "distill[4 geometric steps]",
    )
    assert Variant(method).names == ("component", "surgeon", "uniform", "distill")
    found = variants([method, stock, zeros], [{}, {"flow": 0}], [1, 2], "linear")
    assert [(v.method.grouping, v.budgets, v.schedule.steps) for v in found] == [
        ("component", (), 1),
        ("component", (), 2),
        ("component", (("flow", 0),), 1),
        ("component", (("flow", 0),), 2),
        ("stock-global", (), 1),
        ("stock-global", (), 2),
        ("unstructured", (), 1),
    ]
