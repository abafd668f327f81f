"""A sweep's results as the plain data that the report page draws from."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prunectl.agents.files import read_bounded
from prunectl.experiments import provenance
from prunectl.experiments.analysis.curves import AXES, Array
from prunectl.experiments.analysis.findings import Findings, Tables
from prunectl.experiments.analysis.readings import PanelReading, Reading
from prunectl.experiments.drawing.style import look
from prunectl.experiments.stability.bounds import clopper_pearson
from prunectl.experiments.sweeping.config import read_yaml
from prunectl.experiments.sweeping.connection import AWAY, StoreError
from prunectl.experiments.sweeping.schema import METHOD
from prunectl.pruning import Method, PruningError, variants

#: Digits of a number on the page; ``results.csv`` has them all.
DIGITS = 7
#: Variants of methods that a record may list for each cell of its store; libraries' pruners are listed more than once.
MOST_VARIANTS = 100
#: What the page draws of the aggregates over controllers.
SHOWN = ("iqm", "mean")

_NUMBERS = (
    *("seed", "sparsity_asked", "sparsity_total", "sparsity_deployed", "params_total", "params_deployed"),
    *("macs_deployed", "integrity", "mean_return", "std_return", "normalised_return", "episode_seed"),
)
_TIMES = ("plan_seconds", "surgery_seconds", "recovery_seconds", "evaluate_seconds")


@dataclass(frozen=True)
class Table:
    """A table of the page, besides those of the cells.

    A column ``x`` with ``x_low`` and ``x_high`` beside it is shown as ``x [low, high]``, with a \u2265 where ``x_open``
    is true. Of a ``chosen`` table the page shows the rows of the controllers and methods that the reader chose.
    """

    name: str
    title: str
    frame: pd.DataFrame
    remark: str
    chosen: bool = False


def page_data(found: Findings, tables: Sequence[Table], folder: Path) -> dict[str, Any]:
    """What the page shows, as JSON can hold it: no NaN, numbers rounded to `DIGITS`, long columns as arrays.

    Args:
        found: all that the store says.
        tables: the tables besides those of the cells.
        folder: where ``config.yaml`` and ``provenance.json`` lie, if they were recorded.
    """
    results = found.results
    rows = results[METHOD].dropna().drop_duplicates()
    methods = [Method.recorded(list(map(str, names))) for names in rows.itertuples(index=False)]
    owners = list(dict.fromkeys(zip(results["controller"], results["task"], strict=True)))
    config, made = _recorded(folder)
    widths: dict[str, int] = {}
    return {
        "planned": found.planned,
        "axes": AXES,
        "methods": [_method(method) for method in methods],
        "controllers": [_controller(*owner, results) for owner in owners],
        "panels": [_panel(read, owners, methods) for read in found.panels],
        "means": _means(found, methods),
        "cells": _cells(results, found.returns, owners, methods, widths),
        "widths": [json.loads(text) for text in widths],
        "missing": _missing(config, results, found.planned),
        "tables": [_table(table) for table in tables],
        "made": made,
    }


def _method(method: Method) -> dict[str, str]:
    own = look(method)
    names = {name: str(getattr(method, name)) for name in METHOD}
    return {"label": method.label, **names, "colour": own.colour, "symbol": own.symbol, "dash": own.plotly_dash}


def _controller(name: str, task: str, results: pd.DataFrame) -> dict[str, Any]:
    """A controller with its dense components, which every cell of it that was computed names."""
    own = results[(results["controller"] == name) & (results["task"] == task)]
    described = own["components"].dropna()
    components = json.loads(described.iloc[0]) if len(described) else {}
    return {
        "name": name,
        "task": task,
        "algorithm": str(own["algorithm"].iloc[0]),
        "components": [
            {"name": part, "deployed": about["deployed"], "widths": about["widths_dense"]}
            for part, about in components.items()
        ],
    }


def _panel(read: PanelReading, owners: Sequence[Any], methods: Sequence[Method]) -> dict[str, Any]:
    panel = read.panel
    return {
        "controller": owners.index((panel.controller, panel.task)),
        "only": panel.only,
        "dense": None if panel.dense is None else _number(panel.dense.mean()),
        "random": None if panel.random is None else _number(panel.random.mean()),
        "curves": [{"method": methods.index(own.curve.method), **_points(own)} for own in read.curves],
    }


def _points(own: Reading) -> dict[str, Any]:
    """A curve's sparsities by axis, its mean return and, where it has one, its normalised return, each with the ends of
    its 95% bootstrap interval."""
    columns = {axis: own.curve.sparsity[axis] for axis in AXES}
    for name, band in (("return", own.returns), ("normalised", own.normalised)):
        if band is not None and not np.isnan(band.mean).any():
            columns |= {name: band.mean, f"{name}_low": band.low, f"{name}_high": band.high}
    return {name: _numbers(values) for name, values in columns.items()}


def _means(found: Findings, methods: Sequence[Method]) -> list[dict[str, Any]]:
    """Curves over all controllers, and over those of each task that has several: of `SHOWN`, on each of `AXES`. How
    many runs there are, and how many pairs of an algorithm and a task."""
    several = sum(bool(read.curves) for read in found.whole) > 1
    groups: list[tuple[str | None, Tables]] = [(None, found.aggregates)] if several else []
    means = []
    for task, tables in (*groups, *found.by_task.items()):
        on_axes = {axis: tables[axis] for axis in AXES if axis in tables}
        curves = [
            {"method": methods.index(method), "axis": axis, **_aggregated(table[table["method"] == method])}
            for axis, table in on_axes.items()
            for method in dict.fromkeys(table["method"])
        ]
        runs, pairs = (
            max((int(table[name].max()) for table in on_axes.values()), default=0) for name in ("runs", "tasks")
        )
        means.append({"task": task, "runs": runs, "pairs": pairs, "curves": curves})
    return means


def _aggregated(rows: pd.DataFrame) -> dict[str, Any]:
    """One method's rows of an `aggregate_table`, from the dense controller on."""
    names = [f"{name}{end}" for name in SHOWN for end in ("", "_low", "_high")]
    columns = {"x": [0.0, *rows["sparsity"]]} | {name: [1.0, *rows[name]] for name in names}
    return {name: _numbers(values) for name, values in columns.items()}


