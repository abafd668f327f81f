"""What results/deployment and the front page say of machines that run C, ONNX and PyTorch is what the table holds."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.docs.committed import table, text, two

WIDE = ("sac-reacher-1", "td3-pendulum-1")


def rows(form: str) -> pd.DataFrame:
    """By controller, in one form."""
    found = table("deployment/deployment.csv")
    return found[found["form"] == form].set_index("controller")


def span(values: list[float], digits: int = 1) -> str:
    """The least and the most of them, or the one that both are."""
    return " to ".join(dict.fromkeys(f"{value:.{digits}f}" for value in (min(values), max(values))))


def claims() -> list[str]:
    plain, fast, eight, whole = (rows(form) for form in ("C -O2", "C -O3 fast", "int8 C -O2", "int8 C -O3 fast"))
    eager, runtime, plans = rows("torch"), rows("onnxruntime"), rows("plan in torch")
    small = [f"{name}-0.9" for name in WIDE]
    ahead, fast_ahead = ([float(of.loc[name, "times_faster"]) for name in small] for of in (plain, fast))
    medians = [[float(plain.loc[name, "median_us"]) for name in names] for names in (small, WIDE)]
    kilobytes = [plain.loc[name, "flash"] / 1e3 for name in WIDE]
    policy = [rows("C -O2").loc[name] for name in ("tdmpc-pendulum-1", "tdmpc-pendulum-1-0.9")]
    # Rounded weights buy time for the dense controllers alone, where the compiler may use all of the processor.
    assert all(eight.loc[name, "median_us"] > plain.loc[name, "median_us"] for name in (*WIDE, *small))
    assert all(whole.loc[name, "median_us"] < fast.loc[name, "median_us"] for name in WIDE)
    assert all(whole.loc[name, "median_us"] > fast.loc[name, "median_us"] for name in small)
    floats, coded = (of.dropna(subset=["normalised_return"])["normalised_return"] for of in (plain, eight))
    assert (floats - coded).abs().max() < 0.01
    return [
        f"decides in {span(medians[0])} µs instead of {span(medians[1])} ({span(ahead)} times faster at "
        f"-O2, {span(fast_ahead, 0)} times at -O3",
        f"takes {plain.loc[small[0], 'flash'] / 1e3:.0f} KB instead of {span(kilobytes, 0)}",
        f"eight bits {eight.loc[small[0], 'flash'] / 1e3:.1f} KB and {eight.loc[small[0], 'ram'] / 1e3:.0f} KB of",
        f"Eager PyTorch hides that: {eager.loc[small[0], 'median_us']:.0f} µs instead of "
        f"{eager.loc[WIDE[0], 'median_us']:.0f}.",
        f"ONNX Runtime shows {span([float(runtime.loc[name, 'times_faster']) for name in small])} of it",
        f"64-64 pruned to {plain.loc['ppo-cartpole-1-0.9', 'parameters']} parameters is "
        f"{plain.loc['ppo-cartpole-1-0.9', 'times_faster']:.1f} times faster at -O2",
        f"planner, {plans.loc['tdmpc-pendulum-1', 'median_us'] / 1e3:.1f} ms a decision in PyTorch, takes "
        f"{plans.loc['tdmpc-pendulum-1-0.9', 'median_us'] / 1e3:.1f} ms pruned: 0.9 of the parameters are "
        f"{plans.loc['tdmpc-pendulum-1-0.9', 'times_faster']:.1f} of the time",
        f"keeps {two(policy[1]['normalised_return'])} of the return in {policy[1]['median_us']:.1f} µs pruned "
        f"({two(policy[0]['normalised_return'])} in {policy[0]['median_us']:.1f} dense",
    ]


@pytest.mark.parametrize("claim", range(8))
def test_the_page_says_what_the_table_holds(claim: int) -> None:
    assert claims()[claim] in text("results/deployment/README.md")
    assert len(claims()) == 8


def test_so_does_the_front_page() -> None:
    plain, eager = rows("C -O2"), rows("torch")
    small, dense = "td3-pendulum-1-0.9", "td3-pendulum-1"
    said = text("README.md")
    medians = [f"{plain.loc[name, 'median_us']:.1f}" for name in (small, dense)]
    faster = f"{plain.loc[small, 'times_faster']:.1f} times faster at -O2"
    assert f"decides in {medians[0]} µs instead of {medians[1]}, {faster}" in said
    assert f"{eager.loc[small, 'median_us']:.0f} µs instead of {eager.loc[dense, 'median_us']:.0f}: at batch 1" in said
