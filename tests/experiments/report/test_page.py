"""The report page as a file: what is in it, that it says what the store says, and what it weighs."""

from __future__ import annotations

import fnmatch
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from prunectl.experiments.analysis.findings import findings
from prunectl.experiments.drawing.style import look
from prunectl.experiments.report import page as page_parts
from prunectl.experiments.report.page import assemble
from prunectl.experiments.report.page.data import page_data
from prunectl.experiments.report.write import write_report
from prunectl.experiments.stability.bounds import Checks, Count
from prunectl.experiments.sweeping.cell import Cell
from prunectl.experiments.sweeping.store import Store
from prunectl.pruning import Method
from tests.conftest import ROOT
from tests.experiments.fakes import cell, episodes, outcome, record_curves, subject

METHODS = (Method("stock-global", "magnitude", "uniform", "none"), Method(recovery="none"), Method())
NASTY = "</script><!--<img src=x onerror=alert(1)>"


def data_of(folder: Path) -> dict[str, Any]:
    """The page's data, made without the figures."""
    with Store.reading(folder) as store:
        return page_data(findings(store), (), folder)


def embedded(page: str) -> dict[str, Any]:
    """The data as a browser would find it."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found is not None
    parsed: dict[str, Any] = json.loads(found[1])
    return parsed


def record(folder: Path, cells: Mapping[Cell, list[float] | str | None]) -> None:
    """A sweep: of each cell its returns, why it failed, or None while it was not computed."""
    with Store.writing(folder) as store:
        store.plan(list(cells))
        for entry, what in cells.items():
            if isinstance(what, str):
                store.record_failure(entry, what)
            elif what is not None:
                store.record(entry, outcome(what, entry.sparsity / 2, entry.sparsity, integrity=0.5))
        store.record_random(episodes([-10.0, 10.0]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    full = METHODS[2]
    record(
        tmp_path,
        {
            cell(subject(NASTY)): [90.0, 110.0],
            cell(subject(NASTY), full, 0.5): [1 / 3, 100 + 2 / 3],
            cell(subject(NASTY), full, 0.9): "<b>no</b>",
            cell(subject(NASTY), full, 0.95): None,
        },
    )
    return tmp_path


def test_the_data_are_what_the_store_holds(folder: Path) -> None:
    data = data_of(folder)
    cells = data["cells"]
    assert cells["method"] == [None, 0, 0]
    assert cells["sparsity_asked"] == [0, 0.5, 0.9]
    assert cells["sparsity_deployed"] == [0, 0.25, None]
    assert cells["mean_return"] == [100, 50.5, None]
    assert cells["normalised_return"] == [1, 0.505, None]
    assert cells["integrity"] == [0.5, 0.5, None]
    assert cells["returns"] == [[90, 110], [0.3333333, 100.6667], []]
    assert cells["error"] == [None, None, "<b>no</b>"]
    assert [data["widths"][number] for number in cells["widths"][:2]] == [
        [[33, 2], [33, 1]],
        [[25, 2], [8, 1]],
    ]
    (controller,) = data["controllers"]
    assert [(part["name"], part["deployed"], part["widths"]) for part in controller["components"]] == [
        ("actor", True, [30, 2]),
        ("value", False, [30, 1]),
    ]
    (panel,) = data["panels"]
    assert (panel["dense"], panel["random"]) == (100, 0)
    (curve,) = panel["curves"]
    assert (curve["deployed"], curve["total"], curve["return"], curve["normalised"]) == ([0.25], [0.5], [50.5], [0.505])
    assert curve["return_low"][0] <= 50.5 <= curve["return_high"][0]
    own = look(METHODS[2])
    assert data["methods"][0]["label"] == METHODS[2].label
    assert (data["methods"][0]["colour"], data["methods"][0]["symbol"]) == (own.colour, own.symbol)


def test_the_checks_of_stability_are_among_the_cells_where_they_were_recorded(folder: Path) -> None:
    assert not [name for name in data_of(folder)["cells"] if "stability" in name or "rising" in name]
    with Store.writing(folder) as store:
        dense, pruned = (cell(subject(NASTY), of, s, stability=100) for of, s in ((None, 0.0), (METHODS[2], 0.5)))
        store.record(dense, outcome([1.0, 2.0], checks=Checks(Count(0, 100), None)))
        store.record(pruned, outcome([1.0, 2.0], checks=Checks(Count(1, 100), Count(100, 100))))
        store.plan([dense, pruned, cell(subject("other"))])
        store.record(cell(subject("other")), outcome([1.0, 2.0]))
    cells = data_of(folder)["cells"]
    assert cells["stability_starts"] == [100, 100, None]
    assert cells["unstable"] == [0, 1, None]
    assert cells["unstable_bound"] == pytest.approx([1 - 0.05 ** (1 / 100), 0.0466, None], abs=1e-4)
    assert (cells["rising"], cells["rising_bound"]) == ([None, 100, None], [None, 1, None])


def test_names_and_errors_cannot_become_markup(folder: Path) -> None:
    page = assemble(NASTY, data_of(folder))
    assert "<img src=x" not in page
    assert page.count("</script>") == len(re.findall("<script[ >]", page)) == 3
    assert embedded(page)["controllers"][0]["name"] == NASTY
    assert "<title>&lt;/script&gt;&lt;!--&lt;img" in page


def test_the_page_refers_to_nothing_outside_itself(folder: Path) -> None:
    page = assemble("title", data_of(folder))
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", page)
    assert "default-src 'none'" in page
    assert not re.findall(r"\{\{\w+\}\}", page)


def test_curves_over_controllers_are_the_aggregates(tmp_path: Path) -> None:
    """Four controllers, one of them bad: the inter-quartile mean leaves it out, the mean does not."""
    with Store.writing(tmp_path) as store:
        good = {METHODS[2]: {0.5: 100.0, 0.75: 80.0}}
        record_curves(store, {"bad": {METHODS[2]: {0.5: 0.0, 0.75: -40.0}}} | dict.fromkeys(("a", "b", "c"), good))
    (means,) = data_of(tmp_path)["means"]
    assert (means["task"], means["runs"], means["pairs"]) == (None, 4, 1)
    total, deployed = (
        next(curve for curve in means["curves"] if curve["axis"] == axis) for axis in ("total", "deployed")
    )
    assert total["x"] == [0, 0.5, 0.75]
    assert total["iqm"] == [1, 1, 0.8]
    assert total["mean"] == [1, 0.75, 0.6]
    assert all(
        low <= mean <= high for low, mean, high in zip(*(total[f"mean{e}"] for e in ("_low", "", "_high")), strict=True)
    )
    # What asks for 0.5 of everything takes 0.7 of what is deployed: two sevenths of the way to it are left.
    assert deployed["iqm"][:2] == [1, 1]
    assert deployed["mean"][1] == pytest.approx(0.75 + 0.25 * 2 / 7)


@pytest.mark.parametrize(("sparsities", "named"), [([0.5, 0.9, 0.95], True), ([0.5, 0.9], False)])
def test_missing_cells_are_named_where_the_config_agrees_with_the_store(
    folder: Path, sparsities: list[float], named: bool
) -> None:
    config = {
        "controllers": [{"controller": "x.zip", "name": NASTY, "task": "CartPole-v1"}],
        "methods": [{"grouping": "component", "importance": "surgeon", "allocation": "uniform", "recovery": "distill"}],
        "sparsities": sparsities,
        "seeds": [0],
        "only": [],
    }
    assert data_of(folder)["missing"] is None
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    data = data_of(folder)
    assert data["planned"] == 4
    assert data["missing"] == ([[NASTY, "CartPole-v1", METHODS[2].label, None, 0.95, 0]] if named else None)
    assert yaml.safe_load(data["made"]["config"]) == config


@pytest.mark.parametrize(
    "changed", [{"budgets": [5]}, {"steps": [0]}, {"schedule": "cubic"}, {"methods": [7]}], ids=str
)
def test_a_record_that_somebody_has_changed_names_no_cells(folder: Path, changed: dict[str, object]) -> None:
    names = {"grouping": "component", "importance": "surgeon", "allocation": "uniform", "recovery": "distill"}
    plain = {"controllers": [{"name": NASTY}], "methods": [names], "sparsities": [0.5], "seeds": [0], "only": []}
    (folder / "config.yaml").write_text(yaml.safe_dump(plain | changed))
    assert data_of(folder)["missing"] is None


def test_a_store_of_four_thousand_cells_stays_under_six_megabytes(tmp_path: Path) -> None:
    """Worked out from one of 100, all returns different and with all their digits."""
    generator = np.random.default_rng(0)
    cells: dict[Cell, list[float] | str | None] = {cell(episodes=20): generator.normal(1e3, 1e2, 20).tolist()}
    for method in METHODS:
        for sparsity in np.linspace(0.1, 0.98, 33):
            pruned = cell(method=method, sparsity=float(sparsity), episodes=20)
            cells[pruned] = generator.normal(1e3, 1e2, 20).tolist()
    record(tmp_path, cells)
    data = data_of(tmp_path)
    whole, bare = (len(assemble("title", shown).encode()) for shown in (data, {}))
    assert len(data["cells"]["returns"]) == 100
    assert bare + (whole - bare) * 40 < 6_000_000


def test_the_report_makes_the_page(folder: Path) -> None:
    write_report(folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f"<h1>{folder.name}</h1>" in page
    summary = next(table for table in embedded(page)["tables"] if table["name"] == "summary")
    columns = {column["name"]: column["values"] for column in summary["columns"]}
    assert columns["controller"] == [NASTY]
    assert columns["s95_total"] == pytest.approx([0.05 / 0.495 * 0.5], rel=1e-5)


def test_a_mean_over_curves_that_never_fell_is_marked_as_a_lower_bound_in_the_leaderboard(tmp_path: Path) -> None:
    curves = {METHODS[0]: {0.5: 50.0, 0.75: 0.0}, METHODS[2]: {0.5: 100.0, 0.75: 99.0}}
    with Store.writing(tmp_path) as store:
        record_curves(store, {"one": curves, "two": curves})
    write_report(tmp_path)
    tables = {table["name"]: table for table in embedded((tmp_path / "report.html").read_text())["tables"]}
    columns = {column["name"]: column["values"] for column in tables["leaderboard"]["columns"]}
    assert columns["method"] == [METHODS[2].label, METHODS[0].label]
    assert columns["s95_open"] == [True, False]
    assert "s95_open" not in (tmp_path / "leaderboard.csv").read_text()


def test_every_part_of_the_page_is_installed() -> None:
    with (ROOT / "pyproject.toml").open("rb") as stream:
        patterns = tomllib.load(stream)["tool"]["setuptools"]["package-data"]["prunectl.experiments"]
    parts = [path for path in Path(page_parts.__file__).parent.iterdir() if path.suffix in (".html", ".css", ".js")]
    assert len(parts) == 7
    assert all(any(fnmatch.fnmatch(f"report/page/{path.name}", pattern) for pattern in patterns) for path in parts)
