"""Recoveries: making the smaller controller behave again."""

from prunectl.pruning.recovery.contract import Budget, Loop, Progress, Recovered, Visit
from prunectl.pruning.recovery.distill import distill
from prunectl.pruning.recovery.pupil import redrawn
from prunectl.pruning.recovery.reconstruct import reconstruct

__all__ = ["Budget", "Loop", "Progress", "Recovered", "Visit", "distill", "reconstruct", "redrawn"]
