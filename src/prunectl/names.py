"""The names that the command line takes, so that it refuses any other before anything heavy is imported.

What goes by them stands in tables that import PyTorch; a test says that both are the same.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import entry_points

from prunectl.errors import Error
from prunectl.registry import GROUP, check_module, unknown

#: What comes with prunectl, by kind, in the order of its table.
NAMES: Mapping[str, tuple[str, ...]] = {
    "grouping": (
        *("global", "layer", "component", "coupled", "bounded", "chosen"),
        *("stock-global", "stock-local", "stock-isomorphic"),
        *("stock-global-max", "stock-global-sum", "stock-global-gaussian", "stock-global-raw"),
        *("lowrank", "inputs", "shallow", "unstructured"),
    ),
    "importance": (
        *("magnitude", "random", "taylor", "activation", "surgeon"),
        *("gradient", "fisher", "uncertainty", "lamp", "fpgm", "hessian"),
    ),
    "allocation": ("uniform", "ranked", "sensitivity", "searched", "searched-return"),
    "recovery": (
        *("none", "reconstruct", "distill", "distill-critic", "distill-restarts", "distill-int8", "distill-int4"),
        *("scratch", "finetune", "polish"),
    ),
    "algorithm": (
        *("tdmpc", "tdmpc2", "sac", "td3", "ddpg", "ppo", "a2c"),
        *("tqc", "trpo", "crossq", "recurrent_ppo", "maskable_ppo", "dqn", "qrdqn", "ars"),
    ),
    "benchmark": ("evaluator", "surgery", "planner", "latency", "distill", "sweep", "memory", "answers", "cluster"),
    "reproduction": (
        *("groups", "reward-vs-sparsity", "without-recovery", "components", "budget", "isolated", "cuts"),
        *("reference", "all"),
    ),
    "tier": ("quick", "standard", "full"),
    "target": ("cortex-m4", "cortex-m0plus", "esp32-c3", "esp32", "x86"),
}


#: The kinds of names that make a method, to which plug-ins add theirs.
METHOD = ("grouping", "importance", "allocation", "recovery")


def check_name(kind: str, name: str) -> None:
    """Refuse a name that nothing can go by: none of ours, and no plug-in is there whose it could be.

    Raises:
        Error: the message offers the nearest name, or says that the module of ``module:name`` is not there.
    """
    module, colon, _ = name.rpartition(":")
    if colon and kind in METHOD:
        check_module(module)
    if name in NAMES[kind] or (kind in METHOD and (":" in name or _plugins())):
        return
    raise Error(unknown(kind, name, NAMES[kind]))


def _plugins() -> bool:
    """Whether some are imported, or are looked for once a table is asked."""
    return "prunectl.plugins" in sys.modules or bool(entry_points(group=GROUP))
