"""What results/bytes says is in its tables."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from prunectl.experiments.deploying.bytes_study import ANY, KEPT, fewest
from tests.conftest import ROOT
from tests.docs.committed import table, text

SAID, HARD = "results/bytes/README.md", "sac/HalfCheetah-v3_1"
WORLDS = SWINGUP, PENDULUM = "tdmpc-swingup-1", "tdmpc-pendulum-1"


def test_the_fewest_bytes_are_in_the_readme_as_they_are_in_their_table() -> None:
    lines = (ROOT / "results/bytes/fewest.md").read_text().splitlines()
    shown = [line for line in lines if line.startswith("|")]
    assert "\n".join(shown) in (ROOT / SAID).read_text()
    points = table("bytes/bytes.csv")
    best = fewest(points).loc[ANY]
    assert len(shown) == 2 + len(fewest(points))
    eight = fewest(points).loc["rounded to 8 bits"]
    assert f"that kept {KEPT} of the return" in text(SAID)
    median = f"{np.median(eight):.0f} times fewer bytes"
    assert f"on the median of these {len(best)} {median}, {np.median(best):.0f} by the best way" in text(SAID)
    agents = f"{np.median(eight.drop([*WORLDS])):.0f} times fewer bytes"
    said = text("results/README.md")
    assert f"on the median of six agents of 256-256 {agents} at {KEPT}" in said
    assert {f"{eight[name]:.0f}" for name in WORLDS} == {"245"}
    assert "lower end; 245 on two world models" in said
    floats = fewest(points).loc["pruned"]
    assert f"pruning alone {floats.min():.0f} to {floats.max():.0f}" in text(SAID)
    assert 3 < points[(points["way"] == "rounded to 8 bits") & (points["sparsity"] == 0)]["fewer"].max() < 4


def test_what_is_said_at_equal_bytes() -> None:
    readme, points = text(SAID), table("bytes/bytes.csv").set_index(["controller", "way", "sparsity"])

    def at(way: str, sparsity: float, name: str = HARD) -> Mapping[str, float]:
        return dict(points.loc[(name, way, sparsity)])

    def kept(*place: object) -> str:
        return f"{at(*place)['normalised_return']:.2f}"  # type: ignore[arg-type]

    small = [at("rounded to 8 bits", 0.99, name) for name in WORLDS]
    assert {f"{one['bytes']:,.0f} {one['normalised_return']:.2f}" for one in small} == {"6,814 1.00"}
    assert {f"{at('pruned', 0.0, name)['bytes'] / 1e6:.2f}" for name in WORLDS} == {"1.67"}
    eight, taught = at("rounded to 8 bits", 0.95), at("taught in 4 bits", 0.9)
    for said in (
        "with 6,814 bytes of 1.67 million, 245 times fewer, and keeps 1.00 on both",
        f"Low rank fails on CartPoleSwingUp ({kept('low rank', 0.95, SWINGUP)} at 0.95)",
        f"{kept('taught in 4 bits', 0.98, SWINGUP)} against {kept('rounded to 4 bits', 0.98, SWINGUP)}, on Pendulum "
        f"{kept('taught in 4 bits', 0.98, PENDULUM)} against {kept('rounded to 4 bits', 0.98, PENDULUM)}",
        f"HalfCheetah in {eight['bytes']:,.0f} bytes, {eight['fewer']:.0f} times fewer, keeps "
        f"{kept('rounded to 8 bits', 0.95)}",
        f"{kept('rounded to 4 bits', 0.0)} dense and {kept('rounded to 4 bits', 0.9)} at 0.9",
        f"{kept('taught in 4 bits', 0.9)} at 0.9, {taught['fewer']:.0f} times fewer",
        f"at 0.98 it is {kept('taught in 8 bits', 0.98)} against {kept('rounded to 8 bits', 0.98)}",
    ):
        assert said in readme, said
