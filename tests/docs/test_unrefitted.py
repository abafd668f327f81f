"""What is said of groupings where nothing is refitted is what their cells and tables hold."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.docs.committed import bold, by_family, cells, interval, table, text

README = text("results/grouping/README.md")
KINDS = {
    "recurrent_ppo": "LSTM",
    "sac, encoder": "SAC, shared encoder",
    "ppo, encoder": "PPO, shared CNN",
    "sac": "SAC, Pendulum",
    "ppo": "PPO, CartPole",
    "all": "all",
}
PAIRS = [("component", "global"), ("component", "stock-global"), ("surgeon", "magnitude")]


def found(ours: str, theirs: str) -> pd.DataFrame:
    return by_family("grouping/unrefitted", ours, theirs)


@pytest.mark.parametrize("family", KINDS)
def test_the_table_is_that_of_the_contrasts(family: str) -> None:
    entries = []
    for pair in PAIRS:
        rows = found(*pair)
        entries.append(bold(rows.loc[family]) if family in rows.index else "-")
    assert f"| {KINDS[family]} | {' | '.join(entries)} |" in README


def test_what_is_shown_and_what_a_refit_is_worth() -> None:
    stock = found("component", "stock-global").loc["all"]
    assert stock["p"] < 0.05
    assert f"behind Torch-Pruning's global ranking by {-stock['difference']:.3f}" in README
    assert f"magnitudes and no refit, `component` is behind it by {-stock['difference']:.3f}" in text(
        "results/README.md"
    )
    assert found("component", "global").loc["all", "p"] > 0.05
    rows = table("grouping/unrefitted/comparison.csv").set_index("against")
    assert set(rows["cells"]) == {315}
    worth = [interval(rows.loc[of]) for of in ("component + surgeon", "global + surgeon", "component + magnitude")]
    assert f"`component` {worth[0]}, one ranking {worth[1]}, `component` by magnitudes {worth[2]}" in README
    half = (
        cells("grouping/unrefitted").groupby(["method", "sparsity_asked"])["value"].mean()["component + surgeon", 0.5]
    )
    assert f"`component` by `surgeon` keeps {half:.2f} at 0.5" in README
