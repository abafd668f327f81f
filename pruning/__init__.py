"""Component-aware structured pruning: graph, scores, plan, surgery, recovery. No environment, no plot, no file.

Names are imported when they are asked for: what is asked for can be checked without PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunectl.pruning.allocation import ALLOCATIONS, Damage
    from prunectl.pruning.ask import ONCE, Ask, Schedule, Sparsity, check_sparsity
    from prunectl.pruning.errors import PruningError
    from prunectl.pruning.graph import ComponentGraph
    from prunectl.pruning.grouping import GROUPINGS
    from prunectl.pruning.importance import IMPORTANCES, Scores, score
    from prunectl.pruning.method import Method
    from prunectl.pruning.pipeline import Calibration, Pruned, check_ask, check_budget, graph_of, plan_for, prune
    from prunectl.pruning.plan import PruningPlan, make_plan
    from prunectl.pruning.recovery import RECOVERIES, reconstruct
    from prunectl.pruning.surgery import apply
    from prunectl.pruning.tracing import trace
    from prunectl.pruning.trial import bench, measure
    from prunectl.pruning.variant import Variant, variants

#: Where each name lives.
_HOMES = {
    **dict.fromkeys(("ALLOCATIONS", "Damage"), "allocation"),
    **dict.fromkeys(("ONCE", "Ask", "Schedule", "Sparsity", "check_sparsity"), "ask"),
    "PruningError": "errors",
    "ComponentGraph": "graph",
    "GROUPINGS": "method",  # which imports the pruners that have a way of their own, too
    **dict.fromkeys(("IMPORTANCES", "Scores", "score"), "importance"),
    "Method": "method",
    **dict.fromkeys(
        ("Calibration", "Pruned", "check_ask", "check_budget", "graph_of", "plan_for", "prune"), "pipeline"
    ),
    **dict.fromkeys(("PruningPlan", "make_plan"), "plan"),
    **dict.fromkeys(("RECOVERIES", "reconstruct"), "recovery"),
    "apply": "surgery",
    "trace": "tracing",
    **dict.fromkeys(("bench", "measure"), "trial"),
    **dict.fromkeys(("Variant", "variants"), "variant"),
}

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
    "graph_of",
    "make_plan",
    "measure",
    "plan_for",
    "prune",
    "reconstruct",
    "score",
    "trace",
    "variants",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
