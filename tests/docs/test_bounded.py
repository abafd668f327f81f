"""What is said of one ranking that is bounded is what its cells and tables hold."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.docs.committed import cells, interval, table, text

README = text("results/grouping/README.md")
BOUNDED = "bounded + surgeon + reconstruct"
KINDS = {
    "recurrent-pendulum": "LSTM",
    "sac-shared-double-pendulum": "SAC, shared encoder",
    "tdmpc-swingup": "TD-MPC",
    "ppo-pixels-pendulum": "PPO, shared CNN",
    "sac-halfcheetah": "SAC, HalfCheetah",
    "sac-pendulum": "SAC, Pendulum",
    "ppo-cartpole": "PPO, CartPole",
}


def means() -> pd.DataFrame:
    """The mean normalised return by task and grouping, over what all groupings have; below 0 counts as 0."""
    every = pd.concat([cells("grouping"), cells("grouping/bounded")], ignore_index=True)
    every = every[every["importance"] == "surgeon"].assign(kind=every["controller"].str.rpartition("-")[0])
    every["value"] = every["value"].clip(lower=0)
    wide = every.pivot_table(index=["kind", "controller", "sparsity_asked", "seed"], columns="grouping", values="value")
    assert len(wide.dropna()) == len(wide) == 441
    return wide.groupby("kind").mean()


def test_the_table_is_that_of_the_cells() -> None:
    found = means()
    for kind, name in KINDS.items():
        row = found.loc[kind]
        shown = " | ".join(f"{row[of]:.3f}" for of in ("bounded", "component", "global", "layer"))
        assert f"| {name} | {shown} |" in README
    shown = " | ".join(f"{found[of].mean():.3f}" for of in ("bounded", "component", "global", "layer"))
    assert f"| mean | {shown} |" in README


@pytest.mark.parametrize("other", ["component", "global", "layer"])
def test_each_difference_is_that_of_the_comparison(other: str) -> None:
    row = table("grouping/bounded/comparison.csv").set_index("against").loc[f"{other} + surgeon + reconstruct"]
    assert (row["method"], row["controllers"], row["cells"]) == (BOUNDED, 21, 441)
    assert f"`{other}` {interval(row)}, p {row['p']:.3f}" in README


def test_what_is_said_of_it_elsewhere() -> None:
    found = means().mean()
    said = f"{found['bounded']:.3f} in the mean of seven tasks and seven sparsities, `global` {found['global']:.3f}, "
    assert f"{said}`component` {found['component']:.3f}" in text("docs/method.md")
    rows = table("grouping/bounded/comparison.csv").set_index("against")
    apart, free = (rows.loc[f"{name} + surgeon + reconstruct"] for name in ("component", "global"))
    assert max(apart["p"], free["p"]) < 0.05
    more = f"keeps {apart['difference']:.3f} more than `component` and {free['difference']:.3f} more than one ranking"
    assert more in text("results/README.md")
    assert (found.drop("bounded") < found["bounded"]).all()  # "keeps more than either"


def test_the_floor_was_chosen_on_other_draws_and_episodes() -> None:
    found = table("grouping/bounded/floors.csv")
    kinds = found.assign(kind=found["controller"].str.rpartition("-")[0])
    means = kinds.groupby(["kind", "floor"])["normalised_return"].mean().groupby("floor").mean()
    assert means.idxmax() == 0.25
    none, quarter, half, most, all_ = (f"{value:.3f}" for value in means)
    assert f"a quarter {quarter}, a half {half}, three quarters {most}, none {none}, all {all_}" in README
