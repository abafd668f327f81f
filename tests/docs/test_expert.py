"""The numbers that results/expert/README.md says are those of its tables."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.conftest import ROOT

FOLDER = ROOT / "results" / "expert"
TEXT = (FOLDER / "README.md").read_text()


def cells(*folders: str) -> pd.DataFrame:
    """What was pruned, with the method as the tables of the text name it."""
    found = pd.concat([pd.read_parquet(FOLDER / folder / "results.parquet") for folder in folders])
    found = found[found["only"] == "deployed"]
    divided = found["allocation"].map(lambda name: "" if name == "uniform" else f" + {name}")
    return found.assign(method=found["grouping"] + " + " + found["importance"] + divided)


def test_every_return_is_that_of_its_cell() -> None:
    table = cells(".", "tdmpc").set_index(["method", "recovery", "controller", "sparsity_asked"])["normalised_return"]
    header, _, *rows = [line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith("| ")][:13]
    by_name = {name.partition("-v3")[0]: name for name in table.index.unique("controller")}
    compared = 0
    for cut, recovery, *columns in rows:
        for shown, said in zip(header[2:], columns, strict=True):
            for sparsity, number in zip((0.9, 0.95), said.split(", ") if said != "-" else (), strict=said != "-"):
                value = table.get((cut, recovery, by_name[shown], sparsity))
                assert number == ("-" if value is None or pd.isna(value) else f"{value:.2f}"), (cut, recovery, shown)
                compared += 1
    assert compared == len(table) - len(table[table.index.get_level_values("method").str.contains("searched")])


@pytest.mark.parametrize(
    "against",
    [
        "stock-global + taylor + reconstruct",
        "stock-global + hessian + reconstruct",
        "stock-local + hessian + reconstruct",
        "lowrank + activation + reconstruct",
    ],
)
def test_each_difference_is_that_of_the_comparison(against: str) -> None:
    row = pd.read_csv(FOLDER / "comparison.csv").set_index("against").loc[against]
    assert f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}], p {row['p']:.3f}" in TEXT


CHEETAH, HOPPER, DOUBLE, SWINGUP = (
    "sac/HalfCheetah-v3_1",
    "ppo/Hopper-v3_1",
    "sac-shared-double-pendulum-1",
    "tdmpc-swingup-1",
)


@pytest.mark.parametrize(
    ("said", "where", "sparsity", "cuts"),
    [
        ("(0.81, the default 0.80)", CHEETAH, 0.9, ["stock-local + hessian", "component + surgeon"]),
        ("nothing is left after it (0.01)", DOUBLE, 0.9, ["stock-global + magnitude"]),
        (
            "0.64 against 0.39, 0.37 and 0.30",
            CHEETAH,
            0.95,
            ["component + surgeon", "stock-global + hessian", "stock-local + hessian", "stock-global + taylor"],
        ),
        ("1.04 against 0.98", HOPPER, 0.95, ["stock-local + hessian", "component + surgeon"]),
        ("0.99 at 0.95, where no stock", SWINGUP, 0.95, ["component + surgeon"]),
        ("keeps more than 0.50", SWINGUP, 0.95, ["stock-global + hessian"]),
        ("gone at 0.9 (0.01)", CHEETAH, 0.9, ["lowrank + activation"]),
        ("as good (1.00)", SWINGUP, 0.9, ["lowrank + activation"]),
    ],
)
def test_the_text_says_what_its_table_does(said: str, where: str, sparsity: float, cuts: list[str]) -> None:
    table = cells(".", "tdmpc")
    table = table[(table["recovery"] == "reconstruct") & (table["sparsity_asked"] == sparsity)]
    returns = table[table["controller"] == where].set_index("method")["normalised_return"]
    numbers = [f"{returns[cut]:.2f}" for cut in cuts]
    assert said in " ".join(TEXT.split())
    assert all(number in said for number in numbers)
    if "no stock" in said or "more than" in said:
        assert max(returns[name] for name in returns.index if name.startswith("stock")) <= 0.504


def test_what_a_search_is_worth_is_that_of_its_store() -> None:
    table = cells("searched")
    means = table.groupby(["controller", "sparsity_asked", "allocation"])["normalised_return"].mean().unstack()
    for (controller, sparsity), row in means.iterrows():
        said = " | ".join(f"{row[name]:.2f}" for name in ("uniform", "searched", "searched-return"))
        assert f"| {controller} | {sparsity:g} | {said} |" in TEXT
    compared = pd.read_csv(FOLDER / "searched" / "comparison.csv").set_index(["method", "against"])
    plain, error, returned = (
        f"component + surgeon{divided} + reconstruct" for divided in ("", " + searched", " + searched-return")
    )
    for one, other in ((error, plain), (returned, plain), (error, returned)):
        row = compared.loc[(one, other)]
        assert f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]" in TEXT
    seconds = table.groupby("allocation")["plan_seconds"].mean()
    assert f"in {seconds['searched']:.0f} s instead of {seconds['searched-return']:.0f} in the mean" in " ".join(
        TEXT.split()
    )


NORMALISERS = {
    "its mean, as it comes": "",
    "`-sum`": "-sum",
    "`-max`": "-max",
    "`-raw`": "-raw",
    "`-gaussian`": "-gaussian",
}


def test_the_normalisers_returns_are_those_of_their_cells() -> None:
    table = cells("ways")
    table = table[table["recovery"] == "reconstruct"]
    returns = table.set_index(["controller", "method", "sparsity_asked"])["normalised_return"]
    for said, ending in NORMALISERS.items():
        for importance in ("hessian", "taylor"):
            both = (
                ", ".join(
                    f"{returns[name, f'stock-global{ending} + {importance}', sparsity]:.2f}" for sparsity in (0.9, 0.95)
                )
                for name in (CHEETAH, HOPPER)
            )
            assert f"| {said} | {importance} | {' | '.join(both)} |" in TEXT
    others = table[~table["controller"].isin([CHEETAH, HOPPER])]["normalised_return"].astype(float)
    assert others.min() >= 0.985
    failed = (
        cells("ways").groupby(cells("ways")["recovery"] == "reconstruct")["status"].apply(lambda s: s.ne("done").sum())
    )
    assert failed.tolist() == [3, 3]


def test_what_steps_are_worth_is_that_of_their_comparison() -> None:
    found = pd.read_csv(FOLDER / "ways" / "steps.csv").set_index("against")
    for said, ending in NORMALISERS.items():
        rows = (found.loc[f"stock-global{ending} + {name} + reconstruct"] for name in ("hessian", "taylor"))
        both = (f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]" for row in rows)
        assert f"| {said} | {' | '.join(both)} |" in TEXT
