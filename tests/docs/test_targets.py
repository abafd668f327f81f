"""What is said of microcontrollers is what their committed tables hold."""

from __future__ import annotations

import json

import pytest

from tests.conftest import ROOT
from tests.docs.committed import text

FOLDER = "results/deployment"


def taken(target: str, controller: str, form: str) -> dict[str, float]:
    found = json.loads((ROOT / FOLDER / f"{target}.json").read_text())["benchmarks"]["latency"][0]["rows"]
    (row,) = (row for row in found if (row["controller"], row["form"]) == (controller, form))
    return dict(row)


@pytest.mark.parametrize("document", ["README.md", f"{FOLDER}/README.md"])
def test_numbers_of_the_cortex_m4_are_the_tables(document: str) -> None:
    dense, small = (taken("cortex-m4", name, "float") for name in ("td3-pendulum-1", "td3-pendulum-1-0.9"))
    eight, wide = (taken("cortex-m4", name, "int8") for name in ("td3-pendulum-1-0.9", "td3-pendulum-1"))
    claims = {
        "README.md": [
            f"{small['flash'] / 1e3:.0f} KB of flash, {small['ram'] / 1e3:.1f} KB of RAM and "
            f"{small['instructions']:,} instructions, {dense['instructions'] / small['instructions']:.1f} times fewer",
            f"in eight bits {eight['flash'] / 1e3:.0f} KB and {eight['instructions']:,}",
        ],
        f"{FOLDER}/README.md": [
            f"{dense['instructions']:,} instructions a decision and {dense['flash']:,} bytes",
            f"pruned {small['instructions']:,} and {small['flash']:,} (at most {small['rate_80mhz']:,.0f} decisions",
            f"eight bits as well {eight['instructions']:,} and {eight['flash']:,}.",
            f"instructions there ({wide['instructions']:,};",
        ],
    }
    assert [claim for claim in claims[document] if claim not in text(document)] == []


def test_numbers_of_four_bits_are_the_tables() -> None:
    def both(controller: str) -> tuple[dict[str, float], dict[str, float]]:
        four, eight = (taken("cortex-m4", controller, form) for form in ("int4", "int8"))
        return four, eight

    (dense, eight), (pruned, _), (small, other) = map(
        both, ("td3-pendulum-1", "td3-pendulum-1-0.9", "ppo-cartpole-1-0.9")
    )
    said = text(f"{FOLDER}/README.md")
    assert (
        f"hold the dense actor in {dense['flash']:,} bytes where eight need {eight['flash']:,}, for "
        f"{dense['instructions']:,} instructions; pruned {pruned['flash']:,} and {pruned['instructions']:,}." in said
    )
    assert f"of {small['parameters']} parameters, gains no byte ({small['flash']:,} against {other['flash']:,})" in said
    slow = taken("cortex-m0plus", "td3-pendulum-1-0.9", "int4")
    assert f"In four bits it is {slow['instructions']:,}." in said


def test_numbers_of_the_cortex_m0_are_the_tables() -> None:
    dense, wide = (taken("cortex-m0plus", "td3-pendulum-1", form) for form in ("float", "int8"))
    small = taken("cortex-m0plus", "td3-pendulum-1-0.9", "int8")
    said = text(f"{FOLDER}/README.md")
    assert f"{dense['instructions']:,} in floats and {wide['instructions']:,} in eight bits" in said
    fewer = f"{dense['instructions'] / small['instructions']:.0f} times fewer"
    assert f"it is {small['instructions']:,}, {fewer}, {small['rate_80mhz']:,.0f} decisions" in said


def test_numbers_of_the_esp32_c3_are_the_tables() -> None:
    (dense, wide), (pruned, small), (least, fewest) = (
        [taken("esp32-c3", name, form) for form in ("float", "int8")]
        for name in ("td3-pendulum-1", "td3-pendulum-1-0.9", "ppo-cartpole-1-0.9")
    )
    said = text(f"{FOLDER}/README.md")
    assert (
        f"dense {dense['instructions']:,} in floats and {wide['instructions']:,} in eight bits, pruned "
        f"{pruned['instructions']:,} and {small['instructions']:,}, "
        f"{dense['instructions'] / small['instructions']:.0f} times fewer than dense in floats, "
        f"{small['rate_80mhz']:,.0f} decisions a second at most at 80 MHz"
    ) in said
    assert f"eight bits save a third ({fewest['instructions']:,} against {least['instructions']:,})" in said
    assert fewest["instructions"] / least["instructions"] == pytest.approx(2 / 3, abs=0.05)
