"""The numbers that results/couplings/README.md says are those of its tables."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.conftest import ROOT

FOLDER = ROOT / "results" / "couplings"
TEXT = (FOLDER / "README.md").read_text()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("component", "component[flow=0]"),
        ("global", "global[flow=0]"),
        ("component", "global"),
        ("component[flow=0]", "global[flow=0]"),
    ],
)
def test_differences_are_those_of_the_table(one: str, other: str) -> None:
    table = pd.read_csv(FOLDER / "comparison.csv").set_index(["method", "against"])
    said = []
    for recovery in ("", " + reconstruct"):
        row = table.loc[f"{one} + surgeon{recovery}", f"{other} + surgeon{recovery}"]
        said.append(f"[{row['low']:+.3f}, {row['high']:+.3f}], p {row['p']:.3f}")
        assert f"{row['difference']:+.3f}" in TEXT
    assert any(all(part in line for part in said) for line in TEXT.splitlines())


@pytest.mark.parametrize(
    ("controller", "method", "said"),
    [
        ("ppo-pixels-pendulum-2", "component + surgeon + reconstruct", "0.77 with the flow cut"),
        ("ppo-pixels-pendulum-2", "component[flow=0] + surgeon + reconstruct", "0.65 with it whole"),
        ("sac-shared-double-pendulum-1", "component + surgeon", "(s95 0.03)"),
        ("sac-shared-double-pendulum-1", "component[flow=0] + surgeon", "holds to 0.69"),
        ("sac-shared-double-pendulum-1", "global + surgeon", "`global` does (0.70)"),
    ],
)
def test_each_s95_is_that_of_the_summary(controller: str, method: str, said: str) -> None:
    table = pd.read_csv(FOLDER / "summary.csv").set_index(["controller", "method"])
    assert f"{table.loc[(controller, method), 's95_deployed']:.2f}" in said
    assert said in TEXT
