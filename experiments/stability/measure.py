"""Everything that is said about one loop's stability, and about a family of them from dense to most pruned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunectl.agents.controller import Controller, ControllerError
from prunectl.envs import TASKS
from prunectl.envs.plants import Plant
from prunectl.experiments import statistics
from prunectl.experiments.episodes.evaluator import evaluate_random
from prunectl.experiments.episodes.seeds import reported_seeds
from prunectl.experiments.stability.attraction import attraction, kept
from prunectl.experiments.stability.bounds import FEWEST, Checks, Count, safe_sparsity
from prunectl.experiments.stability.lyapunov import STEPS, Lyapunov, LyapunovError, fit
from prunectl.experiments.stability.robustness import Borne, bear, conditions
from prunectl.experiments.stability.rollout import trajectories

Array = NDArray[np.float64]

#: Part of the key of every cell of a sweep that records stability. Raise it when a fit, a check or a plant changes.
VERSION = 1
#: Calibration trajectories of each batch of a fit.
FITTED = 150
#: The same for a controller that plans.
PLANNED_FITTED = 30


@dataclass(frozen=True)
class Effort:
    """Independent starts of each check, grid points an axis (0: no grid), episodes a condition (0: none)."""

    starts: int = 100
    grid: int = 21
    robust: int = 60

    @classmethod
    def of(cls, controller: Controller) -> Effort:
        """The default; less for a controller that plans, which gets about the fewest starts that can show anything."""
        return cls(FEWEST + 1, 7, 10) if controller.plans else cls()


@dataclass(frozen=True)
class Candidate:
    """A controller and how much smaller than the dense one it is."""

    name: str
    controller: Controller
    sparsity_total: float = 0.0
    sparsity_deployed: float = 0.0


def smaller_than(dense: Candidate, name: str, controller: Controller) -> Candidate:
    """A pruned controller beside its dense one.

    Raises:
        ControllerError: it has more parameters, or one of them does not say how many it has.
    """
    for each, of in ((dense.controller, dense.name), (controller, name)):
        if not each.parameters(True):
            raise ControllerError(f"{of} does not say how large it is: compare the checkpoints that were exported")
    total, deployed = (
        1 - controller.parameters(only_deployed) / dense.controller.parameters(only_deployed)
        for only_deployed in (False, True)
    )
    if deployed < 0:
        raise ControllerError(f"{name} is larger than {dense.name}: name the dense controller first")
    return Candidate(name, controller, total, deployed)


@dataclass(frozen=True)
class Decrease:
    """V along the trajectories from independent starts in ``{V <= level}``.

    ``rising`` counts those along which it failed to fall, ``worst`` is the largest `Lyapunov.excess` (above 1: failed),
    ``decay`` the median of `Lyapunov.decay` in 1/s, ``values`` ``(starts, steps + 1)`` is V / level itself.
    """

    rising: Count
    worst: float
    decay: float
    values: Array


@dataclass(frozen=True)
class Stability:
    """What was measured of one loop.

    ``unstable`` counts the episodes, from the task's own reported starts, that did not end near the goal and stay.
    ``decrease`` is None without a function, ``attraction`` None and ``borne`` empty where they were not asked for.
    """

    candidate: Candidate
    mean_return: float
    std_return: float
    unstable: Count
    decrease: Decrease | None
    attraction: NDArray[np.bool_] | None
    borne: tuple[Borne, ...]

    @property
    def checks(self) -> Checks:
        """Both checks, as counts."""
        return Checks(self.unstable, None if self.decrease is None else self.decrease.rising)

    @property
    def holds(self) -> bool:
        """Whether it was shown to settle *and* its V to fall."""
        return self.checks.holds


@dataclass(frozen=True)
class Family:
    """A dense loop and its pruned ones, by rising deployed sparsity.

    ``why_not`` says why there is no Lyapunov function; ``normalised`` has each one's normalised return.
    """

    plant: Plant
    lyapunov: Lyapunov | None
    why_not: str | None
    members: tuple[Stability, ...]
    normalised: Array
    effort: Effort

    @property
    def sparsities(self) -> list[float]:
        return [member.candidate.sparsity_deployed for member in self.members]

    @property
    def safe(self) -> float | None:
        """The highest deployed sparsity up to which every loop was shown to hold."""
        return safe_sparsity(self.sparsities, [member.holds for member in self.members])

    @property
    def settles(self) -> float | None:
        """The same, asking only that episodes from the task's own starts settle."""
        return safe_sparsity(self.sparsities, [member.unstable.holds for member in self.members])

    @property
    def s95(self) -> float:
        """`statistics.s95` of these few controllers, on the deployed axis."""
        return float(statistics.s95(self.normalised, np.asarray(self.sparsities)))

    def kept(self, member: Stability) -> float | None:
        """The share of the dense loop's region of attraction, on the grid, that a member keeps."""
        dense = self.members[0].attraction
        return None if dense is None or member.attraction is None else kept(dense, member.attraction)


