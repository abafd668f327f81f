"""What results/stability and results/drift say is what their tables have."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from tests.conftest import ROOT
from tests.docs.committed import table, text

STABILITY = ROOT / "results" / "stability"
#: The rows of its table: how the README calls a controller and a method, and the folder.
ROWS = {
    ("lqr-linear-pendulum-1", "default"): "lqr-linear-pendulum-default",
    ("lqr-linear-pendulum-1", "stock-global"): "lqr-linear-pendulum-stock",
    ("sac-pendulum-1", "default"): "sac-pendulum-default",
    ("sac-pendulum-1", "stock-global"): "sac-pendulum-stock",
    ("ppo-inverted-pendulum-1", "default"): "ppo-inverted-pendulum-default",
    ("ppo-inverted-pendulum-1", "stock-global"): "ppo-inverted-pendulum-stock",
    ("sac-double-pendulum-1", "default"): "sac-double-pendulum-default",
    ("sac-double-pendulum-1", "stock-global"): "sac-double-pendulum-stock",
    ("tdmpc-pendulum-1", "stock-global"): "tdmpc-pendulum-stock",
    ("tdmpc-pendulum-1", "component, `reconstruct`"): "tdmpc-pendulum-reconstruct",
    ("tdmpc-pendulum-1", "default, 0.9 alone"): "tdmpc-pendulum-default",
}


def record(folder: str) -> dict[str, Any]:
    return dict(json.loads((STABILITY / folder / "stability.json").read_text()))


def at(folder: str, sparsity: float) -> pd.Series:
    """The row at a deployed sparsity, as the README rounds it."""
    rows = table(f"stability/{folder}/stability.csv")
    return rows[(rows["sparsity_deployed"] - sparsity).abs() < 5.1e-4].iloc[0]


@pytest.mark.parametrize("row", ROWS, ids="-".join)
def test_safe_sparsities_are_those_of_the_records(row: tuple[str, str]) -> None:
    found = record(ROWS[row])
    last = max(one["sparsity_deployed"] for one in found["controllers"])
    said = []
    for key in ("safe_sparsity", "settling_sparsity", "s95"):
        value = found[key]
        said.append(f"{'≥ ' * (value is None or value >= last - 1e-9)}{last if value is None else value:.3f}")
    assert f"| {' | '.join([*row, *said])} |" in text("results/stability/README.md")


def test_what_is_said_of_failures_and_regions() -> None:
    readme = text("results/stability/README.md")
    pole, double = "ppo-inverted-pendulum-stock", "sac-double-pendulum-stock"
    world = table("stability/tdmpc-pendulum-reconstruct/stability.csv").iloc[-1]
    kept = table(f"stability/{pole}/stability.csv").set_index("sparsity_deployed")["attraction_kept"]
    shrinks = [f"{value:.0%}" for value in kept[(kept.index > 0.84) & (kept.index < 0.95)]]
    taught = table("stability/sac-double-pendulum-default/stability.csv")["attraction_kept"]
    for said in (
        f"at 0.749 it rests elsewhere: V rises on {at('sac-pendulum-stock', 0.749)['rising']} of 100 ways there",
        *(
            f"at {sparsity} V rises on {at(folder, sparsity)['rising']} of 100, the region is "
            f"{at(folder, sparsity)['attraction_kept']:.0%}"
            for folder, sparsity in ((pole, 0.848), (double, 0.668))
        ),
        f"hangs: {at('tdmpc-pendulum-stock', 0.5)['unstable']} of 60 do not settle",
        f"shrinks to {', '.join(shrinks[:-1])} and {shrinks[-1]} of the dense one's",
        f"pruned to {world['sparsity_deployed']:.3f} by `--recovery reconstruct` keeps "
        f"{world['normalised_return']:.0%} of its return",
        f"in {world['unstable']} of 60 episodes and from {1 - world['attraction_kept']:.0%} of the (5 x 5) grid",
        f"the last one measured; the region is {taught.iloc[-1]:.0%}",
        f"trajectories) and the region is {at(double, 0.668)['attraction_kept']:.0%} of the dense one's",
        f"the region is {taught.iloc[-2]:.0%} at 0.9 and {taught.iloc[-1]:.0%} at 0.98, and neither check saw that",
    ):
        assert said in readme, said


def test_what_is_said_of_the_drift() -> None:
    readme = text("results/drift/README.md")
    drift = table("drift/importance.csv")
    actor = drift[(drift["component"] == "actor") & (drift["importance"] == "fisher")].set_index("step")["share"]
    assert f"falls to {actor.min():.2f} at {actor.idxmin():,} steps" in readme
    assert f"rises to {actor[4000]:.1f} by 4,000" in readme
