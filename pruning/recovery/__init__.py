"""Recoveries: making the smaller controller behave again."""

from prunectl.pruning.budget import Budget
from prunectl.pruning.recovery.contract import Cut, Loop, Progress, Recovered, Visit
from prunectl.pruning.recovery.distill import distill
from prunectl.pruning.recovery.pupil import redrawn
from prunectl.pruning.recovery.reconstruct import reconstruct
from prunectl.pruning.recovery.recover import RECOVERIES, Recovery, recover

__all__ = [
    "RECOVERIES",
    "Budget",
    "Cut",
    "Loop",
    "Progress",
    "Recovered",
    "Recovery",
    "Visit",
    "distill",
    "reconstruct",
    "recover",
    "redrawn",
]
