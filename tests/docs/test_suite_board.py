"""The numbers that results/suite/README.md says are those of its board, and the board is that of its entries."""

from __future__ import annotations

import pandas as pd

from tests.conftest import ROOT

FOLDER = ROOT / "results" / "suite"
TEXT = (FOLDER / "README.md").read_text()


def test_the_table_is_the_board() -> None:
    board = [line.strip("| ").split(" | ") for line in (FOLDER / "quick" / "leaderboard.md").read_text().splitlines()]
    part = TEXT.partition("<!-- board -->")[2].partition("<!-- end -->")[0]
    shown = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")]
    places = [board[0].index(name) for name in shown[0]]
    rows = [[row[place] for place in places] for row in board if len(row) == len(board[0])]
    assert shown[2:] == rows[2:]
    assert len(shown) > 5


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
    said = [line for line in TEXT.splitlines() if " against `" in line and line.startswith("|")]
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
