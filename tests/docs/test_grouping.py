"""The numbers that results/grouping/README.md says are those of its tables."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from tests.docs.committed import bold, by_family, cells, kept, text, two

README = text("results/grouping/README.md")
ALONE, TOGETHER = "component + surgeon + reconstruct", "global + surgeon + reconstruct"
KINDS = {
    "recurrent_ppo": "LSTM",
    "sac, encoder": "SAC, shared encoder",
    "tdmpc": "TD-MPC",
    "ppo, encoder": "PPO, shared CNN",
    "sac": "SAC, two tasks",
    "ppo": "PPO",
    "all": "all",
}


def found(ours: str, theirs: str, family: str) -> pd.Series:
    return by_family("grouping", ours, theirs).loc[family]


def shown(row: pd.Series) -> bool:
    return bool(row["p"] < 0.05)


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize(
    ("kind", "ours", "theirs"),
    [
        ("grouping", "component", "global"),
        ("grouping", "component", "layer"),
        ("importance", "surgeon", "magnitude"),
    ],
)
def test_each_difference_is_that_of_the_table(kind: str, ours: str, theirs: str, family: str) -> None:
    row = found(ours, theirs, family)
    assert (row["kind"], row["runs"]) == (kind, {"all": 63, "sac": 18}.get(family, 9))
    line = f"| {kind}: `{ours}` against `{theirs}` | {KINDS[family]} | {bold(row)} | {row['p']:.3f}"
    assert f"{line} | {row['detectable']:.3f} |" in README


def test_where_it_is_shown_and_where_not() -> None:
    encoder, latent, memory = (
        found("component", "global", name) for name in ("sac, encoder", "tdmpc", "recurrent_ppo")
    )
    assert [shown(row) for row in (encoder, latent, memory)] == [True, True, False]
    assert not any(shown(found("component", "global", family)) for family in ("ppo, encoder", "ppo", "sac"))
    sizes = [-row["difference"] for row in (encoder, latent, memory)]
    assert f"by {sizes[0]:.3f} on the shared encoder and by {sizes[1]:.3f} on TD-MPC" in README
    assert f"on the LSTM by {sizes[2]:.3f}, not shown" in README
    assert not any(shown(found("component", "layer", family)) for family in KINDS)
    assert [family for family in KINDS if not shown(found("surgeon", "magnitude", family))] == ["ppo"]
    mean, most = (found("surgeon", "magnitude", family)["difference"] for family in ("all", "sac, encoder"))
    assert f"{mean:.3f} in the mean, {most:.3f} on the shared encoder" in README
    whole = found("component", "global", "all")
    behind = f"`component` is behind one global ranking by {-whole['difference']:.3f}"
    said = f"{behind}, by {sizes[0]:.3f} on a shared encoder and {sizes[1]:.3f} on a world model, all shown"
    assert shown(whole)
    assert f"by 0.047, not by the {-whole['difference']:.3f} of all seven tasks" in README
    assert said in text("results/README.md")
    assert (
        f"one ranking over everything keeps {sizes[0]:.2f} more on a shared encoder and {sizes[1]:.2f} more on a world "
        "model, since it spares what all read, over three trainings and three pruning seeds each, and "
        f"{-whole['difference']:.2f} over six kinds"
    ) in text("README.md")
    folder = f"({sizes[0]:.2f} on a shared encoder, {sizes[1]:.2f} on a world model), since it spares what all read; "
    assert f"{folder}the importance matters more ({mean:.2f} over all)" in text("results/README.md")


def test_what_is_left_of_what_is_shared() -> None:
    rows = cells("grouping").query("seed == 0").set_index(["controller", "sparsity_asked", "method"])

    def widths(controller: str, asked: float, method: str, component: str) -> list[int]:
        parts = rows.loc[(controller, asked, method), "components"]
        return list((json.loads(parts) if isinstance(parts, str) else parts)[component]["widths_pruned"])

    latents = [widths("tdmpc-swingup-1", 0.9922, of, "encoder")[-1] for of in (TOGETHER, ALONE)]
    assert f"at 0.9922) {latents[0]} are left in the place of {latents[1]}" in README
    shared = "sac-shared-double-pendulum-1", 0.984375
    encoders = [widths(*shared, of, "encoder")[0] for of in (TOGETHER, ALONE)]
    assert f"(at 0.984) {encoders[0]} in the place of {encoders[1]}" in README
    gone = [float(rows.loc[(*shared, of), "sparsity_deployed"]) for of in (TOGETHER, ALONE)]
    assert f"({gone[0]:.3f} in the place of {gone[1]:.3f} are gone of it)" in README
    for method, said in (TOGETHER, "leaves the encoder {} units at 0.9375"), (ALONE, "component by component, {} and"):
        assert said.format("-".join(map(str, widths("ppo-pixels-pendulum-3", 0.9375, method, "encoder")))) in README
    behind = [widths("ppo-pixels-pendulum-3", 0.9375, of, "actor")[0] for of in (TOGETHER, ALONE)]
    assert (behind, "and the actor behind it one" in README, "4-8-15 and 14, keeps" in README) == ([1, 14], True, True)
    kept_by = [two(rows.loc[("ppo-pixels-pendulum-3", 0.9375, of), "value"]) for of in (TOGETHER, ALONE)]
    assert f"keeps {kept_by[0]} where component by component, 4-8-15 and 14, keeps {kept_by[1]}" in README
    starved = widths("ppo-cartpole-1", 0.984375, TOGETHER, "actor")[:2]
    assert f"leaves the actor {'-'.join(map(str, starved))} units at 0.984" in README


def test_how_much_is_kept_where_little_is_left() -> None:
    found = cells("grouping").groupby(["algorithm", "task", "sparsity_asked", "method"])["value"].mean()
    swing = [two(found["tdmpc", "prunectl/CartPoleSwingUp-v0", 0.9922, of]) for of in (TOGETHER, ALONE)]
    assert f"TD-MPC keeps {swing[0]} at 0.9922 by one ranking and {swing[1]} component by component" in README
    said = f"keeps {swing[0]} of its return at 0.9922 by one ranking and {swing[1]} component by component"
    assert f"Refitted, TD-MPC {said}" in text("docs/method.md")
    shorter = f"refitted, TD-MPC keeps {swing[0]} at 0.9922 by it and {swing[1]} component by component"
    assert shorter in text("docs/choosing.md")
    cart = [two(found["ppo", "CartPole-v1", 0.984375, of]) for of in (TOGETHER, ALONE)]
    assert f"the return falls to {cart[0]} where component by component it is whole" in README
    assert cart[1] == "1.00"
    cheetah = [two(found["sac", "HalfCheetah-v5", 0.96875, of]) for of in (TOGETHER, ALONE)]
    assert (
        f"keeps {cheetah[0]} at 0.969 where component by component keeps {cheetah[1]}; at 0.9922 that is gone" in README
    )
    gone = [found["sac", "HalfCheetah-v5", 0.9922, of] for of in (TOGETHER, ALONE)]
    assert gone[0] < gone[1]
    default = kept("default").xs("component + surgeon + distill", level="method")
    assert two(default.loc[("tdmpc-swingup-1", 0.99), "value"]) == "1.00"
    planner = two(default.loc[("tdmpc2-swingup-1", 0.99), "value"])
    assert f"TD-MPC2 does not: {planner} with one student ([default](../default/README.md))." in README
