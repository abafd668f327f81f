"""Naming something of one's own: an importance, an allocation, a recovery, a grouping, a plant or a loader.

A function under one of these decorators goes by its name everywhere: in Python, ``prunectl prune --importance mine``,
the methods of a sweep, reports and rankings. The module that it is written in has to be imported first: as
``my_methods:mine`` on the command line, by ``--plugins my_methods``, by ``plugins: [my_methods]`` in a sweep's config,
or by an entry point of an installed package, which is found by itself:

    [project.entry-points."prunectl.plugins"]
    my_methods = "my_methods"

What the functions give is checked whenever they are run, and what is wrong is told in one line that names them. A
sweep computes cells anew once the version or the file of a plug-in that they use has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from prunectl.agents.controller import Controller
from prunectl.agents.loaders import LOADERS
from prunectl.envs.plants import PLANTS, Plant
from prunectl.errors import Error
from prunectl.pruning import GROUPINGS
from prunectl.pruning.allocation import ALLOCATIONS, Allocation, Division, Widths
from prunectl.pruning.graph import ComponentGraph, Group
from prunectl.pruning.grouping import Grouping
from prunectl.pruning.importance import IMPORTANCES, Evidence, Importance
from prunectl.pruning.importance.evidence import Array
from prunectl.pruning.recovery import RECOVERIES, Cut, Recovered, Recovery
from prunectl.registry import REGISTRIES, Plugin, PluginError, import_plugins

__all__ = ["PluginError", "allocation", "grouping", "import_plugins", "importance", "loader", "plant", "recovery"]

C = TypeVar("C", bound=Controller)
Scoring = TypeVar("Scoring", bound=Callable[[Evidence, Group], Array])
Dividing = TypeVar("Dividing", bound=Callable[[Division], Widths])
Recovering = TypeVar("Recovering", bound=Callable[[Cut[C]], C | Recovered[C]])
Scoping = TypeVar("Scoping", bound=Callable[[ComponentGraph, Group], str])
Describing = TypeVar("Describing", bound=Callable[[], Plant])
Loading = TypeVar("Loading", bound=Callable[[Path], Controller | None])


def importance(name: str, *, version: str = "1", comparable: bool = False) -> Callable[[Scoring], Scoring]:
    """Name a function ``(evidence, group) -> scores`` as an importance.

    It gives one number for each of ``group.units`` units, at least 0, higher means keep. `Evidence` has the weights in
    and out of the group, its activations over the calibration data, and a random generator from the seed.

    Args:
        name: what it goes by.
        version: raise it when the same name begins to mean another computation.
        comparable: the scores of different layers may be compared as they are; else a unit's share of its layer's
            total is taken of them.

    Raises:
        PluginError: the name is taken.

    Example:
        The L1 norm of what reads a unit:

        >>> import numpy as np
        >>> import prunectl
        >>> @prunectl.importance("outgoing")
        ... def outgoing(evidence, group):
        ...     return np.abs(evidence.outgoing(group)).sum(axis=1)
        >>> prunectl.Method(importance="outgoing").label
        'component + outgoing + distill'
    """

    def named(function: Scoring) -> Scoring:
        IMPORTANCES.add(name, Importance(function, raw=not comparable), function, version)
        return function

    return named


def allocation(name: str, *, version: str = "1", measured: bool = False) -> Callable[[Dividing], Dividing]:
    """Name a function ``(division) -> widths`` as an allocation.

    It gives the width of each group, as many as leave the parameters that `Division.target` says. `Division.met` finds
    that point on a path from narrowest to dense. Groups of one knob are equally wide.

    Args:
        name: what it goes by.
        version: raise it when the same name begins to mean another computation.
        measured: it looks at ``division.damage`` and ``division.error``, which take seconds to measure.

    Raises:
        PluginError: the name is taken.

    Example:
        Layers of equal width, as far as they have it:

        >>> import prunectl
        >>> @prunectl.allocation("level")
        ... def level(division):
        ...     widest = max(knob.units for knob in division.knobs)
        ...     return division.met(lambda share: {
        ...         name: min(max(round(share * widest), division.min_width), knob.units)
        ...         for knob in division.knobs for name in knob.groups
        ...     })
        >>> prunectl.Method(allocation="level").label
        'component + surgeon + level + distill'
    """

    def named(function: Dividing) -> Dividing:
        ALLOCATIONS.add(name, Allocation(function, measured), function, version)
        return function

    return named


def recovery(name: str, *, version: str = "1", looks_at_task: bool = False) -> Callable[[Recovering], Recovering]:
    """Name a function ``(cut) -> controller`` as a recovery.

    `Cut` has the smaller controller, the dense one, the calibration data and the seed. What comes back is a controller
    of the same kind and shapes; one validated on the task may come as `Recovered`, with its returns before and after.
    The controllers given stay as they are. Target networks are set to their online twins afterwards.

    Args:
        name: what it goes by.
        version: raise it when the same name begins to mean another computation.
        looks_at_task: it runs episodes, by ``cut.task``, and goes by ``cut.budget``.

    Raises:
        PluginError: the name is taken.

    Example:
        Refit, unless validation says that it does harm:

        >>> import prunectl
        >>> @prunectl.recovery("careful", looks_at_task=True)
        ... def careful(cut):
        ...     return max((cut.small, cut.refitted()), key=cut.task.validate)
        >>> prunectl.Method(recovery="careful").looks_at_task
        True
    """

    def named(function: Recovering) -> Recovering:
        RECOVERIES.add(name, Recovery(function, looks_at_task), function, version)
        return function

    return named


def grouping(name: str, *, version: str = "1") -> Callable[[Scoping], Scoping]:
    """Name a function ``(graph, group) -> scope`` as a grouping.

    Groups of one scope are ranked, and give up their share, together. A group's own name puts it into a scope of its
    own, ``"controller"`` for all is one ranking over everything.

    Args:
        name: what it goes by.
        version: raise it when the same name begins to mean another computation.

    Raises:
        PluginError: the name is taken.

    Example:
        What acts apart from what only training needs:

        >>> import prunectl
        >>> @prunectl.grouping("role")
        ... def role(graph, group):
        ...     return "acting" if graph.deployed & set(group.components) else "training"
        >>> prunectl.Method("role", allocation="ranked").label
        'role + surgeon + ranked + distill'
    """

    def named(function: Scoping) -> Scoping:
        GROUPINGS.add(name, Grouping(function), function, version)
        return function

    return named


def plant(task: str, *, version: str = "1") -> Callable[[Describing], Describing]:
    """Say by a function ``() -> Plant`` what a task with a goal to come to rest at is, for checks of stability.

    Args:
        task: its id, as ``--task`` has it.
        version: raise it when the same task becomes another plant.

    Raises:
        PluginError: the task is a plant already, or the function gives something else than one of that task.

    Example:
        A task of one's own that is the pendulum's:

        >>> import dataclasses
        >>> import prunectl
        >>> from prunectl.envs.plants import PLANTS
        >>> @prunectl.plant("my_tasks:Pendulum-v7")
        ... def pendulum():
        ...     return dataclasses.replace(PLANTS["Pendulum-v1"], task="my_tasks:Pendulum-v7")
        >>> PLANTS["my_tasks:Pendulum-v7"].near
        (0.15, 0.5)
    """

    def named(function: Describing) -> Describing:
        found: object = function()
        if not isinstance(found, Plant) or found.task != task:
            gave = f"one of {found.task}" if isinstance(found, Plant) else type(found).__name__
            raise PluginError(f"plant '{task}' of {function.__module__}: it gave {gave}, a Plant of {task} is needed")
        PLANTS.add(task, found, function, version)
        return function

    return named


def loader(name: str, *, version: str = "1") -> Callable[[Loading], Loading]:
    """Name a function ``(path) -> controller`` that reads checkpoints of another make; None for what is not of it.

    Loaders are asked in turn before prunectl's own. It is their business what they run of a file.

    Args:
        name: what it goes by in messages.
        version: raise it when the same file becomes another controller.

    Raises:
        PluginError: the name is taken.

    Example:
        Stable-Baselines3's checkpoints under an ending of one's own:

        >>> import prunectl
        >>> @prunectl.loader("renamed")
        ... def renamed(path):
        ...     if path.suffix != ".agent":
        ...         return None
        ...     import stable_baselines3
        ...     from prunectl.agents.sb3.controller import SB3Controller
        ...     return SB3Controller.of("ppo", stable_baselines3.PPO.load(path, device="cpu"))
    """

    def named(function: Loading) -> Loading:
        LOADERS.add(name, function, function, version)
        return function

    return named


def complaint(plugins: Sequence[Plugin]) -> str | None:
    """What keeps this process from running these plug-ins as another one has them, in one line; None: nothing does."""
    for plugin in plugins:
        try:
            import_plugins([plugin.module])
        except Error as error:
            return f"{plugin}: {error}"
        here = REGISTRIES[plugin.kind].plugin(plugin.name)
        if here is None:
            return f"{plugin} is not in the module of that name there: write it into a file of its own, not a notebook"
        if here != plugin:
            return f"{plugin} is another version there: give it the same file, and start it again"
    return None