def _cells(
    results: pd.DataFrame,
    returns: Mapping[str, Array],
    owners: Sequence[Any],
    methods: Sequence[Method],
    widths: dict[str, int],
) -> dict[str, list[Any]]:
    """The cells, an array a column. ``method`` is None for the dense controller; ``widths`` counts into the list of all
    different widths, which is filled here: those after pruning, a list a component."""
    columns: dict[str, list[Any]] = {name: _numbers(results[name]) for name in _NUMBERS}
    columns |= {name: _numbers(results[name], 3) for name in _TIMES}
    places = {method: number for number, method in enumerate(methods)}
    columns["controller"] = [owners.index(owner) for owner in zip(results["controller"], results["task"], strict=True)]
    columns["method"] = [
        None if pd.isna(names[0]) else places[Method.recorded(list(map(str, names)))]
        for names in results[METHOD].itertuples(index=False)
    ]
    columns["only"] = _texts(results["only"])
    columns["error"] = [
        None if status == "done" else str(error) for status, error in results[["status", "error"]].to_numpy()
    ]
    columns["widths"] = [
        None if pd.isna(text) else widths.setdefault(_pruned(str(text)), len(widths)) for text in results["components"]
    ]
    if results["stability_starts"].notna().any():
        columns |= _stability(results)
    columns["returns"] = [_numbers(returns[key]) if key in returns else [] for key in results["key"]]
    return columns


def _stability(results: pd.DataFrame) -> dict[str, list[Any]]:
    """Failures of both checks, with the upper bounds on their probabilities at 95% confidence."""
    columns: dict[str, list[Any]] = {
        name: _numbers(results[name]) for name in ("stability_starts", "unstable", "rising")
    }
    columns["stability_seconds"] = _numbers(results["stability_seconds"], 3)
    for name in ("unstable", "rising"):
        counts = zip(columns[name], columns["stability_starts"], strict=True)
        columns[f"{name}_bound"] = [None if n is None else _number(clopper_pearson(n, of)) for n, of in counts]
    return columns


