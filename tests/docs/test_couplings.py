"""The numbers that results/couplings/README.md says are those of its tables."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.conftest import ROOT
from tests.docs.committed import interval

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
    ],
)
def test_each_s95_is_that_of_the_summary(controller: str, method: str, said: str) -> None:
    table = pd.read_csv(FOLDER / "summary.csv").set_index(["controller", "method"])
    assert f"{table.loc[(controller, method), 's95_deployed']:.2f}" in said
    assert said in TEXT


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("component", "(s95 {0}, {1} and {2})"),
        ("component[flow=0]", "holds to {0}, {1} and {2} where the flow is left"),
        ("global", "`global` to {0}, {1} and {2}:"),
    ],
)
def test_so_are_those_of_the_three_trainings(method: str, said: str) -> None:
    table = pd.read_csv(FOLDER / "summary.csv").set_index(["controller", "method"])["s95_deployed"]
    trainings = [table.loc[f"sac-shared-double-pendulum-{number}", f"{method} + surgeon"] for number in (1, 2, 3)]
    assert said.format(*(f"{value:.2f}" for value in trainings)) in " ".join(TEXT.split())


@pytest.mark.parametrize(
    ("family", "recovery", "said"),
    [
        ("ppo", "reconstruct", "by family {}, over trainings too"),
        ("sac, encoder", "reconstruct", "hold either way ({})"),
        ("sac, encoder", "none", "no difference is shown ({})"),
    ],
)
def test_differences_by_family_are_those_of_the_contrasts(family: str, recovery: str, said: str) -> None:
    table = pd.read_csv(FOLDER / "contrasts.csv")
    (row,) = table[
        (table["kind"] == "shares")
        & (table["theirs"] == "flow=0")
        & (table["beside"] == recovery)
        & (table["family"] == family)
    ].to_dict("records")
    assert said.format(interval(pd.Series(row))) in " ".join(TEXT.split())
    assert (row["p"] < 0.05) == (family == "ppo")


def test_what_is_detected_and_what_the_refit_is_worth() -> None:
    table = pd.read_csv(FOLDER / "comparison.csv").set_index(["method", "against"])
    refit = "component + surgeon + reconstruct"
    assert f"would show {table.loc[(refit, 'global + surgeon + reconstruct'), 'detectable']:.3f} with" in TEXT
    worth = f"{table.loc[(refit, 'component + surgeon'), 'difference']:.2f} (`component`, against none)"
    assert f"is worth {worth}" in " ".join(TEXT.split())
