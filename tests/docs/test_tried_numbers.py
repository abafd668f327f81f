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
