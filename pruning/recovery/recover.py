"""The recoveries by name, and running one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch

from prunectl.agents.controller import Controller, ControllerError
from prunectl.pruning.errors import PruningError
from prunectl.pruning.plugged import explained, untouched
from prunectl.pruning.recovery.contract import Cut, Recovered
from prunectl.pruning.recovery.critics import Critics, check_critics
from prunectl.pruning.recovery.distill import distill
from prunectl.pruning.recovery.pupil import redrawn
from prunectl.pruning.recovery.restarts import restarts
from prunectl.pruning.surgery import synchronised
from prunectl.registry import Plugin, Registry

C = TypeVar("C", bound=Controller)


@dataclass(frozen=True)
class Recovery:
    """A way of making the smaller controller behave again.

    ``run`` gives a controller, as `Recovered` where it has validated it on the task. ``looks_at_task`` says that it
    runs episodes, so it is given a loop and takes a budget. With ``bits`` the weights of what acts come back as whole
    numbers of so many bits times scales. ``check`` raises PruningError for a controller that it is not for, before
    anything is run. ``version`` goes up when the name begins to mean another computation.
    """

    run: Callable[[Cut[Any]], Any]
    looks_at_task: bool = False
    bits: int | None = None
    check: Callable[[Controller], None] = lambda controller: None
    version: int = 0


def _none(cut: Cut[C]) -> C:
    return cut.small


def _reconstruct(cut: Cut[C]) -> C:
    return synchronised(cut.refitted(), cut.graph)


def _distill(cut: Cut[C]) -> Recovered[C]:
    return distill(cut, cut.refitted())


def _scratch(cut: Cut[C]) -> Recovered[C]:
    return distill(cut, redrawn(cut.small, cut.seed))


def _distill_critic(cut: Cut[C]) -> Recovered[C]:
    critics = Critics.of(cut.dense, cut.observations)
    return distill(cut, cut.refitted(), critics)


def _in_bits(bits: int) -> Recovery:
    return Recovery(lambda cut: distill(cut, cut.refitted(), bits=bits), looks_at_task=True, bits=bits)


def _finetune(cut: Cut[C]) -> Recovered[C]:
    return cut.task.finetune(_reconstruct(cut), cut.budget, cut.told)


def _decides_by_what_it_sees(controller: Controller) -> None:
    try:
        if controller.plans:
            raise ControllerError(f"a {controller.algorithm} controller plans")
        controller.deployed_path()
    except ControllerError as error:
        raise PruningError(f"recovery 'polish' is for what decides by an observation alone: {error}") from error


def _polish(cut: Cut[C]) -> Recovered[C]:
    first = replace(cut, budget=None, told=lambda share: cut.told(0.5 * share))
    return cut.task.polish(_distill(first).controller, cut.budget, lambda share: cut.told(0.5 + 0.5 * share))


RECOVERIES = Registry(
    "recovery",
    {
        "none": Recovery(_none),
        "reconstruct": Recovery(_reconstruct),
        "distill": Recovery(_distill, looks_at_task=True, version=1),
        "distill-critic": Recovery(_distill_critic, looks_at_task=True, check=check_critics),
        "distill-restarts": Recovery(restarts, looks_at_task=True),
        "distill-int8": _in_bits(8),
        "distill-int4": _in_bits(4),
        "scratch": Recovery(_scratch, looks_at_task=True, version=1),
        "finetune": Recovery(_finetune, looks_at_task=True),
        "polish": Recovery(_polish, looks_at_task=True, check=_decides_by_what_it_sees),
    },
    PruningError,
)


def recover(name: str, cut: Cut[C]) -> tuple[C, Cut[C], tuple[float, float] | None]:
    """The controller that a recovery makes of a cut one, the cut that it is of, and its mean validation returns before
    and after, if it has looked at any.

    Raises:
        PruningError: no such recovery, or a plug-in's that fails or gives something else than that controller.
    """
    entry, plugin = RECOVERIES.find(name), RECOVERIES.plugin(name)
    if plugin is None:
        result = entry.run(cut)
    else:
        with untouched(cut.dense, str(plugin)), explained(str(plugin)):
            result = entry.run(cut)
    controller, taken, returns = result, cut, None
    if isinstance(result, Recovered):
        controller, taken, returns = result.controller, result.cut or cut, (result.before, result.after)
    if plugin is not None:
        _check(controller, cut, plugin)
        controller = synchronised(controller, cut.graph)
    return controller, taken, returns


def _check(found: object, cut: Cut[C], plugin: Plugin) -> None:
    """What comes back is the controller that was cut, with other numbers."""
    if type(found) is not type(cut.small):
        raise PruningError(
            f"{plugin}: it gave {type(found).__name__}, a {type(cut.small).__name__} is needed, as it is or in a "
            "`Recovered`: return small.with_networks(...)"
        )
    assert isinstance(found, Controller)
    after = found.networks.state_dict()
    for name, before in cut.small.networks.state_dict().items():
        tensor = after.get(name)
        if tensor is None or tensor.shape != before.shape:
            now = "gone" if tensor is None else f"of shape {tuple(tensor.shape)}"
            raise PruningError(f"{plugin}: {name} is {now}; the plan says {tuple(before.shape)}")
        if tensor.device != before.device or tensor.dtype != before.dtype:
            raise PruningError(
                f"{plugin}: {name} is {tensor.dtype} on {tensor.device}, {before.dtype} on {before.device} is needed"
            )
        if not torch.isfinite(tensor).all():
            raise PruningError(f"{plugin}: numbers in {name} are NaN or infinite")
