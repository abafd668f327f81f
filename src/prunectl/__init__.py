"""Makes trained neural controllers physically smaller, component by component, and measures what that costs.

    import prunectl

    small = prunectl.prune(model, 0.95, env=env)  # an SB3 model in memory, or a checkpoint
    print(small)
    small.model.learn(10_000)
    small.save("small.zip")

Nothing else is public. Names are imported when they are asked for, so that ``import prunectl`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from prunectl.errors import Error

if TYPE_CHECKING:
    from prunectl.agents import Component, Controller, Loaded
    from prunectl.experiments.analysis.comparison import Comparison, compare
    from prunectl.experiments.api.controllers import apply, evaluate, inspect, load, plan, prune, trace
    from prunectl.experiments.api.exporting import export
    from prunectl.experiments.api.small import Small
    from prunectl.experiments.api.sweeps import Report, report, sweep
    from prunectl.experiments.episodes.evaluator import Episodes
    from prunectl.plugins import allocation, grouping, importance, loader, plant, recovery
    from prunectl.pruning import ComponentGraph, Method, PruningPlan

__version__ = "0.1.0"

_CONTROLLERS = "prunectl.experiments.api.controllers"
#: Where each public name lives.
_HOMES = {
    **dict.fromkeys(("apply", "evaluate", "inspect", "load", "plan", "prune", "trace"), _CONTROLLERS),
    "export": "prunectl.experiments.api.exporting",
    "Small": "prunectl.experiments.api.small",
    **dict.fromkeys(("Report", "report", "sweep"), "prunectl.experiments.api.sweeps"),
    **dict.fromkeys(("Comparison", "compare"), "prunectl.experiments.analysis.comparison"),
    **dict.fromkeys(("allocation", "grouping", "importance", "loader", "plant", "recovery"), "prunectl.plugins"),
    "Episodes": "prunectl.experiments.episodes.evaluator",
    **dict.fromkeys(("Component", "Controller", "Loaded"), "prunectl.agents"),
    **dict.fromkeys(("ComponentGraph", "Method", "PruningPlan"), "prunectl.pruning"),
}

__all__ = [
    "Comparison",
    "Component",
    "ComponentGraph",
    "Controller",
    "Episodes",
    "Error",
    "Loaded",
    "Method",
    "PruningPlan",
    "Report",
    "Small",
    "allocation",
    "apply",
    "compare",
    "evaluate",
    "export",
    "grouping",
    "importance",
    "inspect",
    "load",
    "loader",
    "plan",
    "plant",
    "prune",
    "recovery",
    "report",
    "sweep",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'prunectl' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