def _pruned(components: str) -> str:
    return json.dumps([about["widths_pruned"] for about in json.loads(components).values()])


def _recorded(folder: Path) -> tuple[Mapping[str, Any] | None, dict[str, Any]]:
    """The config as data, and what the page says of how the results were made: what of it was recorded.

    Raises:
        StoreError: what should be the record is something else.
        OSError: it cannot be read, or is too large.
    """
    config, record = folder / "config.yaml", folder / provenance.FILE
    text, data = read_yaml(config, provenance.LARGEST) if config.is_file() else (None, None)
    try:
        made = json.loads(read_bounded(record, provenance.LARGEST)) if record.is_file() else {}
    except (ValueError, RecursionError):
        made = None
    for file, said in ((config, data), (record, made)):
        if not isinstance(said, dict) and file.is_file():
            raise StoreError(f"{file}: no record of a sweep: {AWAY}")
    return data, {**(made or {}), "config": text}


def _missing(config: Mapping[str, Any] | None, results: pd.DataFrame, planned: int) -> list[list[Any]] | None:
    """Controller, task, method, only, sparsity and seed of the cells that were not computed.

    None where they cannot be named: the store knows how many cells a sweep has, the config beside it which. That is
    believed where the two agree.
    """
    if len(results) == planned:
        return []
    if config is None:
        return None
    try:
        cells = _asked(config, planned)
    except (KeyError, TypeError, ValueError, AttributeError, PruningError):  # somebody has changed it
        return None
    known = {_identity(row) for row in results.to_dict("records")}
    return [list(cell) for cell in cells if cell not in known] if known <= set(cells) else None


def _asked(config: Mapping[str, Any], planned: int) -> list[tuple[Any, ...]]:
    """The cells that a config asks for, none unless they are as many as were planned: that is known before they are
    listed."""
    beside = config.get("budgets", [{}]), config.get("steps", [1])
    if math.prod(map(len, (config["methods"], *beside))) > MOST_VARIANTS * planned:
        return []
    methods = (Method.recorded([method[name] for name in METHOD]) for method in config["methods"])
    every = variants(methods, *beside, config.get("schedule", "geometric"), config.get("recovery_budget"))
    axes = config["only"] or (None,), every, sorted(set(config["sparsities"]) - {0}), config["seeds"]
    if len(config["controllers"]) * (1 + math.prod(map(len, axes))) != planned:
        return []
    pruned = [(variant.label, only, float(sparsity), seed) for only, variant, sparsity, seed in product(*axes)]
    return [
        (entry["name"], entry["task"], *cell)
        for entry in config["controllers"]
        for cell in (("dense", None, 0.0, None), *pruned)
    ]


def _identity(row: Mapping[Hashable, Any]) -> tuple[Any, ...]:
    dense = pd.isna(row["grouping"])
    method = "dense" if dense else Method.recorded([str(row[name]) for name in METHOD]).label
    only, seed = (None if pd.isna(row[name]) else row[name] for name in ("only", "seed"))
    return row["controller"], row["task"], method, only, float(row["sparsity_asked"]), seed


def _table(table: Table) -> dict[str, Any]:
    frame = table.frame
    columns = [
        {"name": str(name), "values": _numbers(frame[name], 6) if _numeric(frame[name]) else _texts(frame[name])}
        for name in frame
    ]
    return {
        "name": table.name,
        "title": table.title,
        "remark": table.remark,
        "chosen": table.chosen,
        "columns": columns,
    }


def _numeric(column: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _texts(values: Iterable[Any]) -> list[Any]:
    return [
        bool(value) if isinstance(value, bool | np.bool_) else None if pd.isna(value) else str(value)
        for value in values
    ]


def _numbers(values: Iterable[Any], digits: int = DIGITS) -> list[float | None]:
    return [_number(value, digits) for value in values]


def _number(value: Any, digits: int = DIGITS) -> float | None:
    """Rounded to so many digits, None where it is no number; a whole one stays as it is, and without ".0"."""
    if pd.isna(value) or not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else float(f"{value:.{digits}g}")
