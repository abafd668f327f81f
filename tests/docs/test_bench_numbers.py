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
    surgery = {
        case["case"]: case["ratio"]
        for case in FOUND["surgery"][0]["rows"]
        if case["against"] == "Torch-Pruning, on a copy"
    }
    assert min(surgery.values()) > 1
    step, theirs = (
        10 * 1e6 / row("evaluator", case="HalfCheetah-v5", against="bare, the same actions")[who]
        for who in ("ours", "theirs")
    )
    taught = {case["case"]: case["seconds"] for case in FOUND["distill"][0]["rows"]}
    median = taught.pop("median")
    saturated = {row["cells"]: row for row in FOUND["cluster"][3]["rows"]}
    usual = saturated["lognormal, as the leaderboard's"]
    assert saturated["10 s each"]["workers"] > 4_000
    simulated = {(row["seconds"], row["workers"]): abs(row["ratio"] - 1) for row in FOUND["cluster"][1]["rows"]}
    assert max(simulated[0.1, 1], simulated[0.1, 2]) < 0.1
    assert max(simulated[0.02, 1], simulated[0.02, 2]) < 1 / 3
    decided, eager = (
        row("latency", 0, controller="sac-reacher-1, pruned", form=form)["times_faster"] for form in ("C -O2", "torch")
    )
    planned = [ratio("planner", f"0.9 pruned, batch {batch}", "dense") for batch in (1, 10)]
    workers, bound = (row("sweep", case=case) for case in ("2 workers", "2 processes, nothing shared"))
    *refused, report = (answer["seconds"] for answer in FOUND["answers"][0]["rows"])
    return [
        f"{stepping['SB3, 1 environment']:.1f} times Stable-Baselines3's `evaluate_policy`",
        f"{ratio('evaluator', 'Pendulum-v1', 'SB3, 1 environment'):.1f} times on Pendulum",
        f"{stepping['bare, random actions']:.2f} of bare stepping with random actions",
        f"({stepping['bare, the same actions']:.2f} of bare stepping through the very same episodes)",
        f"takes {step:.0f} µs, of which {theirs:.0f} are theirs: 0.9 would leave {theirs / 0.9 - theirs:.0f} for the",
        f"{surgery['SAC 64-64']:.1f} times at 64 units and {surgery['SAC 4096-4096']:.1f} times at 4,096, and "
        f"{surgery['TD-MPC']:.1f} times for TD-MPC",
        f"{min(taught.values()):.1f} to {max(taught.values()):.0f} s, {median:.1f} in the median of three agents",
        f"two workers {workers['ratio']:.2f} times one (target {workers['target'].removeprefix('>= ')})",
        f"two processes that share nothing reach {bound['ratio']:.2f} there",
        f"refused in {min(refused):.1f} to {max(refused):.1f} s",
        f"the reference study takes {report:.0f} s",
        f"some {round(usual['rate'], -2):.0f} cells a second",
        f"beyond {usual['workers'] // 10 * 10} workers, for cells of ten seconds beyond 4,000",
        f"Cells of a tenth of a second saturate at {saturated['0.1 s each']['workers']}",
        f"C at -O2 is {decided:.1f} times faster when 0.9 is gone; eager PyTorch {eager:.1f} times",
        f"{planned[0]:.1f} times, {planned[1]:.0f} times in batches",
    ]


@pytest.mark.parametrize("claim", range(len(claims())))
def test_the_page_says_what_the_run_found(claim: int) -> None:
    assert claims()[claim] in text("results/bench/README.md")
