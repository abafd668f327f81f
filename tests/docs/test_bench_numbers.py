"""What results/bench says is what its run found."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.docs.committed import text

FOUND: dict[str, list[dict[str, Any]]] = json.loads((ROOT / "results" / "bench" / "bench.json").read_text())[
    "benchmarks"
]


def row(benchmark: str, section: int = 0, **where: object) -> dict[str, Any]:
    rows = FOUND[benchmark][section]["rows"]
    (found,) = (row for row in rows if all(row[column] == value for column, value in where.items()))
    return dict(found)


def ratio(benchmark: str, case: str, against: str) -> float:
    return float(row(benchmark, case=case, against=against)["ratio"])


def claims() -> list[str]:
    stepping = {
        against: ratio("evaluator", "HalfCheetah-v5", against)
        for against in ("SB3, 1 environment", "bare, random actions", "bare, the same actions")
    }
    wide, narrow = (
        row("surgery", case=f"SAC {width}-{width}", against="Torch-Pruning, on a copy")["ratio"] for width in (4096, 64)
    )
    assert ratio("surgery", "TD-MPC", "Torch-Pruning, on a copy") > 1
    saturated = {row["cells"]: row for row in FOUND["cluster"][3]["rows"]}
    usual = saturated["lognormal, as the leaderboard's"]
    decided, eager = (
        row("latency", 0, controller="sac-reacher-1, pruned", form=form)["times_faster"] for form in ("C -O2", "torch")
    )
    planned = [ratio("planner", f"0.9 pruned, batch {batch}", "dense") for batch in (1, 10)]
    workers = row("sweep")
    assert saturated["10 s each"]["workers"] > 6_000
    return [
        f"{stepping['SB3, 1 environment']:.1f} times Stable-Baselines3's `evaluate_policy`",
        f"{ratio('evaluator', 'Pendulum-v1', 'SB3, 1 environment'):.1f} times on Pendulum",
        f"{stepping['bare, random actions']:.2f} of bare stepping with random actions",
        f"({stepping['bare, the same actions']:.2f} of bare stepping through the very same episodes)",
        f"{wide:.1f} times at 4,096, and for TD-MPC",
        f"{narrow:.1f} at 64 units",
        f"two workers {workers['ratio']:.2f} times one (target {workers['target'].removeprefix('>= ')})",
        f"some {round(usual['rate'], -1):.0f} cells a second",
        f"beyond {usual['workers'] // 10 * 10} workers, for cells of ten seconds beyond 6,000",
        f"Cells of a tenth of a second saturate at {saturated['0.1 s each']['workers']}",
        f"C at -O2 is {decided:.1f} times faster when 0.9 is gone; eager PyTorch {eager:.1f} times",
        f"{planned[0]:.1f} times, {planned[1]:.0f} times in batches",
    ]


@pytest.mark.parametrize("claim", range(len(claims())))
def test_the_page_says_what_the_run_found(claim: int) -> None:
    assert claims()[claim] in text("results/bench/README.md")
