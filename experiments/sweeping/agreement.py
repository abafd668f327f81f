"""How a cell that was computed anew agrees with what was published of it.

On the same processor with the same packages a cell comes out again to the last bit. Another processor adds up in
another order: the same units are cut and the same layers refitted, but their weights differ in the last places, and a
planner or a student that is taught carries that on until an episode in fifty goes another way. So elsewhere what holds
is what the cell says: its sizes exactly, and its return as far as the same episodes show no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

Array = NDArray[np.float64]
#: What rounding does not change.
SIZES = ("sparsity_total", "sparsity_deployed", "params_total", "params_deployed", "macs_deployed")
#: Everything that comes out again to the last bit on the same processor.
MEASURED = ("mean_return", "std_return", *SIZES, "integrity")
#: Normalised returns and integrities that are nearer than this agree: no finding rests on less.
NEAR = 0.02
#: So far may the mean over many cells lie beside 0: half of the last digit that tables have.
NEAR_IN_THE_MEAN = 0.005
#: Chance of calling a difference shown where there is none, in any of the cells together.
CHANCE = 0.05


@dataclass(frozen=True)
class Agreement:
    """A cell's mean return as ``published`` and as ``found`` (NaN: it failed), the published one ahead by
    ``difference`` of the normalised return (NaN: that is not known); the columns of `MEASURED` that are ``differing``
    in any bit, and of them those that are ``contradicted``, since rounding does not explain them."""

    published: float
    found: float
    difference: float
    differing: tuple[str, ...]
    contradicted: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """In a word or three."""
        return "differs" if self.contradicted else "agrees, other bits" if self.differing else "equal"


def agreement(
    published: Mapping[str, float], found: Mapping[str, float], before: Array, now: Array, gap: float, cells: int
) -> Agreement:
    """Hold a cell against itself, computed anew.

    Its return is contradicted where the paired difference over the same episodes is shown, by a two-sided t-test with
    Bonferroni's correction over the cells, and is more than `NEAR`; its sizes where they are not the same.

    Args:
        published: the columns of `MEASURED` in the results; NaN: there is none.
        found: those of the same cell, computed here.
        before: the published returns ``(episodes,)``; none where it failed.
        now: those computed here, on the same seeds.
        gap: how far the dense controller's mean return is ahead of random actions'; NaN: not known, any difference
            that is shown counts.
        cells: how many are looked at in all.
    """
    pairs = {name: (published[name], found[name]) for name in MEASURED}
    differing = tuple(name for name, (one, other) in pairs.items() if not np.array_equal(one, other, equal_nan=True))
    contradicted = [name for name in SIZES if name in differing]
    if "mean_return" in differing:
        one, other = pairs["mean_return"]
        near = 0.0 if np.isnan(gap) else NEAR * gap
        if len(before) != len(now) or not abs(one - other) <= max(_margin(before - now, CHANCE / cells), near):
            contradicted.insert(0, "mean_return")
    one, other = pairs["integrity"]
    if "integrity" in differing and not abs(one - other) <= NEAR * max(1.0, abs(one)):
        contradicted.append("integrity")
    return Agreement(
        *pairs["mean_return"],
        difference=float(np.subtract(*pairs["mean_return"]) / gap) if gap else np.nan,
        differing=differing,
        contradicted=tuple(contradicted),
    )


def leaning(cells: Iterable[Agreement]) -> float:
    """By how much of the normalised return the published cells are ahead in the mean; 0 where that is not shown.

    Rounding favours nobody; returns that were helped a little in each cell do. Shown: a two-sided t-test over the
    cells, at a fifth of `CHANCE`, and more than `NEAR_IN_THE_MEAN`.
    """
    ahead = np.asarray([cell.difference for cell in cells])
    ahead = ahead[np.isfinite(ahead)]
    mean = float(ahead.mean()) if len(ahead) > 1 else 0.0
    return mean if abs(mean) > max(_margin(ahead, CHANCE / 5), NEAR_IN_THE_MEAN) else 0.0


def _margin(values: Array, chance: float) -> float:
    """Half the width of the mean's two-sided interval; 0 of fewer than two values."""
    if len(values) < 2:
        return 0.0
    quantile = student_t.ppf(1 - chance / 2, len(values) - 1)
    return float(quantile * values.std(ddof=1) / np.sqrt(len(values)))
