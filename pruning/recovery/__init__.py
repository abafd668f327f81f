"""Recoveries: making the smaller controller behave again."""

from pruning.recovery.distill import distill
from pruning.recovery.loop import Budget, Loop, Progress, Recovered, Visit
from pruning.recovery.pupil import redrawn
from pruning.recovery.reconstruct import reconstruct

__all__ = ["Budget", "Loop", "Progress", "Recovered", "Visit", "distill", "reconstruct", "redrawn"]
