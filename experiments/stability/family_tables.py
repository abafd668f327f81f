"""A family's stability as tables for people and as plain data for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prunectl.experiments.stability.bounds import CONFIDENCE, TOLERATED, Count
from prunectl.experiments.stability.measure import Family, Stability


def overview(family: Family) -> pd.DataFrame:
    """A row a controller, all numbers."""
    return pd.DataFrame([_row(family, member) for member in family.members])


def _row(family: Family, member: Stability) -> dict[str, Any]:
    decrease = member.decrease
    return {
        "controller": member.candidate.name,
        "sparsity_total": member.candidate.sparsity_total,
        "sparsity_deployed": member.candidate.sparsity_deployed,
        "mean_return": member.mean_return,
        "normalised_return": float(family.normalised[family.members.index(member)]),
        "starts": member.unstable.trials,
        "unstable": member.unstable.failures,
        "unstable_bound": member.unstable.bound,
        "rising": None if decrease is None else decrease.rising.failures,
        "rising_bound": None if decrease is None else decrease.rising.bound,
        "worst": None if decrease is None else decrease.worst,
        "decay": None if decrease is None else decrease.decay,
        "attraction_kept": family.kept(member),
        "holds": member.holds,
    }


def readable(family: Family) -> pd.DataFrame:
    """The same for reading, failures with their bounds."""
    rows = []
    for member in family.members:
        row, decrease = _row(family, member), member.decrease
        rows.append(
            {
                "controller": row["controller"],
                "deployed sparsity": f"{row['sparsity_deployed']:.3f}",
                "return": f"{row['mean_return']:,.1f}",
                "normalised": f"{row['normalised_return']:.3f}",
                "does not settle": str(member.unstable),
                "V does not fall": "-" if decrease is None else str(decrease.rising),
                "decay (1/s)": "-" if decrease is None else f"{decrease.decay:.2f}",
                "region kept": "-" if row["attraction_kept"] is None else f"{row['attraction_kept']:.1%}",
                "holds": "yes" if member.holds else "no",
            }
        )
    return pd.DataFrame(rows)


def robustness(family: Family) -> pd.DataFrame:
    """A row a controller and condition; empty where none was asked for."""
    return pd.DataFrame(
        [
            {
                "controller": member.candidate.name,
                "sparsity_deployed": member.candidate.sparsity_deployed,
                "condition": str(borne.condition),
                "mean_return": borne.mean_return,
                "std_return": borne.std_return,
                "episodes": borne.unstable.trials,
                "unstable": borne.unstable.failures,
                "unstable_bound": borne.unstable.bound,
            }
            for member in family.members
            for borne in member.borne
        ]
    )


def readable_robustness(family: Family) -> pd.DataFrame:
    """A row a controller, a column a condition: the mean return and the share of episodes stabilised."""
    return pd.DataFrame(
        [
            {"controller": member.candidate.name}
            | {
                str(
                    borne.condition
                ): f"{borne.mean_return:,.1f} ({1 - borne.unstable.failures / borne.unstable.trials:.0%})"
                for borne in member.borne
            }
            for member in family.members
        ]
    )


def verdict(family: Family) -> str:
    """The safe sparsity in a sentence, and what it does not say."""
    sure, few = f"at {CONFIDENCE:.0%} confidence", f"from under {TOLERATED:.0%} of starts"
    if family.safe is None:
        said = f"Safe sparsity: none. Not even the dense controller is shown, {sure}, to fail {few} in both checks."
    else:
        said = f"Safe sparsity: {family.safe:.3f}. All up to there are shown, {sure}, to fail {few} in either check."
    settles = "none" if family.settles is None else f"{family.settles:.3f}"
    last = " (the last one measured)" if family.s95 == family.sparsities[-1] else ""
    rest = f" Of settling alone: {settles}. s95 of the same controllers: {family.s95:.3f}{last}."
    why = "" if family.why_not is None else f" There is no Lyapunov function: {family.why_not}."
    return said + rest + why


def as_json(family: Family) -> dict[str, Any]:
    """Everything but the trajectories."""
    lyapunov = family.lyapunov
    return {
        "task": family.plant.task,
        "confidence": CONFIDENCE,
        "tolerated": TOLERATED,
        "safe_sparsity": family.safe,
        "settling_sparsity": family.settles,
        "s95": family.s95,
        "lyapunov": None
        if lyapunov is None
        else {
            "near": list(family.plant.near),
            "rest": (lyapunov.model.rest * family.plant.near).tolist(),
            "P": lyapunov.p.tolist(),
            "window": lyapunov.window,
            "inner": lyapunov.inner,
            "level": lyapunov.level,
            "spectral_radius": lyapunov.model.radius,
            "r2": lyapunov.model.r2,
        },
        "why_not": family.why_not,
        "controllers": [
            {
                **_row(family, member),
                "attraction": None if member.attraction is None else _digits(member.attraction),
                "robustness": [
                    {
                        "condition": str(borne.condition),
                        "mean_return": borne.mean_return,
                        "std_return": borne.std_return,
                        **_count(borne.unstable),
                    }
                    for borne in member.borne
                ],
            }
            for member in family.members
        ],
        "effort": asdict(family.effort),
    }


def _digits(region: NDArray[np.bool_]) -> list[str]:
    """A text for each value of the first axis, a digit for each of the second: 1 where it is stabilised."""
    return ["".join("1" if state else "0" for state in row) for row in region]


def _count(count: Count) -> dict[str, Any]:
    return {"unstable": count.failures, "episodes": count.trials, "bound": count.bound}
