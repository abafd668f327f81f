"""Component-aware structured pruning: graph, scores, plan, surgery, recovery. No environment, no plot, no file."""

from pruning.allocation import Damage
from pruning.errors import PruningError
from pruning.graph import ComponentGraph
from pruning.importance import Scores, score
from pruning.measuring import bench, measure
from pruning.method import ALLOCATIONS, GROUPINGS, IMPORTANCES, RECOVERIES, Method
from pruning.pipeline import Calibration, Pruned, check_budget, check_sparsity, plan_for, prune
from pruning.plan import PruningPlan, make_plan
from pruning.recovery import reconstruct
from pruning.surgery import apply
from pruning.trace import trace

__all__ = [
    "ALLOCATIONS",
    "GROUPINGS",
    "IMPORTANCES",
    "RECOVERIES",
    "Calibration",
    "ComponentGraph",
    "Damage",
    "Method",
    "Pruned",
    "PruningError",
    "PruningPlan",
    "Scores",
    "apply",
    "bench",
    "check_budget",
    "check_sparsity",
    "make_plan",
    "measure",
    "plan_for",
    "prune",
    "reconstruct",
    "score",
    "trace",
]
