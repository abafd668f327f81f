"""Controllers to measure: how fast one runs and is cut does not depend on what it has learnt."""

from __future__ import annotations

import numpy as np
from stable_baselines3 import SAC

from prunectl import envs
from prunectl.agents.controller import Controller
from prunectl.experiments.deploying.rates import of_widths
from prunectl.pruning import make_plan, score, trace


def untrained_sac(task: str, width: int = 256) -> SAC:
    """Stable-Baselines3's SAC with two hidden layers of this width (256 is its own default), seeded."""
    widths = {"net_arch": [width, width]}
    return SAC("MlpPolicy", envs.make(task), seed=0, policy_kwargs=widths, buffer_size=1, device="cpu")


def pruned(dense: Controller, sparsity: float) -> Controller:
    """A controller of the widths that component-aware uniform pruning leaves."""
    graph = trace(dense)
    shape = dense.observation_space.shape or ()
    inputs = dense.inputs(np.zeros((2, *shape), dtype=np.float32), np.zeros((2, *(dense.action_space.shape or ()))))
    plan = make_plan(graph, score(dense, graph, "magnitude", inputs, 0), sparsity=sparsity)
    return of_widths(dense, graph, plan.widths)
