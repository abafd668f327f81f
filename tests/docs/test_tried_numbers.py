"""What docs/method.md says of draws, widths and ideas is what was measured."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.docs.committed import table, text, two

AGENTS = {
    "ppo/BipedalWalker-v3_1": "BipedalWalker, PPO",
    "trpo/Hopper-v3_1": "Hopper, TRPO",
    "ppo/Ant-v3_1": "Ant, PPO",
}


@pytest.mark.parametrize("agent", list(AGENTS)[:2])
def test_draws(agent: str) -> None:
    own = table("default/tried/draws.csv").set_index("agent").loc[agent]
    short, long = own[own["batches"] == 24_000], own[own["batches"] == 120_000]
    chosen = short.sort_values("share_choosing").iloc[-1]
    shares = ", ".join(map(two, short["share"]))
    assert f"| {shares} | {two(chosen['share'])} | {two(long['share'].item())} |" in text("docs/method.md")


@pytest.mark.parametrize("agent", AGENTS)
def test_widths(agent: str) -> None:
    own = table("default/tried/widths.csv").set_index(["agent", "ratio"]).loc[agent]
    cells = [
        f"{two(own.loc[ratio, 'share'])} ({own.loc[ratio, 'widths']})" if ratio in own.index else ""
        for ratio in (0.5, 0.7, 1.0, 1.4, 2.0)
    ]
    assert isinstance(own, pd.DataFrame)
    line = " ".join(f"| {AGENTS[agent]}, at {own['sparsity'].iloc[0]} | {' | '.join(cells)} |".split())
    assert line in text("docs/method.md")


@pytest.mark.parametrize("agent", list(AGENTS)[:2])
def test_ideas(agent: str) -> None:
    own = table("default/tried/ideas.csv").set_index(["agent", "idea"])["share"]
    fitted, revisited = (", ".join(map(two, own.loc[(agent, idea)])) for idea in ("fitted Q", "revisited"))
    said = text("docs/method.md")
    assert f"| {AGENTS[agent]} | {fitted} | {revisited} |" in said
    assert f"Ant, at 0.95: {two(own.loc[('ppo/Ant-v3_1', 'fitted Q')].item())}." in said


def test_a_memory_is_not_helped() -> None:
    share = table("default/tried/memory.csv").set_index("method")["share"]
    said = f"at 0.99 is another: there the default keeps {two(share['the default'])} where the one cut keeps"
    assert f"{said} {two(share['one cut'])}," in text("results/default/README.md")


def test_bins() -> None:
    rows = table("default/tried/bins.csv").set_index(["agent", "sparsity", "taught", "bins", "method"])
    trainings = [f"tdmpc2-swingup-{number}" for number in (1, 2, 3)]
    readme, ways = text("results/default/README.md"), (("logits", "all"), ("numbers", "all"), ("numbers", "fewer"))

    def shares(taught: str, bins: str, method: str = "one student", sparsity: float = 0.98) -> list[str]:
        return [two(rows.loc[(agent, sparsity, taught, bins, method), "share"]) for agent in trainings]

    for agent in trainings:
        own = [rows.loc[(agent, 0.98, *way, "one student")] for way in ways]
        cells = [f"{two(one['share'])} ({two(one['sure'])})" for one in own]
        assert f"| {agent} | {' | '.join(cells)} |" in readme
    before, alone = shares("logits", "all", "the default"), shares("numbers", "all")
    assert f"the three kept {before[0]}, {before[1]} and {before[2]} before" in readme
    kept_now = shares("numbers", "fewer")
    assert len(set(kept_now)) == 1
    assert (
        f"keeps {kept_now[0]} on each of three trainings, and with all bins, compared so, {alone[0]}, {alone[1]} and "
        f"{alone[2]}"
    ) in text("docs/method.md")
    far = [two(rows.loc[(trainings[0], 0.99, *way, "the default"), "share"]) for way in (ways[2], ways[0])]
    assert f"first training keeps {far[0]} in the place of {far[1]}." in readme
    enough = table("default/tried/enough.csv").set_index(["enough", "agent"])["share"]
    usual, tenth = (" and ".join(two(enough[share, agent]) for agent in trainings[1:]) for share in (5e-4, 5e-5))
    assert f"no better than at 0.98**, {usual} on the other trainings." in readme
    assert f"With a tenth of that they keep {tenth} (" in readme
