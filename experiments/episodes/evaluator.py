"""The one evaluator: a batch of seeded episodes, one forward a step for all that still run."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation
from numpy.typing import NDArray

from prunectl import envs
from prunectl.agents.choices import Actions, options
from prunectl.agents.controller import Batch, Controller, ControllerError, Policy
from prunectl.agents.rows import row_space
from prunectl.agents.supported import check_spaces, in_words
from prunectl.agents.surroundings import PLAIN, Surroundings
from prunectl.experiments.episodes.observed import Masked, Observed, is_vector, same_form

#: From the indices of episodes to what is remembered of each, ``(n, memory)``.
Remember = Callable[[NDArray[np.intp]], Batch]
#: An action range from here on is none.
UNBOUNDED = 1e30


@dataclass(frozen=True)
class Episodes:
    """What a batch of episodes brought.

    ``seeds``, ``returns`` (undiscounted sums of reward) and ``lengths`` (environment steps) have one entry an episode.
    ``observations`` ``(steps, obs)`` and ``actions`` ``(steps, ...)`` hold every visited pair if that was asked for;
    with the observation what a controller with a memory remembered there. ``of`` ``(steps,)`` is the episode that each
    belongs to, whose pairs are in their order.
    """

    task: str
    seeds: tuple[int, ...]
    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    observations: Batch | None = None
    actions: NDArray[Any] | None = None
    of: NDArray[np.intp] | None = None

    @property
    def mean_return(self) -> float:
        return float(self.returns.mean())

    @property
    def std_return(self) -> float:
        """Standard deviation over the episodes (population, as NumPy's default)."""
        return float(self.returns.std())


@contextmanager
def environments(
    task: str, count: int, controller: Controller | None = None, drawn: bool = False, rows: bool = True
) -> Iterator[list[envs.Env]]:
    """``count`` environments of a task that fit the controller, closed at the end; fewer where no more can be had at a
    time (of a simulator with a port, or of hardware). They give rows, with which actions are allowed for a controller
    that is told, or observations of the controller's own space.

    Raises:
        ControllerError: the controller's spaces are not the task's.
        TaskError: the task cannot be made.
    """
    surroundings = PLAIN if controller is None else _surroundings(controller, task)
    made: list[envs.Env] = []
    try:
        made.append(_made(task, surroundings, controller, drawn, rows))
        if controller is not None:
            try:
                _check_fit(controller, made[0], task, rows)
            except _Misfit as error:
                raise ControllerError(f"{error}{_options(task, error.missing)}") from error
        with suppress(envs.TaskError):
            while len(made) < count:
                made.append(_made(task, surroundings, controller, drawn, rows))
        told = controller is not None and controller.masked and rows
        yield [Masked(env, sum(options(env.action_space))) for env in made] if told else made
    finally:
        for env in made:
            env.close()


def task_for(controller: Controller, named: str) -> tuple[str, str | None]:
    """The task that stands for the id that a controller's files or its user name, and a remark where it is another one.

    Where the id cannot be made, the newest version that fits the controller stands for it.

    Raises:
        TaskError: nothing by that name exists in any version.
    """
    possible = envs.stand_ins(named)
    for task in possible if len(possible) > 1 else ():
        with suppress(ControllerError, envs.TaskError):
            with closing(_made(task, _surroundings(controller, task), controller)) as env:
                _check_fit(controller, env, task)
            return task, envs.remark_on(named, task)
    return possible[0], envs.remark_on(named, possible[0])


def evaluate(
    controller: Controller,
    task: str,
    seeds: Sequence[int],
    record: bool = False,
    disturb: NDArray[np.float64] | None = None,
    most_steps: int | None = None,
    beside: Controller | None = None,
) -> Episodes:
    """Run one deterministic episode a seed, all in one batch, finished ones dropped.

    The batch is part of what is measured: a forward over ten rows need not equal ten forwards over one to the last bit.

    Args:
        controller: what acts.
        task: a task id.
        seeds: one an episode, given to the environment's ``reset`` and to the controller's own randomness.
        record: keep every observation and the action that was taken there.
        disturb: for each episode the standard deviation of Gaussian noise on the action, as a share of half the
            action range (for choices: the probability of a random one, for each). None for none.
        most_steps: break every episode off after so many steps; None for whole episodes.
        beside: a controller that sees what the other one does; what it remembers is recorded in the other's place.

    Raises:
        ControllerError: the controller's spaces are not the task's, or it answers with something that is not a number.
        TaskError: a reward is not a number.
    """
    if not seeds:
        raise ValueError("evaluate needs at least one seed")
    with environments(task, len(seeds), controller) as made:
        policy = controller.policy(seeds)
        remember = getattr(policy, "remembered", None) if record else None
        if record and beside is not None:
            policy, remember = _beside(policy, beside.policy(seeds))
        if disturb is not None:
            policy = _disturbed(policy, controller, disturb, seeds)
        return run(policy, made, task, seeds, record, most_steps, remember)


def evaluate_random(
    task: str, seeds: Sequence[int], controller: Controller | None = None, most_steps: int | None = None
) -> Episodes:
    """The same for uniformly random actions, the lower reference of normalised returns; where a controller is given, in
    the environment that it needs, and among the actions that are allowed there if it is told."""
    with environments(task, len(seeds), controller) as made:
        choices = [copy.deepcopy(made[0].action_space) for _ in seeds]
        for choice, seed in zip(choices, seeds, strict=True):
            choice.seed(seed)

        def policy(observations: Batch, episodes: NDArray[np.intp]) -> NDArray[Any]:
            if controller is not None and (allowed := controller.allowed(observations)) is not None:
                return _any_allowed(controller.action_space, allowed, [choices[e].np_random for e in episodes])
            return np.asarray([choices[episode].sample() for episode in episodes])

        return run(policy, made, task, seeds, most_steps=most_steps)


def run(
    policy: Policy,
    made: Sequence[envs.Env],
    task: str,
    seeds: Sequence[int],
    record: bool = False,
    most_steps: int | None = None,
    remember: Remember | None = None,
) -> Episodes:
    """The loop itself, over environments that exist already: so many episodes at a time as there are of them."""
    returns, lengths = [0.0] * len(seeds), [0] * len(seeds)
    visited: list[Batch] = []
    taken: list[NDArray[Any]] = []
    whose: list[NDArray[np.intp]] = []
    for begun in range(0, len(seeds), len(made)):
        first = [env.reset(seed=int(seed))[0] for env, seed in zip(made, seeds[begun:], strict=False)]
        # What an environment gives need not be of the type that its space says, which is what its agents were shown.
        current = np.asarray(first, dtype=made[0].observation_space.dtype)
        running = begun + np.arange(len(first))
        steps = 0
        while len(running) and steps != most_steps:
            steps += 1
            # What is remembered is so before the step, which changes it.
            memory = None if remember is None else remember(running)
            actions = policy(current, running)
            if record:
                visited.append(current.copy() if memory is None else np.concatenate([current, memory], axis=1))
                taken.append(actions)
                whose.append(running)
            if actions.dtype.kind == "f" and not np.isfinite(actions).all():
                row = int(np.flatnonzero(~np.isfinite(actions).reshape(len(actions), -1).all(axis=1))[0])
                raise ControllerError(f"the controller's action is not a number on {task} (seed {seeds[running[row]]})")
            alive = []
            for row, episode in enumerate(running.tolist()):
                observation, reward, terminated, truncated, _ = made[episode - begun].step(actions[row])
                returns[episode] += float(reward)
                lengths[episode] = steps
                current[row] = observation
                if not (terminated or truncated):
                    alive.append(row)
            if len(alive) < len(running):
                current, running = current[alive], running[alive]
    for seed, value in zip(seeds, returns, strict=True):
        if not math.isfinite(value):
            raise envs.TaskError(f"the rewards of {task} are not numbers, or add up to none (seed {seed})")
    return Episodes(
        task,
        tuple(int(seed) for seed in seeds),
        np.asarray(returns, dtype=np.float64),
        np.asarray(lengths, dtype=np.int64),
        np.concatenate(visited) if record else None,
        np.concatenate(taken) if record else None,
        np.concatenate(whose) if record else None,
    )


def _beside(policy: Policy, other: Policy) -> tuple[Policy, Remember | None]:
    """The policy, and what another one remembers that sees the same observations, if it remembers anything."""
    remember: Remember | None = getattr(other, "remembered", None)
    if remember is None:
        return policy, None

    def watched(observations: Batch, episodes: NDArray[np.intp]) -> NDArray[Any]:
        other(observations, episodes)
        return policy(observations, episodes)

    return watched, remember


def _disturbed(
    policy: Policy,
    controller: Controller,
    scales: NDArray[np.float64],
    seeds: Sequence[int],
) -> Policy:
    generators = [np.random.default_rng([seed, 0xD157]) for seed in seeds]
    space = controller.action_space
    if not isinstance(space, spaces.Box):
        return _swapped(policy, controller, scales, generators)
    with np.errstate(over="ignore"):
        half = 0.5 * (space.high - space.low)
    # Bounds that only say that there are none are no scale: then it is the largest action of the episode so far.
    unbounded = ~(half < UNBOUNDED)
    usable, seen = not unbounded.any(), np.zeros((len(seeds), *space.shape))

    def disturbed(observations: Batch, episodes: NDArray[np.intp]) -> NDArray[Any]:
        actions = policy(observations, episodes)
        noise = np.stack([generators[e].standard_normal(space.shape) * scales[e] for e in episodes])
        if usable:
            return np.asarray(np.clip(actions + noise * half, space.low, space.high), dtype=np.float32)
        seen[episodes] = np.maximum(seen[episodes], np.abs(actions))
        scale = np.where(unbounded, seen[episodes], half)
        return np.asarray(np.clip(actions + noise * scale, space.low, space.high), dtype=np.float32)

    return disturbed


def _swapped(
    policy: Policy, controller: Controller, chances: NDArray[np.float64], generators: Sequence[np.random.Generator]
) -> Policy:
    """Each choice is a random one, of those allowed, with its episode's chance."""
    space = controller.action_space

    def swapped(observations: Batch, episodes: NDArray[np.intp]) -> NDArray[Any]:
        swap: Any
        drawn: Any
        actions = policy(observations, episodes)
        if (allowed := controller.allowed(observations)) is not None:
            swap = [generators[e].random(space.shape) < chances[e] for e in episodes]
            return np.where(swap, _any_allowed(space, allowed, [generators[e] for e in episodes]), actions)
        if isinstance(space, spaces.Discrete):
            swap = [generators[e].random() < chances[e] for e in episodes]
            drawn = [generators[e].integers(space.n) for e in episodes]
            return np.where(swap, drawn, actions)
        among = options(space)
        swap = np.stack([generators[e].random(len(among)) < chances[e] for e in episodes])
        drawn = np.stack([generators[e].integers(among) for e in episodes])
        return np.where(swap, drawn, actions).astype(actions.dtype)

    return swapped


def _any_allowed(
    space: Actions, allowed: NDArray[np.bool_], generators: Sequence[np.random.Generator]
) -> NDArray[np.int64]:
    """Actions ``(n, ...)``, each choice a random one of its allowed options ``(n, options)``; of all if none is."""
    ends = np.cumsum(options(space))[:-1]
    drawn = [
        [generator.choice(np.flatnonzero(part) if part.any() else len(part)) for part in np.split(row, ends)]
        for row, generator in zip(allowed, generators, strict=True)
    ]
    return np.asarray(drawn, dtype=np.int64).reshape(len(allowed), *(space.shape or ()))


def _surroundings(controller: Controller, task: str) -> Surroundings:
    """What the controller needs around the task. Files of ours from before they said so were pruned and measured with
    the time left as the last observation wherever they have one more than the task."""
    if controller.surroundings is not None:
        return controller.surroundings
    env = envs.make(task)
    given, seen = env.observation_space.shape, controller.observation_space.shape
    env.close()
    assert given is not None
    return PLAIN.with_time_feature() if seen == (given[0] + 1,) else PLAIN


def _made(
    task: str, surroundings: Surroundings, controller: Controller | None, drawn: bool = False, rows: bool = True
) -> envs.Env:
    """The task with observations as the controller takes them; flat ones where its space is another one."""
    given = task, surroundings.settings, surroundings.wrappers, drawn
    if controller is None:
        return envs.make(*given)
    env = envs.make(*given, flat=False)
    if same_form(controller.observed, env.observation_space):
        return env if is_vector(controller.observed) else Observed(env, controller.observed, rows)
    return envs.flattened(env)


def _check_fit(controller: Controller, env: envs.Env, task: str, rows: bool = True) -> None:
    """Raise ControllerError unless the controller's spaces are the environment's, and such as can be run."""
    check_spaces(controller.observed, controller.action_space, "the controller")
    if _kind(controller.action_space) != _kind(env.action_space):
        raise ControllerError(
            f"the controller's actions are {_kind(controller.action_space)}, those of {task} are "
            f"{_kind(env.action_space)}: name the task that it was trained on with --task"
        )
    action, asked = controller.action_space, env.action_space
    if isinstance(action, spaces.Box) and isinstance(asked, spaces.Box) and not _same_bounds(action, asked):
        raise ControllerError(
            f"the controller's actions lie in [{action.low.min():g}, {action.high.max():g}], those of {task} in "
            f"[{asked.low.min():g}, {asked.high.max():g}]: name the task that it was trained on with --task"
        )
    wanted = row_space(controller.observed) if rows else controller.observed
    ours, theirs = wanted.shape, env.observation_space.shape
    if env.observation_space == wanted or (is_vector(controller.observed) and ours == theirs):
        return
    if not is_vector(controller.observed):
        given = env.env.observation_space if isinstance(env, FlattenObservation) else env.observation_space
        raise ControllerError(
            f"the controller observes {in_words(controller.observed)}, {task} gives {in_words(given)}: "
            "name the task that it was trained on with --task"
        )
    assert ours is not None
    assert theirs is not None
    perhaps = ""
    if ours == (theirs[0] + 1,):
        perhaps = ", or say with --time-feature that its last number is the share of the episode that is left"
    raise _Misfit(
        f"the controller observes {ours[0]} numbers, {task} gives {theirs[0]}: "
        f"name the task that it was trained on with --task{perhaps}",
        ours[0] - theirs[0],
    )


class _Misfit(ControllerError):
    """A task gives other numbers than the controller observes, so many fewer."""

    def __init__(self, message: str, missing: int) -> None:
        super().__init__(message)
        self.missing = missing


def _options(task: str, missing: int) -> str:
    """What to say of options with which a task gives so many more numbers, if there are any."""
    env = envs.make(task)
    shape = env.observation_space.shape
    env.close()
    options = envs.options_that_give(task, shape[0] + missing) if shape is not None and len(shape) == 1 else None
    if options is None:
        return ""
    said = ", ".join(f"{name}={value}" for name, value in options.items())
    yaml = ", ".join(f"{name}: {str(value).lower()}" for name, value in options.items())
    return (
        f"; made with {said} {task} gives as many: say `env_kwargs: {{{yaml}}}` in an args.yml beside the checkpoint, "
        "or pass env= from Python"
    )


def _same_bounds(one: spaces.Box, other: spaces.Box) -> bool:
    return np.allclose(one.low, other.low) and np.allclose(one.high, other.high)


def _kind(space: spaces.Space[Any]) -> str:
    if isinstance(space, spaces.Discrete):
        return f"one of {space.n}"
    if isinstance(space, spaces.MultiDiscrete):
        return f"one of {', of '.join(map(str, options(space)))}"
    return f"{space.shape} {'switches' if isinstance(space, spaces.MultiBinary) else 'real'}"
