"""What results/bytes says is in its tables."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from prunectl.experiments.deploying.bytes_study import ANY, KEPT, fewest
from tests.conftest import ROOT
from tests.docs.committed import table, text

SAID, HARD, WORLD = "results/bytes/README.md", "sac/HalfCheetah-v3_1", "tdmpc-pendulum-1"


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
    agents = f"{np.median(eight.drop(WORLD)):.0f} times fewer bytes"
    said = text("results/README.md")
    assert f"on the median of six agents of 256-256 {agents} at {KEPT}" in said
    assert f"lower end; {eight[WORLD]:.0f} on a world model" in said
    floats = fewest(points).loc["pruned"]
    assert f"pruning alone {floats.min():.0f} to {floats.max():.0f}" in text(SAID)
    assert 3 < points[(points["way"] == "rounded to 8 bits") & (points["sparsity"] == 0)]["fewer"].max() < 4


def test_what_is_said_at_equal_bytes() -> None:
    readme, points = text(SAID), table("bytes/bytes.csv").set_index(["controller", "way", "sparsity"])

    def at(way: str, sparsity: float, name: str = HARD) -> Mapping[str, float]:
        return dict(points.loc[(name, way, sparsity)])

    def kept(*place: object) -> str:
        return f"{at(*place)['normalised_return']:.2f}"  # type: ignore[arg-type]

    world = at("rounded to 8 bits", 0.99, WORLD)
    eight, taught = at("rounded to 8 bits", 0.95), at("taught in 4 bits", 0.9)
    for said in (
        f"{world['bytes']:,.0f} bytes of {at('pruned', 0.0, WORLD)['bytes']:,.0f}, {world['fewer']:.0f} times fewer, "
        f"and keeps {kept('rounded to 8 bits', 0.99, WORLD)} ({world['low']:.2f} at the lower end)",
        f"in four bits at 0.98 it is {kept('taught in 4 bits', 0.98, WORLD)} against "
        f"{kept('rounded to 4 bits', 0.98, WORLD)}",
        f"HalfCheetah in {eight['bytes']:,.0f} bytes, {eight['fewer']:.0f} times fewer, keeps "
        f"{kept('rounded to 8 bits', 0.95)}",
        f"{kept('rounded to 4 bits', 0.0)} dense and {kept('rounded to 4 bits', 0.9)} at 0.9",
        f"{kept('taught in 4 bits', 0.9)} at 0.9, {taught['fewer']:.0f} times fewer",
        f"at 0.98 it is {kept('taught in 8 bits', 0.98)} against {kept('rounded to 8 bits', 0.98)}",
    ):
        assert said in readme, said
