"""Readings of committed tables, as the tests of what is said about them need them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd

from prunectl.experiments import statistics
from prunectl.experiments.analysis.curves import panels, run_draws
from prunectl.experiments.sweeping.schema import METHOD
from prunectl.experiments.sweeping.store import Store
from prunectl.pruning import Method
from tests.conftest import ROOT


@cache
def cells(folder: str) -> pd.DataFrame:
    """The pruned cells of results/FOLDER that were computed, with their method's label."""
    table = pd.read_parquet(ROOT / "results" / folder / "results.parquet")
    table = table[(table["status"] == "done") & table["grouping"].notna()]
    labels = [Method.recorded(list(map(str, names))).label for names in table[METHOD].to_numpy()]
    return table.assign(method=labels, value=table["normalised_return"].astype(float))


@cache
def table(path: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "results" / path)


@cache
def text(path: str) -> str:
    """Its words with single spaces between them."""
    return " ".join((ROOT / path).read_text().split())


def at(folder: str, method: str, sparsity: float, **where: str) -> pd.Series:
    """Normalised returns by controller."""
    found = cells(folder)
    found = found[(found["method"] == method) & (found["sparsity_asked"] == sparsity)]
    for column, value in where.items():
        found = found[found[column] == value]
    return found.set_index("controller")["value"]


@cache
def kept(folder: str) -> pd.DataFrame:
    """By controller, method and asked sparsity: the normalised return (``value``), the lower end of its one-sided 95%
    interval over episodes (``sure``), the seconds of plan, surgery and recovery, and the parameters that act."""
    rows = []
    with Store.reading(ROOT / "results" / folder) as store:
        for panel in panels(store):
            for curve in panel.curves:
                drawn = run_draws(panel, curve, np.random.default_rng(0))
                assert drawn is not None
                sure = statistics.interval(drawn[1][:, 0], confidence=0.9)[0]
                for asked, value, low in zip(curve.asked, drawn[0][0], sure, strict=True):
                    rows.append((panel.controller, curve.method.label, float(asked), float(value), float(low)))
    found = pd.DataFrame(rows, columns=["controller", "method", "asked", "value", "sure"])
    own = cells(folder)
    spent = own["plan_seconds"] + own["surgery_seconds"] + own["recovery_seconds"]
    own = own.assign(seconds=spent, asked=own["sparsity_asked"])[
        ["controller", "method", "asked", "seconds", "params_deployed"]
    ]
    return found.merge(own, how="left").set_index(["controller", "method", "asked"])


def contrast(kind: str, ours: str, theirs: str, beside: str = "", family: str = "all") -> pd.Series:
    found = table("reference/contrasts.csv").fillna("")
    names = ["kind", "ours", "theirs", "beside", "family"]
    (row,) = found[(found[names] == [kind, ours, theirs, beside, family]).all(axis=1)].to_dict("records")
    return pd.Series(row)


def by_family(folder: str, ours: str, theirs: str) -> pd.DataFrame:
    """The contrasts of one choice with another that results/FOLDER has, by family."""
    rows = table(f"{folder}/contrasts.csv")
    return rows[(rows["ours"] == ours) & (rows["theirs"] == theirs)].set_index("family")


def bold(row: pd.Series) -> str:
    """Its interval, bold where a difference is shown."""
    return f"**{interval(row)}**" if row["p"] < 0.05 else interval(row)


def interval(row: pd.Series) -> str:
    return f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"


def two(value: float) -> str:
    """Two digits, and no zero below zero."""
    return f"{value:.2f}".replace("-0.00", "0.00")


def s95s(folder: str, method: str) -> pd.DataFrame:
    """By controller: s95 on the deployed axis along the monotone curve of its cells, and whether that never falls."""
    rows = {}
    for name, own in cells(folder)[cells(folder)["method"] == method].groupby("controller", sort=False):
        own = own.astype({"sparsity_deployed": float}).sort_values("sparsity_deployed", kind="stable")
        x, y = own["sparsity_deployed"].to_numpy(), own["value"].to_numpy()
        rows[name] = float(statistics.s95(y, x)), bool(statistics.monotone(y)[-1] >= 0.95)
    return pd.DataFrame(rows, index=["s95", "open"]).T


def standing(method: str, folder: str = "reference") -> pd.Series:
    return table(f"{folder}/leaderboard.csv").set_index("method").loc[method]
