"""The numbers that results/suite/README.md says are those of its board, and the board is that of its entries."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.conftest import ROOT
from tests.docs.committed import bold, by_family, interval, text

FOLDER = ROOT / "results" / "suite"
TEXT = (FOLDER / "README.md").read_text()


@pytest.mark.parametrize(("tier", "mark"), [("quick", "board"), ("standard", "standard")])
def test_the_table_is_the_board(tier: str, mark: str) -> None:
    board = [line.strip("| ").split(" | ") for line in (FOLDER / tier / "leaderboard.md").read_text().splitlines()]
    part = TEXT.partition(f"<!-- {mark} -->")[2].partition("<!-- end -->")[0]
    shown = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")]
    places = [board[0].index(name) for name in shown[0]]
    rows = [[row[place] for place in places] for row in board if len(row) == len(board[0])]
    assert shown[2:] == rows[2:]
    assert len(shown) > 5


def test_the_standard_tier_says_by_kind_what_its_contrasts_say() -> None:
    kinds = {
        "recurrent_ppo": "LSTM",
        "sac, encoder": "SAC, shared encoder",
        "tdmpc": "TD-MPC",
        "ppo, encoder": "PPO, shared CNN",
        "sac": "SAC, two tasks",
        "ppo": "PPO, CartPole",
        "all": "all",
    }
    pairs = (("component", "global"), ("component", "stock-global"), ("surgeon", "magnitude"), ("reconstruct", "none"))
    found = [by_family("suite/standard", *pair) for pair in pairs]
    for family, name in kinds.items():
        shares = [bold(of.loc[family]) if family in of.index else "-" for of in found]
        assert f"| {' | '.join([name, *shares])} |" in TEXT
    ranking, stock, choice, refit = found
    whole = text("results/suite/README.md")
    model, pixels = (interval(stock.loc[family]) for family in ("tdmpc", "ppo, encoder"))
    assert f"where it is a world model or a CNN**: {model} and {pixels}, once refitted" in whole
    over_all = interval(ranking.loc["all"])
    assert f"{over_all} against one ranking is not shown here, where twenty rows are corrected for" in whole
    assert by_family("grouping", "component", "global").loc["all", "p"] < 0.05 <= ranking.loc["all", "p"]
    table_ = pd.read_csv(FOLDER / "standard" / "contrasts.csv")
    assert (table_["kind"] == "grouping").sum() == 20
    assert stock["p"].lt(0.05).sum() == 2
    groupings = table_[table_["kind"] == "grouping"].groupby("family")["difference"].agg(lambda of: of.abs().max())
    for family in set(kinds) - {"ppo"}:
        assert groupings[family] < choice.loc[family, "difference"]
        assert groupings[family] < refit.loc[family, "difference"]
    assert refit.loc["all", "difference"] > choice.loc["all", "difference"]
    said = "by magnitudes and refitted `component` is ahead of Torch-Pruning's by {} on TD-MPC and {} on a CNN"
    values = (f"{stock.loc[family, 'difference']:.3f}" for family in ("tdmpc", "ppo, encoder"))
    assert said.format(*values) in text("results/README.md")
    model, pixels = (f"{stock.loc[family, 'difference']:.2f}" for family in ("tdmpc", "ppo, encoder"))
    front = f"{model} more than Torch-Pruning's global ranking on a world model and {pixels} more with a CNN"
    assert f"By magnitudes it does on some: refitted, that keeps {front}" in text("README.md")


def test_every_failed_cell_of_the_standard_tier_is_torch_prunings() -> None:
    results = pd.read_parquet(FOLDER / "standard" / "refitted" / "results.parquet")
    failed = results[results["status"] == "failed"]
    assert set(failed["grouping"]) == {"stock-global"}
    assert {name.rstrip("-123") for name in failed["controller"]} == {
        "recurrent-pendulum",
        "ppo-pixels-pendulum",
        "ppo-cartpole",
    }
    pruned = results[results["grouping"].notna()]
    assert f"{len(pruned) // 7} cells a method" in text("results/suite/README.md")
    assert pruned.groupby(["grouping", "importance", "recovery"]).size().eq(len(pruned) // 7).all()


def test_what_is_not_ranked_has_failed_cells() -> None:
    results = pd.read_csv(FOLDER / "quick" / "baselines" / "results.csv")
    ranked = set(pd.read_csv(FOLDER / "quick" / "leaderboard.csv")["method"])
    assert not any("stock-global" in method for method in ranked)
    failed = results[results["status"] == "failed"]
    assert set(failed["grouping"]) == {"stock-global"}
    assert set(failed["controller"]) == {"recurrent-pendulum-1", "ppo-pixels-pendulum-1"}
    assert failed.loc[failed["controller"] == "ppo-pixels-pendulum-1", "sparsity_asked"].eq(0.984375).all()


def test_the_line_among_all_results_is_the_summarys() -> None:
    table = pd.read_csv(FOLDER / "quick" / "summary.csv")
    alone = table[~table["controller"].str.startswith("mean of")]
    worst = alone.groupby("method")["s95_deployed"].min().sort_values()
    assert worst.index[-1].startswith("component + surgeon + distill")
    assert worst.iloc[-2] < worst.iloc[-1]
    line = next(
        line
        for line in (ROOT / "results" / "README.md").read_text().splitlines()
        if line.startswith("| [suite](suite/README.md)")
    )
    said = f"holds 0.95 to {worst.iloc[-1]:.2f} and beyond on every one of six families"
    assert f"the default is the only one that {said}" in line
    assert alone["controller"].nunique() == 6


def test_what_each_choice_buys_is_that_of_the_contrasts() -> None:
    table = pd.read_csv(FOLDER / "quick" / "contrasts.csv")
    table = table[table["family"] == "all"].set_index(["ours", "theirs"])
    said = [line for line in TEXT.splitlines() if " against `" in line and ": `" in line and line.startswith("|")]
    pairs = [
        ("component", "global"),
        ("surgeon", "magnitude"),
        ("surgeon", "random"),
        ("reconstruct", "none"),
        ("reconstruct", "distill[budget 1000]"),
    ]
    for pair, line in zip(pairs, said, strict=True):
        row = table.loc[pair]
        assert line.endswith(f"| {row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}] |")
        assert all(f"`{name.partition('[')[0]}`" in line for name in pair)


def test_how_far_the_groupings_are_apart_in_what_acts() -> None:
    results = pd.read_csv(FOLDER / "quick" / "baselines" / "results.csv")
    chosen = (results["importance"] == "surgeon") & (results["recovery"] == "reconstruct")
    first = results[chosen & (results["sparsity_asked"] == 0.5)].set_index(["controller", "grouping"])
    found = first["sparsity_deployed"]
    lstm = [f"{found['recurrent-pendulum-1', name]:.2f}" for name in ("global", "component")]
    assert "deployed {} in the place of {}".format(*lstm) in TEXT
    for name in ("sac-reacher-1", "sac-shared-double-pendulum-1"):
        assert found[name, "global"] > found[name, "component"]
