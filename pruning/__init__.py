"""Component-aware structured pruning: graph, scores, plan, surgery, recovery. No environment, no plot, no file."""

from prunectl.pruning.allocation import ALLOCATIONS, Damage
from prunectl.pruning.ask import ONCE, Ask, Schedule, Sparsity, check_sparsity
from prunectl.pruning.errors import PruningError
from prunectl.pruning.graph import ComponentGraph
from prunectl.pruning.grouping import GROUPINGS
from prunectl.pruning.importance import IMPORTANCES, Scores, score
from prunectl.pruning.method import Method
from prunectl.pruning.pipeline import Calibration, Pruned, check_ask, check_budget, plan_for, prune
from prunectl.pruning.plan import PruningPlan, make_plan
from prunectl.pruning.recovery import RECOVERIES, reconstruct
from prunectl.pruning.surgery import apply
from prunectl.pruning.tracing import trace
from prunectl.pruning.trial import bench, measure
from prunectl.pruning.variant import Variant, variants

__all__ = [
    "ALLOCATIONS",
    "GROUPINGS",
    "IMPORTANCES",
    "ONCE",
    "RECOVERIES",
    "Ask",
    "Calibration",
    "ComponentGraph",
    "Damage",
    "Method",
    "Pruned",
    "PruningError",
    "PruningPlan",
    "Schedule",
    "Scores",
    "Sparsity",
    "Variant",
    "apply",
    "bench",
    "check_ask",
    "check_budget",
    "check_sparsity",
    "make_plan",
    "measure",
    "plan_for",
    "prune",
    "reconstruct",
    "score",
    "trace",
    "variants",
]
