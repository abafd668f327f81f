"""Measuring sides against each other: warmed up, in turns, medians and what the rounds spread over."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

#: How often a side did its work a second, round by round: ``(rounds,)``.
Rates = NDArray[np.float64]


@dataclass(frozen=True)
class Section:
    """A table of a benchmark: ``formats`` has the format of a column's numbers, ``remark`` how to read it."""

    title: str
    table: pd.DataFrame
    formats: Mapping[str, str]
    remark: str


def comparison(title: str, rows: Sequence[Mapping[str, Any]], rates: str, remark: str) -> Section:
    """A table of `compared` rows; ``rates`` is the format of both sides' rates."""
    formats = {"ours": rates, "theirs": rates, "ratio": ".2f", "lowest": ".2f", "highest": ".2f", "parameters": ","}
    return Section(title, pd.DataFrame(rows), formats, remark)


def per_second(work: Callable[[], float]) -> float:
    """How much ``work`` says it did, a second of processor time: what else the machine is doing matters little then."""
    with undisturbed():
        started = time.process_time()
        amount = work()
        return amount / (time.process_time() - started)


def interleaved(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Rates]:
    """Rates of each side: once to warm up, then all sides in turn, round by round (A B A B ...)."""
    for side in sides.values():
        side()
    taken = [[side() for side in sides.values()] for _ in range(rounds)]
    return dict(zip(sides, np.asarray(taken).T, strict=True))


def compared(case: str, ours: Rates, against: str, theirs: Rates, **target: float) -> dict[str, Any]:
    """A row of a table: both medians, their ratio, and the lowest and highest ratio of a round."""
    ratio = float(np.median(ours) / np.median(theirs))
    by_round = ours / theirs
    return {
        "case": case,
        "ours": float(np.median(ours)),
        "against": against,
        "theirs": float(np.median(theirs)),
        "ratio": ratio,
        "lowest": float(by_round.min()),
        "highest": float(by_round.max()),
        **judged(ratio, **target),
    }


def judged(value: float, at_least: float | None = None, at_most: float | None = None) -> dict[str, str | None]:
    """The columns that say which target a value has and whether it holds; both empty where there is none."""
    if at_least is not None:
        return {"target": f">= {at_least:g}", "held": "yes" if value >= at_least else "no"}
    if at_most is not None:
        return {"target": f"<= {at_most:g}", "held": "yes" if value <= at_most else "no"}
    return {"target": None, "held": None}


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage collection in between; what there is now is collected first."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
