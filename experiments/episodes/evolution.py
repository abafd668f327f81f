"""Evolution strategies: returns alone say which way the parameters of what acts are to go.

The data's way: parameters -> pairs of opposite perturbations -> an episode batch of all of them -> ranks of their
returns -> a step along the perturbations -> validation now and then -> the best, if it holds on further episodes.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, vmap

from prunectl import envs
from prunectl.agents.controller import Batch, Controller
from prunectl.experiments.episodes.choice import Choice
from prunectl.experiments.episodes.evaluator import environments, run
from prunectl.experiments.episodes.seeds import STRIDE, finetuning_seed
from prunectl.pruning.recovery import Budget, Progress, Recovered

C = TypeVar("C", bound=Controller)

#: Pairs of opposite perturbations a generation, and the episodes of each of the two, the same ones for all.
PAIRS, EPISODES = 24, 2
#: Standard deviation of a perturbation, as a share of the root mean square of the tensor that it is added to.
SPREAD = 0.03
#: How far a generation moves, as a share of a perturbation's length, and how much of its way the next one goes on.
PACE, MOMENTUM = 0.25, 0.8
#: Generations from one validation to the next.
EVERY = 5


def evolve(
    controller: C, task: str, budget: Budget, seed: int, on_progress: Progress = lambda share: None
) -> Recovered[C]:
    """Move what acts towards higher returns, and never hand back something worse.

    Evolution strategies (Salimans et al. 2017, arXiv 1703.03864, alg. 2): all parameters are perturbed at once, in
    opposite pairs, and go along the sum of the perturbations, each weighted by how much higher one sign of it ranks
    than the other. The length of a step is fixed, so that neither the scale of rewards nor how sure a direction is
    matters; what goes astray is not chosen.

    Args:
        controller: one that decides by an observation alone (`Controller.deployed_path`); it stays as it is.
        task: a task id that fits it.
        budget: ``steps`` are those of the environment, all candidates together; what chooses is not counted.
        seed: of the perturbations and the episodes; with a budget in steps the same one gives the same result.
        on_progress: told which share of the budget is spent.

    Returns:
        What is handed back; its ``before`` and ``after`` are of the 30 episodes that chose between the two.
    """
    torch.set_num_threads(1)
    task, _ = envs.resolve(task)
    choice = Choice(controller, task, seed)
    moved = controller.with_networks(copy.deepcopy(controller.networks))
    path = moved.deployed_path().eval()
    acting = {id(p) for part in moved.components.values() if part.deployed for p in part.module.parameters()}
    parameters = {name: p.detach() for name, p in path.named_parameters() if id(p) in acting}
    spread = {name: SPREAD * max(_rms(p), 1e-3) for name, p in parameters.items()}
    way = {name: torch.zeros_like(p) for name, p in parameters.items()}
    generator = torch.Generator().manual_seed(seed)
    started, taken, generation, spent = time.perf_counter(), 0, 0, 0.0
    with environments(task, 2 * PAIRS * EPISODES, controller) as made:
        while spent < 1:
            noise = {name: torch.randn((PAIRS, *p.shape), generator=generator) for name, p in parameters.items()}
            candidates = {
                name: torch.cat([p + spread[name] * noise[name], p - spread[name] * noise[name]])
                for name, p in parameters.items()
            }
            first = finetuning_seed(seed) + generation * EPISODES % (STRIDE - EPISODES)
            seeds = tuple(range(first, first + EPISODES)) * (2 * PAIRS)
            ran = run(_Candidates(path, candidates, controller.action_space.shape or ()), made, task, seeds)
            for name, step in _step(noise, ran.returns.reshape(2 * PAIRS, EPISODES).mean(axis=1)).items():
                way[name] = MOMENTUM * way[name] + (1 - MOMENTUM) * step
                parameters[name] += PACE * spread[name] * way[name]
            generation += 1
            taken += int(ran.lengths.sum())
            spent = budget.spent(taken, time.perf_counter() - started)
            if generation % EVERY == 0 or spent == 1:
                choice.consider(controller.with_networks(copy.deepcopy(moved.networks)))
            on_progress(spent)
    return choice.confirmed()


class _Candidates:
    """A policy of many controllers of one form, each for its share of the episodes, one after another."""

    def __init__(self, path: nn.Module, parameters: Mapping[str, Tensor], shape: tuple[int, ...]) -> None:
        self.parameters, self.shape = parameters, shape
        self.decide = vmap(lambda own, row: functional_call(path, own, (row[None],))[0])
        self.running = np.empty(0, dtype=np.intp)
        self.own: dict[str, Tensor] = {}

    def __call__(self, observations: Batch, episodes: NDArray[np.intp]) -> NDArray[np.generic]:
        if not np.array_equal(self.running, episodes):
            self.running = episodes
            which = torch.as_tensor(episodes // EPISODES)
            self.own = {name: values[which] for name, values in self.parameters.items()}
        with torch.no_grad():
            actions: Tensor = self.decide(self.own, torch.as_tensor(observations, dtype=torch.float32))
        return actions.numpy().reshape(len(episodes), *self.shape)


def _step(noise: Mapping[str, Tensor], returns: NDArray[np.float64]) -> dict[str, Tensor]:
    """The direction of higher returns ``(2 * pairs,)``, first of all positive signs, as long as a perturbation is."""
    ranks = np.empty(len(returns))
    ranks[np.argsort(returns, kind="stable")] = np.arange(len(returns))
    higher = torch.as_tensor(ranks[: len(ranks) // 2] - ranks[len(ranks) // 2 :], dtype=torch.float32)
    summed = {name: torch.einsum("p,p...->...", higher, values) for name, values in noise.items()}
    numbers = sum(values.numel() for values in summed.values())
    length = math.sqrt(sum(float(values.square().sum()) for values in summed.values()))
    return {name: values * (math.sqrt(numbers) / max(length, 1e-12)) for name, values in summed.items()}


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())