def family(
    plant: Plant,
    candidates: Sequence[Candidate],
    effort: Effort,
    seed: int = 0,
    on_progress: Callable[[float], None] | None = None,
) -> Family:
    """Fit on the dense loop's calibration seeds, then measure every loop on the same reported seeds and starts.

    Args:
        plant: of the task.
        candidates: the dense controller first.
        effort: how much.
        seed: of the reported episodes, the first; and which calibration seeds.
        on_progress: called with the share that is done.
    """
    random = _random_return(plant.task, effort, seed)
    dense, *rest = candidates
    ordered = [dense, *sorted(rest, key=lambda candidate: candidate.sparsity_deployed)]
    lyapunov, why_not = None, None
    try:
        lyapunov = fitted(dense.controller, plant, seed)
    except LyapunovError as error:
        why_not = str(error)
    members = []
    for candidate in ordered:
        members.append(measure_loop(candidate, plant, lyapunov, effort, seed))
        if on_progress is not None:
            on_progress(len(members) / len(ordered))
    returns = np.array([member.mean_return for member in members])
    normalised = statistics.normalised(returns, returns[0], random)
    return Family(plant, lyapunov, why_not, tuple(members), normalised, effort)


def _random_return(task: str, effort: Effort, seed: int) -> float:
    """What random actions return: of a task of ours as it is known, of another measured on the same seeds."""
    known = TASKS[task].random_return if task in TASKS else None
    return float(evaluate_random(task, reported_seeds(effort.starts, seed)).returns.mean()) if known is None else known


def fitted(controller: Controller, plant: Plant, seed: int = 0) -> Lyapunov:
    """The function of a dense controller, from as many trajectories as one of its kind can afford; see `fit`.

    Raises:
        LyapunovError: there is no such function.
    """
    return fit(controller, plant, PLANNED_FITTED if controller.plans else FITTED, seed)


def measure_loop(
    candidate: Candidate, plant: Plant, lyapunov: Lyapunov | None, effort: Effort, seed: int = 0
) -> Stability:
    """Measure one loop."""
    controller, seeds = candidate.controller, reported_seeds(effort.starts, seed)
    own = trajectories(controller, plant, seeds)
    unstable = Count(int((~own.stabilised(plant)).sum()), len(seeds))
    decrease = None
    if lyapunov is not None:
        found = trajectories(controller, plant, seeds, lyapunov.states(seeds), most_steps=STEPS)
        excess, decay = lyapunov.excess(found), lyapunov.decay(found)
        rising = Count(int((excess > 1).sum()), len(seeds))
        moving = decay[np.isfinite(decay)]
        speed = float(np.median(moving)) if len(moving) else float("nan")
        decrease = Decrease(rising, float(excess.max()), speed, lyapunov(found.states) / lyapunov.level)
    region = attraction(controller, plant, effort.grid, seeds) if effort.grid else None
    robust = reported_seeds(effort.robust, seed) if effort.robust else ()
    borne = tuple(bear(controller, plant, robust, condition) for condition in conditions(plant)) if robust else ()
    return Stability(candidate, float(own.returns.mean()), float(own.returns.std()), unstable, decrease, region, borne)
